"""Emoji: pictures, captions, what is withheld, teachers of four kinds, the judge, and the task as a whole."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import numpy
import pytest
import torch
from PIL import Image

from aria.checks import InvalidSetting
from aria.distill.data.images import read_images
from aria.distill.data.prompt_files import read_prompts
from aria.distill.models.pipelines import open_pipeline
from aria.integrity import Damaged
from aria.tasks.emoji import Emoji, Pictures, Split, judge, train, words
from aria.tasks.emoji.kinds import KINDS
from aria.tasks.emoji.pictures import NAMES, PACKAGED, STYLES
from aria.tasks.emoji.recipe import RECIPES, SMALL, TINY
from aria.tasks.emoji.split import WITHHELD
from aria.tasks.emoji.task import STUDENTS
from aria.tasks.emoji.teach import main


def quiet(label):
    return nullcontext(lambda done, total: None)


@pytest.fixture(scope="module")
def pictures():
    return Pictures()


@pytest.fixture(scope="module")
def split(pictures):
    return Split(pictures)


@pytest.fixture(scope="module")
def teachers(tmp_path_factory):
    """All kinds of teacher, tiny."""
    folder = tmp_path_factory.mktemp("emoji") / "teachers"
    assert main(["--preset", "tiny", "--output_dir", str(folder)]) == 0
    return folder


# ----------------------------------------------------------------------------------------------------------- pictures


def test_every_picture_has_a_caption_of_its_own(pictures):
    assert len(set(pictures.names)) == len(pictures) == len(pictures.pixels())
    assert Counter(pictures.style) == {0: 3781, 1: 3781, 2: 3139}
    assert set(pictures.category) == set(judge.CATEGORIES)
    assert all(name.startswith(f"a {STYLES[style]} emoji of ") for name, style in zip(pictures.names, pictures.style))


def test_pictures_are_cut_out_of_the_sheets_in_order(pictures):
    red = pictures.names.index("a twemoji emoji of red square")
    inside = pictures.pixels()[red][:, 12:20, 12:20].float().mean((1, 2))
    assert inside[0] > 200 and inside[1:].max() < 100
    last = pictures.pixels()[pictures.names.index("a fluent emoji of pirate flag")].float()
    assert 20 < last.mean() < 200
    images = pictures.images()
    assert -1 <= images.amin() < -0.9 and images.amax() == 1


def test_captions_of_tags_are_of_pictures_that_differ_in_more_than_skin_tone(pictures):
    tagged = [row for row, caption in enumerate(pictures.tagged) if caption]
    assert len(tagged) > 4000 and not any("skin tone" in pictures.names[row] for row in tagged)
    assert pictures.tagged[0] == "a noto emoji about cheerful, cheery, face"


@pytest.mark.parametrize("damage, message", [("no names", "no folder of emoji"), ("size", "must have 2048 ×"),
                                             ("junk", "cannot be read"), ("fields", "line 1: concept is missing"),
                                             ("no json", "line 1: no JSON")])  # fmt: skip
def test_other_folders_are_refused(tmp_path, damage, message):
    folder = tmp_path / "pictures"
    shutil.copytree(PACKAGED, folder, ignore=shutil.ignore_patterns("teachers"))
    if damage == "no names":
        (folder / NAMES).unlink()
    elif damage in ("fields", "no json"):
        (folder / NAMES).write_text('{"name": "owl"}\n' if damage == "fields" else "owl\n")
    elif damage == "size":
        Image.new("RGB", (2048, 32)).save(folder / "noto.webp", lossless=True)
    else:
        (folder / "noto.webp").write_bytes(b"RIFF")
    with pytest.raises(ValueError, match=message):
        Pictures(folder).pixels()


# ------------------------------------------------------------------------------------------------------------ captions


def test_groups_share_the_pool_by_frequency_and_by_what_is_withheld(split):
    groups = split.groups(1500)
    assert all(float(share.sum()) == pytest.approx(1) for share in groups.values())
    sizes = Counter(split.cell)
    frequency = torch.tensor([sizes[cell] for cell in split.cell])
    assert frequency[split.frequent == 0].min() >= frequency[split.frequent == 1].max()
    assert frequency[split.frequent == 1].min() >= frequency[split.frequent == 2].max()
    assert 0.5 <= float((split.frequent == 0).double().mean()) < 0.55
    assert 0.15 < float((split.frequent == 2).double().mean()) <= 0.2
    by_cell = Counter()
    for cell, share in zip(split.cell, groups["cells"].tolist(), strict=True):
        by_cell[cell] += share
    assert all(share == pytest.approx(1 / len(sizes)) for share in by_cell.values())


def test_cells_are_withheld_whole_and_concepts_in_one_style(split):
    whole = {cell for cell, kind in zip(split.cell, split.withheld.tolist(), strict=True) if kind == 2}
    assert all(kind == 2 for cell, kind in zip(split.cell, split.withheld.tolist(), strict=True) if cell in whole)
    assert 0.1 < len(whole) / len(set(split.cell)) < 0.3
    alone = {(split.pictures.concept[row], split.pictures.style[row])
             for row, kind in zip(split.rows, split.withheld.tolist(), strict=True) if kind == 1}  # fmt: skip
    assert len({concept for concept, _ in alone}) == len(alone) > 100
    assert not any(kind == 0 and (split.pictures.concept[row], split.pictures.style[row]) in alone
                   for row, kind in zip(split.rows, split.withheld.tolist(), strict=True))  # fmt: skip


def test_what_is_withheld_does_not_depend_on_the_pool(split):
    smaller = Split(split.pictures, 500)
    kinds = dict(zip(split.rows, split.withheld.tolist(), strict=True))
    fewer = dict(zip(smaller.rows, smaller.withheld.tolist(), strict=True))
    shared = kinds.keys() & fewer.keys()
    assert len(shared) > 100 and all(kinds[row] == fewer[row] for row in shared)
    with pytest.raises(InvalidSetting, match="captions must be at most"):
        Split(split.pictures, 10**6)


def test_the_evaluation_represents_the_pool(split):
    rows, stands = split.asked(240)
    assert len(set(rows.tolist())) == len(rows) and abs(len(rows) - 240) < 9
    assert float(stands.sum()) == pytest.approx(len(split))
    for name, share in split.groups(1500).items():
        asked = float((share[rows] * stands).sum())
        estimated = name in ("cells", "shown")  # all others are unions of what is drawn from
        assert asked == pytest.approx(1, abs=0.25 if estimated else 1e-9), name


def test_what_is_shown_is_never_withheld_and_grows_with_the_number_of_pictures(split):
    few, many = (split.shown(count).tolist() for count in (150, 1500))
    assert few == many[:150] and len(set(many)) == 1500 and not split.withheld[many].any()
    assert set(split.groups(150)["shown"].nonzero()[:, 0].tolist()) == set(few)


# --------------------------------------------------------------------------------------------------------- tokenizers


def test_captions_fit_into_the_tokens_there_are(pictures):
    texts = sorted({*pictures.names, *filter(None, pictures.tagged)})
    clip, t5 = words.clip(texts), words.t5(texts)
    assert max(len(ids) for ids in clip(texts)["input_ids"]) < words.LENGTH
    assert t5.tokenize("a noto emoji of owl, medium-light") == [
        "▁a", "▁noto", "▁emoji", "▁of", "▁owl", ",", "▁medium", "-", "light"
    ]  # fmt: skip
    assert t5.unk_token_id not in {token for ids in t5(texts)["input_ids"] for token in ids}
    assert clip("zzz qqq")["input_ids"] and len(clip) == words.SIZE


# ------------------------------------------------------------------------------------------------------------- teachers


@pytest.mark.parametrize("name", KINDS)
def test_a_teacher_is_a_pipeline_that_reads_captions_as_it_was_trained(teachers, tmp_path, name):
    train.assemble(teachers, name, tmp_path / "teacher")
    pipeline = open_pipeline(tmp_path / "teacher")
    kind, _ = TINY.kinds[name]
    tokenizers = {key: part for key, part in pipeline.components.items() if key.startswith("tokenizer") and part}
    models = {key: part for key, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    texts = ["a noto emoji of owl", "a fluent emoji of women holding hands, medium-light skin tone", ""]
    with torch.no_grad():
        trained = kind.condition(models, kind.tokens(tokenizers, texts))
    read = kind.denoiser.encode(pipeline, texts, "cpu")
    assert trained.keys() == read.keys()
    noisy, timestep = torch.randn(3, 8, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([3, 500, 999])
    outputs = [kind.denoiser(models[kind.component], noisy, timestep, one) for one in (trained, read)]
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(outputs[0][0], kind.denoiser(models[kind.component], noisy, timestep, {
        key: value.flip(0) for key, value in read.items()
    })[0])  # fmt: skip
    made = kind.denoiser.generate(pipeline, read, kind.denoiser.null(pipeline, "cpu"), noisy, steps=2, guidance=2.0)
    assert kind.denoiser.decode(pipeline, made).shape == (3, 3, 32, 32)


def test_pictures_of_concepts_with_many_are_shown_less_often(pictures):
    weight = train.shown(pictures, 0.5)
    keys = list(zip(pictures.concept, pictures.style, strict=True))
    one, many = keys.index(("owl", 0)), keys.index(("waving hand", 0))
    assert float(weight[one]) == 1 and float(weight[many]) == pytest.approx(6**-0.5)
    assert set(train.shown(pictures, 0.0).tolist()) == {1.0}


def test_finished_parts_are_not_trained_again_and_other_recipes_are_refused(teachers, pictures, monkeypatch):
    monkeypatch.setattr(train, "trained", lambda *args: pytest.fail("trained again"))
    before = {path: path.stat().st_mtime_ns for path in teachers.rglob("*.safetensors")}
    for name in KINDS:
        train.make_teacher(teachers, name, TINY, pictures, bar=quiet)
    train.make_judge(teachers, TINY, pictures, bar=quiet)
    assert {path: path.stat().st_mtime_ns for path in teachers.rglob("*.safetensors")} == before
    with pytest.raises(InvalidSetting, match="made by another recipe"):
        train.make_teacher(teachers, "unet-v", SMALL, pictures, bar=quiet)
    assert not list(teachers.glob(".training/*"))


def test_damaged_weights_are_refused_and_change_the_identity(teachers, tmp_path, pictures):
    folder = tmp_path / "teachers"
    shutil.copytree(teachers, folder)
    assert train.fingerprint(folder, "unet-v") == train.fingerprint(teachers, "unet-v") != ""
    weights = folder / "unet-v" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(Damaged, match="does not match its hash"):
        train.check(folder, "unet-v", TINY, pictures.digest())
    assert train.fingerprint(folder, "nothing") == ""


def test_the_judges_held_out_concepts_are_held_out_in_all_styles_and_tones(pictures):
    out = train.held_out(pictures)
    kept = {concept for concept, is_out in zip(pictures.concept, out.tolist(), strict=True) if not is_out}
    assert 0.05 < float(out.double().mean()) < 0.15
    assert not any(concept in kept for concept, is_out in zip(pictures.concept, out.tolist(), strict=True) if is_out)


def test_an_edited_recipe_is_refused(teachers, tmp_path, pictures):
    folder = tmp_path / "teachers"
    shutil.copytree(teachers, folder)
    record = folder / "unet-v" / train.RECORD
    record.write_text(record.read_text().replace(TINY.digest("unet-v", pictures.digest()), "0" * 16))
    with pytest.raises(Damaged):
        train.check(folder, "unet-v", TINY, pictures.digest())


def test_a_stopped_training_goes_on(tmp_path, pictures, monkeypatch):
    def stop(vae, images):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(train, "latents", stop)
        with pytest.raises(KeyboardInterrupt):
            train.make_autoencoder(tmp_path, TINY, pictures, bar=quiet)
    steps = []
    counted = nullcontext(lambda done, total: steps.append(done))
    train.make_autoencoder(tmp_path, TINY, pictures, bar=lambda label: counted)
    assert steps == []  # all steps were done before the stop
    assert train.open_autoencoder(tmp_path).config.scaling_factor > 0


def test_the_command_refuses_pictures_of_another_size(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--preset", "full", "--output_dir", str(tmp_path)])
    assert "needs pictures of 64 pixels a side" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------------ the task


@pytest.fixture(scope="module")
def task(teachers):
    return Emoji("joint-attention", "strong", images=30, captions=300, asked=40, steps=2, preset="tiny",
                 teachers=str(teachers))  # fmt: skip


@pytest.fixture(scope="module")
def place(task, tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    task.prepare(folder, quiet, "cpu")
    return folder


def test_the_student_sees_nothing_that_is_withheld(task, place):
    prompts = read_prompts(place / "prompts.jsonl")
    assert list(prompts.texts) == list(task.split.captions) and list(prompts.columns["cell"]) == list(task.split.cell)
    kinds = dict(zip(task.split.captions, task.split.withheld.tolist(), strict=True))
    lines = [json.loads(line) for line in (place / "images" / "metadata.jsonl").read_text("utf-8").splitlines()]
    assert len({line["prompt"] for line in lines}) == 30 and all(kinds[line["prompt"]] == 0 for line in lines)
    assert len(read_images(place / "images")) == 30
    with Image.open(place / "images" / lines[0]["file_name"]) as opened:
        first = torch.from_numpy(numpy.array(opened))
    row = task.split.rows[task.split.captions.index(lines[0]["prompt"])]
    assert torch.equal(first.permute(2, 0, 1), task.split.pictures.pixels()[row])


def test_without_pictures_the_teacher_makes_them_of_captions_that_are_not_withheld(teachers, tmp_path, monkeypatch):
    monkeypatch.setattr(Emoji, "images", 12)
    task = Emoji("unet-v", images=0, captions=60, asked=9, steps=1, preset="tiny", teachers=str(teachers))
    task.prepare(tmp_path, quiet, "cpu")
    kinds = dict(zip(task.split.captions, task.split.withheld.tolist(), strict=True))
    lines = [json.loads(line) for line in (tmp_path / "images" / "metadata.jsonl").read_text("utf-8").splitlines()]
    assert len(lines) == 12 and all(kinds[line["prompt"]] == 0 for line in lines)
    with Image.open(tmp_path / "images" / lines[0]["file_name"]) as opened:
        made = torch.from_numpy(numpy.array(opened)).permute(2, 0, 1)
    row = task.split.rows[task.split.captions.index(lines[0]["prompt"])]
    assert not torch.equal(made, task.split.pictures.pixels()[row])


@pytest.mark.parametrize("name", KINDS)
def test_students_of_every_kind_are_smaller(teachers, tmp_path, name):
    sizes = {}
    for student in STUDENTS[name]:
        task = Emoji(name, student, images=3, captions=50, asked=9, preset="tiny", teachers=str(teachers))
        if student == "narrow" and name.startswith("unet"):
            continue  # the tiny UNet cannot be narrowed
        folder = tmp_path / student
        task.prepare(folder, quiet, "cpu")
        record = json.loads((folder / "student" / "student.json").read_text())
        sizes[student] = record["parameters"]["student"] / record["parameters"]["teacher"]
    assert max(sizes.values()) < 1 and sizes["strong"] < sizes["mild"]


@pytest.mark.parametrize("name", ["unet-epsilon", "unet-v"])
def test_the_packages_unets_can_be_narrowed(tmp_path, name):
    Emoji(name, "narrow", images=3, captions=50, asked=9).prepare(tmp_path, quiet, "cpu")
    parameters = json.loads((tmp_path / "student" / "student.json").read_text())["parameters"]
    assert 0.2 < parameters["student"] / parameters["teacher"] < 0.3


def test_questions_have_shares_in_every_group(task):
    questions = task.questions(Path())
    assert set(questions.groups) == set(task.split.groups(30))
    assert {*WITHHELD[1:], "shown", "unseen", "uniform", "cells", "tail"} - set(questions.groups) == set()
    assert all(float(share.sum()) == pytest.approx(1) for share in questions.groups.values())


def test_bad_settings_are_one_line(teachers, tmp_path):
    with pytest.raises(InvalidSetting, match="teacher must be 'unet-epsilon'"):
        Emoji("unet")
    with pytest.raises(InvalidSetting, match="student must be 'mild'"):
        Emoji(student="tiny")
    with pytest.raises(InvalidSetting, match="give the folder of yours"):
        Emoji(preset="full")
    with pytest.raises(InvalidSetting, match="teach makes it"):
        Emoji(preset="tiny", teachers=str(tmp_path)).check()
    with pytest.raises(InvalidSetting, match="another recipe"):
        Emoji(teachers=str(teachers)).check()
    with pytest.raises(InvalidSetting, match="images must be at most"):
        Emoji("unet-v", images=10_000, preset="tiny", teachers=str(teachers)).check()


def test_the_identity_changes_with_what_the_teacher_was_made_of(task):
    assert Emoji().identity() != Emoji("unet-epsilon").identity() != task.identity()
    assert RECIPES["tiny"].digest("unet-v", "a") != RECIPES["tiny"].digest("unet-v", "b")


# -------------------------------------------------------------------------------------------- what comes in the package


@pytest.mark.parametrize("part", [train.AUTOENCODER, train.JUDGE, *KINDS])
def test_the_packages_teachers_were_made_by_its_recipe(part, pictures):
    assert train.check(train.TEACHERS, part, SMALL, pictures.digest())


def test_the_package_stays_small_and_its_sources_are_named():
    size = sum(path.stat().st_size for path in PACKAGED.rglob("*") if path.is_file())
    assert size <= 25e6, size
    notice = (Path(__file__).resolve().parents[2] / "NOTICE").read_text(encoding="utf-8")
    assert all(f"{style}.webp" in notice for style in STYLES) and NAMES in notice


def test_the_judge_reads_real_pictures(pictures):
    rows = train.held_out(pictures).nonzero()[:, 0]
    found = judge.marks(
        train.open_judge(train.TEACHERS, SMALL), pictures.images()[rows], *judge.truths(pictures, rows.tolist())
    )
    assert float(found["style"].mean()) > 0.9 and float(found["category"].mean()) > 0.8
