"""The demo: three students of one teacher, evaluated, on one page."""

from __future__ import annotations

import pytest

pytest.importorskip("scipy")
pytest.importorskip("matplotlib")

from aria.bench import demo
from aria.tasks import Emoji
from aria.tasks.emoji import teach


@pytest.mark.slow
def test_the_demo(tmp_path):
    """With tiny teachers, which learn nothing: all parts of the page are there, and a second call changes nothing."""
    teachers = tmp_path / "teachers"
    assert teach.main(["--preset", "tiny", "--kinds", "unet-v", "--output_dir", str(teachers)]) == 0
    task = Emoji(preset="tiny", teachers=str(teachers), captions=60, images=20, asked=12, steps=2)
    first = demo.run(tmp_path / "demo", steps=4, task=task)
    assert demo.table(first).splitlines()[0].split() == ["generation", "gap", "rc", "static", "aria"]
    page = (tmp_path / "demo" / demo.PAGE).read_text()
    assert all(part in page for part in ("data:image/png", "unseen-cell", "Allocation", "rc", "4 steps on 20 pictures"))
    weights = tmp_path / "demo" / "aria" / "unet" / "diffusion_pytorch_model.safetensors"
    before = weights.read_bytes(), (tmp_path / "demo" / "aria" / "losses.jsonl").read_bytes()
    assert demo.run(tmp_path / "demo", steps=4, task=task) == first
    assert before == (weights.read_bytes(), (tmp_path / "demo" / "aria" / "losses.jsonl").read_bytes())
