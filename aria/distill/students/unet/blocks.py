"""Which blocks of a UNet stay: a small declarative map, checked against the teacher.

A map names only what changes; a stage that it does not name stays whole::

    {"down": {"0": {"resnets": [0]}, "3": false}, "mid": false, "up": {"3": {"resnets": [0, 2], "attentions": []}}}

- ``false`` removes a stage, ``true`` keeps it whole; ``down`` and ``up`` may also be lists with one entry per stage.
- ``resnets``: the resnets that stay. ``attentions``: the same numbers, or [] for none (the default follows the
  resnets). ``transformer_blocks``: the blocks that stay within each attention of the stage.
- An up stage mirrors a down stage: it goes when that goes, keeps one resnet more, and by default it follows
  it, keeping the first resnets and its last one, which reads the skip connection from the stage before.
- ``mid: false`` removes the mid block. Kept, it has as many transformer blocks as the last down stage.

The student is whatever diffusers builds from a plain config, so a map that no config expresses is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aria.distill.students.config import Config, numbers, public
from aria.distill.students.unet.stages import WITHOUT_ATTENTION, Stage, Stages, read_stages

KEYS = ("resnets", "attentions", "transformer_blocks")
PER_STAGE = ("block_out_channels", "attention_head_dim", "cross_attention_dim", "only_cross_attention")
"""What a config may give once for every stage, besides what a map itself decides."""

BLOCK = re.compile(r"^(down|up)_blocks\.(\d+)\.(.*)$")
LAYER = re.compile(r"^(resnets|attentions)\.(\d+)(.*)$")
INNER = re.compile(r"\.transformer_blocks\.(\d+)\.")


@dataclass(frozen=True)
class Kept:
    """What stays of one stage of the teacher."""

    stage: Stage
    resnets: tuple[int, ...]
    attention: bool
    blocks: tuple[int, ...] | None
    """The transformer blocks that stay in each attention; None: all."""

    @property
    def type(self) -> str:
        return self.stage.type if self.attention else WITHOUT_ATTENTION[self.stage.type]

    @property
    def depth(self) -> int | list[int]:
        """The number of transformer blocks, in the notation of diffusers' configs."""
        if self.blocks is not None:
            return len(self.blocks)
        depth = self.stage.depth
        return depth if isinstance(depth, int) else [depth[j] for j in self.resnets]


@dataclass(frozen=True)
class BlockMap:
    """The student's stages in order, each with the stage of the teacher that it comes from."""

    teacher: Stages
    down: tuple[Kept, ...]
    mid: bool
    up: tuple[Kept, ...]

    def config(self, teacher: Config) -> dict[str, Any]:
        """The student's config: the teacher's, with the stages, layers and attentions that stay."""
        stages = [kept.stage.number for kept in self.down]
        student = {key: _pick(key, value, stages) for key, value in public(teacher).items()}
        depths, up_depths = [kept.depth for kept in self.down], [kept.depth for kept in self.up]
        symmetric = up_depths == depths[::-1] and all(isinstance(depth, int) for depth in depths)
        student |= {
            "down_block_types": [kept.type for kept in self.down],
            "up_block_types": [kept.type for kept in self.up],
            "layers_per_block": _once([len(kept.resnets) for kept in self.down]),
            "transformer_layers_per_block": _once(depths),
            "reverse_transformer_layers_per_block": None if symmetric else up_depths,
            "mid_block_type": teacher["mid_block_type"] if self.mid else None,
        }
        return student

    def source(self, name: str) -> str:
        """The teacher's name of the student's module or tensor ``name``."""
        if name.startswith("mid_block."):
            return _inner(name, self.down[-1].blocks)
        match = BLOCK.match(name)
        if match is None:
            return name
        kept = getattr(self, match[1])[int(match[2])]
        layer = LAYER.match(match[3])
        rest = f"{layer[1]}.{kept.resnets[int(layer[2])]}{_inner(layer[3], kept.blocks)}" if layer else match[3]
        return f"{match[1]}_blocks.{kept.stage.number}.{rest}"

    def feature_pairs(self) -> list[tuple[str, str]]:
        """Modules of teacher and student whose outputs correspond: those of the down and up stages, not the mid block.

        A stage that has become the last lost its downsampler; there the last attentions correspond (or, without
        attention, the last resnets).
        """
        pairs = []
        for number, kept in enumerate(self.down):
            teacher, student = f"down_blocks.{kept.stage.number}", f"down_blocks.{number}"
            if number == len(self.down) - 1 and kept.stage.number < len(self.teacher.down) - 1:
                layer = "attentions" if kept.attention else "resnets"
                tail = ".proj_out" if kept.type.startswith("CrossAttn") else ""
                teacher += f".{layer}.{kept.stage.resnets - 1}{tail}"
                student += f".{layer}.{len(kept.resnets) - 1}{tail}"
            pairs.append((teacher, student))
        pairs += [(f"up_blocks.{kept.stage.number}", f"up_blocks.{number}") for number, kept in enumerate(self.up)]
        return pairs


