"""Several ranks train as one: replicated or divided, with any number of passes, saved by some and resumed by others."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from aria.cli import main
from aria.distill.data.memory import EncodingsInMemory
from aria.distill.engine import sharding
from aria.distill.engine.distiller import NonFiniteLoss
from aria.distill.engine.on_policy import OnPolicy
from aria.distill.engine.weights import FILE, plain
from aria.distill.models.denoisers.dit import DiT
from aria.distill.runs import checkpoint
from aria.distill.settings.config import AdamW
from aria.distill.students import add_low_rank, factorise
from aria.distill.teachers.teacher import Teacher
from tests.distill import pipelines, tiny
from tests.distill.ranks import on_ranks

pytestmark = pytest.mark.slow
OPTIMISER = AdamW(learning_rate=1e-2, adam_epsilon=1e-3)  # smaller, it would make steps of rounding errors
ADAPTIVE = {"allocator": "proportional", "timesteps": tiny.TIMESTEPS}
EVERYTHING = ("output", "feature(layers=[('mid', 'mid')])", "task")
GLOBAL = 8


def made(ranks=1, **settings):
    defaults = {"objective": EVERYTHING, "width": 4, "of": ADAPTIVE, "optimiser": OPTIMISER, "ema_decay": 0.9}
    defaults["on_policy"] = OnPolicy(0.5)
    passes = settings.get("accumulation", 1)
    return tiny.make(batch_size=GLOBAL // ranks // passes, **(defaults | settings))


def trained(folder, steps=20, ranks=1, resume=None, save=None, **settings):
    """Train, and save the result to files; every rank calls it."""
    distiller = made(ranks, **settings)
    if resume is not None:
        checkpoint.load(distiller.state(), resume, settings={})
    while distiller.step_count < steps:
        distiller.step()
        if distiller.step_count == save:
            tiny.save(distiller, folder, {})
    with distiller.averaged():
        average = distiller.whole_student()
        if distiller.accelerator.is_main_process:
            save_file(dict(average.state_dict()), folder / "average.safetensors")
    whole, sums = distiller.whole_student(), distiller.tally.seen_so_far()
    if distiller.accelerator.is_main_process:
        save_file(dict(whole.state_dict()), folder / "student.safetensors")
        save_file({**distiller.sampler.state_dict(), **sums}, folder / "sampler.safetensors")
    distiller.accelerator.wait_for_everyone()


def far(one, other, name):
    """The relative distance between the weights in two folders."""
    expected, actual = (load_file(folder / f"{name}.safetensors") for folder in (one, other))
    assert expected.keys() == actual.keys()
    apart = torch.cat([(expected[key] - actual[key]).flatten().double() for key in expected])
    return float(apart.norm() / torch.cat([value.flatten().double() for value in expected.values()]).norm())


def same_counts(one, other):
    """The draws were the same: as many samples of every region."""
    expected, actual = (load_file(folder / "sampler.safetensors") for folder in (one, other))
    return torch.equal(expected["n"], actual["n"])


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    trained(folder, save=10)
    return folder


@pytest.mark.parametrize("settings", [{}, {"fsdp": True}, {"accumulation": 2}, {"fsdp": True, "accumulation": 2}],
                         ids=["replicated", "divided", "replicated, two passes", "divided, two passes"])  # fmt: skip
def test_two_ranks_train_as_one(settings, alone, tmp_path):
    on_ranks(lambda: trained(tmp_path, ranks=2, **settings), tmp_path)
    assert far(alone, tmp_path, "student") < 1e-5 and far(alone, tmp_path, "average") < 1e-5
    assert same_counts(alone, tmp_path)


def test_gradient_accumulation_on_one_rank_changes_nothing(alone, tmp_path):
    trained(tmp_path, accumulation=4)
    assert far(alone, tmp_path, "student") < 1e-5 and same_counts(alone, tmp_path)


def test_training_moved_the_weights_by_far_more(alone, tmp_path):
    trained(tmp_path, steps=0)
    assert far(alone, tmp_path, "student") > 1e-2


@pytest.mark.parametrize("fsdp", [False, True], ids=["replicated", "divided"])
def test_checkpoints_of_some_ranks_are_resumed_by_others(fsdp, alone, tmp_path):
    """One to two and two to one: a sharded student is saved whole and sharded again."""
    two, there, back = tmp_path / "two", tmp_path / "there", tmp_path / "back"
    on_ranks(lambda: trained(two, ranks=2, fsdp=fsdp, save=10), two)
    on_ranks(lambda: trained(there, ranks=2, fsdp=fsdp, resume=alone / "checkpoint-10"), there)
    back.mkdir()
    trained(back, resume=two / "checkpoint-10")
    for folder in (there, back):
        assert far(alone, folder, "student") < 1e-5 and far(alone, folder, "average") < 1e-5
        assert same_counts(alone, folder)
    names = {path.relative_to(alone) for path in alone.rglob("checkpoint-10/**/*") if path.is_file()}
    assert names == {path.relative_to(two) for path in two.rglob("checkpoint-10/**/*") if path.is_file()}
    for name in names:
        if name.suffix == ".safetensors":
            shapes = [{key: value.shape for key, value in load_file(folder / name).items()} for folder in (alone, two)]
            assert shapes[0] == shapes[1], name


def poisoned(folder):
    distiller = made(ranks=2, fsdp=True)
    distiller.step()
    before = [sharding.whole(value).clone() for value in distiller.learner.parameters()]
    plan = distiller.source._plan

    def spoil(draw, *rest):
        spoilt = plan(draw, *rest)
        if distiller.accelerator.process_index == 1:
            spoilt.noise[0] = float("inf")
        return spoilt

    distiller.source._plan = spoil
    distiller.step()
    after = [sharding.whole(value) for value in distiller.learner.parameters()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    with pytest.raises(NonFiniteLoss, match="not finite at step 1"):
        distiller.check()


def test_a_bad_loss_of_one_rank_changes_no_weight_of_a_divided_student(tmp_path):
    on_ranks(lambda: poisoned(tmp_path), tmp_path)


def is_divided(precision):
    distiller = made(ranks=2, fsdp=True, accelerator=Accelerator(cpu=True, mixed_precision=precision))
    whole = sum(value.numel() for value in distiller.student.parameters())
    held = sum(sharding.local(value).numel() for value in distiller.student.parameters())
    assert held < 0.6 * whole
    distiller.step()
    memory = [value for state in distiller.optimizer.optimizer.state.values() for value in state.values() if value.ndim]
    assert sum(sharding.local(value).numel() for value in memory) < 1.25 * whole  # two moments of a half
    assert sum(value.numel() for value in distiller.average.weights.values()) == held
    assert {value.dtype for value in distiller.student.parameters()} == {torch.float32}
    distiller.check()


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_each_rank_keeps_its_part(precision, tmp_path):
    on_ranks(is_divided, tmp_path, precision)


def evaluate(model, noisy, timestep, condition):
    embeddings = condition["embeds"].mean(1)[:, None, None].expand(-1, 3, 8)
    return model(noisy, timestep, embeddings, return_dict=False)[0]


def small():
    return pipelines.unet(
        block_out_channels=(8,),
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        layers_per_block=1,
    )


def unet_run(folder, ranks, change, **more):
    """Two steps of a real UNet, with other layers than it is saved with."""
    torch.manual_seed(0)
    teacher, student, clean = small(), change(small()), torch.randn(10, 4, 8, 8)
    images = tiny.shown(clean, 12)
    kwargs = {"batch_size": 4 // ranks, "optimiser": OPTIMISER, "accelerator": Accelerator(cpu=True), **more}
    teacher = Teacher(teacher, evaluate, tiny.schedule(), "epsilon", "unet")
    distiller = tiny.distiller(teacher, student, tiny.sampler(), images, tiny.numbered(12), **kwargs)
    for _ in range(2):
        distiller.step()
    tiny.save(distiller, folder, {})
    whole = distiller.whole_student()
    if distiller.accelerator.is_main_process:
        save_file(dict(plain(whole).state_dict()), folder / "student.safetensors")
    distiller.accelerator.wait_for_everyone()


def dit_run(folder, ranks, **more):
    """Two steps of DiT, whose last layer computes with a part of the first block."""
    torch.manual_seed(0)
    teacher, student = pipelines.dit(), pipelines.dit(num_layers=2)
    pool = EncodingsInMemory({"class_labels": torch.arange(12)}, {"class_labels": torch.tensor([1000])})
    kwargs = {"batch_size": 4 // ranks, "optimiser": OPTIMISER, "accelerator": Accelerator(cpu=True), **more}
    teacher = Teacher(teacher, DiT(), tiny.schedule(), "epsilon", "transformer")
    images = tiny.shown(torch.randn(10, 4, 8, 8), 12)
    distiller = tiny.distiller(teacher, student, tiny.sampler(), images, pool, objective=("output",), **kwargs)
    for _ in range(2):
        distiller.step()
    whole = distiller.whole_student()
    if distiller.accelerator.is_main_process:
        save_file(dict(whole.state_dict()), folder / "student.safetensors")
    distiller.accelerator.wait_for_everyone()


def test_dit_can_be_divided(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    dit_run(one, 1)
    on_ranks(lambda: dit_run(two, 2, fsdp=True), two)
    assert far(one, two, "student") < 1e-5


def recomputed(model):
    model.enable_gradient_checkpointing()
    return model


@pytest.mark.parametrize(
    "change",
    [lambda model: add_low_rank(model, 2), lambda model: factorise(model, 0.5), recomputed],
    ids=["adapters", "products", "recomputed"],
)  # fmt: skip
def test_what_else_can_be_divided(change, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    unet_run(one, 1, change)
    on_ranks(lambda: unet_run(two, 2, change, fsdp=True), two)
    assert far(one, two, "student") < 1e-5
    folders = [folder / "checkpoint-2" / "unet" for folder in (one, two)]
    held = [load_file(folder / FILE) for folder in folders]
    for name in held[0]:
        torch.testing.assert_close(held[0][name], held[1][name], rtol=1e-4, atol=1e-5)


def refused():
    with pytest.raises(ValueError, match="fsdp works with mixed_precision bf16 or no, not with fp16"):
        tiny.make(fsdp=True, accelerator=Accelerator(cpu=True, mixed_precision="fp16"))


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match="fsdp shards the student across processes: start several, with torchrun"):
        tiny.make(fsdp=True)
    on_ranks(refused, tmp_path)


def test_accelerates_own_sharding_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    (tmp_path / "model_index.json").write_text("{}")
    folders = dict.fromkeys(("pretrained_model_name_or_path", "student", "prompts"), tmp_path)
    settings = folders | {"output_dir": tmp_path / "out"}
    flags = [str(text) for name, value in settings.items() for text in (f"--{name}", value)]
    ended = CliRunner().invoke(main, ["distill", *flags])
    assert ended.exit_code == 2
    sentence = "--fsdp shards the student across processes: launch without accelerate's --use_fsdp"
    assert sentence in ended.stderr.splitlines()[-1]


def test_compiled_are_the_repeated_blocks_of_both_models_and_names_stay(monkeypatch, tmp_path):
    """Without the compiler itself: checked are the modules it is given, and their names in a checkpoint."""
    given = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, *args, **more: given.append(type(self).__name__))
    for name, compiled in (("one", False), ("other", True)):
        (tmp_path / name).mkdir()
        unet_run(tmp_path / name, 1, lambda model: model, compile=compiled)
    assert given == ["BasicTransformerBlock"] * 2 * 4  # of two models: one down, one in the middle, two up
    assert far(tmp_path / "one", tmp_path / "other", "student") == 0.0
    with pytest.raises(ValueError, match="Net does not name its repeated blocks: train without compile"):
        tiny.make(compile=True)
