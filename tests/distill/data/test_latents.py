"""Latents: the teacher's own samples whatever the batch or the kill, images through its autoencoder, and refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from aria.distill.data import Conditions, build_conditions, store
from aria.distill.data.images import pixels, read_images
from aria.distill.data.latents import Latents, encode_images, generator, sample_latents
from aria.distill.data.prompts import Prompts, Texts
from aria.distill.models import denoisers
from aria.distill.models.pipelines import open_pipeline

TEXTS = ["a cat", "a dog", "a fox", "an axolotl in a jar"]
INDEX = torch.tensor([2, 0, 3, 1, 2])


@pytest.fixture(scope="module", params=["sd_folder", "sdxl_folder"])
def teacher(request, tmp_path_factory):
    """A pipeline with its cached conditions."""
    return opened(request.getfixturevalue(request.param), tmp_path_factory.mktemp("conditions"))


@pytest.fixture(scope="module")
def sd(sd_folder, tmp_path_factory):
    return opened(sd_folder, tmp_path_factory.mktemp("conditions"))


def opened(path, folder):
    pipeline = open_pipeline(path)
    build_conditions(pipeline, denoisers.of(pipeline), Prompts(Texts.of(TEXTS)), folder, dtype=torch.float32)
    return pipeline, Conditions(folder)


def sample(teacher, folder, indices=INDEX, **options):
    pipeline, conditions = teacher
    kwargs = {"steps": 2, "guidance": 3.0, "seed": 5, "batch_size": 2, "dtype": torch.float32} | options
    sample_latents(pipeline, denoisers.of(pipeline), conditions, indices, folder, **kwargs)
    return Latents(folder)


def everything(latents):
    return latents.gather(torch.arange(len(latents)))


def test_samples_are_what_the_pipeline_makes(teacher, tmp_path):
    pipeline, _ = teacher
    x0, condition = everything(sample(teacher, tmp_path))
    assert torch.equal(condition, INDEX)
    noise = torch.stack([torch.randn(4, 8, 8, generator=generator(5, row)) for row in range(5)])
    prompts = [TEXTS[i] for i in INDEX]
    kwargs = {"num_inference_steps": 2, "guidance_scale": 3.0, "output_type": "latent", "return_dict": False}
    torch.testing.assert_close(x0, pipeline(prompts, latents=noise, **kwargs)[0], rtol=1e-4, atol=1e-4)


def test_neither_batches_nor_kills_change_an_image(sd, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "SHARD_BYTES", 1)
    whole, _ = everything(sample(sd, tmp_path / "whole", batch_size=5))

    def killed(done, total):
        if done >= 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        sample(sd, tmp_path / "parts", progress=killed)
    sample(sd, tmp_path / "grown", INDEX[:3])
    for folder in ("parts", "grown"):
        x0, condition = everything(sample(sd, tmp_path / folder))
        torch.testing.assert_close(x0, whole, rtol=1e-4, atol=1e-5)
        assert torch.equal(condition, INDEX)
    other, _ = everything(sample(sd, tmp_path / "other", seed=6))
    assert (other - whole).abs().amax((1, 2, 3)).min() > 0.1


def test_resuming_at_a_batch_is_exact(sd, tmp_path):
    whole, _ = everything(sample(sd, tmp_path / "whole"))
    sample(sd, tmp_path / "parts", INDEX[:2])
    again, _ = everything(sample(sd, tmp_path / "parts"))
    assert torch.equal(whole, again)


def test_images_that_are_there_are_kept_in_any_order(sd, tmp_path):
    """The nth image of a condition is the nth that was sampled for it."""
    whole, _ = everything(sample(sd, tmp_path))
    order = torch.tensor([1, 0, 3, 2, 4])
    again, condition = everything(sample(sd, tmp_path, torch.cat([INDEX[order], INDEX[:1]])))
    assert torch.equal(again[:5], whole[order]) and torch.equal(condition[:5], INDEX[order])
    assert len(again) == 6 and not any(torch.equal(again[5], x) for x in whole)


def test_provenance_is_stored(sd, tmp_path):
    recorded = sample(sd, tmp_path, dtype=torch.bfloat16).store.fingerprint
    expected = {"scaling_factor": 0.18215, "shift_factor": 0.0, "scaled": "yes", "size": "4x8x8", "dtype": "bfloat16"}
    expected |= {"steps": 2, "guidance": 3.0, "seed": 5, "source": "samples"}
    assert expected.items() <= recorded.items()
    assert {"teacher config", "teacher weights", "scheduler"} <= recorded.keys()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"steps": 3}, "was made with steps = 2, this is 3: use another folder"),
        ({"guidance": 7.5}, "was made with guidance = 3.0, this is 7.5"),
        ({"seed": 6}, "was made with seed = 5, this is 6"),
        ({"resolution": 32}, "was made with size = '4x8x8', this is '4x16x16'"),
        ({"indices": INDEX[:0]}, "there is nothing to write"),
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"guidance": float("nan")}, "guidance must be non-negative and finite, got nan"),
        ({"resolution": 31}, "resolution must be a multiple of 2"),
    ],
)
def test_other_settings_are_refused_by_name(options, sentence, sd, tmp_path):
    sample(sd, tmp_path)
    with pytest.raises(ValueError, match=sentence):
        sample(sd, tmp_path, **options)


def test_a_teacher_that_differs_in_one_weight_is_refused(sd_folder, sd, tmp_path):
    sample(sd, tmp_path)
    pipeline = open_pipeline(sd_folder)
    next(pipeline.unet.parameters()).data[0] += 0.1
    with pytest.raises(ValueError, match="was made with teacher weights"):
        sample((pipeline, sd[1]), tmp_path)


def test_latents_that_are_not_finite_are_refused(sd_folder, sd, tmp_path):
    pipeline = open_pipeline(sd_folder)
    pipeline.unet.conv_out.bias.data.fill_(torch.inf)
    with pytest.raises(ValueError, match="latent 0 is not finite in torch.float32: try another dtype"):
        sample((pipeline, sd[1]), tmp_path)


def test_latents_of_another_size_or_scaling_are_refused(sd_folder, sd, tmp_path):
    sample(sd, tmp_path)
    pipeline, _ = sd
    Latents(tmp_path, pipeline=pipeline)
    with pytest.raises(ValueError, match="has latents of size 4x8x8, the teacher's have 4x16x16"):
        Latents(tmp_path, pipeline=pipeline, resolution=32)
    other = open_pipeline(sd_folder)
    other.vae.register_to_config(scaling_factor=0.13)
    with pytest.raises(ValueError, match="has latents of scaling_factor 0.18215, the teacher's have 0.13"):
        Latents(tmp_path, pipeline=other)


def test_rows_come_at_once_or_ahead(sd, tmp_path):
    latents = sample(sd, tmp_path)
    rows = torch.tensor([4, 0])
    x0, condition = latents.gather(rows)
    fetched = latents.prefetch(rows).result()
    assert torch.equal(fetched["x0"], x0) and torch.equal(fetched["condition"], condition)
    assert condition.tolist() == [2, 2] and latents.shape == (4, 8, 8)
    assert torch.equal(latents.conditions(), INDEX)
    latents.close()


# -------------------------------------------------------------------------------------------------------------- images


def draw(folder, names, size=(24, 16)):
    from PIL import Image

    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shade = np.random.default_rng(i).integers(0, 256, (size[1], size[0], 3), np.uint8)
        Image.fromarray(shade).save(folder / name)


def listed(folder, rows):
    (folder / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))


def test_images_pass_through_the_autoencoder(sd, tmp_path):
    pipeline, _ = sd
    draw(tmp_path, ["b.png", "sub/a.png", "c.png"])
    listed(tmp_path, [{"file_name": name, "text": name} for name in ("c.png", "b.png", "sub/a.png")])
    images = read_images(tmp_path)
    assert [image.caption for image in images] == ["b.png", "c.png", "sub/a.png"]
    index = torch.tensor([1, 0, 1])
    kwargs = {"dtype": torch.float32, "seed": 3}
    for folder, size in (("one", 1), ("all", 3)):
        encode_images(pipeline, denoisers.of(pipeline), images, index, tmp_path / folder, batch_size=size, **kwargs)
    (one, condition), (x0, _) = everything(Latents(tmp_path / "one")), everything(Latents(tmp_path / "all"))
    torch.testing.assert_close(one, x0, rtol=1e-4, atol=1e-5)
    assert torch.equal(condition, index)
    shown = torch.stack([pixels(image.path, 16) for image in images])
    with torch.no_grad():
        posterior = pipeline.vae.encode(shown).latent_dist
    noise = torch.stack([torch.randn(4, 8, 8, generator=generator(3, row)) for row in range(3)])
    torch.testing.assert_close(x0, (posterior.mean + posterior.std * noise) * 0.18215, rtol=1e-4, atol=1e-5)


def test_pixels_are_the_middle_of_the_image_upright(tmp_path):
    from PIL import Image

    strips = np.zeros((4, 12, 3), np.uint8)
    strips[:, 4:8] = 255  # black, white, black: the middle square is white
    Image.fromarray(strips).save(tmp_path / "wide.png")
    assert torch.equal(pixels(tmp_path / "wide.png", 4), torch.ones(3, 4, 4))
    turned = Image.fromarray(np.tile(np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8), (2, 1, 1)))
    exif = turned.getexif()
    exif[0x0112] = 6  # turn it clockwise to see it: the left column comes to the top
    turned.save(tmp_path / "turned.png", exif=exif)
    seen = pixels(tmp_path / "turned.png", 2)
    assert seen[0].tolist() == [[1, 1], [-1, -1]] and seen[2].tolist() == [[-1, -1], [1, 1]]


def test_captions_beside_the_images(tmp_path):
    draw(tmp_path, ["b.png", "a.png"])
    (tmp_path / "a.txt").write_text(" a cat\n")
    with pytest.raises(ValueError, match=r"b.png has no caption: neither .*metadata.jsonl nor .*b.txt exists"):
        read_images(tmp_path)
    (tmp_path / "b.txt").write_text("a dog")
    assert [(image.path.name, image.caption) for image in read_images(tmp_path)] == [
        ("a.png", "a cat"),
        ("b.png", "a dog"),
    ]


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"file_name": "gone.png", "text": "x"}, "line 1: there is no image .*gone.png"),
        ({"file_name": "a.png", "n": 3}, "line 1: no caption in text, prompt, caption, label; there are: file_n"),
        ({"text": "x"}, "line 1: it must be an object with a file_name"),
    ],
)
def test_bad_metadata_is_named(row, sentence, tmp_path):
    draw(tmp_path, ["a.png"])
    listed(tmp_path, [row])
    with pytest.raises(ValueError, match=sentence):
        read_images(tmp_path)


def test_folders_without_images_and_files_that_are_none(tmp_path):
    with pytest.raises(ValueError, match="there is no folder of images .*nowhere"):
        read_images(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no image ending in .bmp, .jpeg"):
        read_images(tmp_path)
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match="a.png: no image that can be read"):
        pixels(tmp_path / "a.png", 8)


def test_samples_and_images_are_read_as_one(sd, tmp_path):
    pipeline, _ = sd
    draw(tmp_path / "data", ["a.png"])
    (tmp_path / "data" / "a.txt").write_text("a dog")
    sample(sd, tmp_path / "latents" / "samples")
    kwargs = {"resolution": 32, "dtype": torch.float32}
    images = (pipeline, denoisers.of(pipeline), read_images(tmp_path / "data"), torch.tensor([1]))
    encode_images(*images, tmp_path / "latents" / "images", **kwargs)
    with pytest.raises(ValueError, match="images has size 4x16x16, .*samples has 4x8x8: they cannot be mixed"):
        Latents(tmp_path / "latents")
    for path in (tmp_path / "latents" / "images").iterdir():
        path.unlink()
    encode_images(*images, tmp_path / "latents" / "images", **kwargs | {"resolution": None})
    latents = Latents(tmp_path / "latents")
    assert len(latents) == 6 and latents.conditions().tolist() == [*INDEX.tolist(), 1]
    own, _ = everything(Latents(tmp_path / "latents" / "images"))
    assert torch.equal(latents.gather(torch.tensor([5]))[0], own)
