"""Images of two sizes in one cache: its teacher's samples, and photographs at another resolution."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from aria import progress
from aria.cli import main
from aria.distill.data import cache
from aria.distill.data.latents import IMAGES, SAMPLES, SERVED
from aria.distill.evaluation import quantise
from aria.distill.models.pipelines import open_pipeline
from aria.distill.runs import regions
from aria.distill.settings.config import Config
from aria.tensor_files import map_tensors


@pytest.fixture
def fill(sd_folder, tmp_path):
    pipeline = open_pipeline(sd_folder)
    (tmp_path / "prompts.txt").write_text("a cat\na dog\n")
    (tmp_path / "data").mkdir()
    Image.new("RGB", (20, 20), "red").save(tmp_path / "data" / "a.png")
    (tmp_path / "data" / "a.txt").write_text("a dog")

    def filled(**changes):
        return cache.fill(tmp_path / "c", pipeline, prompts=tmp_path / "prompts.txt", bar=progress.silent, steps=1,
                          **changes)  # fmt: skip

    filled.pipeline = pipeline
    return filled


def test_each_source_of_a_cache_may_have_a_size_of_its_own(fill, tmp_path):
    side = fill(num_images=2) and cache.opened(tmp_path / "c", resolution=None)[1].shape[-1]
    half = side * fill.pipeline.vae_scale_factor // 2
    record = fill(data=tmp_path / "data", resolution=half)
    assert record["latents"]["rows"] == 3
    sides = {name: shape[-1] for name, shape in record["latents"]["shapes"].items()}
    assert sides == {SAMPLES: side, IMAGES: side // 2}
    assert fill(num_images=2)["latents"]["rows"] >= 2, "and runs of the other size go on"
    fill(data=tmp_path / "data", resolution=half)

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps({"data": {"cache_dir": str(tmp_path / "c")}}))
    ended = CliRunner().invoke(main, ["verify-run", str(tmp_path / "run")])
    assert ended.stdout.splitlines() == ["cache: conditions: whole", "cache: samples: whole", "cache: images: whole"]

    common = {"cache_dir": str(tmp_path / "c"), "num_images": 1}
    cases = (({}, side, 1), ({"train_data_dir": str(tmp_path / "data"), "resolution": half}, side // 2, 1))
    for changes, expected, count in cases:
        texts = cache.opened(tmp_path / "c", resolution=None, source=SAMPLES)[0].prompts.texts
        regions.save_prompts(tmp_path / "run", texts)
        config = Config().with_values(common | changes)
        _, images = quantise._data(tmp_path / "run", config, fill.pipeline, torch.device("cpu"))
        assert images.shape[-1] == expected and len(images) == count


def test_a_source_of_which_no_image_is_served_is_whole(fill, tmp_path):
    fill(num_images=2)
    fill(data=tmp_path / "data")
    (tmp_path / "prompts.txt").write_text("a cow\n")
    (tmp_path / "data" / "a.txt").write_text("a fox")
    fill(data=tmp_path / "data")
    assert not len(map_tensors(tmp_path / "c" / "latents" / SAMPLES / SERVED)[0]["row"])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps({"data": {"cache_dir": str(tmp_path / "c")}}))
    ended = CliRunner().invoke(main, ["verify-run", str(tmp_path / "run")])
    assert ended.exit_code == 0 and "cache: samples: whole" in ended.stdout
    shard = next((tmp_path / "c" / "latents" / SAMPLES).glob("shard-*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    ended = CliRunner().invoke(main, ["verify-run", str(tmp_path / "run")])
    assert ended.exit_code == 1 and f"cache: samples: {shard} is damaged" in ended.stdout
