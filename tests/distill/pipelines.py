"""Small real pipelines, built in code and saved the way a user's teacher lies on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from diffusers import (
    AuraFlowPipeline,
    AuraFlowTransformer2DModel,
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLFlux2,
    AutoencoderKLLTXVideo,
    AutoencoderKLQwenImage,
    AutoencoderKLWan,
    DDIMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Pipeline,
    Flux2Transformer2DModel,
    FluxPipeline,
    FluxTransformer2DModel,
    LTXPipeline,
    LTXVideoTransformer3DModel,
    Lumina2Pipeline,
    Lumina2Transformer2DModel,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
    WanPipeline,
    WanTransformer3DModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizer,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
    UMT5Config,
    UMT5EncoderModel,
)

SIDE = 8
"""Latents are 8 by 8, images 16 by 16."""


def tokenizer(folder: Path) -> CLIPTokenizer:
    """A CLIP tokenizer that spells: one token per byte, no merges."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: place for place, word in enumerate(words)}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    return CLIPTokenizer(
        vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"), model_max_length=12
    )


def text_config(**changes: int) -> CLIPTextConfig:
    config = {
        "vocab_size": 514,
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 12,
        "projection_dim": 8,
        "bos_token_id": 512,
        "eos_token_id": 513,
        "pad_token_id": 513,
    }
    return CLIPTextConfig(**(config | changes))


def unet(**changes: object) -> UNet2DConditionModel:
    """The four stages of Stable Diffusion, very narrow."""
    config: dict[str, object] = {
        "sample_size": SIDE,
        "block_out_channels": (4, 8, 8, 8),
        "layers_per_block": 2,
        "cross_attention_dim": 8,
        "attention_head_dim": 2,
        "norm_num_groups": 2,
    }
    return UNet2DConditionModel(**(config | changes))


def sdxl_unet(**changes: object) -> UNet2DConditionModel:
    """The three stages of Stable Diffusion XL, very narrow."""
    config: dict[str, object] = {
        "block_out_channels": (4, 8, 8),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 1, 2),
        "cross_attention_dim": 16,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 8 + 6 * 4,
    }
    return unet(**(config | changes))


def vae(**changes: object) -> AutoencoderKL:
    return AutoencoderKL(
        **changes,
        block_out_channels=(4, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=2,
        sample_size=2 * SIDE,
    )


def scheduler(prediction_type: str = "epsilon") -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction_type,
    )


def save_sd(folder: Path, prediction_type: str = "epsilon", seed: int = 0, **changes: object) -> Path:
    """A Stable Diffusion 1.x or 2.x pipeline (``prediction_type="v_prediction"``), with changes of its UNet."""
    torch.manual_seed(seed)
    pipeline = StableDiffusionPipeline(
        vae=vae(),
        text_encoder=CLIPTextModel(text_config()),
        tokenizer=tokenizer(folder.parent / f"{folder.name}-tokenizer"),
        unet=unet(**changes),
        scheduler=scheduler(prediction_type),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


def save_sdxl(folder: Path, seed: int = 0) -> Path:
    """A Stable Diffusion XL base pipeline: two text encoders, pooled embedding, time ids, zeros for no prompt."""
    torch.manual_seed(seed)
    spelled = folder.parent / f"{folder.name}-tokenizer"
    pipeline = StableDiffusionXLPipeline(
        vae=vae(),
        text_encoder=CLIPTextModel(text_config()),
        text_encoder_2=CLIPTextModelWithProjection(text_config()),
        tokenizer=tokenizer(spelled),
        tokenizer_2=tokenizer(spelled),
        unet=sdxl_unet(),
        scheduler=scheduler(),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )
    pipeline.save_pretrained(folder)
    return folder


# --------------------------------------------------------------------------------------------------------- transformers

T5_LETTERS = [chr(code) for code in range(33, 127)]
CLASSES = {0: "tench, Tinca tinca", 1: "goldfish", 7: "cock", 207: "golden retriever"}
"""Names of some of a class-conditional teacher's classes."""


def t5_tokenizer() -> T5Tokenizer:
    """A T5 tokenizer that spells: one token per printable character."""
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -1.0)]
    return T5Tokenizer(vocab=[*special, *((letter, -2.0) for letter in T5_LETTERS)], extra_ids=0, model_max_length=512)


