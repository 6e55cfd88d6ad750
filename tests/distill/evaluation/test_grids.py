"""Validation grids: they do not change training, show the averaged student, and are redrawn by a resumed run."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext

import pytest
import torch
from accelerate.state import AcceleratorState
from diffusers import DDPMScheduler
from PIL import Image
from safetensors.torch import load_file

from aria.distill.evaluation import grids
from aria.distill.evaluation.gap import gap_record
from aria.distill.models.denoisers import of
from aria.distill.models.pipelines import open_model, open_pipeline
from aria.distill.runs.run import run
from aria.distill.settings.config import Config
from aria.distill.students import prune

PROMPTS = ("a cat", "a dog")
SAMPLING = {"steps": 2, "guidance": 7.5}


@pytest.fixture(scope="module")
def distil(tmp_path_factory, sd_folder):
    """Run four steps with changed settings, and return the output folder."""
    place = tmp_path_factory.mktemp("grids")
    (place / "prompts.txt").write_text("\n".join(f"{animal} {i}" for animal in PROMPTS for i in range(4)))
    prune(sd_folder, place / "student", preset="bk-tiny")

    def distil(output, **changes):
        settings = {
            "pretrained_model_name_or_path": str(sd_folder),
            "student": str(place / "student"),
            "prompts": str(place / "prompts.txt"),
            "cache_dir": str(place / "cache"),
            "output_dir": str(place / output),
            "num_images": 4,
            "num_inference_steps": 2,
            "partitioner": "kmeans(2)",
            "objective": "output",
            "max_train_steps": 4,
            "train_batch_size": 2,
            "logging_steps": 1,
            "checkpointing_steps": 2,
            "ema_decay": 0.5,
            "learning_rate": 1e-2,
            "validation_prompts": PROMPTS,
            "validation_steps": 1,
        }
        config = Config().with_values(settings | changes)
        run(config, bar=lambda label: nullcontext(lambda done, total: None), quiet=True)
        return place / output

    return distil


@pytest.fixture(scope="module")
def watched(distil):
    return distil("watched")


def rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def drawn(folder):
    return {path.name: path.read_bytes() for path in (folder / "samples").iterdir()}


def test_validation_does_not_change_training(distil, watched):
    plain = distil("plain", validation_prompts=())
    assert not (plain / "samples").exists() and not (plain / "validation.jsonl").exists()
    files = sorted(path.relative_to(plain) for path in plain.glob("checkpoint-4/**/*.safetensors"))
    assert len(files) >= 5
    for file in files:
        actual, expected = load_file(watched / file), load_file(plain / file)
        assert actual.keys() == expected.keys()
        assert all(torch.equal(actual[name], expected[name]) for name in actual), file
    without_speed = [[{**row, "steps_per_second": 0} for row in rows(run / "losses.jsonl")] for run in (watched, plain)]
    assert without_speed[0] == without_speed[1]
    assert rows(watched / "discrepancies.jsonl") == rows(plain / "discrepancies.jsonl")


def test_a_grid_and_a_row_each_time(watched):
    logged = rows(watched / "validation.jsonl")
    assert [row["step"] for row in logged] == [1, 2, 3, 4]
    assert [one["prompt"] for one in logged[0]["prompts"]] == list(PROMPTS)
    assert sorted(drawn(watched)) == [f"step-{step:08d}.png" for step in (1, 2, 3, 4)]
    first, last = (Image.open(watched / "samples" / f"step-{step:08d}.png") for step in (1, 4))
    middle = first.width // 2
    teacher, student = (0, 0, middle, first.height), (middle, 0, first.width, first.height)
    assert first.crop(teacher).tobytes() == last.crop(teacher).tobytes(), "the same noise each time"
    assert first.crop(student).tobytes() != last.crop(student).tobytes()


def test_the_averaged_student_is_shown(watched, sd_folder):
    def gap(student):
        pipeline = open_pipeline(sd_folder)
        denoiser = of(pipeline)
        noise = grids.starting_noise(denoiser, pipeline, len(PROMPTS), 0)
        inputs = *grids.encoded(pipeline, denoiser, PROMPTS), noise
        teacher, made = (
            grids.generated(pipeline, denoiser, model, *inputs, **SAMPLING)
            for model in (pipeline.unet, open_model(student))
        )
        return gap_record(PROMPTS, teacher, made)["gap"]

    last = rows(watched / "validation.jsonl")[-1]["gap"]
    assert gap(watched) == pytest.approx(last, rel=1e-6)
    assert gap(watched / "checkpoint-4" / "unet_ema") == pytest.approx(last, rel=1e-6)
    assert gap(watched / "checkpoint-4" / "unet") != pytest.approx(last, rel=1e-3)


def test_a_resumed_run_drops_what_came_later(distil, watched):
    logged, images = (watched / "validation.jsonl").read_text(), drawn(watched)
    again = watched.with_name("resumed")
    shutil.copytree(watched, again)
    shutil.rmtree(again / "checkpoint-4")
    (again / "samples" / "step-00000009.png").write_bytes(b"of a step that was never reached again")
    with (again / "validation.jsonl").open("a") as file:
        file.write('{"step": 9, "gap"')
    distil("resumed")
    assert (again / "validation.jsonl").read_text() == logged
    assert drawn(again) == images


@pytest.fixture
def own_precision():
    """accelerate keeps one precision for a whole process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("own_precision")
