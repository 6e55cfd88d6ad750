"""``aria prune --keep``: blocks chosen by position, by similarity and by what a linear map can replace."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from aria.cli import main
from aria.distill.models.pipelines import open_model
from aria.distill.students import Measurement, build_student, family_of, plan_transformer, prune, read_record
from aria.distill.students.config import public
from aria.distill.students.transformer.choose import Counts, by_measuring, by_position
from aria.distill.students.transformer.measurement import sample
from aria.distill.students.transformer.probe import probed
from aria.distill.students.transformer.repair import Moments

from .transformers import ALL, family, inputs, small
from .unets import TWO_STAGES, teacher_unet

SIZED = {
    **{kind: {"resolution": 16} for kind in ("flux", "flux2", "klein", "qwen", "zimage")},
    "wan": {"resolution": 16, "frames": 5},
    "ltx": {"resolution": 64, "frames": 9},
}
KINDS = ("aura", "dit", "flux", "lumina", "pixart", "qwen", "sana", "sd3", "wan", "ltx", "zimage", "flux2", "klein")
FLAGS = {"resolution": "--resolution", "frames": "--num_frames"}


@pytest.fixture(scope="module")
def pools(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pools")
    (folder / "prompts.txt").write_text("\n".join(f"{what} {i}" for i in range(3) for what in ("cat", "dog", "hut")))
    (folder / "classes.txt").write_text("7\ngoldfish\ntench\n0\n207\n")
    (folder / "one.txt").write_text("a cat\n")
    (folder / "empty.txt").write_text("\n\n")
    return folder


@pytest.fixture
def planted(request, tmp_path, pools):
    """The folder of a teacher of a kind of which one block, in each list, does nothing; and which."""

    def plant(kind):
        folder = tmp_path / kind
        shutil.copytree(request.getfixturevalue(f"{kind}_folder"), folder)
        model = open_model(folder)
        own = family_of(type(model))
        lists = {"blocks": getattr(model, own.blocks), "single_blocks": getattr(model, own.singles, None)}
        useless = {}
        for name, blocks in lists.items():
            if blocks is not None and len(blocks):
                useless[name] = 1 if own.stays == 0 or len(blocks) > 2 else 0
                silence(blocks[useless[name]])
        model.save_pretrained(folder / "transformer")
        return folder, useless

    return plant


def silence(block):
    """Zero whatever a block adds to its streams: the outputs of attention and feed-forward layers."""
    ends = ("to_out.0", "to_out", "to_add_out", "linear_out", "w2", "ff.net.2", "ff_context.net.2",
            "ff.out_projection", "ff_context.out_projection",
            "img_mlp.net.2", "txt_mlp.net.2", "ffn.net.2", "ff.conv_point", "feed_forward.linear_2",
            "ff.linear_2", "proj_out", "norm2", "ffn_norm2")  # fmt: skip
    for name, layer in block.named_modules():
        if name.endswith(ends):
            for parameter in layer.parameters(recurse=True):
                nn.init.zeros_(parameter)


def measurement(kind, pools, **changes):
    settings = {"prompts": pools / ("classes.txt" if kind == "dit" else "prompts.txt"), "count": 4, "steps": 2}
    return Measurement(**(settings | {"guidance": 2.0} | SIZED.get(kind, {}) | changes))


def rows_of(record):
    return {(row["list"], row["block"]): row for row in record["rows"]}


@pytest.mark.parametrize("by", ["similarity", "recoverability"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_block_that_does_nothing_goes_first(kind, by, planted, pools, tmp_path):
    folder, useless = planted(kind)
    model = open_model(folder)
    total = Counts.of(family_of(type(model)), public(model.config), None, None).total
    keep = {"keep": total["blocks"] - 1}
    if "single_blocks" in total:
        keep["keep_single"] = total["single_blocks"] - 1
    record = prune(folder, tmp_path / "s", by=by, measurement=measurement(kind, pools), **keep)
    choice = record["blocks"]["choice"]
    for row in choice["rows"]:
        assert (row["removed"] is not None) == (useless.get(row["list"]) == row["block"]), row
    for name, block in useless.items():
        row = rows_of(choice)[name, block]
        assert row["similarity"] == pytest.approx(1, abs=1e-6)
        if by == "recoverability":
            assert row["error_skipped"] == 0 == row["error_repaired"]
    assert choice["student_error"] == 0
    left = [block for block in range(total["blocks"]) if block != useless["blocks"]]
    assert record["blocks"]["kept"] == left
    assert type(open_model(tmp_path / "s")) is type(model)


def output_of(model, kwargs):
    """The model's output; some models return a list of images."""
    output = model(**kwargs).sample
    return torch.stack(output) if isinstance(output, list) else output


