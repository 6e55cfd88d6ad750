"""The configs of known transformers, and small real ones."""

from __future__ import annotations

import json
from typing import Any

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

from aria.distill.students import Family, family_of, transformer_inputs
from aria.distill.students.config import public

DIT_XL = {"num_attention_heads": 16, "attention_head_dim": 72, "in_channels": 4, "out_channels": 8, "num_layers": 28,
          "sample_size": 32, "patch_size": 2, "num_embeds_ada_norm": 1000}  # fmt: skip
PIXART_XL = {"num_attention_heads": 16, "attention_head_dim": 72, "in_channels": 4, "out_channels": 8, "num_layers": 28,
             "sample_size": 64, "cross_attention_dim": 1152, "caption_channels": 4096}  # fmt: skip
SD3_MEDIUM = {"sample_size": 128, "patch_size": 2, "in_channels": 16, "out_channels": 16, "num_layers": 24,
              "attention_head_dim": 64, "num_attention_heads": 24, "joint_attention_dim": 4096,
              "caption_projection_dim": 1536, "pooled_projection_dim": 2048, "pos_embed_max_size": 192}  # fmt: skip
SANA_1600M = {"num_attention_heads": 70, "attention_head_dim": 32, "num_layers": 20, "num_cross_attention_heads": 20,
              "cross_attention_head_dim": 112, "cross_attention_dim": 2240, "caption_channels": 2304, "sample_size": 32,
              "in_channels": 32, "out_channels": 32}  # fmt: skip
SANA_600M = SANA_1600M | {"num_attention_heads": 36, "num_layers": 28, "num_cross_attention_heads": 16,
                          "cross_attention_head_dim": 72, "cross_attention_dim": 1152}  # fmt: skip
FLUX_DEV = {"num_attention_heads": 24, "attention_head_dim": 128, "num_layers": 19, "num_single_layers": 38,
            "in_channels": 64, "joint_attention_dim": 4096, "pooled_projection_dim": 768, "guidance_embeds": True,
            "axes_dims_rope": [16, 56, 56]}  # fmt: skip
WAN_14B = {"num_attention_heads": 40, "attention_head_dim": 128, "num_layers": 40, "ffn_dim": 13824, "in_channels": 16,
           "out_channels": 16, "text_dim": 4096, "freq_dim": 256, "patch_size": [1, 2, 2]}  # fmt: skip
WAN_1300M = WAN_14B | {"num_attention_heads": 12, "num_layers": 30, "ffn_dim": 8960}
LTX_2B = {"num_attention_heads": 32, "attention_head_dim": 64, "num_layers": 28, "in_channels": 128,
          "out_channels": 128, "cross_attention_dim": 2048, "caption_channels": 4096}  # fmt: skip
LTX_13B = LTX_2B | {"attention_head_dim": 128, "num_layers": 48, "cross_attention_dim": 4096}
QWEN_IMAGE = {"num_attention_heads": 24, "attention_head_dim": 128, "num_layers": 60, "in_channels": 64,
              "out_channels": 16, "joint_attention_dim": 3584, "axes_dims_rope": [16, 56, 56]}  # fmt: skip
AURA_FLOW = {"num_attention_heads": 12, "attention_head_dim": 256, "num_mmdit_layers": 4, "num_single_dit_layers": 32,
             "sample_size": 64, "joint_attention_dim": 2048, "caption_projection_dim": 3072,
             "pos_embed_max_size": 1024}  # fmt: skip
LUMINA2 = {"num_attention_heads": 24, "num_kv_heads": 8, "hidden_size": 2304, "num_layers": 26, "num_refiner_layers": 2,
           "sample_size": 128, "in_channels": 16, "cap_feat_dim": 2304, "multiple_of": 256,
           "axes_dim_rope": [32, 32, 32]}  # fmt: skip