def test_half_precision_and_trackers(distil):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    output = distil("half", mixed_precision="bf16", max_train_steps=1, report_to="tensorboard")
    (row,) = rows(output / "validation.jsonl")
    (events,) = {path.parent for path in output.glob("logs/**/events.out.tfevents*") if path.parent.name == "aria"}
    logged = EventAccumulator(str(events)).Reload()
    (scalar,), (image,) = logged.Scalars("validation/gap"), logged.Images("validation")
    assert (scalar.step, scalar.value) == (1, pytest.approx(row["gap"])) and image.step == 1


# --------------------------------------------------------------------------------------------------- the images alone


@pytest.fixture(scope="module")
def teacher(sd_folder):
    pipeline = open_pipeline(sd_folder)
    denoiser = of(pipeline)
    noise = grids.starting_noise(denoiser, pipeline, 3, seed=1)
    return pipeline, denoiser, (*grids.encoded(pipeline, denoiser, [*PROMPTS, "an owl"]), noise)


def test_validation_changes_neither_models_nor_random_state(teacher):
    pipeline, denoiser, inputs = teacher
    student, own, scheduler = open_model(pipeline.config._name_or_path), pipeline.unet, pipeline.scheduler
    student.train()
    student.mid_block.eval()
    modes, state = [part.training for part in student.modules()], torch.get_rng_state()
    grids.generated(pipeline, denoiser, student, *inputs, **SAMPLING, prediction="v_prediction")
    assert [part.training for part in student.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert pipeline.unet is own and pipeline.scheduler is scheduler and scheduler.num_inference_steps is None


def test_a_scheduler_that_adds_noise_adds_the_same_to_both(teacher):
    pipeline, denoiser, inputs = teacher
    before = pipeline.scheduler
    pipeline.register_modules(scheduler=DDPMScheduler.from_config(before.config))
    made = []
    try:
        for seed in (1, 2):
            torch.manual_seed(seed)
            made.append(grids.generated(pipeline, denoiser, pipeline.unet, *inputs, **SAMPLING))
    finally:
        pipeline.register_modules(scheduler=before)
    assert torch.equal(*made)


def test_what_the_student_predicts_decides_how_it_is_sampled(teacher):
    pipeline, denoiser, inputs = teacher
    as_is = grids.generated(pipeline, denoiser, pipeline.unet, *inputs, **SAMPLING)
    for prediction, same in (("epsilon", True), ("v_prediction", False)):
        made = grids.generated(pipeline, denoiser, pipeline.unet, *inputs, **SAMPLING, prediction=prediction)
        assert torch.equal(made, as_is) is same


def test_the_noise_of_a_row_is_its_own(teacher):
    pipeline, denoiser, (_, _, noise) = teacher
    assert torch.equal(grids.starting_noise(denoiser, pipeline, 2, seed=1), noise[:2])
    assert not torch.equal(noise[0], noise[1])
    assert not torch.equal(grids.starting_noise(denoiser, pipeline, 1, seed=2), noise[:1])
    assert grids.starting_noise(denoiser, pipeline, 1, seed=1, resolution=32).shape == (1, 4, 16, 16)


@pytest.mark.parametrize("prompt", ["a cat", "many words " * 30, "", "x" * 200, "猫 und Bär <b>"])
def test_captions_stand_above_their_images(prompt):
    red, blue = Image.new("RGB", (16, 16), "red"), Image.new("RGB", (16, 16), "blue")
    page = grids.grid([prompt], [("teacher", [[red]]), ("student", [[blue]])])
    seen = {page.getpixel((x, page.height - 20 - grids.MARGIN)) for x in range(page.width)}
    assert seen == {(255, 255, 255), (255, 0, 0), (0, 0, 255)}
    lines = grids._wrapped(prompt, page.width)
    assert " ".join(lines).split() == prompt.split()
    assert all(grids._font().getlength(line) <= page.width or " " not in line for line in lines)
    taller = grids.grid([prompt] * 2, [("teacher", [[red]] * 2), ("student", [[blue]] * 2)])
    assert taller.width == page.width and taller.height - page.height > 128


def test_an_image_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    grids.write_png(Image.new("RGB", (2, 2), "red"), path)
    before = path.read_bytes()

    def torn(self, file, **options):
        file.write_bytes(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr(Image.Image, "save", torn)
    with pytest.raises(OSError, match="full"):
        grids.write_png(Image.new("RGB", (2, 2), "blue"), path)
    assert path.read_bytes() == before and [entry.name for entry in tmp_path.iterdir()] == ["a.png"]
