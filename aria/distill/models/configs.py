"""The JSON files of pipelines and models, checked before diffusers and transformers act on them.

Neither checks types or sizes: a foreign value fails wherever it is used, and ten million layers are made one by one.
"""

from __future__ import annotations

import inspect
import math
import types
import typing
from pathlib import Path
from typing import Any

from aria.fields import HUGE, short
from aria.regular import read_object, regular
from aria.text import shown

LIBRARIES = ("diffusers", "transformers")
"""The libraries that a pipeline's parts come from, besides the modules of diffusers' pipelines."""
LARGEST, DEEPEST = 1 << 24, 1000
"""The largest whole number of a configuration, and the largest that counts layers or blocks."""
COUNTS = ("num_layers", "num_single_layers", "num_mmdit_layers", "num_single_dit_layers", "num_refiner_layers",
          "num_hidden_layers", "num_decoder_layers", "layers_per_block", "transformer_layers_per_block", "num_blocks",
          "n_layers", "n_refiner_layers", "depth")  # fmt: skip
SIZES = ("num_train_timesteps", "sample_size", "pos_embed_max_size", "vocab_size", "max_position_embeddings")


def check_files(folder: Path) -> None:
    """Refuse a pipe, a device or a link to nothing among the files of a pipeline or a model, and of the folders in it;
    links to files are how the hub's cache keeps them."""
    for path in sorted(folder.iterdir()):
        for file in path.iterdir() if path.is_dir() else [path]:
            if not file.is_dir():
                regular(file)


def read_config(path: Path) -> dict[str, Any]:
    """The configuration of a model or of a scheduler."""
    config = read_object(path)
    _check_numbers(path, "", config)
    return config


def check_config(where: object, config: dict[str, Any], cls: type) -> None:
    """Refuse values that are text, a number, a list or an object where ``cls`` takes another of these; null and false
    may stand for all of them. A whole number is not infinite."""
    hints = typing.get_type_hints(vars(cls).get("__init__", object.__init__))
    for name, value in config.items():
        hint = hints.get(name, Any)
        allowed = _kinds(hint)
        if value is not None and value is not False and allowed and _kind(value) not in allowed:
            raise ValueError(f"{where}: {shown(name)} must be {' or '.join(sorted(allowed))}, got {short(value)}")
        if isinstance(value, float) and math.isinf(value) and int in (hint, *typing.get_args(hint)):
            raise ValueError(f"{where}: {shown(name)} must be finite, got {short(value)}")


def check_index(path: str | Path, index: Any) -> None:
    """Refuse an index that names an unknown pipeline, or parts that are no classes of known libraries."""
    import diffusers

    where = f"{path}: model_index.json"
    if not isinstance(index, dict):
        raise ValueError(f"{where} must be an object, got {short(index)}")
    name = index.get("_class_name")
    pipeline = getattr(diffusers, name, None) if isinstance(name, str) else None
    if not (isinstance(pipeline, type) and issubclass(pipeline, diffusers.DiffusionPipeline)):
        raise ValueError(f"{where} names {short(name)}, which is no pipeline of diffusers")
    for part in inspect.signature(pipeline).parameters:
        if part in index and isinstance(index[part], list):
            _check_part(where, part, index[part])
    for part, value in index.items():
        if isinstance(value, list) and not part.isidentifier():
            raise ValueError(f"{where}: {shown(part)!r} is no name of a part")


def _check_part(where: str, name: str, kind: list[Any]) -> None:
    from diffusers import pipelines

    if kind == [None, None]:
        return
    if len(kind) != 2 or not all(isinstance(word, str) and word for word in kind):
        raise ValueError(f"{where}: {name} must be a library and a class, got {short(kind)}")
    if kind[0] not in LIBRARIES and not (kind[0].isidentifier() and hasattr(pipelines, kind[0])):
        raise ValueError(f"{where}: {name} is of the library {short(kind[0])}, from which nothing is loaded; "
                         f"known are {' and '.join(LIBRARIES)}")  # fmt: skip


def _check_numbers(path: Path, name: str, value: Any) -> None:
    """Refuse numbers that no model has; :func:`aria.regular.read_object` has limited how deep lists are nested.

    An infinite number stands for no limit, as in the schedulers of DPM-Solver, but no size or count is infinite.
    """
    if isinstance(value, dict):
        for inner, held in value.items():
            _check_numbers(path, inner, held)
    elif isinstance(value, list):
        for held in value:
            _check_numbers(path, name, held)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        most = DEEPEST if name in COUNTS else LARGEST if isinstance(value, int) else HUGE
        unlimited = isinstance(value, float) and math.isinf(value) and name not in (*COUNTS, *SIZES)
        if not (unlimited or abs(value) <= most):
            raise ValueError(f"{path}: {shown(name)} must be a number of at most {most:g}, got {short(value)}")
        if value < 0 and name in (*COUNTS, *SIZES):
            raise ValueError(f"{path}: {name} must not be negative, got {short(value)}")


def _kind(value: Any) -> str:
    if isinstance(value, bool | int | float):
        return "a number"
    return "text" if isinstance(value, str) else "a list" if isinstance(value, list | tuple) else "an object"


def _kinds(hint: Any) -> set[str]:
    """The kinds of JSON values that a type hint takes; none if it says nothing."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        parts = [_kinds(part) for part in typing.get_args(hint) if part is not type(None)]
        return set().union(*parts) if all(parts) else set()
    if origin is typing.Literal:
        return {_kind(value) for value in typing.get_args(hint)}
    known = {bool: "a number", int: "a number", float: "a number", str: "text", list: "a list", tuple: "a list"}
    kind = known.get(hint if origin is None else origin)
    return set() if kind is None else {kind}
