"""Students of the published sizes, from the real configs of their teachers, counted without weights."""

from __future__ import annotations

import pytest
import torch
from diffusers import (
    AuraFlowTransformer2DModel,
    DiTTransformer2DModel,
    Flux2Transformer2DModel,
    FluxTransformer2DModel,
    LTXVideoTransformer3DModel,
    Lumina2Transformer2DModel,
    PixArtTransformer2DModel,
    QwenImageTransformer2DModel,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    WanTransformer3DModel,
    ZImageTransformer2DModel,
)

from aria.distill.students import family_of, plan_student, plan_transformer, transformer_size

from . import transformers
from .unets import SD14, SD21, SDXL, full, parameters


def millions(config):
    return round(parameters(config) / 1e6, 1)


@pytest.mark.parametrize(("config", "published"), [(SD14, 859.5), (SDXL, 2567.5)], ids=["sd14", "sdxl"])
def test_teachers(config, published):
    assert millions(config) == published


UNETS = (
    ({"preset": "bk-base"}, 579.4),
    ({"preset": "bk-small"}, 482.4),
    ({"preset": "bk-tiny"}, 323.4),
    ({"width": 0.8}, 553.2),
    ({"width": 0.7}, 425.3),
    ({"width": 0.6}, 314.1),
    ({"width": 0.5}, 219.8),
)
"""Published students of Stable Diffusion 1.4, in millions of parameters."""


@pytest.mark.parametrize(("settings", "published"), UNETS)
def test_students_of_stable_diffusion(settings, published):
    assert parameters(plan_student(full(SD14), **settings).config) / 1e6 == pytest.approx(published, abs=0.06)


@pytest.mark.parametrize(("depth", "mid", "published"), [(6, True, 1161), (5, False, 783)])
def test_students_of_sdxl_with_fewer_transformer_blocks(depth, mid, published):
    innermost = {"resnets": [0], "transformer_blocks": list(range(depth))}
    spec = {"down": {0: {"resnets": [0]}, 1: {"resnets": [0]}, 2: innermost}, "mid": mid}
    assert round(parameters(plan_student(full(SDXL), block_map=spec).config) / 1e6) == published


def test_presets_fit_stable_diffusion_2():
    assert 580 < millions(plan_student(full(SD21), preset="bk-base").config) < 590  # published as .59 billion


TRANSFORMERS = {
    "aura-flow": (AuraFlowTransformer2DModel, transformers.AURA_FLOW),
    "dit": (DiTTransformer2DModel, transformers.DIT_XL),
    "flux-dev": (FluxTransformer2DModel, transformers.FLUX_DEV),
    "flux2-dev": (Flux2Transformer2DModel, transformers.FLUX2_DEV),
    "flux2-klein-4b": (Flux2Transformer2DModel, transformers.FLUX2_KLEIN_4B),
    "flux2-klein-9b": (Flux2Transformer2DModel, transformers.FLUX2_KLEIN_9B),
    "flux-schnell": (FluxTransformer2DModel, transformers.FLUX_SCHNELL),
    "ltx-2b": (LTXVideoTransformer3DModel, transformers.LTX_2B),
    "ltx-13b": (LTXVideoTransformer3DModel, transformers.LTX_13B),
    "lumina2": (Lumina2Transformer2DModel, transformers.LUMINA2),
    "pixart": (PixArtTransformer2DModel, transformers.PIXART_XL),
    "qwen-image": (QwenImageTransformer2DModel, transformers.QWEN_IMAGE),
    "sana": (SanaTransformer2DModel, transformers.SANA_1600M),
    "sana-600m": (SanaTransformer2DModel, transformers.SANA_600M),
    "sd3": (SD3Transformer2DModel, transformers.SD3_MEDIUM),
    "wan-1.3b": (WanTransformer3DModel, transformers.WAN_1300M),
    "wan-14b": (WanTransformer3DModel, transformers.WAN_14B),
    "z-image": (ZImageTransformer2DModel, transformers.Z_IMAGE),
}


def counted(kind, **kwargs):
    """The parameters of a real transformer, or of a student of it."""
    model, config = TRANSFORMERS[kind]
    plan = plan_transformer(family_of(model), transformers.full(model, config), **kwargs)
    with torch.device("meta"):
        return model.from_config(plan.config).num_parameters()


