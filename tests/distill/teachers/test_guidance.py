"""The guidance scale as an input: embedded as in diffusers' pipelines, drawn from the run's range, learnt over it."""

from __future__ import annotations

import copy

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

import aria
from aria.distill.engine.batches import Source
from aria.distill.engine.replacement import Constant
from aria.distill.models import denoisers
from aria.distill.models.denoisers.guidance import GUIDANCE, embedding, take_guidance, width_of
from aria.distill.models.pipelines import open_pipeline
from aria.distill.settings.config import AdamW
from aria.distill.teachers.guidance import Guided, guided
from aria.distill.teachers.teacher import Teacher
from aria.samplers.ranks import Ranks
from tests.distill import pipelines, tiny

SCALES = torch.tensor([1.0, 2.5, 7.5, 12.0])


@pytest.fixture(scope="module")
def sd(sd_folder):
    return open_pipeline(sd_folder)


@pytest.fixture(scope="module")
def sdxl(sdxl_folder):
    return open_pipeline(sdxl_folder)


# -------------------------------------------------------------------------------------------- embedded as by diffusers


@pytest.mark.parametrize("width", [256, 64, 7])
def test_the_embedding_is_the_pipelines_own(sd, width):
    torch.testing.assert_close(
        embedding(SCALES, width), sd.get_guidance_scale_embedding(SCALES - 1, width), rtol=0, atol=2e-3
    )  # sines of angles up to 11 000, in float32


def inputs(model, rows=3):
    generator = torch.Generator().manual_seed(0)
    kwargs = {"encoder_hidden_states": torch.randn(rows, 5, model.config.cross_attention_dim, generator=generator)}
    noisy = torch.randn(rows, 4, pipelines.SIDE, pipelines.SIDE, generator=generator)
    return noisy, torch.tensor([3, 500, 999]), kwargs


@torch.no_grad()
def test_a_model_opened_to_the_scale_gives_the_same_outputs_and_opens_again(tmp_path):
    torch.manual_seed(0)
    model = pipelines.unet()
    noisy, timestep, kwargs = inputs(model)
    before = model(noisy, timestep, **kwargs).sample
    assert take_guidance(model) is model and width_of(model) == 256
    kwargs["timestep_cond"] = embedding(SCALES[:3], 256)
    assert torch.equal(model(noisy, timestep, **kwargs).sample, before)
    assert model.time_embedding.cond_proj.weight.requires_grad
    model.time_embedding.cond_proj.weight.normal_()
    after = model(noisy, timestep, **kwargs).sample
    assert not torch.allclose(after, before)
    take_guidance(model)  # what is there stays
    model.save_pretrained(tmp_path)
    assert torch.equal(UNet2DConditionModel.from_pretrained(tmp_path)(noisy, timestep, **kwargs).sample, after)


def test_what_cannot_take_it_is_refused_by_name():
    with pytest.raises(ValueError, match="a Linear cannot take the guidance scale as an input; a UNet2DCond"):
        take_guidance(nn.Linear(1, 1))
    with pytest.raises(ValueError, match="a FluxTransformer2DModel cannot take .* a FluxTransformer2DModel or .* with"):
        take_guidance(pipelines.flux(guidance_embeds=False))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_a_pipeline_evaluates_the_opened_model_once_and_as_the_adapter_does(kind, request):
    own = request.getfixturevalue(kind)
    adapter, heard = denoisers.of(own), []
    unet = take_guidance(copy.deepcopy(own.unet))
    unet.time_embedding.cond_proj.weight.normal_(generator=torch.Generator().manual_seed(1))
    pipeline = type(own).from_pipe(own, unet=unet)
    pipeline.set_progress_bar_config(disable=True)
    forward = unet.forward
    unet.forward = lambda *args, **kwargs: heard.append((args, forward(*args, **kwargs))) or heard[-1][1]
    noise = torch.randn(1, 4, pipelines.SIDE, pipelines.SIDE, generator=torch.Generator().manual_seed(0))
    pipeline("a red cat", latents=noise, num_inference_steps=2, guidance_scale=3.5, output_type="latent")
    condition = adapter.encode(pipeline, ["a red cat"], "cpu") | {GUIDANCE: torch.tensor([3.5])}
    assert len(heard) == 2
    for (noisy, timestep), output in list(heard):
        assert noisy.shape[0] == 1  # without the null condition
        torch.testing.assert_close(adapter(unet, noisy, timestep.expand(1), condition), output[0])
    other = condition | {GUIDANCE: torch.tensor([3.0])}
    assert not torch.allclose(adapter(unet, noisy, timestep.expand(1), other), output[0])


