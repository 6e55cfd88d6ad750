"""A training step of every family on a simulated device: nothing on the wrong device, and nothing waits for it."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

import aria
from aria.allocators import Proportional
from aria.distill.data import Conditions, build_conditions
from aria.distill.data.latents import Latents, sample_latents
from aria.distill.data.memory import EncodingsInMemory, LatentsInMemory
from aria.distill.data.prompts import Prompts, Texts
from aria.distill.data.table import RESIDENCIES
from aria.distill.engine.distiller import Distiller
from aria.distill.engine.on_policy import OnPolicy
from aria.distill.engine.plan import Plan
from aria.distill.models import denoisers
from aria.distill.models.denoisers.guidance import is_open
from aria.distill.models.pipelines import component_of, open_pipeline
from aria.distill.teachers.guidance import guided
from aria.distill.teachers.halving import deterministic, halved
from aria.distill.teachers.teacher import Teacher
from aria.partitioners.conformance import example_pool
from aria.trackers import EMA
from tests.distill import tiny
from tests.distill.families import KINDS
from tests.simulated_cuda import CUDA, Waits, WrongDevice, nothing_waits, simulated_cuda

OWN_SIZE = ("aura", "dit", "lumina", "pixart", "pixart_sigma", "sana", "sd", "sd3", "sdxl")
SIZES = {"wan": (16, 5), "ltx": (64, 9)}


@pytest.fixture(scope="module")
def opened(request):
    made = {}

    def pipeline(kind):
        if kind not in made:
            made[kind] = open_pipeline(request.getfixturevalue(f"{kind}_folder"))
        return made[kind]

    return pipeline


def data(pipeline, kind):
    """Four encoded conditions, and latents of two of them, on the CPU."""
    adapter = denoisers.of(pipeline)
    texts = ["7", "goldfish", "999", "0"] if kind == "dit" else ["a cat", "a dog", "a hut", "a red cat"]
    resolution, frames = (None, None) if kind in OWN_SIZE else SIZES.get(kind, (16, None))
    latents = torch.randn(3, *adapter.shape(pipeline, resolution, frames), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return adapter.encode(pipeline, texts, "cpu"), adapter.null(pipeline, "cpu"), latents


def block(model):
    """The name of the first of a model's blocks."""
    return next(name for name, part in model.named_modules() if type(part).__name__.endswith("TransformerBlock"))


def distiller(pipeline, kind, device, accelerator, *, teacher=None, images=None, conditions=None, **changes):
    encoded, null, latents = data(pipeline, kind)
    model = copy.deepcopy(getattr(pipeline, component_of(pipeline)))
    part = copy.copy(pipeline)
    part.register_modules(**{component_of(pipeline): model})
    teacher, student = teacher or Teacher.of(part), copy.deepcopy(model)
    settings = {
        "objective": ("output", f"feature(layers=[({block(model)!r}, {block(model)!r})])"), "batch_size": 4,
        "on_policy": OnPolicy(0.5), "ema_decay": 0.9, "replacement": "constant(0.5)",
    }  # fmt: skip
    if is_open(model):
        settings["guidance"] = (1.0, 3.0)
        teacher = guided(teacher, {name: value.to(device) for name, value in null.items()})
    encoded, null = ({name: x.to(device) for name, x in part.items()} for part in (encoded, null))
    partition = aria.partitioners.Labels("label").fit(aria.Pool(columns={"label": [0, 1, 0, 1]})).to(device)
    return Distiller(
        teacher,
        student,
        aria.Sampler(partition, timesteps=1000),
        images or LatentsInMemory(latents.to(device), torch.tensor([0, 1, 2])),
        conditions or EncodingsInMemory(encoded, null),
        Plan(**settings | changes),
        accelerator=accelerator,
    )


