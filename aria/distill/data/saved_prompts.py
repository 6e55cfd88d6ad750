"""Prompts in one safetensors file, from which they are mapped instead of loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aria.distill.data.prompts import Column, Prompts, Texts
from aria.tensor_files import map_tensors, write_tensors

FORMAT = "aria-prompts-2"


def save_prompts(prompts: Prompts, row: Tensor, path: Path) -> None:
    """Write texts, columns, weights and the (N,) ``row`` in which each prompt is encoded, in one file.

    One file is replaced in one step, so rows never belong to other prompts, whenever the process is killed.
    """
    tensors = {"data": _tensor(prompts.texts.data), "ends": _tensor(prompts.texts.ends), "row": row}
    if prompts.weight is not None:
        tensors["weight"] = prompts.weight
    names = list(prompts.columns)
    tensors |= {f"column.{i}": _tensor(prompts.columns[name].codes) for i, name in enumerate(names)}
    about = {
        "columns": [[name, prompts.columns[name].values] for name in names],
        "skipped": prompts.skipped,
        "left_out": prompts.left_out,
    }
    write_tensors(path, {name: [x] for name, x in tensors.items()}, {"format": FORMAT, "about": json.dumps(about)})


def load_prompts(path: Path) -> tuple[Prompts, Tensor]:
    """The prompts in a file and their (N,) rows; texts and columns stay on the disk until they are read."""
    tensors, metadata = map_tensors(path)
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} holds no prompts: its format is {metadata.get('format')!r}, not {FORMAT!r}")
    try:
        about = json.loads(metadata["about"])
        columns = {
            name: Column(values, tensors[f"column.{i}"].numpy()) for i, (name, values) in enumerate(about["columns"])
        }
        texts = Texts(tensors["data"].numpy(), tensors["ends"].numpy())
        weight, skipped, left_out = tensors.get("weight"), int(about["skipped"]), tuple(about["left_out"])
        return Prompts(texts, columns, weight, skipped, left_out), tensors["row"]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} holds no prompts: {error!r}") from None


def _tensor(array: np.ndarray[Any, Any]) -> Tensor:
    """A tensor over an array, whose memory may be read-only."""
    return torch.from_numpy(array if array.flags.writeable else array.copy())