def t5_encoder(width: int) -> T5EncoderModel:
    config = {"d_model": width, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    return T5EncoderModel(T5Config(vocab_size=4 + len(T5_LETTERS), **config))


def umt5_encoder(width: int) -> UMT5EncoderModel:
    config = {"d_model": width, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    return UMT5EncoderModel(UMT5Config(vocab_size=4 + len(T5_LETTERS), **config))


def gemma_tokenizer() -> GemmaTokenizer:
    """A Gemma tokenizer that spells: one token per printable character, behind one for the beginning."""
    words = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", "\u2581", *T5_LETTERS]
    vocabulary = {word: place for place, word in enumerate(words)}
    return GemmaTokenizer(vocab=vocabulary, merges=[], add_bos_token=True, model_max_length=8192)


def gemma(width: int) -> Gemma2Model:
    config = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4}
    return Gemma2Model(
        Gemma2Config(vocab_size=6 + len(T5_LETTERS), hidden_size=width, intermediate_size=16, **config)
    )


def qwen_tokenizer() -> Qwen2Tokenizer:
    """A Qwen tokenizer that spells, but for the words of Qwen-Image's template: one token each, as published."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    letters = ["<|endoftext|>", *bytes_to_unicode().values()]
    made = Qwen2Tokenizer(vocab={letter: place for place, letter in enumerate(letters)}, merges=[])
    words = ("the", "image", "by", "detailing", "color", "shape", "size", "texture", "quantity", "text", "spatial",
             "relationships", "of", "objects", "and", "background")  # fmt: skip
    made.add_tokens(["<|im_start|>", "<|im_end|>"], special_tokens=True)
    made.add_tokens(["system", "user", "assistant", "Describe", *(f" {word}" for word in words)])
    made.model_max_length = 131072
    return made


def qwen_vl(width: int) -> Qwen2_5_VLForConditionalGeneration:
    """Qwen2.5-VL, which sees no image here."""
    config = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 16}
    config |= {"vocab_size": 300, "bos_token_id": None, "eos_token_id": None}
    rotary = {"rope_type": "default", "mrope_section": [1, 1, width // 4 - 2], "rope_theta": 1e6}
    text = {"hidden_size": width, "rope_parameters": rotary, **config}
    vision = {"depth": 1, "hidden_size": 8, "num_heads": 2, "intermediate_size": 8, "out_hidden_size": width}
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision))


def chat_tokenizer() -> Qwen2Tokenizer:
    """A Qwen tokenizer that spells, with the chat template of Qwen3."""
    made = qwen_tokenizer()
    made.add_tokens(["<think>", "</think>"])
    made.chat_template = (
        "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n"
        "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
    )
    return made


def qwen3(width: int, layers: int = 2) -> Qwen3ForCausalLM:
    config = {"num_hidden_layers": layers, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4}
    config |= {"vocab_size": 302, "intermediate_size": 16, "bos_token_id": None, "eos_token_id": None}
    return Qwen3ForCausalLM(Qwen3Config(hidden_size=width, **config))


def mistral_tokenizer() -> Qwen2Tokenizer:
    """A tokenizer that spells, with the chat template of Mistral, whose messages are lists of parts."""
    made = qwen_tokenizer()
    made.add_tokens(["[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[INST]", "[/INST]"], special_tokens=True)
    made.chat_template = (
        "{% for message in messages %}{% set kind = 'SYSTEM_PROMPT' if message.role == 'system' else 'INST' %}"
        "[{{ kind }}]{{ message.content[0].text }}[/{{ kind }}]{% endfor %}"
    )
    made.padding_side = "left"
    return made


def mistral(width: int) -> Mistral3ForConditionalGeneration:
    """Mistral 3, which sees no image here, of as many layers as FLUX.2 reads."""
    config = {"num_hidden_layers": 30, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4}
    text = {"model_type": "mistral", "vocab_size": 304, "hidden_size": width, "intermediate_size": 8, **config}
    vision = {"model_type": "pixtral", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
              "intermediate_size": 8, "head_dim": 4}  # fmt: skip
    return Mistral3ForConditionalGeneration(Mistral3Config(text_config=text, vision_config=vision))


def flux2_vae() -> AutoencoderKLFlux2:
    """The stages of FLUX.2's autoencoder, whose latents are normalised in patches."""
    made = AutoencoderKLFlux2(
        block_out_channels=(4, 8), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, norm_num_groups=2, sample_size=2 * SIDE,
    )  # fmt: skip
    made.bn.running_mean.copy_(torch.linspace(-0.5, 0.75, 16))
    made.bn.running_var.copy_(torch.linspace(0.25, 4.0, 16))
    return made


def qwen_vae() -> AutoencoderKLQwenImage:
    """The stages of Qwen-Image's autoencoder, whose latents are normalised channel by channel."""
    return AutoencoderKLQwenImage(
        base_dim=4, z_dim=4, dim_mult=[1, 1], num_res_blocks=1, temperal_downsample=[False],
        latents_mean=[-0.75, 0.25, 0.5, -0.125], latents_std=[2.0, 1.5, 0.75, 1.25],
    )  # fmt: skip


def deep_vae() -> AutoencoderDC:
    """The stages of Sana's autoencoder, of residuals and of attention, one each."""
    sides: dict[str, Any] = {}
    for side in ("encoder", "decoder"):
        sides |= {f"{side}_block_types": ("ResBlock", "EfficientViTBlock"), f"{side}_block_out_channels": (8, 8),
                  f"{side}_layers_per_block": (1, 1), f"{side}_qkv_multiscales": ((), (5,))}  # fmt: skip
    return AutoencoderDC(latent_channels=4, attention_head_dim=4, scaling_factor=0.41407, **sides)


def video_vae(**changes: object) -> AutoencoderKLWan:
    """The stages of Wan's autoencoder: 4 pixels a side for each latent, and 4 frames after the first."""
    config: dict[str, Any] = {
        "base_dim": 4, "z_dim": 4, "dim_mult": [1, 1, 1], "num_res_blocks": 1, "temperal_downsample": [True, True],
        "latents_mean": [-0.75, 0.1, 0.4, -0.2], "latents_std": [2.8, 1.4, 2.3, 0.8], "scale_factor_spatial": 4,
    }  # fmt: skip
    return AutoencoderKLWan(**(config | changes))


def ltx_vae(**changes: object) -> AutoencoderKLLTXVideo:
    """The stages of LTX-Video's autoencoder: 32 pixels a side for each latent, and 8 frames after the first."""
    config: dict[str, Any] = {"latent_channels": 4, "patch_size": 4}
    for side in ("", "decoder_"):
        config |= {f"{side}block_out_channels": (8, 8, 8, 8), f"{side}layers_per_block": (1, 1, 1, 1, 1),
                   f"{side}spatio_temporal_scaling": (True, True, True, False)}  # fmt: skip
    made = AutoencoderKLLTXVideo(**(config | changes))
    made.latents_mean.copy_(torch.tensor([-0.75, 0.1, 0.4, -0.2]))
    made.latents_std.copy_(torch.tensor([2.8, 1.4, 2.3, 0.8]))
    return made


def shaken(model: nn.Module) -> nn.Module:
    """The model with all its parameters random, also those that begin as zeros."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return model


def dit(**changes: object) -> DiTTransformer2DModel:
    """The blocks of DiT, very narrow, with its learned variance."""
    config: dict[str, object] = {
        "num_attention_heads": 2, "attention_head_dim": 4, "num_layers": 4, "sample_size": SIDE, "out_channels": 8
    }  # fmt: skip
    return shaken(DiTTransformer2DModel(**(config | changes)))


def pixart(**changes: object) -> PixArtTransformer2DModel:
    """The blocks of PixArt, very narrow, with their learned variance."""
    config: dict[str, object] = {
        "num_attention_heads": 2, "attention_head_dim": 4, "num_layers": 4, "sample_size": SIDE, "out_channels": 8,
        "cross_attention_dim": 8, "caption_channels": 12,
    }  # fmt: skip
    return shaken(PixArtTransformer2DModel(**(config | changes)))


def sd3(**changes: object) -> SD3Transformer2DModel:
    """The blocks of Stable Diffusion 3, very narrow."""
    config: dict[str, object] = {
        "num_attention_heads": 2, "attention_head_dim": 4, "num_layers": 4, "sample_size": SIDE, "in_channels": 4,
        "out_channels": 4, "joint_attention_dim": 20, "pooled_projection_dim": 16, "caption_projection_dim": 8,
        "pos_embed_max_size": 8,
    }  # fmt: skip
    return shaken(SD3Transformer2DModel(**(config | changes)))


def sana(**changes: object) -> SanaTransformer2DModel:
    """The blocks of Sana, very narrow."""
    config: dict[str, object] = {
        "num_attention_heads": 2, "attention_head_dim": 4, "num_layers": 4, "sample_size": SIDE, "in_channels": 4,
        "out_channels": 4, "num_cross_attention_heads": 4, "cross_attention_head_dim": 2, "cross_attention_dim": 8,
        "caption_channels": 12,
    }  # fmt: skip
    return shaken(SanaTransformer2DModel(**(config | changes)))


def flux(**changes: object) -> FluxTransformer2DModel:
    """The blocks of FLUX.1-dev, very narrow; with ``guidance_embeds=False`` those of FLUX.1-schnell."""
    config: dict[str, object] = {
        "num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2, "num_single_layers": 4, "in_channels": 16,
        "joint_attention_dim": 20, "pooled_projection_dim": 8, "axes_dims_rope": (4, 2, 2), "guidance_embeds": True,
    }  # fmt: skip
    return shaken(FluxTransformer2DModel(**(config | changes)))


def flux2(**changes: object) -> Flux2Transformer2DModel:
    """The blocks of FLUX.2, very narrow; with ``guidance_embeds=False`` those of FLUX.2 klein."""
    config: dict[str, object] = {
        "num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 2, "num_single_layers": 4, "in_channels": 16,
        "joint_attention_dim": 24, "timestep_guidance_channels": 8, "axes_dims_rope": (2, 2, 2, 2),
    }  # fmt: skip
    return shaken(Flux2Transformer2DModel(**(config | changes)))


def wan(**changes: object) -> WanTransformer3DModel:
    """The blocks of Wan, very narrow."""
    config: dict[str, object] = {
        "num_attention_heads": 2, "attention_head_dim": 12, "num_layers": 4, "in_channels": 4, "out_channels": 4,
        "text_dim": 12, "freq_dim": 8, "ffn_dim": 40,
    }  # fmt: skip
    return shaken(WanTransformer3DModel(**(config | changes)))


def ltx(**changes: object) -> LTXVideoTransformer3DModel:
    """The blocks of LTX-Video, very narrow."""
    config: dict[str, object] = {
        "num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 4, "in_channels": 4, "out_channels": 4,
        "cross_attention_dim": 16, "caption_channels": 12,
    }  # fmt: skip
    return shaken(LTXVideoTransformer3DModel(**(config | changes)))


def qwen(**changes: object) -> QwenImageTransformer2DModel:
    """The blocks of Qwen-Image, very narrow."""
    config: dict[str, object] = {
        "num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 4, "in_channels": 16, "out_channels": 4,
        "joint_attention_dim": 16, "axes_dims_rope": (4, 2, 2),
    }  # fmt: skip
    return shaken(QwenImageTransformer2DModel(**(config | changes)))


def aura(**changes: object) -> AuraFlowTransformer2DModel:
    """The blocks of AuraFlow, very narrow."""
    config: dict[str, object] = {
        "num_attention_heads": 2, "attention_head_dim": 4, "num_mmdit_layers": 2, "num_single_dit_layers": 3,
        "sample_size": SIDE, "joint_attention_dim": 12, "caption_projection_dim": 8, "pos_embed_max_size": 64,
    }  # fmt: skip
    return shaken(AuraFlowTransformer2DModel(**(config | changes)))


def lumina(**changes: object) -> Lumina2Transformer2DModel:
    """The blocks of Lumina-Image 2.0, very narrow, in which two heads share keys and values."""
    config: dict[str, object] = {
        "num_attention_heads": 4, "num_kv_heads": 2, "hidden_size": 32, "num_layers": 4, "num_refiner_layers": 1,
        "sample_size": SIDE, "in_channels": 4, "cap_feat_dim": 12, "multiple_of": 8, "axes_dim_rope": (4, 2, 2),
    }  # fmt: skip
    return shaken(Lumina2Transformer2DModel(**(config | changes)))


def z_image(**changes: object) -> ZImageTransformer2DModel:
    """The blocks of Z-Image, very narrow."""
    config: dict[str, object] = {
        "n_heads": 4, "n_kv_heads": 4, "dim": 32, "n_layers": 4, "n_refiner_layers": 1, "in_channels": 4,
        "cap_feat_dim": 12, "axes_dims": (4, 2, 2), "axes_lens": (1024, 16, 16),
    }  # fmt: skip
    return shaken(ZImageTransformer2DModel(**(config | changes)))


def save_dit(folder: Path, seed: int = 0) -> Path:
    """A DiT pipeline, whose conditions are classes."""
    torch.manual_seed(seed)
    pipeline = DiTPipeline(transformer=dit(), vae=vae(), scheduler=scheduler())
    pipeline.register_to_config(id2label=CLASSES)
    pipeline.save_pretrained(folder)
    return folder


def save_pixart(folder: Path, kind: str = "alpha", seed: int = 0, **changes: object) -> Path:
    """A PixArt-α or PixArt-Σ pipeline."""
    torch.manual_seed(seed)
    parts: dict[str, Any] = {"tokenizer": t5_tokenizer(), "text_encoder": t5_encoder(12), "vae": vae()}
    cls = PixArtAlphaPipeline if kind == "alpha" else PixArtSigmaPipeline
    cls(**parts, transformer=pixart(**changes), scheduler=scheduler()).save_pretrained(folder)
    return folder


def save_sd3(folder: Path, absent: Sequence[int] = (), seed: int = 0) -> Path:
    """A Stable Diffusion 3 pipeline; of its three text encoders those ``absent`` are missing."""
    torch.manual_seed(seed)
    spelled = folder.parent / f"{folder.name}-tokenizer"
    parts: dict[str, Any] = {}
    for number, ending in ((1, ""), (2, "_2"), (3, "_3")):
        there = number not in absent
        encoder = t5_encoder(20) if number == 3 else CLIPTextModelWithProjection(text_config())
        parts[f"text_encoder{ending}"] = encoder if there else None
        spells = t5_tokenizer() if number == 3 else tokenizer(spelled)
        parts[f"tokenizer{ending}"] = spells if there else None
    pipeline = StableDiffusion3Pipeline(
        transformer=sd3(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae(shift_factor=0.06),
        **parts,
    )
    pipeline.save_pretrained(folder)
    return folder


def save_sana(folder: Path, seed: int = 0, scheduler: Any = None, **changes: object) -> Path:
    """A Sana pipeline, with changes of its transformer; the scheduler is the one it was published with."""
    torch.manual_seed(seed)
    published = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
    pipeline = SanaPipeline(
        tokenizer=gemma_tokenizer(),
        text_encoder=gemma(12),
        vae=deep_vae(),
        transformer=sana(**changes),
        scheduler=scheduler or DPMSolverMultistepScheduler(**published),
    )
    pipeline.save_pretrained(folder)
    return folder


def save_flux(folder: Path, kind: str = "dev", seed: int = 0, **changes: object) -> Path:
    """A Flux pipeline, FLUX.1-dev or FLUX.1-schnell, with changes of its transformer.

    Images are of any size, and 16 times as many pixels a side as here by default.
    """
    torch.manual_seed(seed)
    dev = kind == "dev"
    pipeline = FluxPipeline(
        text_encoder=CLIPTextModel(text_config()),
        tokenizer=tokenizer(folder.parent / f"{folder.name}-tokenizer"),
        text_encoder_2=t5_encoder(20),
        tokenizer_2=t5_tokenizer(),
        transformer=flux(**{"guidance_embeds": dev} | changes),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0 if dev else 1.0, use_dynamic_shifting=dev),
        vae=vae(shift_factor=0.1159, scaling_factor=0.3611),
    )
    pipeline.save_pretrained(folder)
    return folder


def save_wan(
    folder: Path, autoencoder: Mapping[str, object] = MappingProxyType({}), seed: int = 0, scheduler: Any = None,
    **changes: object,
) -> Path:  # fmt: skip
    """A Wan pipeline, with changes of its autoencoder and its transformer; the scheduler is the published one.

    Videos are of any size and length, and by default as large and as long as those of published models.
    """
    torch.manual_seed(seed)
    published = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
    pipeline = WanPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=umt5_encoder(12),
        vae=video_vae(**autoencoder),
        transformer=wan(**changes),
        scheduler=scheduler or UniPCMultistepScheduler(**published),
    )
    pipeline.save_pretrained(folder)
    return folder


def save_qwen(folder: Path, seed: int = 0, **changes: object) -> Path:
    """A Qwen-Image pipeline, with changes of its transformer; images are of any size, as Flux's."""
    torch.manual_seed(seed)
    shifted = {"use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 0.9, "max_image_seq_len": 8192}
    pipeline = QwenImagePipeline(
        text_encoder=qwen_vl(16),
        tokenizer=qwen_tokenizer(),
        transformer=qwen(**changes),
        scheduler=FlowMatchEulerDiscreteScheduler(**shifted, shift_terminal=0.02, time_shift_type="exponential"),
        vae=qwen_vae(),
    )
    pipeline.save_pretrained(folder)
    return folder


def save_ltx(
    folder: Path, autoencoder: Mapping[str, object] = MappingProxyType({}), seed: int = 0, **changes: object
) -> Path:
    """An LTX-Video pipeline, with changes of its autoencoder and transformer; the scheduler is the published one."""
    torch.manual_seed(seed)
    dynamic = {"use_dynamic_shifting": True, "base_shift": 0.95, "max_shift": 2.05, "base_image_seq_len": 1024}
    pipeline = LTXPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5_encoder(12),
        vae=ltx_vae(**autoencoder),
        transformer=ltx(**changes),
        scheduler=FlowMatchEulerDiscreteScheduler(**dynamic, max_image_seq_len=4096, shift_terminal=0.1),
    )
    pipeline.save_pretrained(folder)
    return folder


def save_aura(folder: Path, seed: int = 0) -> Path:
    """An AuraFlow pipeline."""
    torch.manual_seed(seed)
    parts: dict[str, Any] = {"tokenizer": t5_tokenizer(), "text_encoder": umt5_encoder(12), "vae": vae()}
    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.73)
    AuraFlowPipeline(**parts, transformer=aura(), scheduler=scheduler).save_pretrained(folder)
    return folder


