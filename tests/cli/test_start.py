"""Help, completion and refusals are quick, since they load neither torch nor diffusers."""

from __future__ import annotations

import subprocess
import sys

import pytest

HELP = """
import os, sys
from click.testing import CliRunner
from aria.cli import main as aria
from theory.cli import main as sim

def complete(program, words):
    name = program.replace("-", "_").upper()
    settings = {f"_{name}_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    return CliRunner().invoke({"aria": aria, "aria-sim": sim}[program], [], prog_name=program, env=settings)

for program in (aria, sim):
    for words in [[], *([name] for name in program.list_commands(None))]:
        shown = CliRunner().invoke(program, [*words, "--help"])
        assert shown.exit_code == 0 and shown.output.startswith("Usage: "), (words, shown.output, shown.exception)
for program, words, expected in (
    ("aria", "aria dis", "distill"), ("aria", "aria distill --lr_s", "--lr_scheduler"),
    ("aria", "aria distill --mixed_precision b", "bf16"), ("aria", "aria distill --allocator prop", "proportional"),
    ("aria", "aria distill --partitioner a", "auto"), ("aria", "aria check tr", "tracker"),
    ("aria-sim", "aria-sim ver", "verify"),
):
    assert f"plain,{expected}\\n" in complete(program, words).output, (words, complete(program, words).output)
assert "file," in complete("aria", "aria distill --prompts p").output
print(*sorted({"torch", "numpy", "scipy", "diffusers", "transformers"} & set(sys.modules)))
"""
REFUSED = """
import sys
from click.testing import CliRunner
from aria.cli import main as aria
from theory.cli import main as sim
program, *words = sys.argv[1:]
result = CliRunner().invoke({"aria": aria, "aria-sim": sim}[program], words)
sys.stderr.write(result.stderr)
print(*sorted({"torch", "diffusers"} & set(sys.modules)))
sys.exit(result.exit_code)
"""


def run(code, *words, cwd=None):
    return subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, cwd=cwd)


def test_help_of_every_command_and_completion_load_nothing_heavy():
    done = run(HELP)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


NEEDED = "aria distill --pretrained_model_name_or_path org/teacher --student here --prompts here --output_dir out"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("aria distill --alocator x", "(Did you mean one of: '--allocator'"),
        ("aria distill --floor 1.5", "floor must lie in [0, 1], got 1.5"),
        ("aria distill", "--pretrained_model_name_or_path is missing: The teacher: the folder of a diffusers pipeline"),
        (f"{NEEDED} --tracker emma", "unknown tracker 'emma' (did you mean 'ema'?)"),
        (f"{NEEDED} --set allocator=sofmax", "unknown allocator 'sofmax' (did you mean 'softmax'?)"),
        (f"{NEEDED} --config run.json", "unknown partitioner 'kmens' (did you mean 'kmeans'?)"),
        (f"{NEEDED} --objective ouput", "unknown objective 'ouput' (did you mean 'output'?)"),
        (f"{NEEDED} --weighting minsnrr", "unknown weighting 'minsnrr'"),
        (f"{NEEDED} --replacement never", "unknown replacement 'never'"),
        (f"{NEEDED} --tracker mine.py:Mine", "there is no file 'mine.py'"),
        (f"{NEEDED} --prompts gone.txt", "there is no prompt file gone.txt"),
        (f"{NEEDED} --student gone", "gone is no model folder"),
        (f"{NEEDED} --train_data_dir gone", "there is no folder of images gone"),
        (f"{NEEDED} --pretrained_model_name_or_path ./gone", "there is no folder ./gone"),
        ("aria cache --pretrained_model_name_or_path ./gone --prompts here --output_dir out", "no folder ./gone"),
        ("aria partition --prompts gone.txt --partitioner kmeans", "there is no prompt file gone.txt"),
        ("aria partition --prompts here --partitioner kmens", "unknown partitioner 'kmens'"),
        ("aria prune --pretrained_model_name_or_path gone --output_dir out --preset half", "gone is no model folder"),
        ("aria quantise gone", "gone is no folder of a run"),
        ("aria sample --pretrained_model_name_or_path ./gone --student here --prompt x", "there is no folder ./gone"),
        ("aria check tracker emma", "unknown tracker 'emma'"),
        ("aria bench --task nonsense", "unknown task 'nonsense'; there are: default, "),
        ("aria bench --task mine.py:Mine", "there is no file 'mine.py'"),
        ("aria bench --setting tunde", "unknown --setting 'tunde' (did you mean 'tuned'?)"),
        ("aria bench --seeds 5-2", "--seeds must be a number of seeds such as 8"),
        ("aria-sim run --tracker emma", "unknown tracker 'emma'"),
        ("aria-sim run --regime nonsense", "unknown regime 'nonsense'; there are: asynchronous, "),
        ("aria-sim sweep --regime nonsense", "unknown regime 'nonsense'; there are: asynchronous, "),
        ("aria-sim sweep --allocator sofmax", "unknown allocator 'sofmax'"),
        ("aria-sim check-log log.jsonl --tracker emma", "unknown tracker 'emma'"),
        ("aria-sim verify --tracker emma", "unknown tracker 'emma'"),
    ],
)
def test_refusals_load_nothing_heavy(line, sentence, tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "run.json").write_text('{"allocation": {"partitioner": "kmens(3)"}}')
    done = run(REFUSED, *line.split(), cwd=tmp_path)
    assert done.returncode == 2 and sentence in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("Error: ")
    assert done.stdout.strip() == ""


def test_the_regimes_that_are_known_without_loading_them_are_all():
    from theory.commands.run import regimes
    from theory.regimes import NAMED

    assert regimes() == sorted(NAMED)