def read_map(spec: Mapping[str, Any], config: Config) -> BlockMap:
    """The map that ``spec`` describes, for a teacher with ``config``. What it cannot mean is refused, entry by entry.

    >>> config = {"down_block_types": ["DownBlock2D"] * 2, "up_block_types": ["UpBlock2D"] * 2, "layers_per_block": 2,
    ...           "block_out_channels": [4, 8], "attention_head_dim": 1, "cross_attention_dim": 8,
    ...           "transformer_layers_per_block": 1, "mid_block_type": None}
    >>> read_map({"down": {"1": {"resnets": [0]}}}, config).source("up_blocks.0.resnets.1.conv1.weight")
    'up_blocks.0.resnets.2.conv1.weight'
    """
    if not isinstance(spec, Mapping) or set(spec) - {"down", "mid", "up"}:
        raise ValueError(f"a block map is an object with the keys down, mid and up, got {repr(spec)[:60]}")
    stages = read_stages(config)
    given = {side: _entries(spec, side, len(stages.down)) for side in ("down", "up")}
    down = {s: _down(stage, given["down"].get(s, True)) for s, stage in enumerate(stages.down)}
    if down[0] is None:
        raise ValueError("down.0 cannot be removed: it reads conv_in")
    up = {i: _up(stage, given["up"].get(i), down[stages.mirror(i)]) for i, stage in enumerate(stages.up)}
    mid = spec.get("mid", stages.mid is not None)
    blocks = BlockMap(stages, _those(down), mid, _those(up))
    _check_mid(blocks, spec)
    _check_channels(blocks, config)
    return blocks


# --------------------------------------------------------------------------------------------- reading a map's entries


def _entries(spec: Mapping[str, Any], side: str, count: int) -> dict[int, Any]:
    """The entries of ``spec`` for the stages of one side, by stage number."""
    given = spec.get(side, {})
    if isinstance(given, Mapping):
        try:
            entries = {int(key): entry for key, entry in given.items()}
        except (TypeError, ValueError):
            raise ValueError(f"{side}: the keys are stage numbers from 0 to {count - 1}, got {list(given)}") from None
    elif isinstance(given, Sequence) and not isinstance(given, str) and len(given) == count:
        entries = dict(enumerate(given))
    else:
        raise ValueError(f"{side} is an object by stage number or a list of {count} entries, got {given!r}")
    for number, entry in entries.items():
        if not 0 <= number < count:
            raise ValueError(f"{side}.{number}: the teacher's stages are {side}.0 to {side}.{count - 1}")
        if not isinstance(entry, bool | Mapping) or (isinstance(entry, Mapping) and set(entry) - set(KEYS)):
            raise ValueError(f"{side}.{number} is true, false or an object with {', '.join(KEYS)}, got {entry!r}")
    return entries


def _those(kept: Mapping[int, Kept | None]) -> tuple[Kept, ...]:
    return tuple(stage for _, stage in sorted(kept.items()) if stage is not None)


def _down(stage: Stage, entry: bool | Mapping[str, Any]) -> Kept | None:
    if entry is False:
        return None
    return _kept(stage, {} if entry is True else entry)


def _up(stage: Stage, entry: bool | Mapping[str, Any] | None, mirror: Kept | None) -> Kept | None:
    """An up stage follows the down stage it mirrors in what ``entry`` leaves open."""
    if mirror is None:
        if entry:
            raise ValueError(f"{stage.name} cannot stay: the down stage it mirrors is removed")
        return None
    if entry is False:
        raise ValueError(f"{stage.name} cannot be removed: {mirror.stage.name}, which it mirrors, stays")
    count = len(mirror.resnets)
    entries: dict[str, Any] = {}
    if entry is not True:
        entries = {"resnets": [*range(count), stage.resnets - 1], **(entry or {})}
        if mirror.stage.attention and not mirror.attention:
            entries.setdefault("attentions", [])
        if mirror.blocks is not None and stage.attention and entries.get("attentions") != []:
            entries.setdefault("transformer_blocks", list(mirror.blocks))
    kept = _kept(stage, entries)
    if len(kept.resnets) != count + 1:
        raise ValueError(
            f"{stage.name}.resnets {list(kept.resnets)}: {mirror.stage.name} keeps {count}, so {count + 1} must stay"
        )
    return kept


