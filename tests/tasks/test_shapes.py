"""Scenes, their captions, how they are read back, and a teacher trained from scratch that opens as a pipeline."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from diffusers import DiffusionPipeline

from aria.distill.data.images import read_images
from aria.distill.data.prompt_files import read_prompts
from aria.tasks import GROUPS
from aria.tasks.course import Course, fit
from aria.tasks.shapes import Scenes, Shapes, words
from aria.tasks.shapes.reader import ATTRIBUTES, Reader, load_reader, marks, train_reader
from aria.tasks.shapes.recipe import FULL, RECIPES, SMALL, TINY
from aria.tasks.shapes.render import _RGB, SIDE, render
from aria.tasks.shapes.scenes import ABOVE, BESIDE, COLOURS, NONE, PLACES, SHAPES, SIZES, Facts
from aria.tasks.shapes.teacher import main
from aria.tasks.shapes.train import make_teacher


def quiet(label):
    return nullcontext(lambda done, total: None)


@pytest.fixture(scope="module")
def scenes():
    return SMALL.scenes


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The tiny task, prepared."""
    folder = tmp_path_factory.mktemp("shapes")
    tiny().prepare(folder, quiet, "cpu")
    return folder


def tiny(**changes):
    return Shapes(**({"preset": "tiny", "images": 30, "asked": 12, "steps": 2} | changes))


# ------------------------------------------------------------------------------------------------------------- scenes


def parsed(caption):
    """What a caption describes, parsed from its words alone: layout, and (colour, shape, size) of each slot."""
    words = caption.split()
    if place := next((place for place in PLACES if caption.endswith(place)), None):
        return PLACES.index(place), [(words[2], words[3], words[1])]
    first, second = (words[1], words[2], None), (words[-2], words[-1], None)
    relation = " ".join(words[3:-3])
    layout = ABOVE if relation in ("above", "below") else BESIDE
    return layout, [first, second] if relation in ("above", "left of") else [second, first]


def test_captions_describe_what_is_drawn(scenes):
    assert len(set(scenes.captions)) == len(scenes) == 4 * 4 * 2 * 5 + 160
    for row, caption in enumerate(scenes.captions):
        layout, slots = parsed(caption)
        facts = scenes.facts
        assert int(facts.layout[row]) == layout
        for slot, (colour, shape, size) in enumerate(slots):
            assert COLOURS[facts.colour[row, slot]] == colour and SHAPES[facts.shape[row, slot]] == shape
            assert int(facts.size[row, slot]) == (NONE if size is None else SIZES.index(size))
        if len(slots) == 1:
            assert int(facts.shape[row, 1]) == int(facts.colour[row, 1]) == NONE
    assert any(" an orange " in caption for caption in FULL.scenes.captions)
    assert not any(" a orange " in f" {caption}" for caption in FULL.scenes.captions)


