"""Digits in styles."""

from __future__ import annotations

import pytest
import torch

from aria.tasks import GROUPS, Digits

pytest.importorskip("sklearn")
TASK = Digits(images=300, width=8)
ROWS = torch.arange(300)


def test_a_world_is_a_function_of_its_seed():
    one, again, other = (TASK.world(seed) for seed in (0, 0, 1))
    for same, different in zip(one.images.gather(ROWS), other.images.gather(ROWS), strict=True):
        assert not torch.equal(same, different)
    for same, equal in zip(one.images.gather(ROWS), again.images.gather(ROWS), strict=True):
        assert torch.equal(same, equal)
    assert torch.equal(one.teacher.model.templates, again.teacher.model.templates)
    assert torch.equal(one.conditions.tensors["tokens"], again.conditions.tensors["tokens"])


@pytest.mark.parametrize("seed", range(2))
def test_groups_hold_the_right_conditions(seed):
    world = TASK.world(seed)
    share, inside = world.pool.weight, {name: group > 0 for name, group in world.groups.items()}
    assert tuple(world.groups) == GROUPS
    assert all(group.sum().item() == pytest.approx(1) for group in world.groups.values())
    assert share[inside["head"]].min() > share[~inside["head"]].max()
    assert share[inside["tail"]].max() < share[~inside["tail"]].min()
    assert inside["head"].sum() == 12 and inside["tail"].sum() == 30
    assert torch.equal(inside["unseen-tail"], inside["unseen"] & inside["tail"])
    assert inside["unseen"].view(6, 10).sum(1).tolist() == [3] * 6
    assert not bool(inside["unseen"][world.images.conditions()].any())


def test_styles_are_the_same_digits_seen_otherwise():
    world = TASK.world(0)
    style, digit = world.pool.columns["style"], world.pool.columns["digit"]
    templates = world.teacher.model.templates.view(60, -1, 8, 8)
    place = {(s, d): row for row, (s, d) in enumerate(zip(style, digit, strict=True))}
    for d in range(10):
        plain = templates[place["plain", d]]
        assert torch.equal(templates[place["negative", d]], -plain)
        assert torch.equal(templates[place["mirrored", d]], plain.flip(-1))


def test_the_teacher_distinguishes_digits():
    """With an image's own condition it predicts the noise better than with the next one, by five standard errors."""
    world, generator = TASK.world(0), torch.Generator().manual_seed(0)
    clean, own = world.images.gather(torch.arange(300))
    timestep, noise = torch.full((300,), 500), torch.randn(clean.shape, generator=generator)
    noisy = world.teacher.schedule.add_noise(clean, noise, timestep)

    def error(concept):
        return (world.teacher.model(noisy, timestep, concept) - noise).square().flatten(1).mean(1)

    gain = error((own + 1) % 60) - error(own)
    assert gain.mean() > 5 * gain.std() / 300**0.5


def test_students_are_functions_of_their_seed():
    one, again, other = (TASK.student(seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(value, again[name]) for name, value in one.items())
    assert not torch.equal(one["enter.weight"], other["enter.weight"])


@pytest.mark.parametrize("unseen", [0.0, 1.0])
def test_some_digits_have_images_and_some_have_none(unseen):
    with pytest.raises(ValueError, match="unseen must leave some of the 10 digits of a style with and some without"):
        Digits(unseen=unseen)
