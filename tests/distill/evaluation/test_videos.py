"""Videos on pages, in films, under scorers, and in the page of a run and of an evaluation."""

from __future__ import annotations

import base64
import json
import re

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from aria import plots
from aria.cli import main
from aria.distill.evaluation import grids
from aria.distill.evaluation.evaluate import scored
from aria.distill.evaluation.report import Record, page
from aria.distill.evaluation.scorers import Scorer
from tests.distill import pipelines
from tests.distill.evaluation.test_report import write_run

LEVELS = [0, 30, 60, 90, 120, 150, 180, 210, 240]
"""Of the nine frames of a video, which is as bright everywhere as the frame is late."""


def video(width=4, height=4):
    frames = torch.tensor(LEVELS).view(1, -1, 1, 1) / 255
    return grids.frames_of(frames.expand(3, -1, height, width))


def test_an_image_is_one_frame_and_a_video_several():
    pixels = torch.rand(3, 2, 5, 4)
    first, second = grids.frames_of(pixels)
    assert first.size == (4, 5) and grids.frames_of(pixels[:, 1]) == [second] != [first]
    assert [frame.getpixel((0, 0))[0] for frame in video()] == LEVELS


def test_a_strip_has_the_first_the_last_and_others_evenly_between():
    strip = grids.strip(video())
    assert strip.size == (grids.STRIP * 4, 4)
    assert [strip.getpixel((4 * place, 0))[0] for place in range(grids.STRIP)] == [0, 30, 90, 120, 180, 240]
    assert grids.strip(video()[:2]).size == (8, 4)
    image = Image.new("RGB", (999, 3))
    assert grids.strip([image]) is image
    assert grids.strip(video(1024, 512)).size == (grids.STRIP * 256, 128)


def test_a_film_has_a_page_for_every_frame(tmp_path):
    columns = [("teacher", [video()]), ("student", [video()[::-1]])]
    path = grids.write_film(["a cat"], columns, tmp_path / "a.webp")
    with Image.open(path) as film:
        assert (film.format, film.n_frames) == ("WEBP", 9)
        seen = []
        for place in range(9):
            film.seek(place)
            shown = film.convert("RGB")
            y = shown.height - 3 * grids.MARGIN - 4
            seen.append([shown.getpixel((x, y))[0] for x in (64, shown.width - 64)])
    for (left, right), level in zip(seen, LEVELS, strict=True):
        assert abs(left - level) < 6 and abs(right - (240 - level)) < 6
    assert grids.write_film(["a cat"], [("teacher", [video()[:1]])], tmp_path / "b.webp") is None
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.webp"]


class Bright(Scorer):
    """Mean brightness, how near it is to the teacher's, and the length of the prompt; not defined for black images."""

    def scores(self, prompts, images, teacher):
        assert images.ndim == 4 and len(prompts) == len(images) == len(teacher)
        mean = images.mean((1, 2, 3))
        return {
            "bright": mean.masked_fill(mean == 0, torch.nan), "near": -(mean - teacher.mean((1, 2, 3))).abs(),
            "long": torch.tensor([float(len(prompt)) for prompt in prompts]),
        }  # fmt: skip


def test_the_scores_of_a_video_are_means_over_its_frames():
    levels = torch.tensor([[0.0, 0.2, 0.4], [0.1, 0.1, 0.7]])
    videos = levels[:, None, :, None, None].expand(2, 3, 3, 4, 4)
    found = scored("bright", Bright(), ["ab", "abc"], videos, videos + 0.1)
    assert found["bright"].tolist() == pytest.approx([0.3, 0.3])  # the black frame is left out
    assert found["near"].tolist() == pytest.approx([-0.1, -0.1]) and found["long"].tolist() == [2, 3]
    one = scored("bright", Bright(), ["ab", "abc"], videos[:, :, 2], videos[:, :, 2])
    assert one["bright"].tolist() == pytest.approx([0.4, 0.7])


def test_huge_latents_are_decoded_one_by_one():
    assert grids.batch(torch.empty(9, 16, 21, 60, 104, device="meta"), 32) == 1
    assert grids.batch(torch.empty(9, 16, 128, 128, device="meta"), 32) == 32


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setattr(plots.Chart, "svg", lambda chart, name: ["<svg></svg>"] * chart.panels)
    folder = write_run(tmp_path / "run", steps=8)
    for path in sorted((folder / "samples").glob("*.png")):
        grids.write_film(["a"], [("teacher", [video()])], path.with_suffix(".webp"))
    return folder


def test_films_are_embedded_below_their_grids(run):
    films = re.findall(r'data:image/webp;base64,([^"]+)"', page(Record(run)))
    assert [base64.b64decode(film) for film in films] == [
        (run / "samples" / f"step-{step:08d}.webp").read_bytes() for step in (8, 4)
    ]


def test_a_film_that_is_none_is_named(run, tmp_path):
    (tmp_path / "secret").write_bytes(b"RIFF....WEBPsecret")
    broken, linked = (run / "samples" / f"step-{step:08d}.webp" for step in (4, 8))
    broken.write_bytes(b"GIF89a" + bytes(60))
    linked.unlink()
    linked.symlink_to(tmp_path / "secret")
    shown = page(Record(run))
    assert "data:image/webp" not in shown and "is no WebP file" in shown
    assert shown.count("The film of step") == 2 and shown.count("data:image/png") == 2


def test_students_of_a_teacher_of_videos_are_evaluated(wan_folder, tmp_path):
    student = tmp_path / "student"
    pipelines.wan(num_layers=2).save_pretrained(student)
    (tmp_path / "prompts.txt").write_text("\n".join(f"a {word}" for word in ("cat", "dog", "owl", "bat", "elk", "ant")))
    (tmp_path / "own.py").write_text(
        "from aria.distill.evaluation.scorers import Scorer\n"
        "class Bright(Scorer):\n"
        "    def scores(self, prompts, images, teacher):\n"
        "        return {'bright': images.mean((1, 2, 3))}\n"
    )
    words = [wan_folder, student, "--prompts", tmp_path / "prompts.txt", "--scorer", f"{tmp_path / 'own.py'}:Bright",
             "--num_inference_steps", 2, "--resolution", 16, "--num_frames", 5, "--output_dir",
             tmp_path / "out"]  # fmt: skip
    result = CliRunner().invoke(main, ["evaluate", *map(str, words)])
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert found["settings"]["frames"] == 5
    assert all(set(row["values"]["student"]) == {"gap", "bright"} for row in found["prompts"])
    assert "data:image/webp" in (tmp_path / "out" / "report.html").read_text()
    with Image.open(tmp_path / "out" / "prompts.webp") as film:
        assert film.n_frames == 5
