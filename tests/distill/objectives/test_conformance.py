"""Every objective keeps the contract, and every clause of it can be broken and is then named."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from click.testing import CliRunner

from aria import testing
from aria.cli import main
from aria.distill import objectives
from aria.distill.objectives import Feature, Objective, Output, Task, per_sample

check_objective = testing.check_objective
SHIPPED = [Output(), Output(weight=0.0), Task(), Feature(), Feature(normalise=False), Feature(layers=[("a", "b")])]


def test_every_objective_of_the_package_is_tried():
    classes = [getattr(objectives, name) for name in objectives.__all__]
    shipped = {cls for cls in classes if isinstance(cls, type) and issubclass(cls, Objective) and cls is not Objective}
    assert shipped == {type(objective) for objective in SHIPPED}


@pytest.mark.parametrize("objective", SHIPPED, ids=repr)
def test_objectives_of_the_package_conform(objective):
    check_objective(objective)
    check_objective(objective, seed=1)


def error(teacher, student):
    return per_sample(student.output - teacher.output)


BROKEN = {
    "must return one loss per sample, (6,), got ()": lambda shown, t, s: error(t, s).mean(),
    "must return one loss per sample, (6,), got (6, 4, 8, 8)": lambda shown, t, s: (s.output - t.output) ** 2,
    "returned a float instead of a tensor": lambda shown, t, s: 1.0,
    "returned losses of type torch.int64, not floating": lambda shown, t, s: error(t, s).long(),
    "returned a loss that is not finite for finite outputs": lambda shown, t, s: (error(t, s) - 100).log(),
    "changed its inputs in place": lambda shown, t, s: error(t, s) + shown.noisy.mul_(2).flatten(1).mean(1),
    "returned different losses for the same inputs": lambda shown, t, s: (
        error(t, s) + torch.rand(6, device=t.output.device)
    ),
    "has no gradient with respect to the student's output and features": lambda shown, t, s: error(t, s).detach(),
    "another loss in another batch": lambda shown, t, s: error(t, s) / error(t, s).mean(),
    "or at another place in it": lambda shown, t, s: error(t, s).cumsum(0),
    "looks at values or leaves the device it was given": lambda shown, t, s: error(t, s) + float(t.output.max()) * 0,
}


@pytest.mark.parametrize("sentence", BROKEN)
def test_every_clause_can_be_broken_and_is_named(sentence):
    @dataclass(frozen=True)
    class Broken(Objective):
        def __call__(self, inputs, teacher, student):
            return BROKEN[sentence](inputs, teacher, student)

    with pytest.raises(AssertionError) as caught:
        check_objective(Broken())
    assert sentence in str(caught.value) and str(caught.value).count("\n") == 0


def test_a_class_is_refused():
    with pytest.raises(AssertionError, match="give an instance, not a class"):
        check_objective(Output)


def test_the_command_checks_an_objective_of_a_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from dataclasses import dataclass\n"
        "from aria.distill.objectives import Objective\n"
        "@dataclass(frozen=True)\n"
        "class Half(Objective):\n"
        "    def __call__(self, inputs, teacher, student):\n"
        "        return (student.output - teacher.output).square().flatten(1).mean(1) / 2\n"
        "@dataclass(frozen=True)\n"
        "class Scalar(Half):\n"
        "    def __call__(self, *asked):\n"
        "        return super().__call__(*asked).mean()\n"
    )
    done = CliRunner().invoke(main, ["check", "objective", f"{path}:Half(weight=2)"])
    assert (done.exit_code, done.stdout) == (0, "mine.py:Half(weight=2) conforms\n")
    refused = CliRunner().invoke(main, ["check", "objective", f"{path}:Scalar"])
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert "must return one loss per sample, (6,), got ()" in refused.stderr