def test_frequencies_follow_the_law_and_groups_are_by_concept(scenes):
    assert float(scenes.share.sum()) == pytest.approx(1)
    alone = scenes.facts.layout < ABOVE
    assert float(scenes.share[alone].sum()) == pytest.approx(0.5)
    share = {caption: float(p) for caption, p in zip(scenes.captions, scenes.share, strict=True)}
    ratio = share["a small red circle in the middle"] / share["a small blue triangle in the middle"]
    assert ratio == pytest.approx(9**1.2)
    groups = scenes.groups()
    assert tuple(groups) == GROUPS
    inside = {name: {scenes.captions[row] for row in value.nonzero()[:, 0].tolist()} for name, value in groups.items()}
    assert "a large red circle in the middle" in inside["head"]
    assert "a large yellow cross in the middle" in inside["tail"]
    assert not inside["head"] & inside["tail"]
    assert inside["unseen-tail"] == inside["unseen"] & inside["tail"] != set()
    for caption in inside["unseen"]:
        _, slots = parsed(caption)
        assert any((SHAPES.index(shape) + COLOURS.index(colour)) % 3 == 2 for colour, shape, _ in slots)
    # every shape and every colour is seen somewhere: only their combinations are new
    seen = (~scenes.unseen).nonzero()[:, 0]
    assert set(scenes.facts.shape[seen, 0].tolist()) == set(scenes.facts.colour[seen, 0].tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize("settings, complaint", [
    ({"shapes": 1}, "shapes must be a whole number of at least 2, got 1"),
    ({"colours": 9}, "colours must be at most 8, got 9"),
    ({"shapes": 2, "colours": 2, "pairs": 49}, "pairs must be at most 48 with 4 concepts, got 49"),
    ({"skew": -1.0}, "skew must be non-negative and finite, got -1.0"),
])  # fmt: skip
def test_impossible_scenes_are_refused(settings, complaint):
    with pytest.raises(ValueError, match=f"^{re.escape(complaint)}$"):
        Scenes(**settings)


# ------------------------------------------------------------------------------------------------------------ drawing


def test_objects_stand_where_and_look_as_the_facts_say(scenes):
    images = render(scenes.facts, torch.Generator().manual_seed(3))
    assert images.shape == (len(scenes), 3, SIDE, SIDE) and -1 <= float(images.min()) <= float(images.max()) <= 1
    assert torch.equal(images, render(scenes.facts, torch.Generator().manual_seed(3)))
    assert not torch.equal(images, render(scenes.facts, torch.Generator().manual_seed(4)))
    pixels = (images + 1) / 2
    drawn = (pixels - pixels[:, :, :1, :1]).abs().amax(1) > 0.25  # (N, 32, 32) what is not the grey of the corner
    axis = torch.arange(SIDE) + 0.5
    for row in range(0, len(scenes), 7):
        facts, shown = scenes.facts[torch.tensor([row])], drawn[row]
        layout = int(facts.layout)
        x, y = float((shown.sum(0) * axis).sum() / shown.sum()), float((shown.sum(1) * axis).sum() / shown.sum())
        if layout < ABOVE:
            where = PLACES[layout]
            assert ("left" in where) == (x < 13) and ("right" in where) == (x > 19)
            assert ("top" in where) == (y < 13) and ("bottom" in where) == (y > 19)
            colour = pixels[row][:, shown].mean(1)
            palette = torch.tensor([_RGB[name] for name in COLOURS[: scenes.colours]])
            assert int((palette - colour).square().sum(1).argmin()) == int(facts.colour[0, 0])
        else:
            wide, high = shown.any(0).sum(), shown.any(1).sum()
            assert (layout == ABOVE) == bool(high > wide)


def test_shapes_cover_the_area_given_by_geometry():
    """The area of a large circle, square and frame, each alone in the middle, against the formula."""
    radius, count = 7.5, 64
    for shape, area in ((0, torch.pi * 0.95**2), (1, 1.7**2), (6, 1.8**2 - 1.08**2)):
        ones = torch.ones(count, dtype=torch.long)
        slots = [torch.stack([value * ones, NONE * ones], 1) for value in (shape, COLOURS.index("white"), 1)]
        images = (render(Facts(PLACES.index("in the middle") * ones, *slots), torch.Generator().manual_seed(0)) + 1) / 2
        grey = images[:, :1, :1, :1]
        cover = ((images[:, :1] - grey) / (0.95 - grey)).sum((1, 2, 3)).mean()
        # radii vary by 6 % either way: E r² = r² (1 + 0.06²/3); soft edges round corners off a little
        assert float(cover) == pytest.approx(area * radius**2 * (1 + 0.06**2 / 3), rel=0.05)


# -------------------------------------------------------------------------------------------------------------- words


def test_every_word_is_one_token_and_anything_can_be_spelled():
    known = words.tokenizer()
    for caption in FULL.scenes.captions[::37]:
        tokens = known(caption)["input_ids"]
        assert len(tokens) == len(caption.split()) + 2 <= words.LENGTH
        assert known.decode(tokens[1:-1]).strip() == caption
    assert known.decode(known("zebra ÿ")["input_ids"][1:-1]).strip() == "zebra ÿ"


# ------------------------------------------------------------------------------------------------------------- reader


def test_marks_are_the_agreeing_attributes_and_nan_where_there_are_none(scenes):
    facts = scenes.facts[torch.tensor([0, 0, len(scenes) - 1])]
    seen = Facts(facts.layout.clone(), facts.shape.clone(), facts.colour.clone(), facts.size.clone())
    assert all(bool(((score == 1) | score.isnan()).all()) for score in marks(seen, facts).values())
    seen.shape[1, 0] += 1
    seen.colour[2, 1] += 1
    seen.layout[0] += 1
    found = {name: score.tolist() for name, score in marks(seen, facts).items()}
    assert tuple(found) == ATTRIBUTES
    assert found["shape"] == [1, 0, 1] and found["colour"] == [1, 1, 0] and found["place"] == [0, 1, 1]
    assert found["size"][:2] == [1, 1] and found["size"][2] != found["size"][2]


@pytest.mark.slow
def test_a_reader_reads_drawings(scenes):
    reader = train_reader(scenes, SMALL.reader, seed=0, device="cpu", progress=lambda done, total: None)
    found = marks(reader.read(render(scenes.facts, torch.Generator().manual_seed(9))), scenes.facts)
    assert all(float(score.nanmean()) > 0.95 for score in found.values())
    blank = reader.read(torch.full((len(scenes), 3, SIDE, SIDE), -0.7))
    assert float(marks(blank, scenes.facts)["shape"].mean()) < 0.5


# ------------------------------------------------------------------------------------------------------------ training


def test_resumed_training_equals_uninterrupted_training(tmp_path):
    def model():
        torch.manual_seed(0)
        return torch.nn.Linear(4, 1)

    def loss_of(net, stop_at=None):
        calls = []

        def loss(generator):
            calls.append(1)
            if len(calls) == stop_at:
                raise KeyboardInterrupt
            x = torch.randn(8, 4, generator=generator)
            return (net(x) - x.sum(1, keepdim=True)).square().mean()

        return loss

    course = Course(steps=20, batch_size=8, learning_rate=0.1)
    kwargs = {"seed": 3, "progress": lambda done, total: None, "every": 5}
    one, other = model(), model()
    fit(one, loss_of(one), course, **kwargs)
    with pytest.raises(KeyboardInterrupt):
        fit(other, loss_of(other, stop_at=14), course, **kwargs, saved=tmp_path / "half.safetensors")
    again = model()
    fit(again, loss_of(again), course, **kwargs, saved=tmp_path / "half.safetensors")
    assert torch.equal(one.weight, again.weight) and not torch.equal(one.weight, model().weight)


def test_a_teacher_opens_as_a_pipeline_and_is_made_once(place):
    teacher = place / "teacher"
    pipeline = DiffusionPipeline.from_pretrained(teacher)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline(TINY.scenes.captions[0], num_inference_steps=2, output_type="np").images
    assert image.shape == (1, SIDE, SIDE, 3)
    assert json.loads((teacher / "recipe.json").read_text())["digest"] == TINY.digest()
    assert not (teacher / ".training").exists()
    before = (teacher / "unet" / "diffusion_pytorch_model.safetensors").stat().st_mtime_ns
    make_teacher(teacher, TINY, bar=quiet)
    assert (teacher / "unet" / "diffusion_pytorch_model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="holds a teacher of another recipe"):
        make_teacher(teacher, replace(TINY, seed=1), bar=quiet)


def test_a_killed_teacher_resumes_with_the_part_it_had_reached(place, tmp_path):
    """Stopped in the second part and resumed, the teacher is that of an uninterrupted run, bit for bit."""

    class Stop(Exception):
        pass

    def stopping(label):
        def progress(done, total):
            if label == "denoiser" and done == 7:
                raise Stop

        return nullcontext(progress)

    with pytest.raises(Stop):
        make_teacher(tmp_path / "teacher", TINY, bar=stopping)
    assert not (tmp_path / "teacher" / "model_index.json").exists()
    make_teacher(tmp_path / "teacher", TINY, bar=quiet)
    for name in ("vae", "unet"):
        one, other = (
            (folder / "teacher" / name / "diffusion_pytorch_model.safetensors").read_bytes()
            for folder in (place, tmp_path)
        )
        assert one == other


def test_different_recipes_have_different_digests():
    digests = {recipe.digest() for recipe in RECIPES.values()} | {replace(SMALL, seed=1).digest()}
    assert len(digests) == len(RECIPES) + 1
    assert replace(SMALL).digest() == SMALL.digest()
    with pytest.raises(ValueError, match=r"prediction_type must be 'epsilon' or 'v_prediction', got 'flow'"):
        replace(SMALL, prediction_type="flow")


def test_the_command_reports_what_is_wrong(place, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--preset", "small", "--output_dir", str(place / "teacher")])
    assert caught.value.code == 2
    assert "holds a teacher of another recipe" in capsys.readouterr().err.splitlines()[-1]


# --------------------------------------------------------------------------------------------------------------- task


def test_the_task_lays_down_what_the_engine_reads(place):
    prompts = read_prompts(place / "prompts.jsonl")
    scenes = TINY.scenes
    assert tuple(prompts.texts) == scenes.captions
    assert prompts.weight.tolist() == pytest.approx(scenes.share.tolist())
    assert set(prompts.columns["concept"]) == {scenes.concept(row) for row in range(len(scenes))}
    images = read_images(place / "images")
    assert len(images) == 30
    unseen = {scenes.captions[row] for row in scenes.unseen.nonzero()[:, 0].tolist()}
    assert unseen and not unseen & {image.caption for image in images}
    tiny().prepare(place, quiet, "cpu")  # and once more, which makes nothing


def test_questions_are_some_captions_with_their_shares(place):
    questions = tiny().questions(place)
    assert len(questions.prompts) == 12 and len(set(questions.prompts)) == 12
    for share in questions.groups.values():
        assert float(share.sum()) == pytest.approx(1)
    rows = [TINY.scenes.captions.index(prompt) for prompt in questions.prompts]
    pool = TINY.scenes.share[rows]
    assert questions.groups["pool"].tolist() == pytest.approx((pool / pool.sum()).tolist())


def test_marks_of_the_task_are_of_its_questions(place):
    """Drawings of the questions themselves, judged by a reader that is given what it sees."""
    task = tiny()
    rows = [TINY.scenes.captions.index(prompt) for prompt in task.questions(place).prompts]
    images = (render(TINY.scenes.facts[torch.tensor(rows)], torch.Generator().manual_seed(0)) + 1) / 2
    found = task.marks(place, images)
    assert set(found) == {"accuracy", *ATTRIBUTES} and all(score.shape == (12,) for score in found.values())
    reader = load_reader(TINY.scenes, place / "teacher" / "reader.safetensors")
    by_hand = marks(reader.read(2 * images - 1), TINY.scenes.facts[torch.tensor(rows)])
    assert all(torch.equal(found[name].nan_to_num(7), by_hand[name].nan_to_num(7)) for name in ATTRIBUTES)
    assert torch.allclose(found["accuracy"], torch.stack(list(by_hand.values())).nanmean(0))


def test_a_reader_serves_its_own_scenes_only(place):
    with pytest.raises(RuntimeError, match="size mismatch"):
        load_reader(SMALL.scenes, place / "teacher" / "reader.safetensors")
    assert Reader(SMALL.scenes).sizes == (BESIDE + 1, 4, 4, 4, 4, 2)


@pytest.mark.parametrize("settings, complaint", [
    ({"preset": "huge"}, "preset must be 'tiny' or 'small' or 'full', got 'huge'"),
    ({"student": "bk-huge"}, "student must be bk-base, bk-small, bk-tiny or a block map in JSON, got 'bk-huge'"),
    ({"student": "[]"}, "student must be bk-base, bk-small, bk-tiny or a block map in JSON, got '[]'"),
    ({"width": 2.0}, "width must lie in (0, 1], got 2.0"),
])  # fmt: skip
def test_impossible_tasks_are_refused(settings, complaint):
    with pytest.raises(ValueError, match=f"^{re.escape(complaint)}$"):
        Shapes(**settings)
