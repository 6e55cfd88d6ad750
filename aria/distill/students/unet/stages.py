"""The stages of a ``UNet2DConditionModel`` as its config describes them, written out one by one.

A UNet has :math:`S` down stages and :math:`S` up stages. Down stage :math:`s` holds :math:`L_s` resnets of width
:math:`C_s`; up stage :math:`i` mirrors down stage :math:`S - 1 - i` and holds one resnet more, because it also reads
what the stage before it handed down. A stage has an attention after every resnet or none at all: its type says which.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aria.distill.students.config import Config

WITHOUT_ATTENTION = {
    "DownBlock2D": "DownBlock2D",
    "CrossAttnDownBlock2D": "DownBlock2D",
    "AttnDownBlock2D": "DownBlock2D",
    "ResnetDownsampleBlock2D": "ResnetDownsampleBlock2D",
    "SimpleCrossAttnDownBlock2D": "ResnetDownsampleBlock2D",
    "UpBlock2D": "UpBlock2D",
    "CrossAttnUpBlock2D": "UpBlock2D",
    "AttnUpBlock2D": "UpBlock2D",
    "ResnetUpsampleBlock2D": "ResnetUpsampleBlock2D",
    "SimpleCrossAttnUpBlock2D": "ResnetUpsampleBlock2D",
}
"""The block types whose layers can be removed one by one, and what each is called without its attentions."""


@dataclass(frozen=True)
class Stage:
    """One down or up stage of a UNet."""

    side: str
    """"down" or "up"."""
    number: int
    type: str
    channels: int
    resnets: int
    heads: int
    """What diffusers calls ``attention_head_dim`` in the config is the number of heads."""
    context: int
    depth: int | tuple[int, ...]
    """Transformer blocks in each attention; a tuple where the attentions of the stage differ."""
    reads: tuple[tuple[int, ...], ...]
    """Channels every resnet reads: from the layer before it and, in an up stage, over the skip connection."""

    @property
    def attention(self) -> bool:
        return WITHOUT_ATTENTION[self.type] != self.type

    @property
    def name(self) -> str:
        return f"{self.side}.{self.number}"

    def depth_of(self, attention: int) -> int:
        """Transformer blocks in one attention."""
        return self.depth if isinstance(self.depth, int) else self.depth[attention]


@dataclass(frozen=True)
class Stages:
    """The stages of a UNet, in the order of its forward pass."""

    down: tuple[Stage, ...]
    mid: str | None
    up: tuple[Stage, ...]

    def mirror(self, number: int) -> int:
        """The up stage that mirrors a down stage, and the other way round."""
        return len(self.down) - 1 - number

    @property
    def mid_depth(self) -> int:
        """Transformer blocks in the mid block: diffusers gives it as many as the last down stage."""
        return self.down[-1].depth_of(0)


def read_stages(config: Config) -> Stages:
    """The stages that diffusers builds from ``config``; a block type with layers of another kind is refused."""
    count = len(config["down_block_types"])
    for side in ("down", "up"):
        for number, kind in enumerate(config[f"{side}_block_types"]):
            if kind not in WITHOUT_ATTENTION:
                raise ValueError(f"{side}.{number} is a {kind}; only {', '.join(WITHOUT_ATTENTION)} can be pruned")
    channels = per_stage(config["block_out_channels"], count)
    layers = per_stage(config["layers_per_block"], count)
    heads = per_stage(config["attention_head_dim"], count)
    contexts = per_stage(config["cross_attention_dim"], count)
    depths = per_stage(config["transformer_layers_per_block"], count)
    up_depths = config.get("reverse_transformer_layers_per_block") or depths[::-1]

    def stage(side: str, number: int, source: int, depth: Any, reads: Sequence[tuple[int, ...]]) -> Stage:
        return Stage(
            side=side,
            number=number,
            type=config[f"{side}_block_types"][number],
            channels=channels[source],
            resnets=len(reads),
            heads=heads[source],
            context=contexts[source],
            depth=depth if isinstance(depth, int) else tuple(depth),
            reads=tuple(reads),
        )

    down, up = [], []
    for s in range(count):
        width, before = channels[s], channels[max(s - 1, 0)]
        down.append(stage("down", s, s, depths[s], [(width if j else before,) for j in range(layers[s])]))
    for i in range(count):
        s = count - 1 - i
        width, before, skip = channels[s], channels[min(s + 1, count - 1)], channels[max(s - 1, 0)]
        last = layers[s]
        reads = [(width if j else before, skip if j == last else width) for j in range(last + 1)]
        up.append(stage("up", i, s, up_depths[i], reads))
    return Stages(tuple(down), config.get("mid_block_type"), tuple(up))


def per_stage(value: Any, count: int) -> list[Any]:
    """A setting that config gives once for all stages or once for each, as a list with one entry per stage."""
    return list(value) if isinstance(value, Sequence) else [value] * count
