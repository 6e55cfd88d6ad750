"""Settings: one name each, read from three kinds of file, flat or in sections, and saved."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import asdict

import pytest
import yaml

from aria.checks import InvalidSetting
from aria.distill.settings.config import Config, help_of, setting_names, settings

VALUES = {"learning_rate": 1e-4, "floor": 0.3, "objective": ("output", "task"), "use_ema": False, "low_rank": 4}
FLAT = {
    "yaml": "learning_rate: 1e-4\nfloor: 0.3\nobjective: [output, task]\nuse_ema: false\nlow_rank: 4\n",
    "toml": 'learning_rate = 1e-4\nfloor = 0.3\nobjective = ["output", "task"]\nuse_ema = false\nlow_rank = 4\n',
    "json": '{"learning_rate": 1e-4, "floor": 0.3, "objective": ["output", "task"], "use_ema": false, "low_rank": 4}',
}
SECTIONED = {
    "yaml": "optimiser: {learning_rate: 1e-4}\nallocation: {floor: 0.3}\nloss: {objective: [output, task]}\n"
    "training: {use_ema: false}\nmodels: {low_rank: 4}\n",
    "toml": "[optimiser]\nlearning_rate = 1e-4\n[allocation]\nfloor = 0.3\n[loss]\nobjective = ['output', 'task']\n"
    "[training]\nuse_ema = false\n[models]\nlow_rank = 4\n",
    "json": '{"optimiser": {"learning_rate": 1e-4}, "allocation": {"floor": 0.3}, "loss": {"objective": ["output", '
    '"task"]}, "training": {"use_ema": false}, "models": {"low_rank": 4}}',
}


def test_every_setting_has_one_name_a_default_and_a_line_of_help():
    names = [setting.name for setting in settings()]
    assert len(names) == len(set(names)) > 40
    assert Config().flat().keys() == set(names)
    for setting in settings():
        assert help_of(setting.name).endswith(".")
        wanted, optional, several = setting.kind
        assert wanted in {int, float, str, bool}
        assert setting.default is not None or optional
        assert isinstance(setting.default, tuple) == several


@pytest.mark.parametrize("ending", FLAT)
def test_three_kinds_of_file_flat_or_in_sections(ending, tmp_path):
    for text in (FLAT[ending], SECTIONED[ending]):
        (tmp_path / f"a.{ending}").write_text(text)
        config = Config.read(tmp_path / f"a.{ending}")
        assert {name: config.flat()[name] for name in VALUES} == VALUES
        assert config == Config().with_values(VALUES)


def test_settings_survive_saving_and_reading(tmp_path):
    config = Config().with_values(VALUES | {"validation_prompts": "a cat", "resume_from_checkpoint": None})
    config.save(tmp_path / "config.json")
    assert Config.read(tmp_path / "config.json") == config
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(json.loads((tmp_path / "config.json").read_text())))
    assert Config.read(tmp_path / "config.yaml") == config
    assert asdict(config)["run"]["validation_prompts"] == ("a cat",)


def test_an_empty_file_is_the_defaults(tmp_path):
    (tmp_path / "a.yml").write_text("")
    assert Config.read(tmp_path / "a.yml") == Config()


@pytest.mark.parametrize("values, module", [
    ({"allocator": "os:system('touch {called}')"}, "os"),
    ({"tracker": "progress(of={folder}/own.py:Mine())"}, "{folder}/own.py"),
    ({"loss": {"objective": ["output", "own:Mine"]}}, "own"),
    ({"partitioner": "product(labels('a'), own.parts:Mine(2))"}, "own.parts"),
    ({"tracker": "{folder}/own.py:Mine(of='x.safetensors')"}, "{folder}/own.py"),
])  # fmt: skip
def test_a_file_that_would_import_code_is_refused_unless_it_is_trusted(values, module, tmp_path):
    names = {"folder": tmp_path, "called": tmp_path / "called"}
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'called')!r}, 'w')")
    path = tmp_path / "config.json"
    path.write_text(json.dumps(values).replace("{folder}", str(tmp_path)).replace("{called}", str(names["called"])))
    with pytest.raises(InvalidSetting, match=re.escape(f"would import {module.format(**names)}, which a file may not")):
        Config.read(path)
    assert Config.read(path, allow_imports=True) != Config()
    assert not names["called"].exists()


@pytest.mark.parametrize("name", ["tracker", "allocator", "replacement", "weighting", "objective"])
@pytest.mark.parametrize("hidden", ["own.py:Mine() # .safetensors", "own.py:Mine()\n#.safetensors", "os:a.safetensors"])
def test_nothing_is_taken_for_a_partition_file_but_a_partitioner(name, hidden, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({name: hidden}))
    with pytest.raises(ValueError, match="cannot read|would import"):
        Config.read(path)


def test_a_file_may_name_built_in_parts_and_partitions(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("tracker: progress(of=ema(rate=0.5))\npartitioner: a/partition.safetensors\n")
    assert Config.read(path).allocation.partitioner == "a/partition.safetensors"


def test_later_settings_override_earlier_ones():
    config = Config().with_values({"floor": 0.3, "warmup": 2}).with_values({"allocation.floor": 0.4})
    assert (config.allocation.floor, config.allocation.warmup) == (0.4, 2)


@pytest.mark.parametrize(
    ("values", "setting", "kind"),
    [
        ({"optimiser.flor": 1}, "optimiser.flor", "unknown"),
        ({"learning_rate": "fast"}, "learning_rate", "type"),
        ({"learning_rate": True}, "learning_rate", "type"),
        ({"learning_rate": None}, "learning_rate", "type"),
        ({"learning_rate": "nan"}, "learning_rate", "range"),
        ({"max_train_steps": True}, "max_train_steps", "type"),
        ({"use_ema": 1}, "use_ema", "type"),
        ({"student": 3}, "student", "type"),
        ({"objective": 3}, "objective", "type"),
        ({"objective": ["output", 3]}, "objective", "type"),
        ({"seed": -1}, "seed", "range"),
    ],
)
def test_invalid_settings_are_refused(values, setting, kind):
    with pytest.raises(InvalidSetting) as refused:
        Config().with_values(values)
    assert (refused.value.setting, refused.value.kind) == (setting, kind)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"learning_rat": 1}, r"unknown setting 'learning_rat' \(did you mean 'learning_rate'"),
        ({"zzzzzz": 1}, "unknown setting 'zzzzzz'$"),
        ({"learning_rate": 10**400}, r"learning_rate must be a number that a float can hold, got 10{29}…$"),
        ({"max_train_steps": 1.5}, "max_train_steps must be a whole number, got 1.5"),
    ],
)
def test_refusals_name_the_value_and_what_is_allowed(values, sentence):
    with pytest.raises(InvalidSetting, match=sentence):
        Config().with_values(values)


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("a.ini", "", "the ending of a configuration file must be '.yaml'"),
        ("a.yaml", "a: [", "cannot read the configuration .*a.yaml"),
        ("a.toml", "a =", "cannot read the configuration .*a.toml"),
        ("a.json", "{", "cannot read the configuration .*a.json"),
        ("a.json", "[1]", "must map names to values, got a list"),
        ("a.yaml", "models: 3", "models is a section and holds settings, got 3"),
        ("a.yaml", "models: {students: x}", r"unknown setting 'models.students' \(did you mean 'models.student'"),
        ("a.yaml", "1: 2", "unknown setting"),
    ],
)
def test_files_that_cannot_be_read(name, text, sentence, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=sentence) as caught:
        Config.read(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="cannot read the configuration"):
        Config.read(tmp_path / "a.yaml")


def test_learning_rate_schedules_are_those_of_diffusers():
    from diffusers.optimization import SchedulerType

    from aria.distill.settings.choices import SCHEDULES

    assert set(SCHEDULES) == {kind.value for kind in SchedulerType} - {"piecewise_constant"}


def test_settings_are_listed_by_what_they_declare():
    assert {"max_train_steps", "train_batch_size", "fsdp", "logging_steps"} <= setting_names(may_change=True)
    assert setting_names(place="input") | setting_names(place="run") <= setting_names(may_change=True)
    assert not {"seed", "learning_rate", "tracker", "resolution"} & setting_names(may_change=True)
    assert {"allocator", "seed", "output_dir"} <= setting_names(by_benchmark=True)
    assert not {"learning_rate", "max_train_steps"} & setting_names(by_benchmark=True)


def test_settings_load_neither_torch_nor_diffusers():
    code = "import sys, aria.distill.settings.config; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
