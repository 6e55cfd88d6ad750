"""The transformers that students can be made from, and what differs between them.

All are a list of blocks between an embedding of patches and a last layer, as wide everywhere: the *inner width*, heads
times the width of a head. In Flux, FLUX.2 and AuraFlow a second list follows, whose blocks have one stream for text and
image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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

from aria.distill.students.config import Config


@dataclass(frozen=True)
class Family:
    """One class of transformers."""

    model: type[Any]
    tokens: int
    """Tokens of context of one prompt, for counting multiply-adds."""
    stays: int | None = None
    """The block that cannot go: 0 the first, −1 the last."""
    why: str = ""
    """Why it cannot."""
    follows: tuple[str, ...] = ()
    """Settings that are the inner width, besides heads and their width."""
    tap: str = ""
    """What is compared of a block: the name of a layer in it, or the block's own output."""
    single_tap: str = ""
    """What is compared of a block with one stream, where there are any."""
    side: int | None = None
    """Latents a side, for counting multiply-adds, of models whose config does not say."""
    blocks: str = "transformer_blocks"
    """What the model calls the list of its blocks."""
    layers: str = "num_layers"
    """The setting with their number."""
    singles: str = "single_transformer_blocks"
    """What it calls the list of those with one stream."""
    single_layers: str = "num_single_layers"
    """The setting with their number."""
    heads_setting: str = "num_attention_heads"
    """The setting with the number of heads."""
    shared_setting: str = "num_kv_heads"
    """The setting with the number of heads of keys and values, where there may be fewer."""
    returns: tuple[str, ...] = ("encoder_hidden_states", "hidden_states")
    """What a block with two streams returns, by the names of its arguments."""
    axes: str = "axes_dims_rope"
    """The setting with the entries of a head for each axis, where positions are rotary."""
    learned: bool = False
    """Whether positions are learned."""
    rotary: Callable[[int], tuple[int, ...]] | None = None
    """The same by the width of a head, where no setting says."""
    video: tuple[int, int, int] | None = None
    """Latents along time, height and width, for counting multiply-adds, of models of videos."""
    whole: str = ""
    """Why its blocks cannot be narrower, where they cannot."""

    def shallower(self, config: Config, kept: tuple[int, ...], singles: tuple[int, ...] = ()) -> dict[str, Any]:
        """``config`` with the blocks ``kept`` and ``singles`` only, including its settings of particular blocks."""
        student = {**config, self.layers: len(kept)}
        if self.single_layers in config:
            student[self.single_layers] = len(singles)
        if dual := config.get("dual_attention_layers"):
            student["dual_attention_layers"] = [place for place, block in enumerate(kept) if block in dual]
        return student

    def narrower(self, config: Config, heads: int, head_width: int) -> dict[str, Any]:
        """``config`` with ``heads`` heads of ``head_width`` each. Cross-attention's own heads, where it has any, are
        reduced by the same factor, a tie rounded up, as is a feed-forward layer with a width of its own, and those of
        keys and values, where they are fewer, by exactly that factor; every axis of rotary positions by the factor of a
        head's width."""
        width, (all_heads, whole) = heads * head_width, self.heads(config)
        student = {**config, self.heads_setting: heads}
        if "attention_head_dim" in config:
            student["attention_head_dim"] = head_width
        if axes := config.get(self.axes):
            student[self.axes] = [axis * head_width // whole for axis in axes]
        if shared := config.get(self.shared_setting):
            student[self.shared_setting] = shared * heads // all_heads
        student |= dict.fromkeys(self.following(config), width)
        wide = all_heads * whole
        for name in ("num_cross_attention_heads", "ffn_dim"):
            if size := config.get(name):
                student[name] = max(1, (2 * size * width + wide) // (2 * wide))
        return student

    def axes_of(self, config: Config) -> tuple[int, ...]:
        """Entries of a head for each axis of rotary positions; none where positions are not rotary."""
        return tuple(config.get(self.axes) or ()) if self.rotary is None else self.rotary(self.heads(config)[1])

    def heads(self, config: Config) -> tuple[int, int]:
        """The number of heads, and the width of each."""
        heads = int(config[self.heads_setting])
        return heads, int(config.get("attention_head_dim") or config[self.follows[0]] // heads)

    def following(self, config: Config) -> tuple[str, ...]:
        """The settings that have to be the inner width: where captions are not projected to it, none."""
        return () if "caption_channels" in config and config["caption_channels"] is None else self.follows

    def head_unit(self, config: Config) -> int:
        """What the width of a head must be a multiple of: rotary positions turn pairs of its entries, so that of each
        axis a whole number of pairs has to stay."""
        axes = self.axes_of(config)
        return self.heads(config)[1] // math.gcd(*(axis // 2 for axis in axes)) if axes else 1

    def heads_unit(self, config: Config, head_width: int) -> int:
        """What the number of heads of ``head_width`` must be a multiple of: together they are as wide as they can be,
        and as many share the keys and values of one."""
        heads, unit = self.heads(config)[0], self.unit(config)
        sharing = heads // math.gcd(heads, config.get(self.shared_setting) or heads)
        return math.lcm(unit // math.gcd(unit, head_width), sharing)

    def unit(self, config: Config) -> int:
        """What the inner width must be a multiple of.

        Positions are sines and cosines of two axes, unless they are rotary or learned. The embedding of an image's
        size, in models that take it, has three parts.
        """
        if self.learned or self.axes_of(config):
            return 1
        sized = config.get("use_additional_conditions")
        if sized is None:
            sized = self.model is PixArtTransformer2DModel and config["sample_size"] == 128
        return math.lcm(4, 3) if sized else 4


def _of_video(head_width: int) -> tuple[int, int, int]:
    """Of time, height and width: a third each, in whole pairs, and what is left to time."""
    side = 2 * (head_width // 6)
    return head_width - 2 * side, side, side


FAMILIES = (
    Family(
        DiTTransformer2DModel,
        tokens=0,
        stays=0,
        why="it embeds the timestep and the class for the last layer",
    ),
    Family(PixArtTransformer2DModel, tokens=120, follows=("cross_attention_dim",)),
    Family(SanaTransformer2DModel, tokens=300, follows=("cross_attention_dim",)),
    Family(
        SD3Transformer2DModel,
        tokens=77 + 256,
        stays=-1,
        why="it alone ends the text's stream",
        follows=("caption_projection_dim",),
        tap="norm2",  # the image's stream behind the attention; the block itself returns text and image
    ),
    Family(
        FluxTransformer2DModel,
        tokens=512,
        tap="norm2",  # as above
        single_tap="norm.norm",  # the stream in front of the block, which returns text and image
        side=128,
    ),
    Family(
        Flux2Transformer2DModel,
        tokens=512,
        tap="norm2",  # as above
        side=128,
    ),
    Family(
        QwenImageTransformer2DModel,
        tokens=512,
        tap="img_norm2",  # as above
        side=128,
    ),
    Family(
        AuraFlowTransformer2DModel,
        tokens=256,
        follows=("caption_projection_dim",),
        tap="norm2",  # as above
        blocks="joint_transformer_blocks",
        layers="num_mmdit_layers",
        single_layers="num_single_dit_layers",
        learned=True,
    ),
    Family(
        Lumina2Transformer2DModel,
        tokens=256,
        follows=("hidden_size",),
        blocks="layers",
        axes="axes_dim_rope",
    ),
    Family(
        ZImageTransformer2DModel,
        tokens=512,
        follows=("dim",),
        side=128,
        blocks="layers",
        layers="n_layers",
        heads_setting="n_heads",
        shared_setting="n_kv_heads",
        axes="axes_dims",
    ),
    Family(
        WanTransformer3DModel,
        tokens=512,
        video=(21, 60, 104),
        blocks="blocks",
        rotary=_of_video,
    ),
    Family(
        LTXVideoTransformer3DModel,
        tokens=128,
        video=(21, 16, 22),
        whole="rotary positions turn the entries of all heads as one, so that every head has frequencies of its own",
    ),
)


def family_of(model: type[Any]) -> Family | None:
    """The family of a model's class; None for a class of another kind, such as a UNet's."""
    return next((family for family in FAMILIES if issubclass(model, family.model)), None)