@pytest.mark.parametrize("kind", list(ALL))
def test_a_probe_that_skips_makes_the_model_without_the_block(kind):
    teacher, own = small(kind), family(kind)
    single = own.single_layers in teacher.config
    singles = [0, 1, 2, 4, 6] if single else None
    plan = plan_transformer(own, public(teacher.config), blocks=[0, 2, 4], single_blocks=singles)
    student, _ = build_student(plan, teacher)
    kwargs = inputs(kind, plan.config)
    with torch.no_grad():
        expected, whole = output_of(student.eval(), kwargs), output_of(teacher, kwargs)
        with probed(teacher, own) as probes:
            assert torch.equal(output_of(teacher, kwargs), whole)
            gone = [("blocks", 1), ("blocks", 3)] + [("single_blocks", n) for n in (3, 5) if single]
            for place in gone:
                probes[place].how = "watch"
            assert torch.equal(output_of(teacher, kwargs), whole)
            for place in gone:
                probes[place].how = "skip"
            assert torch.equal(output_of(teacher, kwargs), expected)
        assert torch.equal(output_of(teacher, kwargs), whole)
        assert not [name for name, _ in teacher.named_modules() if name.endswith(".block")]


def test_the_model_is_as_it_was_after_an_error():
    teacher = small("dit")
    before = dict(teacher.named_modules())
    with pytest.raises(RuntimeError, match="stop"), probed(teacher, family("dit")):
        raise RuntimeError("stop")
    assert dict(teacher.named_modules()) == before


def test_the_repair_is_a_ridge_regression():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(50, 3, generator=generator) * torch.tensor([1.0, 100.0, 0.01]) + torch.tensor([1e4, 0.0, 1.0])
    y = x + x @ torch.randn(3, 3, generator=generator) + 2 + torch.randn(50, 3, generator=generator)
    moments = Moments()
    for part in (slice(0, 20), slice(20, 50)):
        moments.add(x[part], y[part])
    repair = moments.solve(strength=0.1)
    centred = x.double() - x.double().mean(0)
    change = (y - x).double()
    covariance = centred.T @ centred / 50
    weight = torch.linalg.solve(covariance + 0.1 * covariance.diagonal().diag(), centred.T @ change / 50)
    expected = x + centred @ weight + change.mean(0)
    assert torch.allclose(repair(x).double(), expected, rtol=1e-4, atol=1e-2)


def test_channels_and_blocks_that_are_constant_are_no_obstacle():
    moments = Moments()
    moments.add(torch.ones(4, 2), torch.tensor([[3.0, 1.0]]).expand(4, 2))
    assert torch.allclose(moments.solve()(torch.ones(2)), torch.tensor([3.0, 1.0]))


def test_a_linear_block_is_found_recoverable_although_it_is_not_similar(pixart_folder, tmp_path, pools):
    """A block that turns its input around is missed when it is skipped, and a map replaces it entirely."""
    model, how = open_model(pixart_folder), measurement("pixart", pools, count=8)

    class Mirror(nn.Module):
        def forward(self, hidden_states, **kwargs):
            return -hidden_states.flip(-1)

    model.transformer_blocks[2] = Mirror()
    own, taken = family_of(type(model)), sample(pixart_folder, model, how, 0)
    counts = Counts.of(own, public(model.config), 3, None)
    by_map = by_measuring(own, counts, "recoverability", taken, how)
    assert by_map.kept == {"blocks": [0, 1, 3]}
    row = rows_of(by_map.record)["blocks", 2]
    assert row["error_repaired"] < 0.1 * row["error_skipped"]
    assert by_measuring(own, counts, "similarity", taken, how).kept["blocks"] != [0, 1, 3]


def test_errors_are_of_one_half_with_maps_of_the_other(pixart_folder, pools):
    """A map that only its own half could have needed does not help."""
    model, how = open_model(pixart_folder), measurement("pixart", pools)
    own = family_of(type(model))
    taken = sample(pixart_folder, model, how, 0)
    assert {batch.half for batch in taken.batches} == {0, 1}
    with probed(model, own) as probes:
        probe = probes["blocks", 1]
        probe.how = "watch"
        evaluated(taken, probe)
        probe.fit()
        evaluated(taken, probe)
        counted = [dict(half) for half in probe._moments]
        probe.repair()
        for half in (0, 1):
            found, expected = probe._maps[half]["hidden_states"], counted[1 - half]["hidden_states"].solve()
            assert torch.equal(found.weight, expected.weight)
            assert not torch.equal(found.weight, counted[half]["hidden_states"].solve().weight)


def evaluated(taken, probe):
    with torch.no_grad():
        for batch in taken.batches:
            probe.passing = batch.half
            taken.evaluate(taken.model, batch.noisy, batch.timestep, batch.condition)


