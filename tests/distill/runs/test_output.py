"""The folder of a run: one owner, and a complete pipeline or none."""

from __future__ import annotations

import json

import pytest

from aria import files
from aria.distill.runs.output import check_own, deliver, locked
from tests.distill.broken_disk import Killed, broken


class Pipeline:
    """As much of a pipeline as delivering one needs; its files record their version."""

    def __init__(self, unet):
        self.unet, self.version = unet, "teacher"

    @property
    def components(self):
        return {"unet": self.unet}

    def register_modules(self, **modules):
        vars(self).update(modules)

    def save_pretrained(self, folder):
        for part in ("unet", "vae"):
            (folder / part).mkdir(parents=True)
            config = {"version": self.unet, "_name_or_path": str(folder.absolute())}
            files.write_json(folder / part / "config.json", config)
        (folder / "model_index.json").write_text(json.dumps({"version": self.unet}))


def contents(folder):
    names = ("model_index.json", "unet/config.json", "vae/config.json")
    return [json.loads((folder / name).read_text())["version"] for name in names]


def test_the_teacher_is_back_in_its_pipeline_and_places_are_forgotten(tmp_path):
    pipeline = Pipeline("teacher")
    deliver(pipeline, "unet", "student", tmp_path, "card")
    assert pipeline.unet == "teacher" and contents(tmp_path) == ["student"] * 3
    assert (tmp_path / "README.md").read_text() == "card"
    assert json.loads((tmp_path / "unet" / "config.json").read_text()) == {"version": "student"}
    assert not list(tmp_path.glob(".*"))


class Scheduler:
    """As much of a scheduler as is rebuilt for another prediction type."""

    def __init__(self, **config):
        self.config = config

    @classmethod
    def from_config(cls, config, **changes):
        return cls(**(config | changes))


def test_a_student_with_another_prediction_type_gets_a_matching_scheduler(tmp_path, monkeypatch):
    pipeline = Pipeline("teacher")
    own = pipeline.scheduler = Scheduler(steps=1000, prediction_type="v_prediction")
    delivered = []
    save = pipeline.save_pretrained

    def saved(folder):
        delivered.append(pipeline.scheduler)
        save(folder)

    monkeypatch.setattr(pipeline, "save_pretrained", saved)
    for prediction, expected in (("epsilon", "epsilon"), (None, "v_prediction")):
        deliver(pipeline, "unet", "student", tmp_path, "card", prediction=prediction)
        assert delivered.pop().config == {"steps": 1000, "prediction_type": expected} and pipeline.scheduler is own


def test_a_kill_at_any_operation_leaves_a_whole_pipeline_or_none(tmp_path, monkeypatch):
    deliver(Pipeline("teacher"), "unet", "old", tmp_path / "whole", "card")
    with broken(monkeypatch) as disk:
        deliver(Pipeline("teacher"), "unet", "new", tmp_path / "whole", "card")
    seen = set()
    for last in range(1, disk.count + 1):
        place = tmp_path / str(last)
        deliver(Pipeline("teacher"), "unet", "old", place, "card")
        with pytest.raises(Killed), broken(monkeypatch, last):
            deliver(Pipeline("teacher"), "unet", "new", place, "card")
        if (place / "model_index.json").exists():
            versions = contents(place)
            assert versions in (["old"] * 3, ["new"] * 3), (last, versions)
            seen.add(versions[0])
        else:
            seen.add("none")
        files.sweep(place)
        deliver(Pipeline("teacher"), "unet", "again", place, "card")
        assert contents(place) == ["again"] * 3
    assert seen == {"old", "none", "new"}


def test_a_folder_is_locked_by_one_run(tmp_path):
    with locked(tmp_path / "run"):
        with locked(tmp_path / "run", first=False):
            pass
        sentence = "another run is writing to .*; wait for it or choose another folder"
        with pytest.raises(ValueError, match=sentence), locked(tmp_path / "run"):
            pass
    with locked(tmp_path / "run"):
        pass


def test_a_run_that_is_refused_before_it_wrote_anything_leaves_no_folder(tmp_path):
    kept, begun = tmp_path / "kept", tmp_path / "begun"
    kept.mkdir()

    def refused(output, *made):
        with locked(output):
            for name in made:
                (output / name).mkdir()
            raise ValueError("no such teacher")

    for output, made in ((tmp_path / "new", ()), (kept, ()), (begun, ("cache",))):
        with pytest.raises(ValueError, match="no such teacher"):
            refused(output, *made)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["begun", "kept"]
    assert (begun / "cache").is_dir()


def test_a_folder_is_a_runs_by_its_lock_or_its_checkpoints(tmp_path):
    run = tmp_path / "run"
    check_own(run)  # which does not exist yet
    run.mkdir()
    (run / "notes.txt").write_text("of nobody's concern")
    check_own(run)
    (run / "model_index.json").write_text("{}")
    with pytest.raises(ValueError, match=r"run is no folder of a run and has a model_index.json: choose another"):
        check_own(run)
    (run / "checkpoint-3").mkdir()
    (run / "checkpoint-3" / "state.json").write_text("{}")
    check_own(run)  # copied without its lock
    (run / "checkpoint-3" / "state.json").unlink()
    with locked(run):
        check_own(run)
    check_own(run)
