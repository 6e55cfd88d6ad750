"""Runs that share a cache, or are resumed with it after another process has changed it."""

from __future__ import annotations

import json
import threading
from types import SimpleNamespace

import pytest
import torch

from aria import files, integrity
from aria.checks import InvalidSetting
from aria.distill.data import cache
from aria.distill.data.store import made_with
from aria.distill.models.pipelines import open_pipeline
from aria.distill.runs import assembly, checkpoint, output
from aria.distill.runs.plan import resolve
from aria.distill.runs.run import run
from aria.distill.settings.config import Config
from aria.progress import silent
from tests.distill.ranks import on_ranks
from tests.folders import sizes


@pytest.fixture(scope="module")
def place(tmp_path_factory, sd_folder):
    from aria.distill.students import prune

    folder = tmp_path_factory.mktemp("shared")
    prune(sd_folder, folder / "student", preset="bk-tiny", width=0.5)
    return folder


@pytest.fixture(scope="module")
def pipeline(sd_folder):
    return open_pipeline(sd_folder)


@pytest.fixture
def settings(place, sd_folder, tmp_path):
    """The settings of a short run, with changes."""
    path = tmp_path / "prompts.csv"
    path.write_text("text,weight\n" + "".join(f"cat {i},{i + 1}\n" for i in range(8)))

    def changed(**changes):
        values = {
            "pretrained_model_name_or_path": str(sd_folder), "student": str(place / "student"), "prompts": str(path),
            "cache_dir": str(tmp_path / "cache"), "output_dir": str(tmp_path / "run"), "num_images": 4,
            "num_inference_steps": 1, "max_train_steps": 1, "train_batch_size": 2, "partitioner": "one_region",
            "checkpointing_steps": 1, "objective": ("output",),
        }  # fmt: skip
        return Config().with_values(values | changes)

    return changed


def train(config):
    return run(config, bar=silent, quiet=True)


def fill(config, pipeline):
    return assembly.fill_cache(resolve(config), pipeline, silent)


def held(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(config, sentence, folder):
    before = held(folder)
    with pytest.raises(InvalidSetting, match=sentence):
        train(config)
    assert held(folder) == before


# -------------------------------------------------------------------------------------------------------------- filling


def test_runs_that_wait_for_each_other_may_have_seeds_of_their_own(settings, pipeline, tmp_path):
    failed = []

    def attempt(seed):
        try:
            fill(settings(seed=seed), pipeline)
        except ValueError as error:
            failed.append(error)

    with files.locked_folder(tmp_path / "cache"):  # both find an empty folder
        waiting = [threading.Thread(target=attempt, args=(seed,)) for seed in (0, 1)]
        for thread in waiting:
            thread.start()
        for thread in waiting:
            thread.join(0.5)
    for thread in waiting:
        thread.join(60)
    assert not failed and len(cache.opened(tmp_path / "cache", resolution=None)[1]) == 4


def test_a_cache_whose_filler_was_killed_may_be_finished_with_another_seed(settings, pipeline, tmp_path, monkeypatch):
    def killed(*args):
        raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr(cache, "write_json", killed)
        with pytest.raises(InterruptedError):
            cache.fill(tmp_path / "cache", pipeline, prompts=tmp_path / "prompts.csv", bar=silent, num_images=2,
                       steps=1, dtype="bf16", seed=5)  # fmt: skip
    fill(settings(seed=1), pipeline)
    assert made_with(tmp_path / "cache" / "conditions")["dtype"] == "bfloat16"
    assert made_with(tmp_path / "cache" / "latents" / "samples")["seed"] == 5
    recorded = json.loads((tmp_path / "cache" / "cache.json").read_text())["settings"]
    assert recorded["seed"] == 5 and recorded["dtype"] == "bf16" and recorded["num_images"] == 4


def test_a_cache_in_the_folder_of_a_run_has_a_lock_of_its_own(settings, pipeline, tmp_path):
    """The output folder may be the cache; and whoever fills a cache in the folder of a running run does not wait."""
    both = tmp_path / "both"
    train(settings(output_dir=str(both), cache_dir=str(both)))
    assert (both / "model_index.json").is_file() and (both / "cache.json").is_file()
    with output.locked(both):
        fill(settings(cache_dir=str(both), num_images=5), pipeline)


def test_a_cache_makes_no_folder_a_runs_own(settings, pipeline, tmp_path):
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "model_index.json").write_text("{}")
    fill(settings(cache_dir=str(tmp_path / "teacher")), pipeline)
    with pytest.raises(ValueError, match="is no folder of a run and has a model_index.json"):
        output.check_own(tmp_path / "teacher")


