"""``aria partition``: the contents of each region; a teacher is needed only for embeddings."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from aria import partitioners
from aria.cli import main
from aria.cli.commands.partition import command
from aria.distill.data.prompt_files import NAMES
from aria.distill.data.words import typical_words

ROWS = [f"a {style} of a {animal},{style}" for style in ("photo", "sketch") for animal in ("cat", "dog", "owl")]


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.csv"
    path.write_text("\n".join(["text,style", *ROWS, ROWS[0]]))
    return path


def run(prompts, spec, *more):
    return CliRunner().invoke(command, list(map(str, ["--prompts", prompts, "--partitioner", spec, *more])))


def record(*arguments):
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize("name", ["cache", "distill", "partition", "sample"])
def test_commands_say_which_columns_are_read(name):
    text = CliRunner().invoke(main, [name, "--help"], terminal_width=200).output
    *others, last = NAMES
    assert f"{', '.join(others)} or {last}" in " ".join(text.split())


def test_labels_need_no_teacher(prompts, tmp_path):
    found = record(prompts, "labels('style')", "--examples", 2, "--output", tmp_path / "p.safetensors")
    photo, sketch = found["regions"]
    assert (photo["name"], photo["size"], photo["words"][0]) == ("style=photo", 4, "photo")
    assert photo["mass"] == pytest.approx(4 / 7) and photo["mass"] + sketch["mass"] == pytest.approx(1)
    assert sketch["examples"] == ["a sketch of a cat", "a sketch of a dog"] and sketch["words"][0] == "sketch"
    assert partitioners.load(tmp_path / "p.safetensors").mass.tolist() == [photo["mass"], sketch["mass"]]
    table = run(prompts, "labels('style')").stdout
    assert "style=sketch" in table and "a sketch of an owl" not in table and "2 regions of 7 prompts" in table


def test_a_teacher_and_its_cache_give_the_same_regions(prompts, sd_folder, tmp_path):
    from aria.cli.commands.cache import command as cache

    made = ["--pretrained_model_name_or_path", sd_folder, "--prompts", prompts, "--output_dir", tmp_path / "c"]
    assert CliRunner().invoke(cache, list(map(str, made))).exit_code == 0
    fresh = record(prompts, "kmeans(2)", "--pretrained_model_name_or_path", sd_folder)
    kept = record(prompts, "kmeans(2)", "--cache_dir", tmp_path / "c")
    assert fresh == kept and sorted(one["size"] for one in kept["regions"]) != [0, 7]
    prompts.write_text("text\nsomething else")
    result = run(prompts, "kmeans(2)", "--cache_dir", tmp_path / "c")
    assert result.exit_code == 2 and "its prompts are different" in result.stderr


def test_auto_is_the_partitioner_that_a_run_uses(prompts, sd_folder, monkeypatch):
    monkeypatch.setattr("aria.distill.runs.regions.PER_REGION", 3)
    teacher = ("--pretrained_model_name_or_path", sd_folder)
    found, expected = record(prompts, "auto", *teacher), record(prompts, "kmeans(2)", *teacher)
    assert found == expected and found["partitioner"].startswith("kmeans(regions=2, seed=0")
    monkeypatch.setattr("aria.distill.runs.regions.PER_REGION", 7)
    assert record(prompts, "auto")["partitioner"] == "one_region()"  # which needs no embeddings


def test_regions_that_share_their_conditions_share_their_words(prompts):
    found = record(prompts, "product(labels('style'), bins('timestep', edges=(0, 500, 1000)))")
    assert [one["size"] for one in found["regions"]] == [4, 4, 3, 3]
    assert [one["words"][0] for one in found["regions"]] == ["photo", "photo", "sketch", "sketch"]


@pytest.mark.parametrize(
    ("spec", "more", "sentence"),
    [
        ("kmeans(2)", (), "kmeans(2) groups prompts by their embeddings"),
        ("kmens(2)", (), "unknown partitioner 'kmens'"),
        ("labels('colour')", (), "the pool has no column 'colour'; it has: style"),
        ("kmeans(2)", ("--pretrained_model_name_or_path", "t", "--cache_dir", "c"), "not from both"),
        ("kmeans(2)", ("--cache_dir", "nowhere"), "nowhere"),
        ("labels('style')", ("--output", "nowhere/p.safetensors"), "there is no folder nowhere"),
    ],
)
def test_mistakes_exit_with_2_and_one_line(prompts, spec, more, sentence):
    result = run(prompts, spec, *more)
    assert result.exit_code == 2
    assert sentence in result.stderr.splitlines()[-1]


def test_typical_words_are_more_frequent_than_elsewhere():
    texts = ["a red cat", "a red dog", "a blue cat", "a blue 4 dog"]
    assert typical_words(texts, [0, 0, 1, 1], 3) == [["red"], ["blue"], []]
    with pytest.raises(ValueError, match="shorter"):
        typical_words(texts, [0, 0, 1], 2)