DIFFUSERS = "diffusers/models/transformers/"
WAITS = {
    "qwen": {(f"{DIFFUSERS}transformer_qwenimage.py", "compute_text_seq_len_from_mask"):
             "diffusers copies the length of the longest text to the device in every forward pass"},
    "lumina": {(f"{DIFFUSERS}transformer_lumina2.py", "forward"):
               "diffusers reads the lengths of the texts in every forward pass"},
    "zimage": {("aria/distill/models/denoisers/z_image.py", "_cut"):
               "the model takes texts without padding, so their lengths are read in every forward pass"},
}  # fmt: skip
"""Where a step waits for the device after all, by family, and why."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_of_every_family(kind, opened):
    """With on-policy rows, layers that are compared, a moving average and, where it can be, guidance as an input."""
    pipeline, accelerator = opened(kind), Accelerator(cpu=True)
    with simulated_cuda():
        made = distiller(pipeline, kind, CUDA, accelerator)
        with nothing_waits(WAITS.get(kind)):
            made.step(), made.step()
        made.check()


def test_half_precision(opened):
    pipeline, accelerator = opened("sd3"), half()
    try:
        with simulated_cuda():
            made = distiller(pipeline, "sd3", CUDA, accelerator)
            with nothing_waits():
                made.step(), made.step()
            made.check()
            assert {value.dtype for value in made.teacher.parameters()} == {torch.bfloat16}
            assert {value.dtype for value in made.student.parameters()} == {torch.float32}
            with torch.no_grad():
                output, _ = made.outputs(tiny.first_batch(made))
            assert output.output.dtype == torch.bfloat16
    finally:
        AcceleratorState._reset_state(reset_partial_state=False)


def half():
    AcceleratorState._reset_state(reset_partial_state=False)
    return Accelerator(cpu=True, mixed_precision="bf16")


def test_a_halved_teacher(dit_folder):
    pipeline, accelerator = open_pipeline(dit_folder), Accelerator(cpu=True)
    with simulated_cuda():
        teacher = halved(Teacher.of(pipeline), deterministic(pipeline.scheduler), 4, prediction="v_prediction")
        settings = {"objective": ("output",), "on_policy": OnPolicy(), "student_prediction": "v_prediction"}
        made = distiller(pipeline, "dit", CUDA, accelerator, teacher=teacher, **settings)
        with nothing_waits():
            made.step(), made.step()


# ----------------------------------------------------------------------------------------- every residency of the cache


@pytest.fixture(scope="module")
def cached(dit_folder, tmp_path_factory):
    """Conditions and latents on the disk, of a pipeline that no test has moved to the device."""
    folder, pipeline = tmp_path_factory.mktemp("cache"), open_pipeline(dit_folder)
    prompts = Prompts(Texts.of(["7", "goldfish", "999", "7"]), {}, torch.ones(4, dtype=torch.float64))
    adapter = denoisers.of(pipeline)
    build_conditions(pipeline, adapter, prompts, folder / "conditions")
    conditions = Conditions(folder / "conditions")
    sample_latents(pipeline, adapter, conditions, torch.tensor([0, 1, 2]), folder / "latents", steps=1, guidance=1.0)
    return folder


@pytest.mark.parametrize("residency", RESIDENCIES)
def test_a_cache_wherever_it_is(residency, cached, dit_folder):
    """Its thread waits for the device, and the step does not."""
    pipeline, accelerator = open_pipeline(dit_folder), Accelerator(cpu=True)
    with simulated_cuda():
        kept = {"device": CUDA, "residency": residency}
        conditions, images = Conditions(cached / "conditions", **kept), Latents(cached / "latents", **kept)
        made = distiller(pipeline, "dit", CUDA, accelerator, images=images, conditions=conditions, ahead=2)
        assert made.source.ahead == (0 if residency == "device" else 2)
        with nothing_waits():
            made.step()
        conditions.close(), images.close()


# ---------------------------------------------------------------------------- what the sampler draws with and learns by


def every(*packages):
    return [example for package in packages for name in sorted(package.__all__)
            for cls in [getattr(package, name)] if hasattr(cls, "examples") for example in cls.examples()]  # fmt: skip


def named(part):
    """Its class, which is the same in every process; a lambda's place in memory is not."""
    return type(part).__name__


def train(**sampling):
    """Two steps of the smallest distiller on the simulated device."""
    accelerator = Accelerator(cpu=True)
    with simulated_cuda():
        made = on_device(accelerator, **sampling)
        with nothing_waits():
            made.step(), made.step()
        made.check()
        return made


def on_device(accelerator, partitioner=None, pool=None, evaluate=tiny.evaluate, levels=tiny.TIMESTEPS, **sampling):
    pool = aria.Pool(columns={"label": [row % 3 for row in range(12)]}) if pool is None else pool
    partition = (partitioner or aria.partitioners.Labels("label")).fit(pool).to(CUDA)
    sampler = aria.Sampler(partition, **{"timesteps": None, **sampling})
    conditions, shown = tiny.numbered(len(pool)), tiny.images(conditions=len(pool))
    encodings = EncodingsInMemory(*({name: x.to(CUDA) for name, x in part.items()}
                                    for part in (conditions.tensors, conditions.null(1))))  # fmt: skip
    images = LatentsInMemory(shown.latents.to(CUDA), shown.conditions())
    teacher = Teacher(tiny.net(0), evaluate, tiny.schedule(levels), "epsilon")
    return tiny.distiller(teacher, tiny.net(1), sampler, images, encodings, accelerator=accelerator, batch_size=8)