# ------------------------------------------------------------------------------------------------------------- resuming


def test_a_refused_run_leaves_the_cache_and_can_be_resumed(settings, pipeline, tmp_path):
    """Also after another run has added images, or photographs, to the cache."""
    from PIL import Image

    train(settings())
    longer = {"max_train_steps": 2}
    refused(settings(num_images=6, **longer), "was written with num_images = 4, now it is 6", tmp_path)
    refused(settings(learning_rate=1.0, num_inference_steps=2, **longer), "with learning_rate = 5e-05", tmp_path)
    before = cache.opened(tmp_path / "cache", resolution=None)[1].gather(torch.arange(4))
    fill(settings(num_images=6, seed=3), pipeline)
    (tmp_path / "photographs").mkdir()
    Image.new("RGB", (20, 20), "red").save(tmp_path / "photographs" / "a.png")
    (tmp_path / "photographs" / "a.txt").write_text("cat 3")
    fill(settings(train_data_dir=str(tmp_path / "photographs")), pipeline)
    assert len(cache.opened(tmp_path / "cache", resolution=None)[1]) == 7
    distiller = train(settings(**longer))
    assert distiller.step_count == 2 and len(distiller.source.images) == 4
    assert all(map(torch.equal, distiller.source.images.gather(torch.arange(4)), before))
    photographs = train(settings(output_dir=str(tmp_path / "other"), train_data_dir=str(tmp_path / "photographs")))
    assert photographs.source.images.conditions().tolist() == [3]


def test_other_prompts_are_refused_before_the_fill_although_the_newest_checkpoint_is_damaged(settings, tmp_path):
    train(settings(max_train_steps=2))
    (tmp_path / "run" / "checkpoint-2" / "state.json").write_text("{")
    (tmp_path / "others.csv").write_text((tmp_path / "prompts.csv").read_text().replace("cat 3,4", "cat 3,5"))
    others = {"prompts": str(tmp_path / "others.csv")}
    refused(settings(max_train_steps=3, **others), "others.csv holds other prompts than this run was", tmp_path)
    refused(settings(max_train_steps=3, learning_rate=1.0), "checkpoint-1 was written with learning_rate", tmp_path)
    assert train(settings(max_train_steps=2)).step_count == 2
    assert checkpoint.newest(tmp_path / "run").folder.name == "checkpoint-2"


# -------------------------------------------------------------------------------------------------------------- reading


def test_weights_that_another_process_changes_before_they_are_read_are_refused(settings, tmp_path, monkeypatch):
    filled = assembly.fill_cache

    def fill_twice(plan, pipeline, bar, **options):
        digest = filled(plan, pipeline, bar, **options)
        path = tmp_path / "prompts.csv"
        path.write_text(path.read_text().replace("cat 3,4", "cat 3,40"))
        filled(plan, pipeline, bar)
        return digest

    monkeypatch.setattr(assembly, "fill_cache", fill_twice)
    with pytest.raises(ValueError, match="another process has changed .*cache since it was filled: run again"):
        train(settings())


def opening(plan, digests, counts):
    """Every rank finds its own in the cache."""
    accelerator = assembly.open_accelerator(plan)
    rank = accelerator.process_index
    prompts = SimpleNamespace(digest=lambda: digests[rank])
    assembly.fill_cache = lambda *args, **options: "filled"
    cache.opened = lambda *args, **options: (SimpleNamespace(prompts=prompts), range(counts[rank]))
    if len({*digests, "filled"}) == len({*counts}) == 1:
        assembly.open_data(plan, None, accelerator, silent)
        return
    with pytest.raises(ValueError, match="another process has changed"):
        assembly.open_data(plan, None, accelerator, silent)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("digests", "counts"),
    [(["filled"] * 2, [4, 4]), (["filled"] * 2, [4, 6]), (["filled", "other"], [4, 4]), (["other"] * 2, [4, 4])],
)
def test_ranks_that_open_different_data_are_all_refused(digests, counts, settings, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    on_ranks(opening, tmp_path / "ranks", resolve(settings()), digests, counts, seconds=60)


def test_a_report_shows_no_prompts_of_a_cache_that_is_being_filled(settings, tmp_path):
    from aria.distill.evaluation.report.record import Record

    train(settings())
    index = tmp_path / "cache" / "conditions" / "index.json"
    integrity.write(index, integrity.read(index) | {"total": 9})
    before = sizes(tmp_path)
    assert "is unfinished, it holds 8 of 9 rows" in Record(tmp_path / "run").pool
    assert sizes(tmp_path) == before
