"""Checkpoints: everything a resumed run needs to go on bit for bit, as safetensors and JSON.

A checkpoint is written beside its place and renamed when it is complete, so one under its proper name is whole unless
the disk lost something afterwards; the sizes of its files are written down to notice that.
"""

from __future__ import annotations

import copy
import json
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from diffusers import ModelMixin
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from aria import checks, files
from aria.distill.engine import optimiser, sharding
from aria.distill.engine.distiller import Distiller
from aria.distill.students.factorise import is_factorised, unfactorise
from aria.distill.students.low_rank import adapters, merge

_NAME = re.compile(r"checkpoint-(\d+)")
_STATE = "state.json"
_FORMAT = 2
_COUNTERS = ("settings", "step", "steps_seen", "seen_since", "average_steps", "learning_rate", "scaler")
WEIGHTS = "diffusion_pytorch_model.safetensors"
"""diffusers' name for a model's weights."""

log = logging.getLogger(__name__)


def folders(output: Path) -> list[Path]:
    """The checkpoints of a run, the oldest first."""
    found = [entry for entry in output.iterdir() if _NAME.fullmatch(entry.name)] if output.is_dir() else []
    return sorted(found, key=step_of)


def save(distiller: Distiller, output: Path, *, settings: dict[str, Any], limit: int | None = None) -> Path:
    """Write ``checkpoint-{step}`` and remove the oldest beyond ``limit``. Every rank calls it, the first one writes."""
    target = output / f"checkpoint-{distiller.step_count}"
    distiller.accelerator.wait_for_everyone()
    tensors = _tensors(distiller)
    first = distiller.accelerator.is_main_process
    with files.replacing_folder(target) if first else nullcontext() as folder:
        for name, model in _models(distiller):
            if folder is not None and model is not None:
                _write_model(model, folder, name)
        if folder is not None:
            for name, group in tensors.items():
                files.write_tensors(folder / f"{name}.safetensors", group)
            state = {"format": _FORMAT, "settings": settings, **_counters(distiller)}
            files.write_json(folder / _STATE, {**state, "files": files.sizes(folder)})
    for old in folders(output)[:-limit] if first and limit else []:
        files.remove(old)
    distiller.accelerator.wait_for_everyone()
    return target


def load(distiller: Distiller, folder: Path, *, settings: dict[str, Any]) -> None:
    """Go on where the checkpoint was written; a torn or foreign one is refused with the reason."""
    state = check(folder)
    for name in sorted({*settings, *state["settings"]}):
        before, now = state["settings"].get(name), settings.get(name)
        if before != now:
            raise ValueError(
                f"{folder} was written with {name} = {before!r}, now it is {now!r}; "
                "resume with the same settings or begin in another output folder"
            )
    now = _counters(distiller)
    for name in ("learning_rate", "scaler"):
        if not _alike(state[name], now[name]):
            told = f"{name} is not as this run has it: {state[name]!r:.100}"
            raise ValueError(f"{folder / _STATE} is torn or foreign: {told}")
    try:
        groups = {name: load_file(folder / f"{name}.safetensors") for name in _tensors(distiller)}
        _load_models(distiller, folder)
        _load_weights(distiller.accelerator.unwrap_model(distiller.learner).projections, groups["projections"])
        optimiser.load_state_tensors(distiller.optimizer.optimizer, groups["optimizer"])
    except (SafetensorError, KeyError, RuntimeError) as error:
        why = " ".join(str(error).split())
        raise ValueError(f"{folder} does not hold this student: {why[:300]}") from error
    if distiller.average is not None:
        distiller.average.steps = state["average_steps"]
    distiller.learning_rate.load_state_dict(state["learning_rate"])
    for group, rate in zip(distiller.optimizer.param_groups, distiller.learning_rate.get_last_lr(), strict=True):
        group["lr"] = rate
    try:
        distiller.sampler.load_state_dict(groups["sampler"])
        distiller.batches.load_state_dict(groups["batches"])
        distiller.tally.load(groups["sums"], state["steps_seen"], state["seen_since"])
    except ValueError as error:
        raise ValueError(f"{folder} does not hold this run's state: {error}") from error
    distiller.step_count = state["step"]
    if distiller.accelerator.scaler is not None:
        distiller.accelerator.scaler.load_state_dict(state["scaler"])