def test_a_scale_that_is_not_taken_and_one_that_is_missing_are_refused(sd):
    adapter, unet = denoisers.of(sd), sd.unet
    noisy, timestep, kwargs = inputs(unet)
    condition = {"prompt_embeds": kwargs["encoder_hidden_states"]}
    with pytest.raises(ValueError, match="does not take the guidance scale as an input: open it with take_guidance"):
        adapter(unet, noisy, timestep, condition | {GUIDANCE: SCALES[:3]})
    with pytest.raises(ValueError, match="takes the guidance scale as an input, and is given none: set guidance_max"):
        adapter(take_guidance(copy.deepcopy(unet)), noisy, timestep, condition)


# ------------------------------------------------------------------------------------------------- the guided teacher


@torch.no_grad()
@pytest.mark.parametrize("kind", ["sd", "sdxl"])
def test_the_teacher_is_guided_by_each_samples_own_scale_in_one_call(kind, request):
    pipeline = request.getfixturevalue(kind)
    teacher, adapter, calls = Teacher.of(pipeline), denoisers.of(pipeline), []
    null = adapter.null(pipeline, "cpu")

    def evaluate(model, noisy, timestep, condition):
        calls.append(len(noisy))
        return adapter(model, noisy, timestep, condition)

    texts = ["a cat", "a dog", ""]
    condition = adapter.encode(pipeline, texts, "cpu")
    condition = {name: torch.cat([value[:2], null[name]]) for name, value in condition.items()}
    noisy, timestep, _ = inputs(pipeline.unet)
    under = adapter(pipeline.unet, noisy, timestep, condition)
    without = adapter(pipeline.unet, noisy, timestep, {n: v.expand(3, *v.shape[1:]) for n, v in null.items()})
    scale = torch.tensor([1.0, 7.5, 4.0])
    output = Guided(evaluate, null)(pipeline.unet, noisy, timestep, condition | {GUIDANCE: scale})
    assert calls == [6]
    torch.testing.assert_close(output, without + scale.view(3, 1, 1, 1) * (under - without), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output[0], under[0], rtol=1e-4, atol=1e-5)  # w = 1: no guidance
    torch.testing.assert_close(output[2], without[2], rtol=1e-4, atol=1e-5)  # an empty prompt: the null output
    assert not guided(teacher, null).plain


def test_a_teacher_that_takes_the_scale_is_evaluated_as_it_is(sd):
    teacher = Teacher.of(sd)
    opened = Teacher(take_guidance(copy.deepcopy(sd.unet)), teacher.denoiser, teacher.schedule, teacher.prediction)
    assert guided(opened, {}).evaluate is None and not guided(opened, {}).plain
    assert guided(teacher, {}).evaluate is not None


# ------------------------------------------------------------------------------------------------------- how w is drawn


class At(Ranks):
    """One of several ranks, without the others."""

    def __init__(self, place):
        super().__init__(distributed=False, group=None)
        object.__setattr__(self, "at", place)

    def place(self):
        return self.at


def batches(partition, size=400, allocator="pool", guidance=(1.0, 8.0), ranks=None, **settings):
    sampler = aria.Sampler(partition, "ema(rate=1.0)", allocator, floor=0.1, seed=1)
    if ranks is not None:
        sampler.ranks = At(ranks)
    kwargs = {"replacement": Constant(0.5).table(tiny.TIMESTEPS), "seed": 7} | settings
    images, pool = tiny.images(conditions=12), tiny.numbered(12)
    pool.residency = kwargs.pop("residency", "device")
    return tiny.Stream(Source(images, pool, sampler, tiny.schedule(), size=size, guidance=guidance, **kwargs))


def labels(spec="labels('label')"):
    return aria.registry.partitioner(spec).fit(aria.Pool(columns={"label": [row % 3 for row in range(12)]}))