def test_noise_levels_are_spread_over_the_schedule(sd3_folder, pools):
    taken = sample(sd3_folder, open_model(sd3_folder), measurement("sd3", pools, count=5), 0)
    levels = torch.cat([batch.timestep for batch in taken.batches]).sort().values
    assert levels.tolist() == [25 + 50 * place for place in range(20)] and taken.images == 5
    assert all(len(next(iter(batch.condition.values()))) == len(batch.noisy) for batch in taken.batches)


@pytest.mark.parametrize("one_pass", [False, True], ids=["greedy", "one-pass"])
def test_the_same_command_chooses_the_same(flux_folder, pools, tmp_path, one_pass):
    how = measurement("flux", pools, one_pass=one_pass)
    keep = {"keep": 1, "keep_single": 2, "by": "recoverability", "measurement": how}
    records = []
    for name in "ab":
        torch.manual_seed(len(records))
        records.append(prune(flux_folder, tmp_path / name, **keep)["blocks"])
    assert records[0] == records[1]
    order = sorted(row["removed"] for row in records[0]["choice"]["rows"] if row["removed"])
    assert order == [1, 2, 3]
    assert [len(records[0][name]) for name in ("kept", "kept_single")] == [1, 2]
    assert records[0]["choice"]["student_error"] > 0
    other = prune(flux_folder, tmp_path / "c", seed=1, **keep)["blocks"]["choice"]
    assert other["rows"] != records[0]["choice"]["rows"]


def test_one_pass_and_greedy_measure_the_same_at_first(pixart_folder, pools, tmp_path):
    def chosen(name, **how):
        found = prune(pixart_folder, tmp_path / name, keep=2, by="recoverability",
                      measurement=measurement("pixart", pools, **how))  # fmt: skip
        return rows_of(found["blocks"]["choice"])

    greedy, once = chosen("a"), chosen("b", one_pass=True)
    errors = {place: row["error_repaired"] for place, row in once.items()}
    assert errors == {place: row["error_repaired"] for place, row in greedy.items()}
    gone = sorted(errors, key=errors.get)[:2]
    assert [once[place]["removed"] for place in gone] == [1, 2] and greedy[gone[0]]["removed"] == 1


def test_the_student_has_the_error_that_is_recorded(sd3_folder, pools, tmp_path):
    how = measurement("sd3", pools)
    record = prune(sd3_folder, tmp_path / "s", keep=2, by="similarity", measurement=how)
    taken = sample(sd3_folder, open_model(sd3_folder), how, 0)
    student, error, power = open_model(tmp_path / "s"), 0.0, 0.0
    with torch.no_grad():
        for b in taken.batches:
            wanted, found = (taken.evaluate(m, b.noisy, b.timestep, b.condition) for m in (taken.model, student))
            error, power = error + float((found - wanted).square().sum()), power + float(wanted.square().sum())
    assert record["blocks"]["choice"]["student_error"] == pytest.approx(error / power, rel=1e-4)


def test_evenly_spaced_blocks(pixart_folder, flux_folder, sd3_folder, dit_folder, tmp_path):
    assert prune(pixart_folder, tmp_path / "a", keep=3)["blocks"]["kept"] == [0, 2, 3]
    assert prune(flux_folder, tmp_path / "b", keep_single=2)["blocks"] == {
        "preset": None, "kept": [0, 1], "kept_single": [0, 3], "choice": {"by": "position"}
    }  # fmt: skip
    for kind, stays in (("pixart", 0), ("dit", 0), ("sd3", 4)):
        own = family(kind)
        assert by_position(Counts.of(own, public(small(kind).config), 1, None)).kept == {"blocks": [stays]}


def run(teacher, output, *arguments):
    words = ["prune", "--pretrained_model_name_or_path", teacher, "--output_dir", output, *arguments]
    return CliRunner().invoke(main, list(map(str, words)))


def test_the_command_prints_what_was_measured(aura_folder, pools, tmp_path):
    measured = ["--prompts", pools / "prompts.txt", "--measure_on", 4, "--num_inference_steps", 2]
    arguments = ["--keep", 1, "--keep_single", 2, "--by", "recoverability", *measured]
    result = run(aura_folder, tmp_path / "s", *arguments)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split("  ")[0] == "block" and "error when skipped" in lines[0] and "error after repair" in lines[0]
    assert [line.split()[0] for line in lines[1:6]] == ["0", "1", "single", "single", "single"]
    fates = [line.split("  ")[-1] for line in lines[1:6]]
    assert sorted(fates[:2]) in (["kept", "removed 1."], ["kept", "removed 2."]) and fates[2:].count("kept") == 2
    assert lines[6].startswith("error of the student ") and lines[7] == "measured on 4 images at 4 noise levels each"
    other = run(aura_folder, tmp_path / "t", *arguments, "--json")
    record = json.loads(other.stdout)
    assert record["blocks"] == read_record(tmp_path / "s")["blocks"]