def _kept(stage: Stage, entries: Mapping[str, Any]) -> Kept:
    """What stays of ``stage`` by its ``entries``; without an entry all of it."""
    resnets = numbers(f"{stage.name}.resnets", entries.get("resnets", range(stage.resnets)), stage.resnets)
    attentions = list(resnets) if stage.attention else []
    if entries.get("attentions", attentions) not in (attentions, []):
        choice = f"{attentions} or []" if stage.attention else "[]"
        raise ValueError(
            f"{stage.name}.attentions must be {choice}, got {entries['attentions']!r}: "
            f"a stage has an attention after every resnet or none"
        )
    attention = bool(entries.get("attentions", attentions))
    if "transformer_blocks" not in entries:
        return Kept(stage, resnets, attention, None)
    name = f"{stage.name}.transformer_blocks"
    if not (attention and stage.type.startswith("CrossAttn")):
        raise ValueError(f"{name}: no attention with transformer blocks stays in this {stage.type}")
    return Kept(stage, resnets, attention, numbers(name, entries["transformer_blocks"], _depth(stage, resnets)))


def _depth(stage: Stage, resnets: tuple[int, ...]) -> int:
    return min(stage.depth_of(j) for j in resnets)


# ------------------------------------------------------------------------------------- what a plain config can express


def _check_mid(blocks: BlockMap, spec: Mapping[str, Any]) -> None:
    """The mid block takes its width, heads, context and depth from the last down stage."""
    teacher, last = blocks.teacher.down[-1], blocks.down[-1]
    if not isinstance(blocks.mid, bool) or (blocks.mid and blocks.teacher.mid is None):
        raise ValueError(f"mid must be {'true or false' if blocks.teacher.mid else 'false: the teacher has none'}, "
                         f"got {spec.get('mid')!r}")  # fmt: skip
    if not blocks.mid:
        return
    for what in ("channels", "heads", "context"):
        old, new = getattr(teacher, what), getattr(last.stage, what)
        if old != new:
            raise ValueError(f"mid cannot stay: it has {what} {old}, and the last stage {last.stage.name} has {new}")
    if blocks.teacher.mid != "UNetMidBlock2DCrossAttn":
        return
    depth = last.depth if isinstance(last.depth, int) else last.depth[0]
    source = blocks.teacher.mid_depth
    if (depth != source) if last.blocks is None else (last.blocks[-1] >= source):
        raise ValueError(f"mid cannot stay: it has {source} transformer blocks, not those of {last.stage.name}")


def _check_channels(blocks: BlockMap, teacher: Config) -> None:
    """Every resnet that stays must read as many channels as it did in the teacher."""
    student = read_stages(blocks.config(teacher))
    for kept, stage in zip([*blocks.down, *blocks.up], [*student.down, *student.up]):
        for resnet, here in zip(kept.resnets, stage.reads):
            there = kept.stage.reads[resnet]
            if there != here:
                raise ValueError(
                    f"{kept.stage.name}.resnets {list(kept.resnets)}: resnet {resnet} reads {_sum(there)} channels in "
                    f"the teacher and would read {_sum(here)}; keep the first resnet first"
                    f"{', the last one last' if stage.side == 'up' else ''}, and the stage before"
                )


def _sum(channels: tuple[int, ...]) -> str:
    return "+".join(map(str, channels))


def _inner(name: str, blocks: tuple[int, ...] | None) -> str:
    """``name`` with the number of its transformer block in the teacher."""
    if blocks is None:
        return name
    return INNER.sub(lambda match: f".transformer_blocks.{blocks[int(match[1])]}.", name)


def _pick(key: str, value: Any, stages: list[int]) -> Any:
    """A setting of the config; of one that has an entry for every stage, the entries of the stages that stay."""
    if key not in PER_STAGE or not isinstance(value, Sequence):
        return value
    return [value[s] for s in stages]


def _once(values: list[Any]) -> Any:
    """One value in place of a list of equal ones, as the configs of diffusers have it."""
    return values[0] if all(value == values[0] for value in values) and isinstance(values[0], int) else values