FLUX2_DEV = {"num_attention_heads": 48, "attention_head_dim": 128, "num_layers": 8, "num_single_layers": 48,
             "in_channels": 128, "joint_attention_dim": 15360, "guidance_embeds": True,
             "axes_dims_rope": [32, 32, 32, 32]}  # fmt: skip
FLUX2_KLEIN_4B = FLUX2_DEV | {"num_attention_heads": 24, "num_layers": 5, "num_single_layers": 20,
                              "joint_attention_dim": 7680, "guidance_embeds": False}  # fmt: skip
FLUX2_KLEIN_9B = FLUX2_KLEIN_4B | {"num_attention_heads": 32, "num_layers": 8, "num_single_layers": 24,
                                   "joint_attention_dim": 12288}  # fmt: skip
Z_IMAGE = {"dim": 3840, "n_layers": 30, "n_refiner_layers": 2, "n_heads": 30, "n_kv_heads": 30, "in_channels": 16,
           "cap_feat_dim": 2560, "axes_dims": [32, 48, 48], "axes_lens": [1536, 512, 512]}  # fmt: skip
FLUX_SCHNELL = FLUX_DEV | {"guidance_embeds": False}

SMALL = {"num_attention_heads": 4, "attention_head_dim": 8, "num_layers": 5, "sample_size": 8}
SMALL_DIT = DIT_XL | SMALL | {"num_embeds_ada_norm": 6}
SMALL_PIXART = PIXART_XL | SMALL | {"cross_attention_dim": 32, "caption_channels": 20}
SIZED_PIXART = SMALL_PIXART | {
    "use_additional_conditions": True, "num_attention_heads": 6, "cross_attention_dim": 48
}  # fmt: skip
SMALL_SD3 = SD3_MEDIUM | SMALL | {"joint_attention_dim": 20, "caption_projection_dim": 32, "pooled_projection_dim": 12,
                                  "in_channels": 4, "out_channels": 4, "pos_embed_max_size": 10}  # fmt: skip
