"""The user's own teacher and prompts as a task."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext

import pytest

from aria.distill.models.pipelines import open_model
from aria.distill.settings.config import Config
from aria.tasks.folder import Folder
from tests.distill import pipelines

HELD_OUT = [
    {"prompt": "cat 1", "group": "seen", "weight": 3},
    {"prompt": "dog 1", "group": "seen", "weight": 1},
    {"prompt": "hut 1", "group": "new", "weight": 2},
]


def quiet(label):
    return nullcontext(lambda done, total: None)


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def files(tmp_path):
    (tmp_path / "pool.jsonl").write_text(lines([{"prompt": f"cat {i}"} for i in range(4)]))
    (tmp_path / "held.jsonl").write_text(lines(HELD_OUT))
    return {"teacher": str(tmp_path / "teacher"), "prompts": str(tmp_path / "pool.jsonl"),
            "held_out": str(tmp_path / "held.jsonl")}  # fmt: skip


def test_groups_are_those_of_the_column_and_all_together(files, tmp_path):
    questions = Folder(**files).questions(tmp_path)
    assert list(questions.prompts) == ["cat 1", "dog 1", "hut 1"]
    found = {name: share.tolist() for name, share in questions.groups.items()}
    third = pytest.approx([1 / 3] * 3)
    assert found == {"uniform": third, "new": [0, 0, 1], "seen": [0.75, 0.25, 0]}


@pytest.mark.parametrize("rows, complaint", [
    ([{"prompt": "cat"}], "there is no column 'group'; there are: none"),
    ([{"prompt": "cat", "group": "uniform"}], "'uniform' is the group of all prompts; call this one something else"),
    ([{"prompt": "cat", "group": "a", "weight": 1}, {"prompt": "dog", "group": "b", "weight": 0}],
     "the weights of the group 'b' must have a positive sum"),
])  # fmt: skip
def test_held_out_prompts_without_groups_are_refused(rows, complaint, files, tmp_path):
    (tmp_path / "held.jsonl").write_text(lines(rows))
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'held.jsonl'}: {complaint}")):
        Folder(**files).prepare(tmp_path / "place", quiet, "cpu")
    assert not (tmp_path / "place").exists()


@pytest.mark.parametrize("changes, complaint", [
    ({"teacher": ""}, "teacher is missing: folder(teacher=…, prompts=…, held_out=…)"),
    ({"held_out": ""}, "held_out is missing: folder(teacher=…, prompts=…, held_out=…)"),
    ({"student": "bk-huge"}, "student must be bk-base, bk-small, bk-tiny or a student's folder, got 'bk-huge'"),
    ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
])  # fmt: skip
def test_what_is_missing_is_named(changes, complaint, files):
    with pytest.raises(ValueError, match=f"^{re.escape(complaint)}$"):
        Folder(**(files | changes))


def test_other_prompts_are_another_task(files, tmp_path):
    before = Folder(**files).identity()
    assert Folder(**files).identity() == before != Folder(**files, steps=9).identity()
    (tmp_path / "pool.jsonl").write_text(lines([{"prompt": "cow"}]))
    assert Folder(**files).identity() != before


def test_models_and_images_that_changed_are_another_task(files, tmp_path):
    folder = tmp_path / "teacher" / "unet"
    folder.mkdir(parents=True)
    (folder / "weights").write_text("old")
    own = files | {"teacher": str(folder.parent), "images": str(folder)}
    before = Folder(**own).identity()
    assert Folder(**own).identity() == before
    (folder / "weights").write_text("newer")
    assert Folder(**own).identity() != before


def test_the_student_is_pruned_once_and_the_settings_are_the_engines(files, tmp_path):
    pipelines.save_sd(tmp_path / "teacher")
    task, place = Folder(**files, num_images=5, steps=3, guidance=1.5), tmp_path / "place"
    task.prepare(place, quiet, "cpu")
    before = (place / "student" / "config.json").stat().st_mtime_ns
    task.prepare(place, quiet, "cpu")
    assert (place / "student" / "config.json").stat().st_mtime_ns == before
    config = Config().with_values(task.settings(place))
    assert (config.data.num_images, config.data.num_inference_steps, config.data.guidance_scale) == (5, 3, 1.5)
    student, teacher = open_model(config.models.student), open_model(files["teacher"])
    assert student.num_parameters() < teacher.num_parameters()
    own = Folder(**files, student=str(place / "student"))
    own.prepare(tmp_path / "other", quiet, "cpu")
    assert not (tmp_path / "other").exists()
    assert own.settings(tmp_path / "other")["student"] == str(place / "student")
