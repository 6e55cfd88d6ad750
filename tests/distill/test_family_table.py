"""Every cell of the table of families: what is said to work works, and what is said not to is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from aria.distill.models import denoisers
from aria.distill.models.denoisers.guidance import is_open
from aria.distill.models.pipelines import component_of, open_model, open_pipeline
from aria.distill.runs import checkpoint
from aria.distill.runs.run import run
from aria.distill.settings.config import Config
from aria.distill.students import prune
from aria.progress import silent
from tests.distill import families
from tests.distill.families import ABILITIES, KINDS, LACKS
from tests.distill.ranks import on_ranks
from tests.distill.runs.test_checkpoint import assert_same

PAGE = Path(__file__).resolve().parents[2] / "docs" / "families.md"
OWN_SIZE = ("aura", "dit", "lumina", "pixart", "pixart_sigma", "sana", "sd", "sd3", "sdxl")
SIZES = {"wan": {"resolution": 16, "num_frames": 5}, "ltx": {"resolution": 64, "num_frames": 9}}
FILE = "diffusion_pytorch_model.safetensors"


class Case:
    """A teacher of one kind, and runs of it."""

    def __init__(self, kind, teacher, folder):
        self.kind, self.teacher, self.folder = kind, teacher, folder
        self.pipeline = open_pipeline(teacher)
        self.component = component_of(self.pipeline)
        self.model = getattr(self.pipeline, self.component)
        texts = ["a cat", "a dog", "a hut", "a red cat in a wide green meadow"]
        words = ["7", "goldfish", "999", "0"] if kind == "dit" else texts
        (folder / "prompts.txt").write_text("\n".join(words))

    @property
    def student(self):
        """The teacher with fewer blocks."""
        student = self.folder / "student"
        if not student.exists():
            prune(self.teacher, student, preset="bk-base" if self.component == "unet" else "half")
        return student

    def run(self, name, **changes):
        """Train, and return the folder."""
        settings = {
            "pretrained_model_name_or_path": self.teacher, "student": self.student, "output_dir": self.folder / name,
            "prompts": self.folder / "prompts.txt", "cache_dir": self.folder / "cache", "num_images": 4,
            "num_inference_steps": 2, "guidance_scale": 2.0, "max_train_steps": 4, "train_batch_size": 4, "warmup": 1,
            "partitioner": "kmeans(2)", "checkpointing_steps": 2, "logging_steps": 2, "learning_rate": 1e-3,
            "adam_epsilon": 1e-3,  # smaller, Adam would make steps of rounding errors
        }  # fmt: skip
        if is_open(self.model):
            settings["guidance_max"] = 3.0
        if self.kind not in OWN_SIZE:
            settings |= SIZES.get(self.kind, {"resolution": 16})
        made = {key: str(value) if isinstance(value, Path) else value for key, value in (settings | changes).items()}
        run(Config().with_values(made), bar=silent, quiet=True)
        return self.folder / name

    def whole(self, **changes):
        """A run of one process that is not interrupted."""
        name = "-".join(["whole", *changes])
        finished = self.folder / name / self.component / FILE
        return finished.parents[1] if finished.exists() else self.run(name, **changes)

    def weights(self, folder):
        return load_file(folder / self.component / FILE)

    def moved(self, folder):
        """The finished pipeline opens, and its model is not what it began as."""
        before, after = load_file(self.student / FILE), self.weights(folder)
        assert any(not torch.equal(value, after[name]) for name, value in before.items())
        assert all(bool(value.isfinite().all()) for value in after.values())
        assert type(open_pipeline(folder)) is type(self.pipeline)


def fewer(case, tmp_path):
    assert open_model(case.student).num_parameters() < case.model.num_parameters()


def narrower(case, tmp_path):
    prune(case.teacher, tmp_path / "student", width=0.5)
    assert open_model(tmp_path / "student").num_parameters() < case.model.num_parameters()


def distil(case, tmp_path):
    case.moved(case.whole())


def resume(case, tmp_path):
    """From a checkpoint in the middle, as after a crash."""
    whole = case.whole()
    other = case.folder / "resumed"
    shutil.copytree(whole, other)
    shutil.rmtree(other / case.component)
    shutil.rmtree(checkpoint.folders(other)[-1])
    assert [checkpoint.step_of(folder) for folder in checkpoint.folders(other)] == [2]
    case.run("resumed")
    assert_same(case.weights(whole), case.weights(other))


def fsdp(case, tmp_path, **changes):
    """On two ranks, with the weights of one process but for rounding."""
    one, name = case.weights(case.whole(**changes)), "-".join(["divided", *changes])
    on_ranks(lambda: case.run(name, fsdp=True, train_batch_size=2, **changes), tmp_path)
    two = case.weights(case.folder / name)
    apart = sum(float((one[name] - two[name]).double().square().sum()) for name in one) ** 0.5
    size = sum(float(value.double().square().sum()) for value in one.values()) ** 0.5
    assert apart < 1e-4 * size, f"two processes do not end with the weights of one: {apart / size:.1e} apart"


def on_policy(case, tmp_path):
    case.moved(case.run("on-policy", on_policy=0.5))


def guidance(case, tmp_path):
    """A student whose teacher has no such input is given it."""
    folder = case.run("guided", guidance_max=3.0, objective="output")
    assert is_open(open_model(folder)) and type(open_pipeline(folder)) is type(case.pipeline)


def halving(case, tmp_path):
    noise = getattr(case.pipeline.scheduler.config, "prediction_type", None) == "epsilon"
    more = {"student_prediction": "v_prediction"} if noise else {}
    case.moved(case.run("halved", halve_from=4, cache_dir=case.folder / "other-cache", **more))


def video(case, tmp_path):
    adapter = denoisers.of(case.pipeline)
    assert len(adapter.shape(case.pipeline, SIZES.get(case.kind, {}).get("resolution"), 9)) == 4


@pytest.fixture(scope="module")
def cases(request, tmp_path_factory):
    made = {}

    def case(kind):
        if kind not in made:
            made[kind] = Case(kind, request.getfixturevalue(f"{kind}_folder"), tmp_path_factory.mktemp(kind))
        return made[kind]

    return case


@pytest.mark.slow
@pytest.mark.parametrize("ability", ABILITIES)
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_family_can_do(kind, ability, cases, tmp_path):
    tried = globals()[ability]
    if (lack := LACKS.get((kind, ability))) is None:
        tried(cases(kind), tmp_path)
        return
    if lack.only is not None:
        tried(cases(kind), tmp_path, **dict([lack.only]))
    with pytest.raises((ValueError, AssertionError), match=lack.error):
        tried(cases(kind), tmp_path)


def test_every_pipeline_of_a_family_has_a_row():
    rows = {pipeline for _, pipeline in KINDS.values()}
    assert rows == {name for family in denoisers.FAMILIES for name in family.pipelines}
    assert LACKS.keys() <= {(kind, ability) for kind in KINDS for ability in ABILITIES}


def test_the_page_has_these_tables():
    page = PAGE.read_text(encoding="utf-8")
    for part in (families.table(), families.reasons(), *families.sizes()):
        assert part in page, "docs/families.md has other tables than `python -m tests.distill.families` prints"
