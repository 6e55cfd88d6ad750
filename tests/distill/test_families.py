"""The transformer families from a teacher's folder to a pipeline, all by commands: pruned, cached, divided, distilled,
killed, resumed, sampled and reported."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from diffusers import DiffusionPipeline
from PIL import Image
from safetensors.torch import load_file

from aria.cli import main
from aria.distill.data import Conditions
from aria.distill.models.pipelines import open_model, open_pipeline
from aria.distill.runs import checkpoint
from tests.distill.forks import Forks, wait_for
from tests.distill.runs.test_checkpoint import assert_same
from tests.distill.runs.test_run import logs

pytestmark = pytest.mark.slow
VIDEOS = ("ltx", "wan")
FLOWS = ("aura", "flux", "flux_schnell", "flux2", "klein", "lumina", "qwen", "sana", "sd3", "zimage", *VIDEOS)
KINDS = ("dit", "pixart", "pixart_sigma", *FLOWS)
SIZED = {
    **dict.fromkeys(("flux", "flux_schnell", "flux2", "klein", "qwen", "zimage"), ("--resolution", 16)),
    "wan": ("--resolution", 16, "--num_frames", 5),
    "ltx": ("--resolution", 64, "--num_frames", 9),
}
"""Of pipelines whose own size is that of published models."""
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
SMALLER = {
    "aura": ["--blocks", "1", "--single_blocks", "0,2", "--width", "0.5"],
    "dit": ["--preset", "half", "--num_attention_heads", "1"],
    "flux": ["--blocks", "1", "--single_blocks", "0,3", "--width", "0.5"],
    "flux_schnell": ["--preset", "half"],
    "flux2": ["--blocks", "1", "--single_blocks", "0,3", "--width", "0.5"],
    "klein": ["--preset", "half"],
    "lumina": ["--blocks", "0,2,3", "--num_attention_heads", "2"],
    "pixart": ["--preset", "half", "--width", "0.5"],
    "pixart_sigma": ["--blocks", "0,1,3"],
    "qwen": ["--blocks", "0,1,3", "--width", "0.5"],
    "sana": ["--blocks", "1,3", "--width", "0.5"],
    "sd3": ["--blocks", "0,3", "--attention_head_dim", "2"],
    "zimage": ["--blocks", "0,1,3", "--width", "0.5"],
    "wan": ["--blocks", "0,2,3", "--width", "0.5"],
    "ltx": ["--preset", "half"],
}
RUN = {
    "aura": {"partitioner": "kmeans(3)", "weighting": "min_snr", "correction": "importance"},
    "dit": {"partitioner": 'labels("label")', "objective": "output", "low_rank": 2},
    "flux": {"partitioner": "kmeans(3)", "guidance_max": 3.0, "on_policy": 0.5, "resolution": 16,
             "objective": ("output", "feature")},
    "flux_schnell": {"partitioner": "kmeans(3)", "gradient_checkpointing": "", "resolution": 16},
    "flux2": {"partitioner": "kmeans(3)", "guidance_max": 3.0, "on_policy": 0.5, "resolution": 16,
              "objective": ("output", "feature")},
    "klein": {"partitioner": "kmeans(3)", "gradient_checkpointing": "", "correction": "importance", "resolution": 16},
    "lumina": {"partitioner": "kmeans(3)", "gradient_checkpointing": "", "on_policy": 0.5},
    "pixart": {"partitioner": "kmeans(3)", "student_prediction": "v_prediction", "correction": "importance"},
    "pixart_sigma": {"partitioner": "kmeans(3)", "gradient_checkpointing": "", "weighting": "min_snr"},
    "qwen": {"partitioner": "kmeans(3)", "gradient_checkpointing": "", "on_policy": 0.5, "resolution": 16},
    "sana": {"partitioner": "kmeans(3)", "gradient_checkpointing": "", "correction": "importance"},
    "sd3": {"partitioner": "kmeans(3)", "gradient_accumulation_steps": 2, "weighting": "min_snr"},
    "zimage": {"partitioner": "kmeans(3)", "gradient_checkpointing": "", "on_policy": 0.5, "resolution": 16},
    "wan": {"partitioner": "kmeans(3)", "on_policy": 0.5, "gradient_checkpointing": "", "resolution": 16,
            "num_frames": 5},
    "ltx": {"partitioner": "kmeans(3)", "correction": "importance", "resolution": 64, "num_frames": 9},
}


@pytest.fixture(scope="module")
def forks(tmp_path_factory, sd3_folder):
    made = Forks(tmp_path_factory.mktemp("forks"), sd3_folder)
    yield made
    made.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory, request):
    """Teachers, and a pool for each: texts, or classes by number and by name."""
    folder = tmp_path_factory.mktemp("place")
    for kind in KINDS:
        (folder / kind).symlink_to(request.getfixturevalue(f"{kind}_folder"))
    rows = [f"{what} {i}" for i in range(4) for what in ("cat", "dog", "hut")]
    (folder / "prompts.csv").write_text("\n".join(["text", *rows]))
    (folder / "classes.txt").write_text("\n".join(["7", "goldfish", "tench", "0", "999", "207"]))
    return folder


def aria(*words):
    result = CliRunner().invoke(main, list(map(str, words)))
    assert result.exit_code == 0, f"{words}: {result.output}"
    return result.stdout


def teacher_of(place, kind):
    return ["--pretrained_model_name_or_path", place / kind]


def pool_of(place, kind):
    return ["--prompts", place / ("classes.txt" if kind == "dit" else "prompts.csv")]


def command_line(place, kind, output, **changes):
    settings = {
        "student": place / f"{kind}-student", "cache_dir": place / f"{kind}-cache", "output_dir": output,
        "train_batch_size": 2, "num_images": 4, "num_inference_steps": 2, "guidance_scale": 2.0, "warmup": 1,
        "checkpointing_steps": 3, "logging_steps": 3, "learning_rate": 1e-3, **RUN[kind],
    }  # fmt: skip
    given = [(name, part) for name, value in (settings | changes).items()
             for part in (value if isinstance(value, tuple) else (value,))]  # fmt: skip
    flags = [text for name, value in given for text in (f"--{name}", value) if text != ""]
    return ["distill", *teacher_of(place, kind), *pool_of(place, kind), *flags, "--quiet"]


def killed(forks, arguments, output):
    """Run until there is a checkpoint, and kill; the step of the last one."""
    pid = forks.start(*arguments)
    wait_for(lambda: (output / "checkpoint-3" / "state.json").exists())
    os.kill(pid, signal.SIGKILL)
    assert forks.wait(pid).code == -signal.SIGKILL
    return checkpoint.step_of(checkpoint.folders(output)[-1])


@pytest.mark.parametrize("kind", KINDS)
def test_from_a_teacher_to_a_pipeline(kind, place, forks, tmp_path):
    teacher, pool = teacher_of(place, kind), pool_of(place, kind)
    student, cache = place / f"{kind}-student", place / f"{kind}-cache"
    record = json.loads(aria("prune", *teacher, "--output_dir", student, *SMALLER[kind], "--json"))
    assert 0 < record["parameters"]["student"] < record["parameters"]["teacher"] and record["init"]["fresh"] == 0
    aria("cache", *teacher, *pool, "--num_images", 4, "--num_inference_steps", 2, "--guidance_scale", 2, "--output_dir",
         cache, *SIZED.get(kind, []))  # fmt: skip
    by = ["--partitioner", RUN[kind]["partitioner"], "--json"]
    divided = json.loads(aria("partition", *pool, "--cache_dir", cache, *by))
    assert len(divided["regions"]) == (5 if kind == "dit" else 3)

    other, one = tmp_path / "other", tmp_path / "one"
    shown = {"validation_prompts": "goldfish" if kind == "dit" else "a cat", "validation_steps": 3}
    step = killed(forks, command_line(place, kind, other, max_train_steps=5000, **shown), other)
    more = {"max_train_steps": step + 4, **shown}
    ended = [forks.done(*command_line(place, kind, output, **more)) for output in (other, one)]
    assert [run.stdout.strip() for run in ended] == [str(other), str(one)]
    assert logs(other) == logs(one)
    assert (other / "discrepancies.jsonl").read_text() == (one / "discrepancies.jsonl").read_text()
    last = f"checkpoint-{step + 4}"
    for name in (f"{last}/{WEIGHTS}", f"{last}/optimiser.safetensors", f"{last}/sampler.safetensors", WEIGHTS):
        assert_same(load_file(other / name), load_file(one / name))
    assert ("feature" in logs(one)[0]) == (kind != "dit")
    if kind not in FLOWS:
        assert logs(one)[0]["variance"] > 0

    pipeline = DiffusionPipeline.from_pretrained(one)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline.transformer.num_parameters() == open_model(student).num_parameters()
    if pipeline.transformer.config.get("out_channels") is not None:  # else as many as those of the input
        assert pipeline.transformer.config.out_channels == (4 if kind in FLOWS else 8)
    if kind in VIDEOS:
        more = {"height": 32, "width": 64, "num_frames": 9}
        videos = pipeline(prompt="a cat", num_inference_steps=2, output_type="np", **more).frames
        assert videos.shape == (1, 9, 32, 64, 3)
    elif kind == "dit":
        images = pipeline(pipeline.get_label_ids(["goldfish"]), num_inference_steps=2, output_type="np").images
        assert images.shape == (1, 16, 16, 3)
    else:
        more = {"use_resolution_binning": False} if "pixart" in kind else {}
        if kind == "sana":  # whose own sizes are those of published models
            more = {"use_resolution_binning": False, "height": 32, "width": 32}
        if kind in SIZED or kind == "aura":
            more = {"height": 16, "width": 32}
        images = pipeline(prompt="a cat", num_inference_steps=2, output_type="np", **more).images
        assert images.shape == (1, more.get("height", 16), more.get("width", 16), 3)
    if kind in ("flux", "flux2"):
        assert pipeline.transformer.config.guidance_embeds
    if kind == "pixart":
        assert pipeline.scheduler.config.prediction_type == "v_prediction"

    assert (one / "samples" / f"step-{step + 3:08d}.png").is_file()
    picture = tmp_path / "picture.png"
    result = json.loads(aria("sample", *teacher, "--student", one, "--prompts", pool[1], "--num_prompts", 2, "--output",
                         picture, "--num_inference_steps", 2, "--guidance_scale", 2, *SIZED.get(kind, []),
                         "--json"))  # fmt: skip
    assert picture.is_file() and result["gap"] > 0 and len(result["prompts"]) == 2
    aria("report", one, "--output", tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert f"finished: {step + 4} steps" in page and ("data:image/webp" in page) == (kind in VIDEOS)
    films = [picture.with_suffix(".webp"), one / "samples" / f"step-{step + 3:08d}.webp"]
    assert [film.is_file() for film in films] == [kind in VIDEOS] * 2
    if kind in VIDEOS:
        frames = RUN[kind]["num_frames"]
        assert result["film"] == str(films[0]) and result["settings"]["num_frames"] == frames
        for film in films:
            with Image.open(film) as opened:
                assert opened.n_frames == frames


def test_classes_are_a_pool_with_their_names_as_labels(place, tmp_path):
    """By number and by name, with regions of classes and of classes that the teacher takes for similar."""
    pool, cache = tmp_path / "classes.csv", tmp_path / "cache"
    pool.write_text("label,weight\n0,1\ntench,1\n207,2\n999,4\n")
    by_class = ["--partitioner", 'labels("label")', "--json"]
    plain = json.loads(aria("partition", "--prompts", pool, *by_class))
    assert [row["name"] for row in plain["regions"]] == ["label=0", "label=207", "label=999", "label=tench"]
    aria("cache", *teacher_of(place, "dit"), "--prompts", pool, "--output_dir", cache)
    named = json.loads(aria("partition", "--prompts", pool, "--cache_dir", cache, *by_class))
    masses = {row["name"]: row["mass"] for row in named["regions"]}
    assert masses == {"label=999": 0.5, "label=Tinca tinca": 0.25, "label=golden retriever": 0.25}
    conditions = Conditions(cache / "conditions", pipeline=open_pipeline(place / "dit"))
    assert conditions.gather(torch.arange(4))["class_labels"].tolist() == [0, 0, 207, 999]
    assert conditions.null(1)["class_labels"].tolist() == [1000]
    aria("partition", "--prompts", pool, *teacher_of(place, "dit"), "--partitioner", "kmeans(2)")


def test_an_unknown_class_is_named_before_anything_is_made(place, tmp_path):
    (tmp_path / "classes.txt").write_text("7\ngoldfisch\n")
    result = CliRunner().invoke(main, list(map(str, [
        "cache", *teacher_of(place, "dit"), "--prompts", tmp_path / "classes.txt", "--output_dir", tmp_path / "cache"
    ])))  # fmt: skip
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == "Error: there is no class 'goldfisch'; did you mean 'goldfish'?"
    assert not (tmp_path / "cache").exists()


def test_a_cache_of_other_classes_is_refused(place, tmp_path):
    aria("cache", *teacher_of(place, "dit"), "--prompts", place / "classes.txt", "--output_dir", tmp_path / "cache")
    pipeline = open_pipeline(place / "dit")
    pipeline.labels = {"goldfish": 2}
    with pytest.raises(ValueError, match="was made with classes = "):
        Conditions(tmp_path / "cache" / "conditions", pipeline=pipeline)


def test_the_tutorials_commands_for_transformers_work_as_written(place, tmp_path, monkeypatch):
    page = (Path(__file__).resolve().parents[2] / "docs" / "tutorial.md").read_text(encoding="utf-8")
    section = page.split("## Transformers, and classes instead of prompts")[1].split("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, flags=re.DOTALL)
    written = [line for block in blocks for line in block.splitlines()]
    assert len(written) == 7
    names = {"stable-diffusion-3-medium": "sd3", "PixArt-XL-2-512x512": "pixart", "DiT-XL-2-256": "dit",
             "FLUX.1-dev": "flux", "Wan2.1-T2V-1.3B": "wan"}  # fmt: skip
    for name, kind in names.items():
        (tmp_path / name).symlink_to(place / kind)
    (tmp_path / "classes.txt").write_text("golden retriever\n7\n")
    (tmp_path / "prompts.csv").write_text("text\na cat\na dog\n")
    monkeypatch.chdir(tmp_path)
    for line in written:
        words = shlex.split(line)
        aria(*words[1:], *(["--num_inference_steps", 2] if words[1] == "cache" else []))
    assert [open_model(name).config.num_layers for name in ("half", "three", "narrow")] == [2, 3, 2]
    assert open_model("chosen").config.num_layers == 3
    assert open_model("narrow").config.num_attention_heads == 1
    assert [open_model("fewer").config[name] for name in ("num_layers", "num_single_layers")] == [2, 3]


def test_sd3_saved_without_t5_is_a_teacher_too(forks, tmp_path, place):
    from tests.distill import pipelines

    pipelines.save_sd3(place / "sd3t", (3,))
    aria("prune", *teacher_of(place, "sd3t"), "--output_dir", place / "sd3t-student", "--preset", "half")
    RUN["sd3t"] = {"partitioner": "one_region"}
    forks.done(*command_line(place, "sd3t", tmp_path / "run", max_train_steps=1))
    absent = {"text_encoder_3": None, "tokenizer_3": None}  # which diffusers must be given
    pipeline = DiffusionPipeline.from_pretrained(tmp_path / "run", **absent)
    pipeline.set_progress_bar_config(disable=True)
    assert pipeline("a cat", num_inference_steps=2, output_type="np").images.shape == (1, 16, 16, 3)


@pytest.mark.parametrize(
    ("teacher", "student", "more", "sentence"),
    [
        ("flux", "flux", (), "the teacher takes the guidance scale as an input: guidance_max is needed"),
        ("flux_schnell", "flux", (), "the student takes the guidance scale as an input: guidance_max is needed"),
        ("flux", "flux_schnell", ("--guidance_max", 3), "a FluxTransformer2DModel cannot take the guidance scale as"),
        ("flux", "flux", ("--guidance_max", 1.5), "guidance_scale=2, used for training images, is outside the range"),
        ("flux", "flux", ("--guidance_max", 3, "--objective", "task"), "leave task out of the objective"),
    ],
)
def test_guidance_that_flux_cannot_take_is_refused_before_anything_is_made(
    teacher, student, more, sentence, place, tmp_path
):
    words = ["distill", *teacher_of(place, teacher), *pool_of(place, teacher), "--student", place / student,
             "--output_dir", tmp_path / "run", "--num_images", 2, "--guidance_scale", 2, "--resolution", 16,
             "--objective", "output", *more]  # fmt: skip
    result = CliRunner().invoke(main, list(map(str, words)))
    assert result.exit_code == 2 and sentence in result.stderr.splitlines()[-1], result.output
    assert not (tmp_path / "run").exists()
