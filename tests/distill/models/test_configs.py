"""The configurations that diffusers itself writes are accepted, infinite numbers among them."""

from __future__ import annotations

import inspect
import json
import math
import shutil

import diffusers
import pytest

from aria.distill.models.configs import check_config, read_config
from aria.distill.models.pipelines import SCHEDULER, open_pipeline


def of_defaults():
    """Every scheduler of diffusers that can be made without arguments."""
    for name in sorted(name for name in dir(diffusers) if "Scheduler" in name):
        cls = getattr(diffusers, name)
        if not inspect.isclass(cls) or not issubclass(cls, diffusers.SchedulerMixin) or cls is diffusers.SchedulerMixin:
            continue
        if all(one.default is not one.empty for one in inspect.signature(cls).parameters.values()):
            yield cls


@pytest.mark.filterwarnings("ignore")  # diffusers' own
def test_every_scheduler_of_diffusers_is_accepted(tmp_path):
    infinite, seen = [], 0
    for cls in of_defaults():
        try:
            scheduler = cls()
        except ImportError:  # some need scipy or torchsde
            continue
        scheduler.save_config(tmp_path / cls.__name__)
        path = tmp_path / cls.__name__ / SCHEDULER
        config = read_config(path)
        check_config(path, config, cls)
        infinite += [cls.__name__] * any(isinstance(value, float) and math.isinf(value) for value in config.values())
        seen += 1
    assert seen > 25 and {"DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"} <= set(infinite)


@pytest.mark.parametrize("name", ["DPMSolverMultistepScheduler", "SASolverScheduler"])
def test_a_teacher_with_a_scheduler_of_dpm_solver_opens(name, sd_folder, tmp_path):
    teacher = shutil.copytree(sd_folder, tmp_path / "teacher")
    getattr(diffusers, name)(steps_offset=1).save_config(teacher / "scheduler")
    index = json.loads((teacher / "model_index.json").read_text())
    (teacher / "model_index.json").write_text(json.dumps(index | {"scheduler": ["diffusers", name]}))
    assert '"lambda_min_clipped": -Infinity' in (teacher / "scheduler" / SCHEDULER).read_text()
    assert type(open_pipeline(teacher).scheduler).__name__ == name


@pytest.mark.parametrize("values", [
    {"num_train_timesteps": math.inf}, {"num_train_timesteps": -math.inf}, {"solver_order": math.inf},
    {"beta_start": math.nan}, {"layers_per_block": math.inf}, {"beta_start": 1e41},
])  # fmt: skip
def test_no_whole_number_is_infinite(values, tmp_path):
    (tmp_path / SCHEDULER).write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"must be (finite|a number of at most)"):
        check_config("x", read_config(tmp_path / SCHEDULER), diffusers.DPMSolverMultistepScheduler)


def test_null_stands_for_any_number():
    nothing = dict.fromkeys(("lambda_min_clipped", "beta_start", "num_train_timesteps"))
    check_config("x", nothing, diffusers.DPMSolverMultistepScheduler)
