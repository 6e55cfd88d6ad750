"""``aria evaluate``: students beside their teacher by group, other scores, coverage, and bad input in one line."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

pytest.importorskip("scipy")

from aria.cli import main
from aria.cli.commands import evaluate as evaluate_command
from aria.distill.models.pipelines import open_model

SCORER = """
import torch
from aria.distill.evaluation.scorers import Scorer

class Brightness(Scorer):
    def __init__(self, fail=""):
        self.fail = fail

    def scores(self, prompts, images, teacher):
        if self.fail == "nan":
            return {"bright": torch.full((len(prompts),), torch.nan)}
        if self.fail == "shape":
            return {"bright": images.mean((2, 3))}
        return {"bright": images.mean((1, 2, 3)), "same": (images == teacher).float().mean((1, 2, 3))}
"""


def run(*arguments):
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments)])


def refused(sentence, *arguments):
    result = run(*arguments)
    assert result.exit_code == 2, (result.output, result.exception)
    assert sentence in result.stderr.rstrip().splitlines()[-1] and "Traceback" not in result.output


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    path = tmp_path_factory.mktemp("prompts") / "held.jsonl"
    words = ("cat", "dog", "owl", "bat", "elk", "ant", "car", "cup", "hat", "pen", "key", "bag")
    rows = [{"prompt": f"a {word}", "kind": "animal" if place < 6 else "thing", "lone": "x" if place else "y"}
            for place, word in enumerate(words)]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (path.parent / "brightness.py").write_text(SCORER)
    kinds = ["animal"] * 6 + ["place"] * 2
    pool = [{"prompt": f"{kind} {place}", "kind": kind} for place, kind in enumerate(kinds)]
    (path.parent / "pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pool))
    return path


@pytest.fixture(scope="module")
def other(tmp_path_factory, student_folder):
    """A second student, whose weights differ a little."""
    folder = tmp_path_factory.mktemp("students") / "other"
    model = open_model(student_folder)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def evaluated(sd_folder, student_folder, other, prompts, tmp_path_factory):
    output = tmp_path_factory.mktemp("evaluation") / "out"
    scorer = f"{prompts.parent / 'brightness.py'}:Brightness"
    words = [sd_folder, student_folder, other, "--prompts", prompts, "--group", "kind", "--scorer", scorer]
    words += ["--pool", prompts.parent / "pool.jsonl", "--num_inference_steps", 2, "--output_dir", output]
    result = run(*words)
    assert result.exit_code == 0, (result.output, result.exception)
    return output, result.stdout


def test_every_student_has_a_gap_in_every_group(evaluated, student_folder, other):
    output, shown = evaluated
    found = json.loads((output / "evaluation.json").read_text())
    assert list(found["students"].values()) == [str(student_folder), str(other)]
    assert found["groups"] == {"all": 12, "animal": 6, "thing": 6}
    first, second = found["students"]
    gaps = [row["values"][second]["gap"] for row in found["prompts"]]
    row = next(r for r in found["table"] if (r["student"], r["metric"], r["group"]) == (second, "gap", "thing"))
    assert row["mean"] == pytest.approx(sum(gaps[6:]) / 6) and row["low"] < row["mean"] < row["high"]
    theirs = [row["values"][first]["gap"] for row in found["prompts"]]
    assert row["change"]["mean"] == pytest.approx(100 * (sum(gaps[6:]) / sum(theirs[6:]) - 1))
    assert {r["metric"] for r in found["table"]} == {"gap", "bright", "same"}
    assert f"{row['mean']:.4g}" in shown


def test_the_pools_coverage_is_named(evaluated):
    output, shown = evaluated
    found = json.loads((output / "evaluation.json").read_text())["coverage"]
    assert found == {"share": 0.75, "groups": 1, "of": 2, "missing": {"place": 2}}
    assert "1 of the pool's 2 groups have a prompt here; they have 75% of the pool" in shown


def test_a_page_and_a_sheet_of_pictures(evaluated):
    output, shown = evaluated
    page = (output / "report.html").read_text()
    assert "Score bright" in page and "data:image/png" in page and "1 of 2 groups have a prompt here" in page
    with Image.open(output / "prompts.png") as sheet:
        assert sheet.width > 3 * 128
    assert shown.rstrip().splitlines()[-3:] == [str(output / name) for name in
                                                ("report.html", "prompts.png", "evaluation.json")]  # fmt: skip


def test_a_teacher_beside_itself_has_no_gap(sd_folder, prompts, tmp_path):
    words = (sd_folder, sd_folder, "--prompts", prompts, "--num_inference_steps", 2, "--output_dir", tmp_path / "out")
    result = run(*words, "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    found = json.loads(result.stdout)
    assert [row["mean"] for row in found["table"]] == [0.0] and found["groups"] == {"all": 12}


def test_a_student_may_be_called_teacher(sd_folder, student_folder, prompts, tmp_path):
    shutil.copytree(student_folder, tmp_path / "teacher")
    words = ("--prompts", prompts, "--num_inference_steps", 2, "--output_dir", tmp_path / "out", "--json")
    found = json.loads(run(sd_folder, tmp_path / "teacher", *words).stdout)
    assert found["table"][0]["mean"] > 0


def test_a_student_that_makes_no_image_is_refused(sd_folder, other, prompts, tmp_path):
    model = open_model(other)
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    model.save_pretrained(tmp_path / "broken")
    refused("broken makes no finite image of 12 of 12 prompts", sd_folder, tmp_path / "broken", "--prompts", prompts,
            "--num_inference_steps", 1, "--output_dir", tmp_path / "out")  # fmt: skip


def test_a_group_of_one_prompt_has_no_interval(sd_folder, student_folder, prompts, tmp_path):
    result = run(sd_folder, student_folder, "--prompts", prompts, "--group", "lone", "--num_inference_steps", 2,
                 "--output_dir", tmp_path / "out", "--json")  # fmt: skip
    found = {row["group"]: row for row in json.loads(result.stdout)["table"]}
    assert found["y"]["prompts"] == 1 and found["y"]["low"] is None and found["x"]["low"] is not None
    shown = evaluate_command.text(json.loads(result.stdout), tmp_path)
    assert shown.startswith("metric  group  prompts  student")
    assert "too few prompts for an interval or a test, which need 6: y\n" in shown


def test_bad_input_is_one_line(sd_folder, student_folder, prompts, tmp_path):
    own = f"{prompts.parent / 'brightness.py'}:Brightness"
    output = tmp_path / "o"
    words = (sd_folder, student_folder, "--prompts", prompts, "--num_inference_steps", 1, "--output_dir", output)
    refused("bright has nothing but NaN", *words, "--scorer", f"{own}(fail='nan')")
    refused("bright must have the shape (12,), got (12, 3)", *words, "--scorer", f"{own}(fail='shape')")
    refused("there is no column 'kinds'", *words, "--group", "kinds")
    refused("the coverage of the pool needs a column", *words, "--pool", prompts)
    refused("is given more than once", *words, student_folder)
    refused("there is no CLIP model in nowhere", *words, "--scorer", "clip('nowhere')")
    refused("there is no prompt file nowhere", sd_folder, student_folder, "--prompts", "nowhere")
    refused("unknown scorer 'clp' (did you mean 'clip'?)", *words, "--scorer", "clp")


def test_clip_and_a_classifier_score(tmp_path):
    """Tiny models of transformers from folders."""
    from transformers import CLIPConfig, CLIPModel, ResNetConfig, ResNetForImageClassification

    from aria.distill.evaluation.scorers import Classifier, Clip
    from tests.distill import pipelines

    small = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config=pipelines.text_config().to_dict(), projection_dim=8,
        vision_config={**small, "image_size": 16, "patch_size": 8},
    )  # fmt: skip
    CLIPModel(config).save_pretrained(tmp_path / "clip")
    pipelines.tokenizer(tmp_path / "spelled").save_pretrained(tmp_path / "clip")
    images = torch.rand(3, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    found = Clip(str(tmp_path / "clip")).scores(["a cat", "a dog", "an owl"], images, images)
    torch.testing.assert_close(found["clip-agreement"], torch.ones(3))
    assert found["clip"].shape == (3,) and found["clip"].abs().max() <= 1
    net = ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", num_labels=5)
    ResNetForImageClassification(net).save_pretrained(tmp_path / "classifier")
    same = Classifier(str(tmp_path / "classifier")).scores(["a", "b", "c"], images, images)
    assert same["agreement"].tolist() == [1, 1, 1]
