"""A cache follows its prompts file: existing rows are kept, and only new ones are encoded and sampled."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aria import files, integrity, progress
from aria.checks import InvalidSetting
from aria.distill.data import Conditions, cache
from aria.distill.data.latents import Latents
from aria.distill.data.store import Store
from aria.distill.data.table import Table
from aria.distill.models import denoisers
from aria.distill.models.denoisers import StableDiffusion
from aria.distill.models.pipelines import open_pipeline
from aria.tensor_files import map_tensors, write_tensors

ROOT = Path(__file__).resolve().parents[3]
FIRST = ["a cat", "a dog", "a fox", "an owl", "a bee"]


@pytest.fixture(scope="module")
def pipeline(sd_folder):
    return open_pipeline(sd_folder)


@pytest.fixture
def fill(pipeline, tmp_path, monkeypatch):
    """Fills a cache with prompts; the texts that the encoder was given and the images made are in ``fill.encoded`` and
    ``fill.made``."""
    encode, generate = StableDiffusion.encode, StableDiffusion.generate

    def encoded(self, pipeline, texts, device):
        filled.encoded += texts
        return encode(self, pipeline, texts, device)

    def generated(self, pipeline, condition, null, noise, **options):
        filled.made += len(noise)
        return generate(self, pipeline, condition, null, noise, **options)

    monkeypatch.setattr(StableDiffusion, "encode", encoded)
    monkeypatch.setattr(StableDiffusion, "generate", generated)

    def filled(prompts, images=0, **options):
        rows = [row if isinstance(row, dict) else {"text": row} for row in prompts]
        (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        filled.encoded, filled.made = [], 0
        options = {"num_images": images, "steps": 1, "dtype": "fp32"} | options
        return cache.fill(
            tmp_path / "c", pipeline, prompts=tmp_path / "prompts.jsonl", bar=progress.silent, **options
        )

    return filled


def opened(tmp_path):
    return Conditions(tmp_path / "c" / "conditions"), Latents(tmp_path / "c" / "latents")


def test_images_are_not_read_with_the_prompts_of_another_process(fill, tmp_path):
    """Conditions of the one, images of the other: every mixture is refused, of any length."""
    fill(FIRST, images=4)
    before, images = opened(tmp_path)
    images.check_prompts(before)
    for other in (FIRST[::-1], FIRST[1:2], [*FIRST[1:], "a gnu"]):
        fill(other, images=4)
        after, again = opened(tmp_path)
        again.check_prompts(after)
        for conditions, shown in ((before, again), (after, images)):
            with pytest.raises(ValueError, match="is matched with other prompts than"):
                shown.check_prompts(conditions)


def test_prompts_other_than_expected_are_refused_before_anything_is_written(fill, tmp_path):
    digest = fill(FIRST, images=2)["prompts"]["digest"]
    fill(FIRST, images=2, digest=digest)
    before = {path: path.read_bytes() for path in (tmp_path / "c").rglob("*") if path.is_file()}
    with pytest.raises(InvalidSetting, match="holds other prompts than this run was started with"):
        fill(FIRST[::-1], images=2, digest=digest)
    assert before == {path: path.read_bytes() for path in (tmp_path / "c").rglob("*") if path.is_file()}


def test_whoever_fills_a_cache_waits_for_the_one_before(fill, tmp_path, caplog):
    fill(FIRST)
    done = []
    with files.lock(tmp_path / "c" / ".lock"):
        other = threading.Thread(target=lambda: done.append(fill([*FIRST, "a gnu"])))
        other.start()
        other.join(0.5)
        assert not done and f"waiting for the process that fills {tmp_path / 'c'}" in caplog.text
        assert len(Conditions(tmp_path / "c" / "conditions")) == len(FIRST)
    other.join(60)
    assert done[0]["conditions"]["rows"] == len(FIRST) + 1


def test_images_that_were_added_leave_the_first_ones_as_they_were(fill, tmp_path):
    fill(FIRST, images=3)
    before = opened(tmp_path)[1].gather(torch.arange(3))
    fill(FIRST, images=7)
    fill(FIRST, images=3)
    assert not fill.made and len(opened(tmp_path)[1]) == 7
    first = cache.opened(tmp_path / "c", resolution=None, source="samples", num_images=3)[1]
    assert len(first) == 3 and all(map(torch.equal, before, first.gather(torch.arange(3))))


ROWS = [{"text": text, "weight": 1, "kind": kind} for text, kind in (("a cat", "x"), ("a dog", "y"), ("an owl", "y"))]
OTHERS = {
    "texts": [*ROWS[:2], ROWS[2] | {"text": "a fox"}],
    "order": [ROWS[0], *ROWS[:0:-1]],
    "weights": [*ROWS[:2], ROWS[2] | {"weight": 2}],
    "no weights": [{"text": row["text"], "kind": row["kind"]} for row in ROWS],
    "a value": [*ROWS[:2], ROWS[2] | {"kind": "x"}],
    "values": [ROWS[0], *(row | {"kind": "z"} for row in ROWS[1:])],
    "another column": [row | {"more": None} for row in ROWS],
}


@pytest.mark.parametrize("what", OTHERS)
def test_the_digest_is_of_texts_weights_and_columns(what, fill, tmp_path):
    digest = fill(ROWS)["prompts"]["digest"]
    assert Conditions(tmp_path / "c" / "conditions").prompts.digest() == digest == fill(ROWS)["prompts"]["digest"]
    with pytest.raises(InvalidSetting, match="holds other prompts than this run was started with, or other weights"):
        fill(OTHERS[what], digest=digest)
    assert fill(OTHERS[what])["prompts"]["digest"] != digest


@pytest.mark.parametrize("spoil", ["without texts", "torn", "of fewer"])
def test_images_that_are_not_added_to_are_matched_again(spoil, fill, tmp_path):
    """Also where the file that matches them is of an earlier version, which had no texts in it."""
    fill(FIRST, 4)
    path = tmp_path / "c" / "latents" / "samples" / "served.safetensors"
    served = {name: x.clone() for name, x in map_tensors(path)[0].items()}
    if spoil == "torn":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        kept = {"row": 4, "condition": 4} if spoil == "without texts" else dict.fromkeys(served, 2)
        write_tensors(path, {name: [served[name][:n]] for name, n in kept.items()})
    assert fill(FIRST)["latents"]["rows"] == 4 and fill.made == 0
    after, _ = map_tensors(path)
    assert all(torch.equal(after[name], x) for name, x in served.items())


def images_by_text(conditions, latents):
    """The latents of each text, in the order in which they are served."""
    x0, index = latents.gather(torch.arange(len(latents)))
    found: dict[str, list] = {}
    for latent, i in zip(x0, index.tolist()):
        found.setdefault(conditions.prompts.texts[i], []).append(latent)
    return found


def check_embeddings(pipeline, conditions):
    texts = list(conditions.prompts.texts)
    direct = denoisers.of(pipeline).encode(pipeline, texts, "cpu")
    found = conditions.gather(torch.arange(len(texts)))
    torch.testing.assert_close(found["prompt_embeds"], direct["prompt_embeds"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("second", "new"),
    [
        ([*FIRST, "a cow", "an ape"], ["a cow", "an ape"]),
        (["a cow", *FIRST], ["a cow"]),
        (FIRST[::-1], []),
        (FIRST[2:], []),
        (["an owl", "a cow", "a cat", "a cat"], ["a cow"]),
        (["a cow"], ["a cow"]),
    ],
)
def test_only_new_texts_are_encoded(second, new, fill, pipeline, tmp_path):
    fill(FIRST)
    record = fill(second)
    assert fill.encoded == new
    conditions = Conditions(tmp_path / "c" / "conditions")
    assert list(conditions.prompts.texts) == second and len(conditions) == len(second)
    check_embeddings(pipeline, conditions)
    gone = len(set(FIRST) - set(second))
    assert record["conditions"]["unused"] == gone and record["conditions"]["distinct"] == len(set(second))


def test_weights_and_columns_follow_the_file(fill, tmp_path):
    fill([{"text": "a cat", "weight": 3, "kind": "x"}, {"text": "a dog", "weight": 1, "kind": "y"}])
    fill([{"text": "a dog", "weight": 5, "kind": "z"}, {"text": "a cat", "weight": 2, "kind": "x"}])
    pool = Conditions(tmp_path / "c" / "conditions").pool()
    assert pool.weight.tolist() == [5, 2] and list(pool.column("kind")) == ["z", "x"] and not fill.encoded


def test_images_of_prompts_that_are_still_there_are_kept(fill, tmp_path):
    fill(FIRST, 5)
    before = images_by_text(*opened(tmp_path))
    assert sorted(before) == sorted(FIRST)
    fill(["a cow", *FIRST[:0:-1]], 5)  # "a cat" is gone, the others are reordered
    conditions, latents = opened(tmp_path)
    after = images_by_text(conditions, latents)
    assert fill.made == 1 and len(latents) == 5 and sorted(after) == sorted(["a cow", *FIRST[1:]])
    for text in FIRST[1:]:
        assert torch.equal(after[text][0], before[text][0])


def test_images_of_removed_prompts_are_dropped_where_no_images_are_needed(fill, tmp_path):
    fill(FIRST, 5)
    before = images_by_text(*opened(tmp_path))
    record = fill(FIRST[3:])
    after = images_by_text(*opened(tmp_path))
    assert fill.made == 0 and sorted(after) == sorted(FIRST[3:]) and record["latents"]["rows"] == 2
    assert all(torch.equal(after[text][0], before[text][0]) for text in FIRST[3:])


def test_a_file_that_is_restored_restores_the_cache_bit_for_bit(fill, tmp_path):
    """So a run can be resumed after its prompts file was changed and restored."""
    fill(FIRST, 7)
    conditions, latents = opened(tmp_path)
    rows = torch.arange(7)
    embeddings, (x0, index) = conditions.gather(torch.arange(5)), latents.gather(rows)
    fill([*FIRST[2:], "a cow", "an ape"], 9)
    fill(FIRST[4:], 3)
    fill(FIRST, 7)
    assert not fill.encoded and not fill.made
    conditions, latents = opened(tmp_path)
    again, at = latents.gather(rows)
    assert torch.equal(again, x0) and torch.equal(at, index)
    assert torch.equal(conditions.gather(torch.arange(5))["prompt_embeds"], embeddings["prompt_embeds"])


def test_equal_prompts_keep_their_own_images(fill, tmp_path):
    """They may have other weights and columns, so an unchanged file leaves each image with its own."""
    texts = ["a cat", "a dog", "a cat", "a cat"]
    fill(texts, 4)
    first = opened(tmp_path)[1].conditions()
    fill(texts, 6)
    conditions = opened(tmp_path)[1].conditions()
    assert fill.made == 2 and torch.equal(conditions[:4], first) and sorted(first.tolist()) == [0, 1, 2, 3]
    fill(["a dog", "a cat"], 2)
    assert fill.made == 0 and sorted(Latents(tmp_path / "c/latents", num_images=2).conditions().tolist()) == [0, 1]


def test_images_of_a_folder_follow_their_captions(fill, tmp_path):
    from PIL import Image

    (tmp_path / "data").mkdir()
    for name, caption in (("a", "a dog"), ("b", "a hen")):
        Image.new("RGB", (20, 20), "red" if name == "a" else "blue").save(tmp_path / "data" / f"{name}.png")
        (tmp_path / "data" / f"{name}.txt").write_text(caption)
    fill(FIRST, data=tmp_path / "data")
    before = images_by_text(*opened(tmp_path))
    fill(["an ape", *FIRST[::-1]], data=tmp_path / "data")
    after = images_by_text(*opened(tmp_path))
    assert sorted(before) == sorted(after) == ["a dog", "a hen"]
    assert all(torch.equal(after[text][0], before[text][0]) for text in before)
    (tmp_path / "data" / "a.txt").write_text("a fox")
    fill(["an ape", *FIRST[::-1]], data=tmp_path / "data")
    assert torch.equal(images_by_text(*opened(tmp_path))["a fox"][0], before["a dog"][0])
    fill(["a hen", "an ape"])  # without the folder its captions do not join the pool
    assert sorted(images_by_text(*opened(tmp_path))) == ["a hen"]


def test_a_cache_without_any_image_left_is_refused(fill, tmp_path):
    fill(FIRST, 5)
    with pytest.raises(ValueError, match="has no image of any prompt in the pool"):
        fill(["a cow"])
    fill(["a cow"], 1)
    assert sorted(images_by_text(*opened(tmp_path))) == ["a cow"]


def test_a_cache_of_an_earlier_version_is_refused(fill, tmp_path):
    fill(FIRST, 2)
    for folder in ("conditions", "latents/samples"):
        path = tmp_path / "c" / folder / "index.json"
        index = integrity.read(path)
        del index["fingerprint"]["cache format"]
        integrity.write(path, index)
    with pytest.raises(ValueError, match="was made with cache format = None, this is 2: use another folder"):
        fill(FIRST, 2)


@pytest.mark.parametrize("residency", ["device", "pinned", "disk"])
def test_rows_of_removed_prompts_are_not_loaded(residency, fill, tmp_path):
    fill(FIRST)
    whole = Conditions(tmp_path / "c" / "conditions").gather(torch.arange(5))["prompt_embeds"]
    fill(["an owl", "a cat"])
    conditions = Conditions(tmp_path / "c" / "conditions", residency=residency)
    assert len(conditions.store) == 5 and conditions.table.nbytes == conditions.store.row_bytes(["prompt_embeds"]) * 2
    assert torch.equal(conditions.gather(torch.tensor([0, 1]))["prompt_embeds"], whole[[3, 0]])


@settings(max_examples=25)
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=12),
    st.integers(1, 9),
    st.sampled_from(["device", "pinned", "disk"]),
)
def test_a_table_serves_the_rows_and_values_of_its_entries(tmp_path_factory, row, shard, residency):
    from aria.distill.data.store import Writer

    folder = tmp_path_factory.mktemp("table")
    x = torch.arange(14.0).view(7, 2)
    with Writer(folder, {}, 7, shard_bytes=8 * shard) as writer:
        for i in range(7):
            writer.append({"x": x[i : i + 1]})
    entries = {"value": torch.arange(len(row)) * 10}
    table = Table(Store(folder), row=torch.tensor(row), entries=entries, residency=residency)
    index = torch.arange(len(row)).flip(0)
    for found in (table.gather(index), table.prefetch(index).result()):
        assert torch.equal(found["x"], x[torch.tensor(row)[index]]) and torch.equal(found["value"], index * 10)
    table.close()


# --------------------------------------------------------------------------------------------------------------- kills

KILLED = """
import os, shutil, signal, sys
from pathlib import Path
import torch
from aria import progress
from aria.distill.data import Conditions, cache
from aria.distill.data.latents import Latents
from aria.distill.models.pipelines import open_pipeline