SMALL_SANA = SANA_1600M | SMALL | {
    "num_cross_attention_heads": 2, "cross_attention_head_dim": 16, "cross_attention_dim": 32, "caption_channels": 20,
    "in_channels": 4, "out_channels": 4, "patch_size": 2,
}  # fmt: skip
SMALL_FLUX = FLUX_DEV | {
    "num_attention_heads": 4, "attention_head_dim": 16, "num_layers": 5, "num_single_layers": 7, "in_channels": 16,
    "joint_attention_dim": 20, "pooled_projection_dim": 12, "axes_dims_rope": [4, 4, 8],
}  # fmt: skip
SMALL_FLUX2 = FLUX2_DEV | {
    "num_attention_heads": 4, "attention_head_dim": 16, "num_layers": 5, "num_single_layers": 7, "in_channels": 16,
    "joint_attention_dim": 20, "timestep_guidance_channels": 8, "axes_dims_rope": [4, 4, 4, 4],
}  # fmt: skip
SMALL_WAN = WAN_14B | {
    "num_attention_heads": 4, "attention_head_dim": 24, "num_layers": 5, "ffn_dim": 200, "in_channels": 4,
    "out_channels": 4, "text_dim": 20, "freq_dim": 8,
}  # fmt: skip
SMALL_LTX = LTX_2B | {
    "num_attention_heads": 4, "attention_head_dim": 8, "num_layers": 5, "in_channels": 4, "out_channels": 4,
    "cross_attention_dim": 32, "caption_channels": 20,
}  # fmt: skip
SMALL_QWEN = QWEN_IMAGE | {
    "num_attention_heads": 4, "attention_head_dim": 16, "num_layers": 5, "in_channels": 16, "out_channels": 4,
    "joint_attention_dim": 20, "axes_dims_rope": [4, 4, 8],
}  # fmt: skip
SMALL_AURA = AURA_FLOW | {
    "num_attention_heads": 4, "attention_head_dim": 8, "num_mmdit_layers": 5, "num_single_dit_layers": 7,
    "sample_size": 8, "joint_attention_dim": 20, "caption_projection_dim": 32, "pos_embed_max_size": 36,
}  # fmt: skip
SMALL_LUMINA = LUMINA2 | {
    "num_attention_heads": 4, "num_kv_heads": 2, "hidden_size": 64, "num_layers": 5, "num_refiner_layers": 1,
    "sample_size": 8, "in_channels": 4, "cap_feat_dim": 20, "multiple_of": 8, "axes_dim_rope": [4, 4, 8],
}  # fmt: skip
SMALL_Z_IMAGE = Z_IMAGE | {
    "dim": 64, "n_layers": 5, "n_refiner_layers": 1, "n_heads": 4, "n_kv_heads": 4, "in_channels": 4,
    "cap_feat_dim": 20, "axes_dims": [4, 4, 8], "axes_lens": [64, 16, 16],
}  # fmt: skip
SMALL_SANA15 = SMALL_SANA | {"qk_norm": "rms_norm_across_heads"}
SMALL_SD35 = SMALL_SD3 | {"dual_attention_layers": [0, 1, 2], "qk_norm": "rms_norm"}
ALL = {
    "aura": (AuraFlowTransformer2DModel, SMALL_AURA),
    "dit": (DiTTransformer2DModel, SMALL_DIT),
    "flux": (FluxTransformer2DModel, SMALL_FLUX),
    "flux2": (Flux2Transformer2DModel, SMALL_FLUX2),
    "flux2-klein": (Flux2Transformer2DModel, SMALL_FLUX2 | {"guidance_embeds": False}),
    "flux-schnell": (FluxTransformer2DModel, SMALL_FLUX | {"guidance_embeds": False}),
    "ltx": (LTXVideoTransformer3DModel, SMALL_LTX),
    "lumina": (Lumina2Transformer2DModel, SMALL_LUMINA),
    "pixart": (PixArtTransformer2DModel, SMALL_PIXART),
    "pixart-sized": (PixArtTransformer2DModel, SIZED_PIXART),
    "qwen": (QwenImageTransformer2DModel, SMALL_QWEN),
    "sana": (SanaTransformer2DModel, SMALL_SANA),
    "sana-1.5": (SanaTransformer2DModel, SMALL_SANA15),
    "sd3": (SD3Transformer2DModel, SMALL_SD3),
    "sd3.5": (SD3Transformer2DModel, SMALL_SD35),
    "wan": (WanTransformer3DModel, SMALL_WAN),
    "z-image": (ZImageTransformer2DModel, SMALL_Z_IMAGE),
}


def family(kind: str) -> Family:
    found = family_of(ALL[kind][0])
    assert found is not None
    return found


def full(model: type[Any], config: dict[str, Any]) -> dict[str, Any]:
    """``config`` with the defaults of diffusers, as a loaded model has it."""
    with torch.device("meta"):
        kwargs: dict[str, Any] = json.loads(json.dumps(public(model.from_config(config).config)))
    return kwargs


def small(kind: str, seed: int = 0) -> Any:
    """A model whose every parameter is random, also those that start as zeros."""
    model, config = ALL[kind]
    torch.manual_seed(seed)
    made = model.from_config(config)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return made.eval()


def inputs(kind: str, config: dict[str, Any], batch: int = 2) -> dict[str, Any]:
    """Random arguments for one forward pass."""
    generator = torch.Generator().manual_seed(1)

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: filled(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [filled(inner) for inner in value]
        if not isinstance(value, torch.Tensor) or (value.dtype == torch.long and value.ndim > 1):  # a mask
            return value
        if not value.is_floating_point():
            return torch.tensor([3, 5])[:batch]
        return torch.randn(value.shape, generator=generator)

    kwargs: dict[str, Any] = filled(transformer_inputs(family(kind), config, side=8, tokens=7, batch=batch))
    return kwargs
