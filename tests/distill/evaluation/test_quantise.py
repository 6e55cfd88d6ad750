"""A student in 8-bit integers: how it is stored, loaded again and measured."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from click.testing import CliRunner
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file

import aria
from aria.cli import main
from aria.distill.evaluation.quantise import (
    RECORD,
    WEIGHTS,
    discrepancies,
    open_quantised,
    quantise,
    quantise_run,
    read_record,
    save_quantised,
)
from aria.distill.evaluation.report import Record, page
from aria.distill.models.pipelines import digest, open_model
from aria.distill.settings.config import Config
from aria.distill.students import factorise, prune
from aria.distill.students.factorise import is_factorised
from aria.distill.teachers.teacher import Teacher
from tests.distill import pipelines, tiny

pytest.importorskip("optimum.quanto")
PROMPTS = [f"{kind} {i}" for i in range(8) for kind in ("cat", "dog", "hut")]


RECORDED = {
    "regions": [], "bytes": {"before": 4, "after": 1}, "discrepancy": {"before": 1.0, "after": 1.0}, "samples": 1
}  # fmt: skip


def unet(seed=0):
    torch.manual_seed(seed)
    return pipelines.unet().eval()


def output_of(model):
    generator = torch.Generator().manual_seed(1)
    noisy, embeddings = (torch.randn(2, *shape, generator=generator) for shape in ((4, 8, 8), (5, 8)))
    with torch.no_grad():
        return model(noisy, torch.tensor([10, 900]), embeddings, return_dict=False)[0]


def test_weights_are_the_nearest_integers():
    layer = torch.nn.Linear(4, 2)
    layer.weight.data = torch.tensor([[1.0, -2.0, 0.5, 0.0], [0.01, 0.02, -0.04, 0.03]])
    weight = layer.weight.detach().clone()
    rounded = quantise(torch.nn.Sequential(layer))[0].weight.dequantize()
    scale = weight.abs().amax(1, keepdim=True) / 127
    torch.testing.assert_close(rounded, (weight / scale).round() * scale)


def test_saved_and_opened_is_the_same_model(tmp_path):
    model = quantise(unet())
    save_quantised(model, tmp_path / "q")
    opened = open_quantised(tmp_path / "q")
    assert torch.equal(output_of(model), output_of(opened)) and not opened.training
    assert {path.name for path in (tmp_path / "q").iterdir()} == {"config.json", WEIGHTS, RECORD}
    held, plain = load_file(tmp_path / "q" / WEIGHTS), unet()
    integers = [name for name, value in held.items() if value.dtype == torch.int8]
    layers = [part for part in plain.modules() if isinstance(part, torch.nn.Linear | torch.nn.Conv2d)]
    assert len(integers) == len(layers)
    assert sum(held[name].numel() for name in integers) == sum(layer.weight.numel() for layer in layers)
    with pytest.raises(OSError, match="no file named"):
        UNet2DConditionModel.from_pretrained(tmp_path / "q")


def spoil_record(folder):
    (folder / RECORD).unlink()


def spoil_format(folder):
    (folder / RECORD).write_text('{"format": 2}')


def spoil_weights(folder):
    (folder / WEIGHTS).write_bytes(b"\xff" * 100)


def spoil_class(folder):
    (folder / "config.json").write_text('{"_class_name": "os"}')


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (spoil_record, "is no quantised model: it has no quantisation.json"),
        (spoil_format, "has the format 2, this version reads"),
        (spoil_weights, "cannot open the quantised model"),
        (spoil_class, "names the class 'os', which is no model of diffusers"),
    ],
)
def test_torn_and_foreign_folders_are_refused(spoil, sentence, tmp_path):
    save_quantised(quantise(unet()), tmp_path / "q")
    spoil(tmp_path / "q")
    with pytest.raises(ValueError, match=sentence) as caught:
        open_quantised(tmp_path / "q")
    assert "\n" not in str(caught.value)


def test_a_model_that_is_not_quantised_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match="UNet2DConditionModel has no quantised layer"):
        save_quantised(unet(), tmp_path / "q")


def test_the_discrepancy_of_a_region_is_that_of_its_samples():
    """A student that is off by a known amount in one region alone."""
    teacher = Teacher(tiny.net(0), tiny.evaluate, tiny.schedule(), "epsilon")
    pool, shown = tiny.numbered(12), tiny.images()
    partition = aria.partitioners.Labels("label").fit(aria.Pool(columns={"label": [row % 3 for row in range(12)]}))

    class Off(torch.nn.Module):
        def __init__(self, by):
            super().__init__()
            self.net, self.by = tiny.net(0), by

        def forward(self, noisy, timestep, embeddings):
            row = (embeddings[:, 0] * 12).round()
            return self.net(noisy, timestep, embeddings) + self.by * (row % 3 == 1)[:, None, None, None]

    pool.tensors["pooled"] = torch.zeros(12)  # so that the first number identifies the condition
    found = discrepancies(
        teacher, {"same": tiny.net(0), "off": Off(2.0)}, partition, shown, pool, samples=48, batch_size=8
    )
    assert found["samples"] == 48 and found["discrepancy"]["same"] == 0.0
    assert all(abs(row["n"] - 16) <= 6 for row in found["regions"])  # six batches, each within one
    assert [row["off"] for row in found["regions"]] == pytest.approx([0.0, 4.0, 0.0])
    assert found["discrepancy"]["off"] == pytest.approx(4 / 3)


@pytest.fixture(scope="module")
def run(tmp_path_factory, sd_folder):
    """A finished run of a student with factorised layers."""
    place = tmp_path_factory.mktemp("run")
    prune(sd_folder, place / "student", preset="bk-tiny")
    (place / "prompts.txt").write_text("\n".join(PROMPTS))
    settings = {
        "pretrained_model_name_or_path": sd_folder, "student": place / "student", "prompts": place / "prompts.txt",
        "output_dir": place / "run", "max_train_steps": 2, "train_batch_size": 2, "num_images": 4,
        "num_inference_steps": 1, "partitioner": "kmeans(4)", "rank_ratio": 0.5, "learning_rate": 1e-3,
    }  # fmt: skip
    flags = [str(text) for name, value in settings.items() for text in (f"--{name}", value)]
    done = CliRunner().invoke(main, ["distill", *flags, "--quiet"])
    assert done.exit_code == 0, done.output
    return place / "run"


def test_a_run_is_quantised_measured_and_reported(run, monkeypatch):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    done = CliRunner().invoke(main, ["quantise", str(run), "--samples", "32", "--json"])
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout.splitlines()[-1])
    assert all(path.read_bytes() == held for path, held in before.items())
    assert record["bytes"]["after"] < record["bytes"]["before"]
    assert record["samples"] == 32 and len(record["regions"]) == 4
    gap = record["discrepancy"]
    assert gap["before"] > 0 and gap["after"] == pytest.approx(gap["before"], rel=0.1) and gap["after"] != gap["before"]
    opened, plain = open_quantised(run / "quantised"), open_model(run).eval()
    apart = (output_of(opened) - output_of(plain)).norm() / output_of(plain).norm()
    assert 0 < apart < 0.1
    saved = read_record(run / "quantised")
    assert saved["regions"] == record["regions"] and saved["library"].startswith("optimum-quanto")
    text = page(Record(run))
    assert "Quantised" in text and f"{gap['after']:.4g}" in text and "earlier student" not in text
    assert saved["student"] == digest(run)
    again = CliRunner().invoke(main, ["quantise", str(run), "--samples", "32"])
    assert again.exit_code == 0 and "discrepancy" in again.output


def test_the_report_notes_that_an_earlier_student_was_quantised(tmp_path, sd_folder):
    """Overwritten since it was quantised, or removed."""
    shutil.copytree(sd_folder, tmp_path / "run")
    recorded = RECORDED | {"student": digest(tmp_path / "run")}
    for name, value in (("config", {"training": {"max_train_steps": 2}}), ("quantised/quantisation", recorded)):
        (tmp_path / "run" / f"{name}.json").parent.mkdir(exist_ok=True)
        (tmp_path / "run" / f"{name}.json").write_text(json.dumps(value))
    assert not Record(tmp_path / "run").outdated and "earlier student" not in page(Record(tmp_path / "run"))
    model = open_model(tmp_path / "run")
    model.conv_in.bias.data[0] += 1e-3
    model.save_pretrained(tmp_path / "run" / "unet")
    assert Record(tmp_path / "run").outdated and "earlier student" in page(Record(tmp_path / "run"))
    (tmp_path / "run" / "model_index.json").unlink()
    assert Record(tmp_path / "run").outdated


@pytest.mark.parametrize("given", [None, "elsewhere"])
def test_the_runs_own_teacher_is_of_its_revision_and_variant(given, run, monkeypatch):
    heard = []

    def opened(path, **options):
        heard.append((path, options))
        raise ValueError("far enough")

    monkeypatch.setattr("aria.distill.evaluation.quantise.open_pipeline", opened)
    config = Config.read(run / "config.json").with_values({"revision": "abc", "variant": "fp16"})
    monkeypatch.setattr("aria.distill.evaluation.quantise._config", lambda run: config)
    with pytest.raises(ValueError, match="far enough"):
        quantise_run(run, run / "other", teacher=given)
    own = config.models.pretrained_model_name_or_path, {"revision": "abc", "variant": "fp16"}
    assert heard == [own if given is None else ("elsewhere", {})]


def test_a_delivered_student_of_products_is_factorised_again_without_loss(run):
    """The folder is plain and its weights have the rank they were trained with, which another half rank has not."""
    plain, thin, thinner = (open_model(run).eval() for _ in range(3))
    factorise(thin, 0.5), factorise(thinner, 0.25)
    assert not is_factorised(plain) and thin.num_parameters() < plain.num_parameters()
    torch.testing.assert_close(output_of(thin), output_of(plain), rtol=1e-4, atol=1e-5)
    assert (output_of(thinner) - output_of(plain)).norm() > 1e-3 * output_of(plain).norm()


def test_mistakes_are_one_line(run, tmp_path):
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "thing").touch()
    for arguments, sentence in (
        ([str(tmp_path)], "is no folder of a run: it has no config.json"),
        ([str(run), "--output_dir", str(tmp_path / "else")], "is no quantised model"),
        ([str(run), "--pretrained_model_name_or_path", str(tmp_path / "none")], "there is no folder"),
    ):
        done = CliRunner().invoke(main, ["quantise", *arguments])
        assert done.exit_code == 2 and sentence in done.stderr.splitlines()[-1]


def test_a_cache_that_was_filled_with_other_prompts_since_is_refused(run, tmp_path):
    here = tmp_path / "run"
    shutil.copytree(run, here)
    made = json.loads((here / "partition.json").read_text())
    (here / "partition.json").write_text(json.dumps(made | {"texts": "0" * 64}))
    with pytest.raises(ValueError, match="the cache now holds other prompts than the run partitioned"):
        quantise_run(here, here / "other", samples=1)


def test_what_cannot_be_measured_is_refused(run):
    with pytest.raises(ValueError, match="samples must be a whole number of at least 1, got 0"):
        quantise_run(run, run / "other", samples=0)