torch.set_num_threads(1)
teacher, place = sys.argv[1], Path(sys.argv[2])
pipeline = open_pipeline(teacher)
BEFORE, AFTER = ["a cat", "a dog", "a fox", "an owl"], ["a cow", "an owl", "an ape", "a dog", "a fox"]

def fill(folder, texts, images):
    (place / "prompts.txt").write_text("\\n".join(texts))
    cache.fill(folder, pipeline, prompts=place / "prompts.txt", bar=progress.silent, num_images=images, steps=1,
               dtype="fp32", batch_size=1)

def images(folder):
    conditions, latents = Conditions(folder / "conditions"), Latents(folder / "latents")
    x0, index = latents.gather(torch.arange(len(latents)))
    texts = list(conditions.prompts.texts)
    return texts, conditions.gather(torch.arange(len(texts)))["prompt_embeds"], [texts[i] for i in index], x0

fill(place / "base", BEFORE, 4)
shutil.copytree(place / "base", place / "whole")
fill(place / "whole", AFTER, 6)
old, new = images(place / "base"), images(place / "whole")
by_text = [*zip(old[2], old[3]), *zip(new[2], new[3])]
embedding = dict(zip(old[0], old[1])) | dict(zip(new[0], new[1]))
real, kills, refused, served = os.fsync, 0, 0, 0
while True:
    folder = place / f"killed-{kills}"
    shutil.copytree(place / "base", folder)
    child = os.fork()
    if not child:
        left = [kills]
        def sync(handle):
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            real(handle)
        os.fsync = sync
        fill(folder, AFTER, 6)
        os._exit(0)
    if os.waitpid(child, 0)[1] != signal.SIGKILL:
        break
    kills += 1
    try:  # either refused, or every text with its own embedding and every image with its own text
        texts, embeddings, shown, x0 = images(folder)
        assert texts in (BEFORE, AFTER)
        for text, x in zip(texts, embeddings):
            torch.testing.assert_close(x, embedding[text], rtol=1e-4, atol=1e-5)
        for text, x in zip(shown, x0):
            assert any(torch.allclose(x, y, rtol=1e-4, atol=1e-5) for name, y in by_text if name == text), text
        served += 1
    except ValueError as error:
        assert "unfinished" in str(error), error
        refused += 1
    fill(folder, AFTER, 6)
    texts, embeddings, shown, x0 = images(folder)
    assert texts == new[0] and shown == new[2], (shown, new[2])
    torch.testing.assert_close(embeddings, new[1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(x0, new[3], rtol=1e-4, atol=1e-5)
    assert not [*folder.glob("conditions/.*.part*"), *folder.glob("latents/*/.*.part*")]
print(kills, refused, served)
"""


def test_a_cache_killed_at_any_write_while_it_changes_ends_the_same(sd_folder, tmp_path):
    process = [sys.executable, "-c", KILLED, str(sd_folder), str(tmp_path)]
    ended = subprocess.run(process, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr[-3000:]
    kills, refused, served = map(int, ended.stdout.split()[-3:])
    assert kills > 20 and refused > 5 and served > 1