def test_transformers():
    # published: 611 million (PixArt-alpha at 512 pixels), 2.03 billion (Stable Diffusion 3 medium), 1.6 and 0.6 billion
    # (Sana), 11.9 billion (FLUX.1), 20 billion (Qwen-Image), 6.8 billion (AuraFlow), 2.6 billion (Lumina-Image 2.0),
    # 1.3 and 14 billion (Wan 2.1, whose smaller one has 1.4), 2 and 13 billion (LTX-Video), 6 billion (Z-Image),
    # 32, 4 and 9 billion (FLUX.2)
    assert round(counted("pixart") / 1e6) == 611
    assert [round(counted(kind) / 1e9, 1) for kind in ("sana", "sana-600m")] == [1.6, 0.6]
    assert round(counted("sd3") / 1e9, 2) == 2.03
    assert [round(counted(kind) / 1e9, 1) for kind in ("flux-dev", "flux-schnell")] == [11.9, 11.9]
    assert [round(counted(kind) / 1e9, 2) for kind in ("wan-1.3b", "wan-14b")] == [1.42, 14.29]
    assert [round(counted(kind) / 1e9, 2) for kind in ("ltx-2b", "ltx-13b")] == [1.92, 13.04]
    assert round(counted("qwen-image") / 1e9, 1) == 20.4
    assert [round(counted(f"flux2-{kind}") / 1e9, 1) for kind in ("dev", "klein-4b", "klein-9b")] == [32.2, 3.9, 9.1]
    assert round(counted("z-image") / 1e9, 2) == 6.15
    assert [round(counted(kind) / 1e9, 1) for kind in ("aura-flow", "lumina2")] == [6.8, 2.6]
    # DiT-XL/2 is published with 675 million and 118.64 billion multiply-adds; in diffusers every block has timestep and
    # class embeddings of its own, which in DiT are one
    embeddings = 1001 * 1152 + (256 + 1) * 1152 + (1152 + 1) * 1152
    model, config = TRANSFORMERS["dit"]
    size = transformer_size(family_of(model), transformers.full(model, config))
    assert round((size.parameters - 27 * embeddings) / 1e6) == 675
    assert size.macs / 1e9 == pytest.approx(118.64, abs=0.1)


STUDENTS = ({"preset": "half"}, {"preset": "third"}, {"width": 0.75}, {"width": 0.5})
SIZES = {
    "flux2-dev": ("FLUX.2-dev", (32223.3, 16519.8, 11612.5, 18144.2, 8080.6)),
    "qwen-image": ("Qwen-Image", (20430.4, 10235.5, 6837.1, 11495.4, 5112.1)),
    "wan-14b": ("Wan 2.1 14B", (14288.5, 7260.6, 4800.8, 8042.5, 3579.1)),
    "ltx-13b": ("LTX-Video 13B", (13042.6, 6597.9, 4449.6, None, None)),
    "flux-dev": ("FLUX.1-dev", (11901.4, 6152.7, 3943.8, 6698.3, 2980.4)),
    "flux-schnell": ("FLUX.1-schnell", (11891.2, 6142.5, 3933.6, 6692.4, 2977.6)),
    "flux2-klein-9b": ("FLUX.2 klein 9B", (9078.6, 4716.5, 3407.9, 5116.5, 2282.8)),
    "aura-flow": ("AuraFlow", (6833.4, 3436.1, 2586.7, 3845.8, 1710.9)),
    "z-image": ("Z-Image", (6154.9, 3441.3, 2536.7, 3642.5, 1573.7)),
    "flux2-klein-4b": ("FLUX.2 klein 4B", (3875.5, 1912.6, 1544.6, 2184.7, 975.2)),
    "lumina2": ("Lumina-Image 2.0", (2609.8, 1474.7, 1125.5, 1519.7, 721.6)),
    "sd3": ("Stable Diffusion 3 medium", (2028.3, 1008.6, 668.6, 1143.0, 509.9)),
    "ltx-2b": ("LTX-Video 2B", (1923.4, 983.2, 647.4, None, None)),
    "sana": ("Sana 1.6B", (1604.5, 825.3, 591.5, 919.2, 403.3)),
    "wan-1.3b": ("Wan 2.1 1.3B", (1419.0, 722.4, 490.2, 799.7, 356.8)),
    "dit": ("DiT-XL/2, 256 pixels", (749.8, 376.3, 242.9, 429.5, 197.7)),
    "pixart": ("PixArt-α XL/2, 512 pixels", (610.9, 313.3, 207.0, 344.7, 154.1)),
    "sana-600m": ("Sana 0.6B", (591.7, 302.7, 199.5, 333.8, 149.2)),
}
"""What a teacher is called, and millions of its parameters and of those of the students, where they are possible."""


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_sizes_of_transformers(kind):
    for settings, expected in zip(({}, *STUDENTS), SIZES[kind][1], strict=True):
        if expected is not None:
            assert round(counted(kind, **settings) / 1e6, 1) == expected, settings
            continue
        with pytest.raises(ValueError, match="cannot be narrower"):
            counted(kind, **settings)


@pytest.mark.parametrize(
    ("kind", "kwargs", "expected"),
    [
        ("flux-dev", {"attention_head_dim": 64}, 2980.4),
        ("flux-dev", {"blocks": [0, 9, 18], "single_blocks": [0, 19, 37]}, 1508.4),
        ("flux2-dev", {"attention_head_dim": 64}, 8080.6),
        ("lumina2", {"attention_head_dim": 48}, 721.6),
        ("qwen-image", {"preset": "quarter"}, 5138.0),
        ("qwen-image", {"attention_head_dim": 64}, 5112.0),
        ("z-image", {"attention_head_dim": 64}, 1573.7),
    ],
)
def test_other_students_of_transformers(kind, kwargs, expected):
    assert round(counted(kind, **kwargs) / 1e6, 1) == expected