def test_scales_are_uniform_and_all_else_is_as_without_them():
    with_scale, without = batches(labels()), batches(labels(), guidance=None)
    drawn = []
    for _ in range(25):
        one, other = with_scale.next(), without.next()
        drawn.append(one.condition.pop(GUIDANCE))
        assert one.condition.keys() == other.condition.keys() and GUIDANCE not in other.condition
        for name in ("noisy", "timestep", "index", "region", "null", "own"):
            assert torch.equal(getattr(one, name), getattr(other, name))
    scale = torch.cat(drawn)
    assert float(scale.min()) >= 1 and float(scale.max()) <= 8
    points = (scale.sort()[0] - 1) / 7
    apart = float((points - torch.arange(len(points)) / len(points)).abs().max())
    assert apart < (-0.5 * torch.tensor(1e-6 / 2).log() / len(points)).sqrt()  # DKW, one false alarm in a million
    assert float(torch.corrcoef(torch.stack([scale, scale.roll(1)]))[0, 1].abs()) < 0.05


def test_two_ranks_make_the_scales_of_one():
    whole = batches(labels(), size=8)
    halves = [batches(labels(), size=4, ranks=(rank, 2)) for rank in range(2)]
    for _ in range(3):
        parts = [half.next() for half in halves]
        wanted = whole.next()
        assert torch.equal(torch.cat([part.condition[GUIDANCE] for part in parts]), wanted.condition[GUIDANCE])
        assert torch.equal(torch.cat([part.index for part in parts]), wanted.index)


PRODUCT = "product(labels('label'), bins('guidance', 1.0, 8.0, 4))"