@pytest.mark.parametrize("kind", ["pixart", "wan"])
def test_images_of_a_cache(kind, request, pools, tmp_path):
    folder = request.getfixturevalue(f"{kind}_folder")
    sizes = [word for name, value in SIZED.get(kind, {}).items() for word in (FLAGS[name], value)]
    words = ["cache", "--pretrained_model_name_or_path", folder, "--prompts", pools / "prompts.txt", "--num_images", 5,
             "--num_inference_steps", 2, "--output_dir", tmp_path / "cache", *sizes]  # fmt: skip
    assert CliRunner().invoke(main, list(map(str, words))).exit_code == 0
    result = run(folder, tmp_path / "s", "--keep", 2, "--by", "recoverability", "--cache_dir", tmp_path / "cache",
                 *sizes, "--json")  # fmt: skip
    assert result.exit_code == 0, result.output
    choice = json.loads(result.stdout)["blocks"]["choice"]
    assert choice["images"] == 5 and sum(row["removed"] is None for row in choice["rows"]) == 2
    if sizes:
        wrong = run(folder, tmp_path / "t", "--keep", 2, "--by", "similarity", "--cache_dir", tmp_path / "cache")
        assert wrong.exit_code == 2 and "has latents of size" in wrong.output.splitlines()[-1]


def test_mistakes_are_one_line(pixart_folder, flux_folder, pools, tmp_path):
    teacher_unet(TWO_STAGES).save_pretrained(tmp_path / "unet")
    prompts, new = ("--prompts", pools / "prompts.txt"), tmp_path / "new"
    between = "must lie between 1 and the 4 blocks of this PixArtTransformer2DModel"
    measured = ("--keep", 2, "--by", "recoverability")
    cases = [
        ((pixart_folder, "--keep", 9), f"keep {between}, got 9"),
        ((pixart_folder, "--keep", 0), f"keep {between}, got 0"),
        ((flux_folder, "--keep_single", 5), "keep_single must lie between 1 and the 4 single blocks of this Flux"),
        ((pixart_folder, "--keep_single", 1), "keep_single is for transformers with single_transformer_blocks"),
        ((tmp_path / "unet", "--keep", 1), "keep is for transformers; this is a UNet2DConditionModel"),
        ((pixart_folder, "--keep", 2, "--preset", "half"), "keep chooses the blocks: give keep or preset, not both"),
        ((pixart_folder, "--keep", 2, "--blocks", "0,1"), "keep chooses the blocks: give keep or blocks, not both"),
        ((pixart_folder, "--by", "similarity", "--width", 0.5, *prompts), "give keep, how many that are"),
        ((pixart_folder, "--keep", 2, *prompts), "position measures nothing: prompts and cache_dir are for similarity"),
        ((pixart_folder, "--keep", 2, "--by", "similarity"), "give either prompts or cache_dir"),
        ((pixart_folder, *measured, "--prompts", tmp_path / "no.txt"), "no prompt file"),
        ((pixart_folder, *measured, "--prompts", pools / "empty.txt"), "holds no prompt"),
        ((pixart_folder, *measured, "--prompts", pools / "one.txt"), "one.txt holds one image or prompt to measure on"),
        ((pixart_folder, "--keep", 2, "--by", "similarity", "--cache_dir", tmp_path / "no"), "there is no cache"),
        ((pixart_folder / "transformer", "--keep", 2, "--by", "similarity", *prompts), "it has no model_index.json"),
    ]
    for (teacher, *arguments), sentence in cases:
        result = run(teacher, new, "--num_inference_steps", 2, *arguments)
        assert result.exit_code == 2, (arguments, result.output)
        *bars, line = result.output.splitlines()
        assert line.startswith("Error: ") and sentence in line and not [bar for bar in bars if "Error" in bar]
        assert not new.exists()


def test_outputs_that_are_not_finite_are_refused(pixart_folder, tmp_path, pools):
    shutil.copytree(pixart_folder, tmp_path / "teacher")
    model = open_model(tmp_path / "teacher")
    with torch.no_grad():
        model.proj_out.bias.fill_(float("nan"))
    model.save_pretrained(tmp_path / "teacher" / "transformer")
    how = measurement("pixart", pools)
    with pytest.raises(ValueError, match="float32, cannot be measured: its outputs are not finite"):
        prune(Path(tmp_path / "teacher"), tmp_path / "s", keep=2, by="similarity", measurement=how)