@pytest.mark.parametrize("tracker", every(aria.trackers), ids=named)
def test_every_tracker(tracker):
    train(tracker=tracker)


@pytest.mark.parametrize("allocator", every(aria.allocators), ids=named)
def test_every_allocator(allocator):
    train(allocator=allocator, correction="importance", timesteps=tiny.TIMESTEPS)


TAKEN = [one for one in every(aria.partitioners) if "guidance" not in one.coordinates]
"""The model has no input for a guidance scale; scales are drawn as timesteps are."""


@pytest.mark.parametrize("partitioner", TAKEN, ids=named)
def test_every_partitioner(partitioner):
    train(partitioner=partitioner, pool=example_pool(), levels=1000)


# -------------------------------------------------------------------------------------------------------- it finds bugs


@dataclass(frozen=True)
class IndexesFromTheCpu(EMA):
    def update(self, state, stats):
        order = torch.arange(len(stats.n))
        return super().update(state, stats._replace(n=stats.n[order]))


@dataclass(frozen=True)
class ReadsAValue(Proportional):
    def __call__(self, estimate, mass):
        return super().__call__(estimate, mass) / max(estimate.value.max().item(), 1.0)


def times_of_the_cpu(model, noisy, timestep, condition):
    return tiny.evaluate(model, noisy, timestep + torch.zeros(len(timestep), dtype=torch.long), condition)


def through_the_cpu(model, noisy, timestep, condition):
    return tiny.evaluate(model, noisy, timestep, {name: x.cpu().to(x.device) for name, x in condition.items()})


def by_a_mask(model, noisy, timestep, condition):
    output = tiny.evaluate(model, noisy, timestep, condition)
    return output + 0 * output[output > 0].sum()


@pytest.mark.parametrize(
    ("bug", "error", "line"),
    [
        ({"tracker": IndexesFromTheCpu()}, WrongDevice, "index.Tensor .* CPU tensor of shape .3,.*, in .*update"),
        ({"allocator": ReadsAValue()}, Waits, "_local_scalar_dense.default reads a value, in .*__call__"),
        ({"evaluate": times_of_the_cpu}, ValueError,
         "Net does not take these latents and conditions: add.Tensor .* CPU tensor of shape .*, in .*times_of_the_cpu"),
        ({"evaluate": through_the_cpu}, Waits, "copies from the device to the host, in .*(through_the_cpu|<dictcomp>)"),
        ({"evaluate": by_a_mask}, Waits, "index.Tensor with a mask counts its entries, in .*by_a_mask"),
    ],
    ids=["tracker", "allocator", "denoiser", "copy", "mask"],
)  # fmt: skip
def test_a_planted_bug_is_found(bug, error, line):
    with pytest.raises(error, match=line):
        train(**bug)


def test_a_generator_of_another_device_is_found():
    with simulated_cuda() as device, pytest.raises(WrongDevice, match="rand.generator with a generator of another"):
        torch.rand(3, generator=torch.Generator(), device=device)


def test_a_copy_that_waits_is_found():
    with simulated_cuda() as device, nothing_waits():
        torch.ones(2).to(device, non_blocking=True)
        with pytest.raises(Waits, match="copies from the host to the device and is not non_blocking"):
            torch.tensor([1.0, 2.0], device=device)


def test_an_allowance_that_nothing_needs_is_refused():
    unmet = pytest.raises(AssertionError, match="nothing waits any more in .*qwenimage")
    with simulated_cuda(), unmet, nothing_waits(WAITS["qwen"]):
        pass


def test_the_log_and_a_checkpoint_read_and_are_no_part_of_a_step():
    made = train()
    with simulated_cuda(), nothing_waits():
        for reads in (made.check, made.sampler.state_dict):
            with pytest.raises(Waits):
                reads()


def test_the_device_computes_what_the_cpu_computes():
    """Branches for accelerators add in another way, and give the same weights and estimates."""
    there = train(tracker="bank", timesteps=tiny.TIMESTEPS)
    here = tiny.distiller(
        Teacher(tiny.net(0), tiny.evaluate, tiny.schedule(), "epsilon"), tiny.net(1),
        tiny.sampler(tracker="bank", allocator="proportional", seed=0, timesteps=tiny.TIMESTEPS), tiny.images(),
        tiny.numbered(12), accelerator=Accelerator(cpu=True), batch_size=8,
    )  # fmt: skip
    here.step(), here.step()
    for name, value in here.student.state_dict().items():
        torch.testing.assert_close(there.student.state_dict()[name].held, value, rtol=0, atol=0)
    with simulated_cuda():
        estimate = there.sampler.estimate().value
    torch.testing.assert_close(estimate.held, here.sampler.estimate().value, rtol=0, atol=0)