def test_a_partition_of_captions_and_scales_decides_both():
    made = batches(labels(PRODUCT), allocator="proportional", null_probability=0.0)
    made.sampler.observe(torch.arange(12), torch.where(torch.arange(12) == 6, 100.0, 1.0))  # label 1, third bin
    batch = made.next()
    scale = batch.condition[GUIDANCE]
    assert torch.equal(batch.region % 4, ((scale - 1) / 1.75).long())
    assert torch.equal(batch.region // 4, batch.index % 3)
    third = (scale >= 4.5) & (scale < 6.25)
    assert float(third.float().mean()) > 0.8  # of own captions as well, whose label is not allocated
    assert float((batch.index % 3 == 1)[~batch.own].float().mean()) > 0.8


def test_steps_drawn_ahead_are_resumed_with_their_scales():
    made, resumed = (batches(labels(PRODUCT), size=8, ahead=2, residency="disk") for _ in range(2))
    made.next()
    resumed.state = resumed.unpack(made.pack(made.state))
    resumed.sampler.load_state_dict(made.sampler.state_dict())
    for _ in range(4):
        assert torch.equal(made.next().condition[GUIDANCE], resumed.next().condition[GUIDANCE])


@pytest.mark.parametrize(
    ("spec", "guidance", "sentence"),
    [
        (PRODUCT, None, "the partition draws guidance, which training does not use; it may draw timestep"),
        (PRODUCT, (1.0, 4.0), "the partition draws guidance scales outside the run.s range, 1 to 4"),
        (PRODUCT, (1.0, 9.0), "does not cover all guidance scales of the run: guidance must be in .1, 8., got 9"),
        ("bins('crop', 0, 1, 2)", (1.0, 8.0), "draws crop, which training does not use; it may draw guidance and"),
    ],
)
def test_partitions_of_other_scales_are_refused(spec, guidance, sentence):
    with pytest.raises(ValueError, match=sentence):
        batches(labels(spec), guidance=guidance)


# ------------------------------------------------------------------------------------------------------------- learning


WIDTH = 16


class Scaled(tiny.Net):
    """The small student that takes the scale."""

    def __init__(self, width):
        super().__init__(width)
        self.scaled = nn.Linear(2, 2 * width, bias=False)

    def forward(self, noisy, timestep, embeddings, scale):
        strength = torch.stack([scale / 4, (scale / 4) ** 2], 1)
        factor, shift = self.scaled(strength).chunk(2, 1)
        shift = self.embed(embeddings) * (1 + factor) + shift + self.level(timestep[:, None] / tiny.TIMESTEPS)
        hidden = torch.tanh(self.inp(noisy) + shift[:, :, None, None])
        return self.out(torch.tanh(self.mid(hidden)))


def evaluate(model, noisy, timestep, condition):
    embeddings = condition["embeds"] + condition["pooled"][:, None]
    return model(noisy, timestep, embeddings, *(condition[name] for name in (GUIDANCE,) if name in condition))


def pair(steps=10, **settings):
    pool = tiny.numbered(12)
    pool.tensors["pooled"] = pool.tensors["pooled"] / 12
    pool._null = {"embeds": torch.zeros(1, tiny.WIDTH), "pooled": torch.zeros(1)}
    net = tiny.net(0, WIDTH)
    with torch.no_grad():
        net.embed.weight.mul_(4)  # so that its condition matters
    student = Scaled(WIDTH)
    student.load_state_dict(net.state_dict(), strict=False)
    nn.init.zeros_(student.scaled.weight)
    teacher = guided(Teacher(net, evaluate, tiny.schedule(), "epsilon"), pool.null(1))
    defaults = {"batch_size": 32, "seed": 3, "guidance": (1.0, 4.0), "objective": ["output"]}
    defaults |= {"replacement": "constant(1.0)"}
    defaults |= {"optimiser": AdamW(learning_rate=2e-2, adam_weight_decay=0.0, lr_scheduler="cosine"), "ema_decay": 0.9}
    sampler = aria.Sampler(labels(), allocator="proportional", seed=1)
    return tiny.distiller(teacher, student, sampler, tiny.images(), pool, **(defaults | {"steps": steps} | settings))


@torch.no_grad()
def error(distiller, scale):
    """(the student's error, that of an output without guidance) against the guided teacher, on noise of its own."""
    index = torch.arange(480) % 12
    generator = torch.Generator().manual_seed(99)
    timestep = torch.randint(tiny.TIMESTEPS, (480,), generator=generator)
    clean, _ = tiny.images().gather(torch.arange(480) % 10)
    noisy = tiny.schedule().add_noise(clean, torch.randn(clean.shape, generator=generator), timestep)
    condition = distiller.source.conditions.prefetch(index).result() | {GUIDANCE: torch.full((480,), scale)}
    wanted, plain = (
        distiller.teacher(noisy, timestep, condition | {GUIDANCE: torch.full((480,), w)})[0] for w in (scale, 1.0)
    )
    with distiller.averaged():
        student = distiller.learner(noisy, timestep, condition)[0]
    return float((student - wanted).square().mean()), float((plain - wanted).square().mean())


def test_a_student_learns_the_guided_teacher_over_the_range():
    distiller = pair(steps=200)
    distiller.fit()
    distiller.check()
    student, plain = zip(*(error(distiller, scale) for scale in (1.0, 1.5, 2.5, 3.5, 4.0)), strict=True)
    assert sum(student) < 0.25 * sum(plain)
    assert all(learned < 0.25 * without for learned, without in zip(student[2:], plain[2:], strict=True))


def test_gradient_accumulation_equals_one_pass():
    whole, parts = pair(batch_size=8), pair(batch_size=4, accumulation=2)
    for _ in range(3):
        whole.step(), parts.step()
    for name, value in whole.student.state_dict().items():
        torch.testing.assert_close(parts.student.state_dict()[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("objective", [["task"], ["output", "feature(layers=[('mid', 'mid')])"]])
def test_only_outputs_are_compared_with_a_guided_teacher(objective):
    name = "task" if objective == ["task"] else "feature"
    with pytest.raises(ValueError, match=f"compared by its output: leave {name} out of the objective"):
        pair(objective=objective)


def test_a_family_that_cannot_take_the_scale_is_refused():
    class Deaf(denoisers.StableDiffusion):
        takes_guidance = False

    pool = tiny.numbered(12)
    teacher = Teacher(tiny.net(0), Deaf(), tiny.schedule(), "epsilon")
    with pytest.raises(ValueError, match="Scaled cannot take the guidance scale as an input"):
        tiny.distiller(teacher, Scaled(6), tiny.sampler(), tiny.images(), pool, guidance=(1.0, 4.0))
