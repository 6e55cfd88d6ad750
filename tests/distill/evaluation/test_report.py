"""The page of a run that has finished, has been interrupted or has just begun, checked against its logs."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from aria import partitioners, plots, registry
from aria.cli import main
from aria.distill.evaluation.report import Record, figures, page
from aria.partitioners.fitted import KINDS
from aria.pool import Pool

pytest.importorskip("matplotlib")
REGIONS, STEPS = 30, 40
VOID = {"meta", "img"}


def write_run(folder, *, steps=STEPS, regions=REGIONS, prompts="a <b>cat</b> & $x$"):
    """A run's folder without models: region r of size r + 1 is seen in steps that r divides, and never if r is 29."""
    (folder / "samples").mkdir(parents=True)
    config = {
        "training": {"max_train_steps": 40, "train_batch_size": 4, "gradient_accumulation_steps": 2},
        "run": {"validation_prompts": [prompts], "report_to": None},
        "data": {"cache_dir": "<script>alert(1)</script>"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    labels = [f"{region:02d}" for region in range(regions) for _ in range(region + 1)]
    partition = partitioners.Labels("region").fit(Pool(columns={"region": labels}))
    partitioners.save(partition, folder / "partition.safetensors")
    losses, seen, gaps = [], [], []
    for step in range(1, steps + 1):
        losses.append({"step": step, "output": 1 / step, "feature": 5.0, "lr": 1e-4, "steps_per_second": 2.5})
        for region in range(regions - 1):
            if step % (region + 1) == 0:
                line = {"step": step, "region": region, "n": 2, "mean": region + 1 / step, "square": 1.0, "q": 0.03}
                seen.append(line)
        if step % 4 == 0:
            gaps.append({"step": step, "gap": 2 / step, "prompts": [{"prompt": prompts, "gap": 2 / step}]})
            Image.new("RGB", (4, 4), (step, 0, 0)).save(folder / "samples" / f"step-{step:08d}.png")
    for name, rows in (("losses", losses), ("discrepancies", seen), ("validation", gaps)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_a_run_divided_by_a_partitioner_of_ones_own(tmp_path, undrawn):
    """A new process has only the kinds of the package, until --partitioner imports another one."""
    run = write_run(tmp_path / "run")
    own = tmp_path / "half.py"
    own.write_text(
        "from dataclasses import dataclass\n"
        "import aria, torch\n"
        "from aria.partitioners import Fitted, Members\n"
        "class HalfPartition(Fitted, kind='half'):\n"
        "    def assign(self, pool, **coords):\n"
        "        return torch.arange(len(pool)) * 30 // len(pool)\n"
        "@dataclass(frozen=True)\n"
        "class Half(aria.Partitioner):\n"
        "    def fit(self, pool):\n"
        "        return HalfPartition(Members.build(torch.arange(len(pool)) * 30 // len(pool), rows=30))\n"
    )
    partition = registry.partitioner(f"{own}:Half").fit(Pool(size=60))
    partitioners.save(partition, run / "partition.safetensors")
    KINDS.pop("half")
    command = ["report", str(run), "--output", str(tmp_path / "page.html")]
    refused = CliRunner().invoke(main, command)
    assert refused.exit_code == 2 and "--partitioner file.py:Class" in refused.stderr
    shutil.copy(own, tmp_path / "again.py")  # a file is imported once a process
    done = CliRunner().invoke(main, [*command, "--partitioner", f"{tmp_path / 'again.py'}:Half"])
    assert done.exit_code == 0, done.output
    assert "half 7" in (tmp_path / "page.html").read_text()


@pytest.fixture
def undrawn(monkeypatch):
    """Do not draw figures: other tests do, and drawing takes the longest."""
    monkeypatch.setattr(plots.Chart, "svg", lambda chart, name: ["<svg></svg>"] * chart.panels)


class Checked(HTMLParser):
    """Refuse elements that are not closed, that run a script, or that load something."""

    def __init__(self):
        super().__init__()
        self.open, self.words = [], []

    def handle_starttag(self, tag, attributes):
        assert tag not in {"script", "iframe", "link", "object"}
        for name, value in attributes:
            assert not name.startswith("on")
            if name in {"src", "href", "xlink:href"}:
                assert value.startswith(("data:image/png;base64,", "#")), value[:80]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def read(text):
    """The words on a page, once it has been checked."""
    checked = Checked()
    checked.feed(text)
    assert not checked.open
    return " ".join(" ".join(checked.words).split())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "whole")


@pytest.fixture(scope="module")
def shown(run):
    return page(Record(run))


def test_a_page_stands_alone(shown):
    words = read(shown)
    for title in ("Losses", "Allocation", "Coverage", "Validation", "Settings"):
        assert title in words
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", shown)
    assert "prefers-color-scheme: dark" in shown
    assert shown.count("<svg") == 8


def test_drawings_are_xml_with_ids_of_their_own(shown):
    drawings = re.findall(r"<svg.*?</svg>", shown, flags=re.DOTALL)
    ids = [set(element.attrib["id"] for element in ElementTree.fromstring(d).iter() if "id" in element.attrib)
           for d in drawings]  # fmt: skip
    assert sum(map(len, ids)) == len(set.union(*ids)) > 20
    text = " ".join("".join(element.itertext()) for d in drawings for element in ElementTree.fromstring(d).iter())
    labels = ("optimiser step", "generation gap (squared latent units)", "share of the samples", "steps per second")
    for label in labels:
        assert label in text
    assert "a <b>cat</b> & $x$" in text  # as the user wrote it, not as mathematics or HTML


def test_what_a_user_wrote_is_not_html(shown):
    assert "<script>" not in shown and "<b>cat" not in shown
    assert "<script>alert(1)</script>" in read(shown)


def test_numbers_are_those_of_the_logs(run, shown):
    words = read(shown)
    samples = 2 * sum(STEPS // (region + 1) for region in range(REGIONS - 1))
    most = sum(min(region + 1, 2 * (STEPS // (region + 1))) for region in range(REGIONS - 1))
    total = REGIONS * (REGIONS + 1) // 2
    assert f"samples observed by the tracker {samples}" in words
    assert f"regions visited 29 of 30, with {1 - 30 / total:.1%} of the pool's mass" in words
    assert f"conditions visited at most {most} of {total}" in words
    assert "2.5 steps per second, 20 samples per second per device" in words
    assert "One region without a sample is left out" in words
    assert "generation gap 0.5 at step 4, 0.05 at step 40" in words


def test_grids_are_embedded_as_they_are(run, shown):
    images = re.findall(r'<img src="data:image/png;base64,([^"]+)"', shown)
    steps = [Image.open(io.BytesIO(base64.b64decode(image))).getpixel((0, 0))[0] for image in images]
    assert steps[0] == 40 and steps[-1] == 4 and len(steps) == 6 and steps == sorted(steps, reverse=True)


@pytest.mark.parametrize("intervals", [1, 7, 40, 1000])
def test_intervals_lose_nothing(run, intervals):
    seen = Record(run).seen(intervals)
    assert seen.n.shape == (min(intervals, STEPS), REGIONS) and seen.step[0] == 0 and seen.step[-1] == STEPS
    assert seen.samples.tolist() == [2 * (STEPS // (region + 1)) for region in range(REGIONS - 1)] + [0]
    whole = np.array([sum(1 / s for s in range(r, STEPS + 1, r)) / (STEPS // r) + r - 1 for r in range(1, REGIONS)])
    mean = np.nansum(seen.n * seen.mean, 0)[:-1] / seen.samples[:-1]
    assert np.allclose(mean, whole)
    assert np.allclose(seen.q[~np.isnan(seen.q)], 0.03)
    assert seen.visited()[-1] == REGIONS - 1


def test_first_and_last_discrepancy(run):
    seen = Record(run).seen(1000)
    assert seen.at(last=False)[:3] == pytest.approx([1.0, 1 + 1 / 2, 2 + 1 / 3])
    assert seen.at(last=True)[:3] == pytest.approx([1 / 40, 1 + 1 / 40, 2 + 1 / 39])
    assert np.isnan(seen.at(last=True)[-1])


def test_many_regions_are_shown_by_their_ends():
    ratio = np.arange(100.0)
    assert figures.most_and_least(ratio) == [*range(99, 87, -1), *range(11, -1, -1)]
    assert figures.most_and_least(ratio[:3]) == [2, 1, 0]


@pytest.mark.usefixtures("undrawn")
def test_a_report_of_a_running_or_killed_run(run, tmp_path):
    folder = write_run(tmp_path / "run", steps=9)
    os.utime(folder / "losses.jsonl", (0, 0))
    whole = read(page(Record(folder)))
    assert "1970-01-01 00:00:00 UTC" in whole
    assert "step 9 of 40: still running, or stopped early" in whole and "hours" in whole
    for name in ("losses", "discrepancies", "validation"):
        with (folder / f"{name}.jsonl").open("a") as file:
            file.write('{"step": 10, "outp')
    os.utime(folder / "losses.jsonl", (0, 0))
    assert read(page(Record(folder))) == whole


@pytest.mark.usefixtures("undrawn")
def test_a_finished_run(tmp_path):
    folder = write_run(tmp_path / "run")
    assert not Record(folder).finished
    (folder / "model_index.json").write_text("{}")
    assert "finished: 40 steps" in read(page(Record(folder)))


def test_every_stage_of_a_beginning(tmp_path):
    folder = write_run(tmp_path / "run", steps=1, regions=3)
    for gone in ("validation.jsonl", "discrepancies.jsonl", "partition.safetensors", "losses.jsonl"):
        (folder / gone).unlink()
        read(page(Record(folder)))
    assert "No region has been seen yet" in read(page(Record(folder)))


@pytest.mark.usefixtures("undrawn")
def test_a_region_without_mass_is_shown(tmp_path):
    folder = write_run(tmp_path / "run", steps=4, regions=3)
    pool = Pool(columns={"region": ["00", "01", "02"]}, weight=torch.tensor([0.0, 1.0, 1.0]))
    partitioners.save(partitioners.Labels("region").fit(pool), folder / "partition.safetensors")
    assert "regions visited 2 of 3, with 50.0% of the pool's mass" in read(page(Record(folder)))


def test_a_loss_that_is_zero_or_not_a_number_is_shown(tmp_path):
    folder = write_run(tmp_path / "run", steps=2, regions=3)
    rows = [json.loads(line) for line in (folder / "losses.jsonl").read_text().splitlines()]
    rows[0]["output"], rows[1]["feature"] = 0.0, float("nan")
    (folder / "losses.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "loss, feature 5 at step 1, nan at step 2" in read(page(Record(folder)))


@pytest.mark.usefixtures("undrawn")
def test_what_is_no_log_is_refused_by_its_line(tmp_path):
    folder = write_run(tmp_path / "run", steps=3, regions=3)
    path = folder / "losses.jsonl"
    whole = path.read_text()
    path.write_text("torn\n" + whole)
    with pytest.raises(ValueError, match=r"losses.jsonl, line 1: no JSON"):
        Record(folder)
    path.write_text(whole + "[]\n")
    with pytest.raises(ValueError, match=r"losses.jsonl, line 4: it must be an object"):
        Record(folder)
    path.write_text(whole)
    with (folder / "discrepancies.jsonl").open("a") as file:
        file.write('{"step": 3, "region": 3, "n": 1, "mean": 1, "q": 1}\n')
    with pytest.raises(ValueError, match="names region 3, the run has 3 regions"):
        page(Record(folder))


def test_without_its_cache_regions_have_names_only(shown):
    words = read(shown)
    assert "Regions are shown without their prompts: the run's cache is not at" in words and "region=07" in words


@pytest.mark.usefixtures("undrawn")
def test_with_its_cache_regions_have_words(tmp_path, sd_folder):
    from aria.distill.data import build_conditions
    from aria.distill.data.prompts import Prompts, Texts
    from aria.distill.models.denoisers import of
    from aria.distill.models.pipelines import open_pipeline
    from aria.distill.runs.regions import save_prompts

    folder = write_run(tmp_path / "run", regions=3)
    (folder / "config.json").write_text(json.dumps({"training": {"max_train_steps": 40}}))
    texts = ["the owl", "a cat", "a cat on a mat", "a dog", "a dog on a mat", "two dogs"]
    pipeline = open_pipeline(sd_folder)
    build_conditions(pipeline, of(pipeline), Prompts(Texts.of(texts)), folder / "cache" / "conditions")
    save_prompts(folder, Texts.of(texts))
    record = Record(folder)
    assert [one.words[0] for one in record.regions] == ["owl", "cat", "dog"]
    assert "the owl" in read(page(record)) and "without their prompts" not in read(page(record))
    build_conditions(pipeline, of(pipeline), Prompts(Texts.of([*texts, "more"])), folder / "cache" / "conditions")
    assert "the cache now holds 7 prompts, the run partitioned 6" in read(page(Record(folder)))
    build_conditions(pipeline, of(pipeline), Prompts(Texts.of(texts[::-1])), folder / "cache" / "conditions")
    assert "the cache now holds other prompts than the run partitioned" in read(page(Record(folder)))
    (folder / "partition.json").unlink()
    assert "was written by an earlier version of ARIA: it has no partition.json" in read(page(Record(folder)))
