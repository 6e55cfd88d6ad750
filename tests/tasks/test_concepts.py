"""The concept world: a function of its seed, with groups as defined and images that are the teacher's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from aria import registry
from aria.tasks import GROUPS, Concepts, presets

TASK = Concepts(groups=6, concepts=4, images=400, width=8)


def parts(world):
    return {
        "tokens": world.conditions.tensors["tokens"],
        "share": world.pool.weight,
        "latents": world.images.latents,
        "condition": world.images.conditions(),
        **world.teacher.model.state_dict(),
        **world.groups,
    }


def columns(world):
    return torch.tensor(world.pool.columns["group"]), torch.tensor(world.pool.columns["concept"])


def test_a_world_is_a_function_of_its_seed():
    one, again, other = parts(TASK.world(3)), parts(TASK.world(3)), parts(TASK.world(4))
    assert all(torch.equal(value, again[name]) for name, value in one.items())
    for name in ("tokens", "latents", "condition", "templates", "basis", "unseen"):
        assert not torch.equal(one[name], other[name]), name


def test_worlds_and_students_leave_the_global_random_state_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    TASK.world(0), TASK.student(0)
    assert torch.equal(torch.get_rng_state(), before)


def test_students_are_functions_of_their_seed():
    one, again, other = (TASK.student(seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(value, again[name]) for name, value in one.items())
    assert not torch.equal(one["enter.weight"], other["enter.weight"])


@pytest.mark.parametrize("seed", range(3))
def test_groups_are_shares(seed):
    world = TASK.world(seed)
    assert tuple(world.groups) == GROUPS
    for share in world.groups.values():
        assert share.sum().item() == pytest.approx(1) and bool((share >= 0).all())
    assert world.groups["uniform"].unique().numel() == 1
    torch.testing.assert_close(world.groups["pool"], world.pool.weight)


@pytest.mark.parametrize("seed", range(3))
def test_head_tail_and_unseen_hold_the_right_conditions(seed):
    world = TASK.world(seed)
    inside = {name: share > 0 for name, share in world.groups.items()}
    group, _ = columns(world)
    by_group = torch.zeros(6, dtype=torch.float64).index_add(0, group, world.pool.weight)
    assert bool((by_group.diff() < 0).all())  # group 0 is the most frequent
    assert torch.equal(inside["head"], group < 1) and torch.equal(inside["tail"], group >= 3)
    assert not bool((inside["head"] & inside["tail"]).any())
    assert torch.equal(inside["unseen-tail"], inside["unseen"] & inside["tail"])


@pytest.mark.parametrize("seed", range(3))
def test_unseen_conditions_have_no_images(seed):
    world = TASK.world(seed)
    group, concept = columns(world)
    unseen = world.groups["unseen"] > 0
    assert not bool(unseen[world.images.conditions()].any())
    assert set(group[unseen].tolist()) == set(range(6))
    for k in concept.unique():  # a concept is unseen as a whole
        assert unseen[concept == k].unique().numel() == 1
    for g in range(6):
        assert concept[unseen & (group == g)].unique().numel() == 2


def test_images_come_from_the_conditions_that_have_some_as_often_as_the_pool_holds_them():
    """χ² over the seen conditions; the threshold is passed by chance once in a million."""
    from scipy.stats import chi2

    world = Concepts(groups=3, concepts=2, images=20_000).world(0)
    share = world.pool.weight * (world.groups["unseen"] == 0)
    seen = share > 0
    wanted = 20_000 * (share / share.sum())[seen]
    found = torch.bincount(world.images.conditions(), minlength=len(share)).double()[seen]
    assert ((found - wanted) ** 2 / wanted).sum() < chi2.isf(1e-6, len(wanted) - 1)


def test_images_are_those_the_teacher_expects():
    """With an image's own condition the teacher's error is lower than with another or none, by five standard errors."""
    world = TASK.world(0)
    schedule, rows = world.teacher.schedule, torch.arange(400)
    clean, own = world.images.gather(rows)
    generator = torch.Generator().manual_seed(0)
    timestep = torch.randint(300, 900, (400,), generator=generator)
    noise = torch.randn(clean.shape, generator=generator)
    noisy = schedule.add_noise(clean, noise, timestep)

    def error(concept):
        output = world.teacher.denoiser(world.teacher.model, noisy, timestep, {"concept": concept})
        return (output - noise).square().flatten(1).mean(1)

    for other in ((own + 1) % len(world.pool), torch.full_like(own, len(world.pool))):
        gain = error(other) - error(own)
        assert gain.mean() > 5 * gain.std() / 400**0.5


def test_the_student_gets_tokens_and_the_teacher_the_concept():
    world, generator = TASK.world(0), torch.Generator().manual_seed(0)
    noisy, timestep = torch.randn(3, 1, 8, 8, generator=generator), torch.tensor([10, 500, 900])
    condition = world.conditions.gather(torch.tensor([0, 5, 9]))
    student, denoiser = TASK.student(0), world.teacher.denoiser
    assert torch.equal(denoiser(student, noisy, timestep, condition), student(noisy, timestep, condition["tokens"]))
    exact = world.teacher.model
    assert torch.equal(denoiser(exact, noisy, timestep, condition), exact(noisy, timestep, condition["concept"]))
    null = world.conditions.null(3)
    assert null["concept"].tolist() == [len(world.pool)] * 3 and not bool(null["tokens"].any())


def strength(task):
    """(G,) how strong the templates of each group are."""
    world = task.world(0)
    group, _ = columns(world)
    templates = world.teacher.model.templates[:, 0] @ world.teacher.model.basis.T  # (N, 64)
    return torch.stack([templates[group == g].std(1).max() for g in range(6)])


def test_difficulty_differs_between_groups_by_default():
    unlike, alike = strength(TASK), strength(Concepts(groups=6, concepts=4, heterogeneity=0.0))
    assert unlike.max() / unlike.min() > 1.4
    torch.testing.assert_close(alike, torch.full((6,), 0.8))


# -------------------------------------------------------------------------------------------------------- finer grids

FINE = Concepts(groups=6, concepts=4, images=400, width=8, side=16)


def pictures(world, side):
    """(N, J, S, S) templates."""
    model = world.teacher.model
    return (model.templates @ model.basis.T).unflatten(-1, (side, side))


def test_a_finer_grid_shows_the_same_world():
    """The same conditions, shares and unseen concepts; and templates, in every jitter, that are the coarse ones where
    four pixels are seen as one."""
    coarse, fine = TASK.world(0), FINE.world(0)
    for name, value in {**coarse.groups, **coarse.conditions.tensors}.items():
        assert torch.equal({**fine.groups, **fine.conditions.tensors}[name], value)
    seen = nn.functional.avg_pool2d(pictures(fine, 16).flatten(0, 1)[:, None], 2).flatten(1)
    alike, other = (
        torch.cosine_similarity(seen, pictures(world, 8).flatten(0, 1).flatten(1)) for world in (coarse, TASK.world(1))
    )
    assert alike.min() > 0.97 and other.max() < 0.9


def test_the_information_in_an_image_on_its_condition_does_not_depend_on_the_grid():
    """Two templates of one pool are distinguished by their distance times the signal-to-noise ratio: the same at every
    timestep, on average over all pairs to 2 %."""
    contrast = []
    for task, side in ((TASK, 8), (FINE, 16)):
        world = task.world(0)
        schedule, picture = world.teacher.schedule, pictures(world, side)[:, 0].flatten(1)
        contrast.append(torch.cdist(picture, picture).square().mean() * (schedule.alpha / schedule.sigma) ** 2)
        torch.testing.assert_close(schedule.alpha**2 + schedule.sigma**2, torch.ones(1000))
    torch.testing.assert_close(contrast[1], contrast[0], rtol=0.02, atol=0.0)


def test_the_texture_grows_with_the_grid():
    coarse, fine = (task.world(0).teacher.model for task in (TASK, FINE))
    torch.testing.assert_close(fine.basis.T @ fine.basis, torch.eye(256), rtol=0.0, atol=1e-5)
    modes = [model.basis[:, :6].T.unflatten(1, (side, side)) for model, side in ((coarse, 8), (fine, 16))]
    grown = modes[0].repeat_interleave(2, 1).repeat_interleave(2, 2) / 2
    assert (modes[1] * grown).sum((1, 2)).abs().min() > 0.9999  # up to its sign
    torch.testing.assert_close(fine.spectrum[:6] / 256, coarse.spectrum[:6] / 64)  # as strong a pixel
    assert fine.spectrum[6:].unique().tolist() == coarse.spectrum[6:].unique().tolist()


@pytest.mark.parametrize("network", ["mlp", "unet"])
def test_students_and_images_are_as_large_as_the_grid(network):
    task = Concepts(groups=6, concepts=4, images=10, width=8, side=16, network=network)
    world, student = task.world(0), task.student(0)
    condition = world.conditions.gather(torch.tensor([0, 5]))
    clean, _ = world.images.gather(torch.tensor([0, 1]))
    output = world.teacher.denoiser(student, clean, torch.tensor([10, 900]), condition)
    assert output.shape == clean.shape == (2, 1, 16, 16)
    assert torch.equal(student.alpha, world.teacher.schedule.alpha)
    assert type(student).__name__ == {"mlp": "FilmMLP", "unet": "TokenUNet"}[network]


def test_without_skew_all_conditions_are_equally_likely():
    assert Concepts(groups=4, concepts=2, skew=0).world(0).pool.weight.unique().numel() == 1


def test_templates_of_unlearnable_groups_have_nothing_to_do_with_their_tokens():
    """Concepts have the same tokens as before; the templates of the unlearnable groups are others."""
    plain, odd = (Concepts(groups=4, concepts=2, unlearnable=n).world(0) for n in (0, 2))
    assert torch.equal(plain.conditions.tensors["tokens"][:, 0], odd.conditions.tensors["tokens"][:, 0])
    one, other = ((world.teacher.model.templates @ world.teacher.model.basis.T)[:, 0] for world in (plain, odd))
    away = (one - other).abs().amax(1).view(4, -1).amax(1)
    assert (away > 1e-3).sum() == 2


@pytest.mark.parametrize(
    ("knobs", "sentence"),
    [
        ({"groups": 1}, "groups must be a whole number of at least 2, got 1"),
        ({"skew": -1}, "skew must be non-negative and finite, got -1"),
        ({"unseen": 1.5}, r"unseen must lie in \[0, 1\], got 1.5"),
        ({"unseen": 0.0}, "unseen must leave some of the 6 concepts with and some without images, got 0.0"),
        ({"unseen": 1.0}, "unseen must leave some"),
        ({"unlearnable": 17}, "unlearnable must be at most groups=16, got 17"),
        ({"images": 0}, "images must be a whole number of at least 1, got 0"),
        ({"width": 0}, "width must be"),
        ({"side": 12}, "side must be a multiple of 8, got 12"),
        ({"side": 4}, "side must be a whole number of at least 8, got 4"),
        ({"network": "cnn"}, "network must be 'mlp' or 'unet', got 'cnn'"),
        ({"network": "unet", "width": 12}, "the width of a UNet must be a multiple of 8, got 12"),
        ({"steps": 0}, "steps must be"),
        ({"heterogeneity": float("nan")}, "heterogeneity must be non-negative and finite, got nan"),
    ],
)
def test_knobs_out_of_range_are_refused_by_name(knobs, sentence):
    with pytest.raises(ValueError, match=sentence):
        Concepts(**knobs)


@pytest.mark.parametrize("name", presets.PRESETS)
def test_presets_are_worlds(name):
    task = presets.task(name)
    assert presets.task(registry.spec(task)) == task


def test_a_mistyped_task_is_refused_with_the_existing_ones():
    with pytest.raises(ValueError, match=r"unknown task 'unlernable' \(did you mean 'unlearnable'\?\); there are: def"):
        presets.task("unlernable")