def save_lumina(folder: Path, seed: int = 0) -> Path:
    """A Lumina-Image 2.0 pipeline."""
    torch.manual_seed(seed)
    pipeline = Lumina2Pipeline(
        tokenizer=gemma_tokenizer(),
        text_encoder=gemma(12),
        vae=vae(shift_factor=0.1159, scaling_factor=0.3611),
        transformer=lumina(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=6.0),
    )
    pipeline.save_pretrained(folder)
    return folder


def save_zimage(folder: Path, seed: int = 0) -> Path:
    """A Z-Image pipeline; images are of any size, as Flux's."""
    torch.manual_seed(seed)
    pipeline = ZImagePipeline(
        tokenizer=chat_tokenizer(),
        text_encoder=qwen3(12),
        vae=vae(shift_factor=0.1159, scaling_factor=0.3611),
        transformer=z_image(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )
    pipeline.save_pretrained(folder)
    return folder


def save_flux2(folder: Path, seed: int = 0) -> Path:
    """A FLUX.2 pipeline. Published ones hold their tokenizer in a processor of texts and images."""
    torch.manual_seed(seed)
    pipeline = Flux2Pipeline(
        tokenizer=mistral_tokenizer(),
        text_encoder=mistral(8),
        vae=flux2_vae(),
        transformer=flux2(),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
    )
    pipeline.save_pretrained(folder)
    return folder


def save_klein(folder: Path, is_distilled: bool = False, seed: int = 0) -> Path:
    """A FLUX.2 klein pipeline, which is guided unless it is distilled."""
    torch.manual_seed(seed)
    pipeline = Flux2KleinPipeline(
        tokenizer=chat_tokenizer(),
        text_encoder=qwen3(8, layers=27),
        vae=flux2_vae(),
        transformer=flux2(guidance_embeds=False),
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        is_distilled=is_distilled,
    )
    pipeline.save_pretrained(folder)
    return folder