def check(folder: Path) -> dict[str, Any]:
    """What the checkpoint says of itself, if it is one and whole."""
    if not (folder / _STATE).is_file():
        raise ValueError(f"{folder} is no checkpoint: it has no {_STATE}")
    try:
        state: dict[str, Any] = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        version, recorded = state["format"], dict(state["files"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{folder / _STATE} is torn or foreign: {error}") from None
    if version != _FORMAT:
        raise ValueError(f"{folder} has the checkpoint format {version!r}, this version reads {_FORMAT}")
    lacks = [name for name in _COUNTERS if name not in state]
    if lacks:
        raise ValueError(f"{folder / _STATE} is torn or foreign: it lacks {', '.join(lacks)}")
    if not isinstance(state["settings"], dict):
        raise ValueError(f"{folder / _STATE} is torn or foreign: settings is no object: {state['settings']!r:.100}")
    for name in ("step", "steps_seen", "seen_since", "average_steps"):
        checks.whole(f"{folder / _STATE} is torn or foreign: {name}", state[name], least=0)
    found = files.sizes(folder)
    for name, size in recorded.items():
        if found.get(name) != size:
            raise ValueError(f"{folder} is torn: {name} should have {size} bytes and has {found.get(name, 'none')}")
    return state


def _alike(told: Any, now: Any) -> bool:
    """Whether a value from JSON is built as the run's own: the same names, as many of each, of the same kinds."""
    match now:
        case dict():
            return isinstance(told, dict) and told.keys() == now.keys() and all(_alike(told[k], now[k]) for k in now)
        case list() | tuple():
            return isinstance(told, list) and len(told) == len(now) and all(map(_alike, told, now))
        case float():
            return type(told) in (int, float) and abs(told) <= sys.float_info.max
    return type(told) is type(now)


def latest(output: Path) -> Path | None:
    """The newest whole checkpoint of a run; torn ones are named in a warning and passed over, unless all are torn."""
    found = folders(output)
    for folder in reversed(found):
        try:
            check(folder)
        except ValueError as error:
            if folder == found[0]:
                raise
            log.warning("%s; looking for an older one", error)
            continue
        return folder
    return None


def step_of(folder: Path) -> int:
    """The step after which a checkpoint was written, by its name; 0 for one that has another name."""
    named = _NAME.fullmatch(folder.name)
    return int(named[1]) if named else 0


def save_model(model: nn.Module, folder: Path) -> None:
    """A model as diffusers saves it, so that ``from_pretrained`` opens it; any other module's weights alone."""
    if isinstance(model, ModelMixin):
        plain(model).save_pretrained(folder, max_shard_size="1TB")
        return
    folder.mkdir(parents=True)
    files.write_tensors(folder / WEIGHTS, model.state_dict())


def plain(model: Any) -> Any:
    """The model itself, or a copy whose low-rank adapters or factors are merged into plain layers."""
    if adapters(model):
        return merge(copy.deepcopy(model))
    return unfactorise(copy.deepcopy(model)) if is_factorised(model) else model


def _models(distiller: Distiller) -> Iterator[tuple[str, nn.Module | None]]:
    """The student and its moving average, whole, by the folder each is written to; None but on the first rank."""
    for name, weights in _versions(distiller).items():
        with weights:
            yield name, distiller.whole_student()


def _write_model(model: nn.Module, folder: Path, name: str) -> None:
    """A model that opens; of one with layers of its own kind also what trains."""
    save_model(model, folder / name)
    if _reshaped(model):
        files.write_tensors(folder / f"{name}.adapters.safetensors", _trained(model))


def _load_models(distiller: Distiller, folder: Path) -> None:
    student, average = distiller.student, distiller.average
    for name in _versions(distiller):
        partly = _reshaped(student)
        held = load_file(folder / f"{name}.adapters.safetensors" if partly else folder / name / WEIGHTS)
        if name == distiller.component:
            if partly and held.keys() != _trained(student).keys():
                raise KeyError(f"other adapters: {sorted(held.keys() ^ _trained(student).keys())[0]}")
            _load_weights(student, held, strict=not partly)
        elif average is not None:
            average.load(student, held)


def _load_weights(model: nn.Module, held: dict[str, Tensor], *, strict: bool = True) -> None:
    """Take up whole tensors, of which a rank of a divided model keeps its part."""
    now = model.state_dict()
    mine = {name: sharding.divided_as(value, now.get(name, value)) for name, value in held.items()}
    model.load_state_dict(mine, strict=strict)


def _reshaped(model: nn.Module) -> bool:
    """Whether the model trains in other layers than those it is saved with."""
    return bool(adapters(model)) or is_factorised(model)


def _versions(distiller: Distiller) -> dict[str, AbstractContextManager[None]]:
    """The folders that hold the student, and what puts the weights of each in place."""
    name, average = distiller.component, distiller.average
    averaged = {} if average is None else {f"{name}_ema": distiller.averaged()}
    return {name: nullcontext(), **averaged}


def _trained(model: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def _tensors(distiller: Distiller) -> dict[str, dict[str, Tensor]]:
    """Everything but the models, by file."""
    learner = distiller.accelerator.unwrap_model(distiller.learner)
    return {
        "projections": {name: sharding.whole(value) for name, value in learner.projections.state_dict().items()},
        "optimizer": optimiser.state_tensors(distiller.optimizer.optimizer),
        "sampler": distiller.sampler.state_dict(),
        "batches": distiller.batches.state_dict(distiller.accelerator.gather),
        "sums": distiller.tally.sums(),
    }


def _counters(distiller: Distiller) -> dict[str, Any]:
    scaler = distiller.accelerator.scaler
    return {
        "step": distiller.step_count,
        "steps_seen": distiller.tally.steps,
        "seen_since": distiller.tally.since,
        "average_steps": distiller.average.steps if distiller.average is not None else 0,
        "learning_rate": distiller.learning_rate.state_dict(),
        "scaler": scaler.state_dict() if scaler is not None else None,
    }
