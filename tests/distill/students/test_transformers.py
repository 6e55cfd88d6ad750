"""Students of transformers: kept blocks compute the same, and narrower ones keep entries that belong together."""

from __future__ import annotations

import itertools
import json
import math

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from aria.cli.commands.prune import command
from aria.distill.models import taps
from aria.distill.models.pipelines import open_model
from aria.distill.students import (
    build_student,
    count_macs,
    family_of,
    plan_transformer,
    read_feature_pairs,
    read_record,
    transformer_size,
)
from aria.distill.students.axis import Run
from aria.distill.students.transformer.blocks import evenly

from .transformers import ALL, SMALL_WAN, WAN_1300M, family, full, inputs, small
from .unets import TWO_STAGES, teacher_unet

KINDS = tuple(ALL)
NARROWER = tuple(kind for kind in KINDS if kind != "ltx")
KEPT = (0, 1, 4)
SINGLES = (1, 3, 5)
INTO_HEADS = ("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj")


def config(kind):
    return full(*ALL[kind])


def has_singles(kind):
    return family(kind).single_layers in config(kind)


def kept(kind):
    return {"blocks": KEPT} | ({"single_blocks": SINGLES} if has_singles(kind) else {})


def half(kind):
    """Settings that halve the width of the heads."""
    return {"attention_head_dim": family(kind).heads(config(kind))[1] // 2}


def output_of(model, kwargs):
    output = model(**kwargs).sample
    return torch.stack(output) if isinstance(output, list) else output


def planned(kind, **kwargs):
    return plan_transformer(family(kind), config(kind), **kwargs)


@pytest.mark.parametrize("kind", KINDS)
def test_a_shallower_student_is_its_teacher_without_some_blocks(kind):
    teacher = small(kind)
    plan, blocks = planned(kind, **kept(kind)), family(kind).blocks
    student, inheritance = build_student(plan, teacher)
    kwargs = inputs(kind, plan.config)
    with torch.no_grad():
        output = output_of(student.eval(), kwargs)
        for name, stay in ((blocks, KEPT), (family(kind).singles, SINGLES)):
            if hasattr(teacher, name):
                setattr(teacher, name, nn.ModuleList(getattr(teacher, name)[block] for block in stay))
        expected = output_of(teacher, kwargs)
    assert torch.equal(output, expected)
    counts = inheritance.counts()
    assert counts == {"copied": student.num_parameters(), "sliced": 0, "fresh": 0}
    gone = {(blocks, "2"), (blocks, "3")}
    gone |= {(family(kind).singles, place) for place in "0246" if has_singles(kind)}
    assert {tuple(name.split(".")[:2]) for name in inheritance.unused} == gone


@pytest.mark.parametrize("kind", NARROWER)
@pytest.mark.parametrize("what", ["heads", "head-width"])
def test_a_narrower_student_works_and_is_all_inherited(kind, what):
    plan = planned(kind, preset="half", **({"width": 0.5} if what == "heads" else half(kind)))
    student, inheritance = build_student(plan, small(kind))
    counts = inheritance.counts()
    assert counts["fresh"] == 0 and counts["sliced"] > 0
    assert counts["copied"] + counts["sliced"] == student.num_parameters() == transformer_size(
        family(kind), plan.config
    ).parameters  # fmt: skip
    with torch.no_grad():
        assert bool(output_of(student, inputs(kind, plan.config)).isfinite().all())
    _, nothing = build_student(plan, small(kind), init="fresh")
    assert nothing.counts()["fresh"] == student.num_parameters()
    _, some = build_student(plan, small(kind), init="copy")
    assert some.counts()["fresh"] == counts["sliced"] and some.counts()["copied"] == counts["copied"]


@pytest.mark.parametrize("kind", ["aura", "dit", "flux", "flux2", "lumina", "pixart-sized", "qwen", "sana-1.5",
                                  "sd3.5", "wan", "z-image"])  # fmt: skip
@pytest.mark.parametrize("what", ["heads", "head-width"])
def test_axes_of_the_inner_width_keep_the_same_entries(kind, what):
    """Every tensor is filled with the places on one axis: what is left of it shows which entries stay."""
    plan = planned(kind, blocks=[0, 4], **({"width": 0.5} if what == "heads" else half(kind)))
    all_heads, left_heads = (family(kind).heads(made) for made in (config(kind), plan.config))
    wide, narrow = math.prod(all_heads), math.prod(left_heads)
    kept = Run(wide, narrow).index()
    heads = torch.arange(left_heads[0])[:, None] * all_heads[1]
    of_head = Run(all_heads[1], left_heads[1]).index()
    if family(kind).axes in plan.config and what == "head-width":  # every other pair of the axes of 4, 4 and 8
        of_head = torch.tensor([0, 1, 4, 5, 8, 9, 12, 13])
    if kind == "wan" and what == "head-width":  # of each of three axes of 8
        of_head = torch.tensor([0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21])
    of_heads = (heads + of_head).flatten()
    of_shared = of_heads[: len(of_heads) // 2]  # in Lumina, two heads share their keys and values
    of_cross = torch.arange(16)  # in Sana, the first of two heads of 16
    seen = set()
    for axis in (0, 1):
        teacher = small(kind)
        with torch.no_grad():
            for tensor in teacher.state_dict().values():
                if tensor.ndim > axis:
                    places = torch.arange(tensor.shape[axis], dtype=tensor.dtype)
                    tensor.copy_(places.view([-1 if i == axis else 1 for i in range(tensor.ndim)]).expand(tensor.shape))
        student, inheritance = build_student(plan, teacher)
        for name in inheritance.sliced:
            tensor = student.state_dict()[name]
            if tensor.ndim <= axis or tensor.shape[axis] == teacher.state_dict()[name].shape[axis]:
                continue
            left = tensor.movedim(axis, 0).flatten(1)[:, 0].long() if tensor.ndim > 1 else tensor.long()
            into = any(f".{part}." in name for part in INTO_HEADS)
            if (into and axis == 0) or (axis == 1 and (".to_out.0." in name or ".to_add_out." in name)):
                wanted = of_cross if "sana" in kind and ".attn2." in name else of_heads
                if kind == "lumina" and (".to_k." in name or ".to_v." in name):
                    wanted = of_shared
                assert torch.equal(left, wanted), name
                seen.add("heads")
            elif axis == 0 and ".to_qkv_mlp_proj." in name:  # heads three times, and a feed-forward layer with gates
                behind = 3 * wide + Run(6 * wide, 6 * narrow).index()
                assert torch.equal(left, torch.cat([part * wide + of_heads for part in range(3)] + [behind])), name
                seen.add("fused")
            elif axis == 1 and name.startswith("single_") and any(part in name for part in (".proj_out.", ".to_out.")):
                ratio = 3 if kind == "flux2" else 4  # of a feed-forward layer behind the heads
                behind = wide + Run(ratio * wide, ratio * narrow).index()
                assert torch.equal(left, torch.cat([of_heads, behind])), name
                seen.add("both")
            elif "norm_q" in name or "norm_k" in name or "norm_added" in name:
                kept_of = of_cross if "sana" in kind and ".attn2." in name else of_heads
                assert torch.equal(left, kept_of[: len(left)]), name
            elif len(left) % narrow == 0 and ".net." not in name:
                parts = left.view(-1, narrow) - wide * torch.arange(len(left) // narrow)[:, None]
                assert torch.equal(parts, kept.expand(len(parts), -1)), name
                seen.add("inner")
    assert seen == {"heads", "inner"} | {"flux": {"both"}, "flux2": {"both", "fused"}}.get(kind, set())


def test_kept_heads_do_what_they_did():
    """What the student's attention adds is what the teacher's does with those heads alone, where both look."""
    plan, teacher = planned("pixart", num_attention_heads=2), small("pixart")
    student, _ = build_student(plan, teacher)
    kept = Run(32, 16).index()
    narrow_attention, wide_attention = student.transformer_blocks[1].attn1, teacher.transformer_blocks[1].attn1
    narrow = torch.randn(2, 5, 16)
    wide = torch.zeros(2, 5, 32).index_copy(2, kept, narrow)
    with torch.no_grad():
        wide_attention.to_out[0].weight[:, 16:] = 0.0  # the heads that are gone
        torch.testing.assert_close(narrow_attention(narrow), wide_attention(wide)[..., kept], rtol=1e-5, atol=1e-5)


def test_heads_that_share_keys_and_values_stay_together():
    plan = planned("lumina", width=0.5)
    names = ("num_attention_heads", "num_kv_heads", "hidden_size", "axes_dim_rope")
    assert [plan.config[name] for name in names] == [2, 1, 32, [4, 4, 8]]
    narrow = planned("lumina", attention_head_dim=8)
    assert [narrow.config[name] for name in names] == [4, 2, 32, [2, 2, 4]]
    assert "attention_head_dim" not in narrow.config, "its model takes no such setting"


def test_the_width_of_z_image_follows_from_its_heads():
    names = ("n_heads", "n_kv_heads", "dim", "axes_dims")
    assert [planned("z-image", width=0.5).config[name] for name in names] == [2, 2, 32, [4, 4, 8]]
    narrow = planned("z-image", attention_head_dim=8)
    assert [narrow.config[name] for name in names] == [4, 4, 32, [2, 2, 4]]
    assert not {"num_attention_heads", "attention_head_dim"} & narrow.config.keys(), "its model takes no such setting"
    student, _ = build_student(narrow, small("z-image"))
    places, pairs = torch.tensor([[0, 1, 2], [3, 5, 7]]), torch.tensor([0, 2, 4, 6])  # of complex numbers
    torch.testing.assert_close(student.rope_embedder(places), small("z-image").rope_embedder(places)[:, pairs])
    assert student.layers[0].feed_forward.w1.weight.shape == (int(32 / 3 * 8), 32)


def test_narrower_heads_of_qwen_image_keep_the_frequencies_of_rotary_positions():
    plan, teacher = planned("qwen", attention_head_dim=8), small("qwen")
    student, _ = build_student(plan, teacher)
    turned = ([[(1, 3, 5)]], torch.device("cpu"), 7)
    pairs = torch.tensor([0, 2, 4, 6])  # of complex numbers
    for narrow, wide in zip(student.pos_embed(*turned), teacher.pos_embed(*turned), strict=True):
        torch.testing.assert_close(narrow, wide[:, pairs])


def test_narrower_heads_keep_the_frequencies_of_rotary_positions():
    """A student's queries and keys are turned as the entries of the teacher's that they come from."""
    plan, teacher = planned("flux", attention_head_dim=8), small("flux")
    assert plan.config["axes_dims_rope"] == [2, 2, 4]
    student, _ = build_student(plan, teacher)
    places = torch.tensor([[0.0, 1.0, 2.0], [3.0, 5.0, 7.0]])
    pairs = torch.tensor([0, 1, 4, 5, 8, 9, 12, 13])
    for narrow, wide in zip(student.pos_embed(places), teacher.pos_embed(places), strict=True):
        torch.testing.assert_close(narrow, wide[:, pairs])


def test_narrower_heads_keep_the_frequencies_of_time_height_and_width():
    """The axes of positions in Wan follow from the width of a head."""
    plan, teacher = planned("wan", attention_head_dim=12), small("wan")
    student, _ = build_student(plan, teacher)
    pairs = torch.tensor([0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21])
    video = torch.zeros(1, 4, 3, 4, 6)
    for narrow, wide in zip(student.rope(video), teacher.rope(video), strict=True):
        torch.testing.assert_close(narrow, wide[..., pairs])


@pytest.mark.parametrize("width", range(6, 130, 2))
def test_axes_that_follow_from_the_width_of_a_head_are_the_models(width):
    """And those of every narrower head that is allowed are narrower by the same factor."""
    rope = family("wan").model(**SMALL_WAN | {"attention_head_dim": width, "num_layers": 1}).rope
    axes = family("wan").axes_of(SMALL_WAN | {"attention_head_dim": width})
    assert axes == (rope.t_dim, rope.h_dim, rope.w_dim)
    unit = family("wan").head_unit(SMALL_WAN | {"attention_head_dim": width})
    for narrower in range(unit, width, unit):
        expected = [axis * narrower // width for axis in axes]
        assert list(family("wan").axes_of(SMALL_WAN | {"attention_head_dim": narrower})) == expected
        assert [axis * narrower % width for axis in axes] == [0, 0, 0]


def test_the_feed_forward_layers_of_wan_are_narrower_by_the_same_factor():
    assert planned("wan", width=0.5).config["ffn_dim"] == 100
    assert planned("wan", num_attention_heads=3, attention_head_dim=12).config["ffn_dim"] == 75
    student, _ = build_student(planned("wan", width=0.5), small("wan"))
    assert student.blocks[0].ffn.net[0].proj.weight.shape == (100, 48)


def test_the_share_of_a_preset_is_that_of_both_lists():
    plan = planned("flux", preset="half")
    assert (plan.blocks.blocks, plan.blocks.singles) == ((0, 4), (0, 2, 4, 6))
    assert (plan.config["num_layers"], plan.config["num_single_layers"]) == (2, 4)
    assert planned("flux", blocks=[1]).blocks.singles == tuple(range(7))
    assert planned("flux", single_blocks=[2, 3]).blocks.blocks == tuple(range(5))


def test_positions_keep_their_frequencies():
    """Half the width is every second entry of the sines and cosines of both axes, so positions are embedded alike."""
    plan, teacher = planned("pixart", width=0.5), small("pixart")
    student, _ = build_student(plan, teacher)
    kept = Run(32, 16).index()
    torch.testing.assert_close(student.pos_embed.pos_embed, teacher.pos_embed.pos_embed[..., kept])


@pytest.mark.parametrize("kind", KINDS)
def test_feature_pairs_name_layers_of_one_output_each(kind):
    teacher, plan = small(kind), planned(kind, **kept(kind))
    student, _ = build_student(plan, teacher)
    numbers = [pair[0].split(".")[1] for pair in plan.feature_pairs]
    assert numbers == ["0", "1", "4"] + (["1", "3", "5"] if has_singles(kind) else [])
    kwargs = inputs(kind, plan.config)
    teachers, students = ([name for name, _ in plan.feature_pairs], [name for _, name in plan.feature_pairs])
    with torch.no_grad(), taps.taps(teacher, teachers) as wide, taps.taps(student, students) as narrow:
        teacher(**kwargs), student(**kwargs)
    inner = math.prod(family(kind).heads(plan.config))
    text = 7 + {"aura": 8, "z-image": 25 + 16}.get(kind, 0)  # and tokens of the model's own
    for name in teachers:  # a block with a single stream has text and image in it
        both = name.startswith(("single_transformer_blocks", "layers"))
        places = {"ltx": 21 * 8 * 8, "wan": 21 * 4 * 4}.get(kind, 4 * 4)
        assert wide[name].shape == (2, places + (text if both else 0), inner)
    assert torch.equal(wide[teachers[0]], narrow[students[0]])
    assert not any(torch.equal(wide[teachers[i]], narrow[students[i]]) for i in range(2, len(teachers)))


@pytest.mark.parametrize("kind", KINDS)
def test_multiply_adds_are_half_of_what_torch_counts_as_operations(kind):
    model, kwargs = small(kind), inputs(kind, config(kind))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        model(**kwargs)
    assert 2 * count_macs(model, **kwargs) == counter.get_total_flops()
    counted = transformer_size(family(kind), config(kind), side=8, tokens=7)
    assert 2 * counted.macs * 2 == counter.get_total_flops() and counted.parameters == model.num_parameters()


def test_evenly_keeps_both_ends():
    for blocks in range(2, 40):
        for count in range(2, blocks + 1):
            kept = evenly(count, blocks)
            gaps = {after - before for before, after in itertools.pairwise(kept)}
            assert len(kept) == count and kept[0] == 0 and kept[-1] == blocks - 1
            assert min(gaps) >= 1 and max(gaps) - min(gaps) <= 1


def test_second_attentions_go_with_their_blocks():
    assert planned("sd3.5", blocks=[1, 2, 3, 4]).config["dual_attention_layers"] == [0, 1]
    assert planned("sd3.5", preset="half").config["dual_attention_layers"] == [0]


@pytest.mark.parametrize(
    ("kind", "kwargs", "sentence"),
    [
        ("dit", {"blocks": [1, 4]}, r"blocks must hold 0, got \[1, 4\]: it embeds the timestep and the class"),
        ("sd3", {"blocks": [0, 1]}, r"blocks must hold 4, got \[0, 1\]: it alone ends the text's stream"),
        ("pixart", {"blocks": [1, 1]}, "blocks must be ascending numbers from 0 to 4, at least one, got"),
        ("pixart", {"blocks": [5]}, "blocks must be ascending numbers from 0 to 4"),
        ("pixart", {"preset": "bk-tiny"}, "no preset 'bk-tiny' for a transformer; there are half, third, quarter"),
        ("pixart", {"preset": "half", "blocks": [0]}, "give preset or blocks, not both"),
        ("pixart", {"width": 0.0}, r"width must lie in \(0, 1\]"),
        ("pixart", {"width": 0.5, "attention_head_dim": 4}, "give width, or num_attention_heads and"),
        ("pixart", {"num_attention_heads": 5}, "num_attention_heads must be at most the teacher's 4, got 5"),
        ("pixart", {"attention_head_dim": 3, "num_attention_heads": 3}, "be a multiple of 4 for heads of 3, got 3"),
        ("pixart", {"single_blocks": [0]}, "single_blocks is for transformers with single_transformer_blocks; this"),
        ("flux", {"single_blocks": [7]}, "single_blocks must be ascending numbers from 0 to 6, at least one, got"),
        ("flux", {"preset": "half", "single_blocks": [0]}, "give preset or single_blocks, not both"),
        ("lumina", {"num_attention_heads": 3}, "num_attention_heads must be a multiple of 2 for heads of 16, got 3"),
        ("flux", {"attention_head_dim": 12}, r"multiple of 8 for rotary positions of \[4, 4, 8\] entries, got 12"),
        ("ltx", {"width": 0.5}, "blocks of a LTXVideoTransformer3DModel cannot be narrower: rotary positions turn"),
        ("ltx", {"attention_head_dim": 4}, "blocks of a LTXVideoTransformer3DModel cannot be narrower: rotary"),
        ("pixart-sized", {"num_attention_heads": 2}, "must be a multiple of 3 for heads of 8, got 2"),
    ],
)  # fmt: skip
def test_impossible_students_are_refused(kind, kwargs, sentence):
    with pytest.raises(ValueError, match=sentence):
        planned(kind, **kwargs)


def test_heads_of_published_wan_cannot_be_narrower():
    teacher = full(family("wan").model, WAN_1300M)
    with pytest.raises(ValueError, match=r"a multiple of 128 for rotary positions of \[44, 42, 42\] entries, got 64"):
        plan_transformer(family("wan"), teacher, attention_head_dim=64)


def test_a_size_in_three_parts_keeps_heads_by_threes():
    assert planned("pixart-sized", width=0.4).config["num_attention_heads"] == 3
    assert planned("pixart-sized", width=0.4).config["cross_attention_dim"] == 24


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("teachers")
    for kind in ("flux", "pixart", "sd3.5"):
        small(kind).save_pretrained(place / kind)
    teacher_unet(TWO_STAGES).save_pretrained(place / "unet")
    return place


def run(teacher, student, *arguments):
    return CliRunner().invoke(
        command, ["--pretrained_model_name_or_path", str(teacher), "--output_dir", str(student), *map(str, arguments)]
    )


def test_student_of_a_transformer_opens_without_custom_code(folders, tmp_path):
    result = run(folders / "sd3.5", tmp_path / "s", "--blocks", "0,2,4", "--num_attention_heads", 2, "--json")
    assert result.exit_code == 0, result.output
    record, student = read_record(tmp_path / "s"), open_model(tmp_path / "s")
    assert json.loads(result.stdout)["parameters"] == record["parameters"]
    assert record["teacher"]["class"] == "SD3Transformer2DModel" == type(student).__name__
    assert record["blocks"] == {"preset": None, "kept": [0, 2, 4]}
    assert record["width"] == {"factor": None, "num_attention_heads": 2, "attention_head_dim": 8}
    assert record["parameters"]["student"] == student.num_parameters()
    assert record["init"]["copied"] + record["init"]["sliced"] == student.num_parameters()
    assert 0 < record["macs"]["student"] < record["macs"]["teacher"] and record["macs"]["tokens"] == 333
    assert read_feature_pairs(tmp_path / "s")[1] == ("transformer_blocks.2.norm2", "transformer_blocks.1.norm2")
    inheritance = json.loads((tmp_path / "s" / "inheritance.json").read_text())
    assert inheritance["sliced"]["from"]["transformer_blocks.1.attn.to_q.bias"] == "transformer_blocks.2.attn.to_q.bias"
    bias = load_file(folders / "sd3.5" / "diffusion_pytorch_model.safetensors")["transformer_blocks.2.attn.to_q.bias"]
    assert torch.equal(student.transformer_blocks[1].attn.to_q.bias, bias[:16])


def test_student_of_flux_opens_without_custom_code(folders, tmp_path):
    kept = "--blocks", "0,3", "--single_blocks", "0,1,5"
    result = run(folders / "flux", tmp_path / "s", *kept, "--attention_head_dim", 8, "--json")
    assert result.exit_code == 0, result.output
    record, student = read_record(tmp_path / "s"), open_model(tmp_path / "s")
    assert record["teacher"]["class"] == "FluxTransformer2DModel" == type(student).__name__
    assert record["blocks"] == {"preset": None, "kept": [0, 3], "kept_single": [0, 1, 5]}
    assert record["parameters"]["student"] == student.num_parameters() and record["init"]["fresh"] == 0
    assert (student.config.num_layers, student.config.num_single_layers) == (2, 3)
    assert student.config.axes_dims_rope == [2, 2, 4] and student.config.guidance_embeds
    assert 0 < record["macs"]["student"] < record["macs"]["teacher"] and record["macs"]["tokens"] == 512
    assert read_feature_pairs(tmp_path / "s")[1:3] == [
        ("transformer_blocks.3.norm2", "transformer_blocks.1.norm2"),
        ("single_transformer_blocks.0.norm.norm", "single_transformer_blocks.0.norm.norm"),
    ]
    with torch.no_grad():
        assert bool(student(**inputs("flux", student.config)).sample.isfinite().all())


@pytest.mark.parametrize(
    ("teacher", "arguments", "sentence"),
    [
        ("pixart", (), "for a transformer --preset, --keep, --blocks, --single_blocks, --width, --num_attention_heads"),
        ("pixart", ("--block_out_channels", "4,8"), "block_out_channels is for UNets; this is a PixArtTransformer2D"),
        ("unet", ("--blocks", "0,1"), "blocks is for transformers; this is a UNet2DConditionModel"),
        ("pixart", ("--blocks", "0;1"), "--blocks takes numbers such as 0,2,5, got '0;1'"),
        ("unet", ("--preset", "half"), "there is no preset 'half'; there are bk-base"),
    ],
)
def test_mistakes_exit_with_2_and_one_line(teacher, arguments, sentence, folders, tmp_path):
    result = run(folders / teacher, tmp_path / "s", *arguments)
    assert result.exit_code == 2 and sentence in result.output and result.output.count("\n") == 1
    assert not (tmp_path / "s").exists()


def test_families_are_found_by_class():
    assert family_of(type(teacher_unet(TWO_STAGES))) is None
    assert all(family(kind).model is ALL[kind][0] for kind in KINDS)
