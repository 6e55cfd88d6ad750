"""Opening pipelines and denoising models, from disk or from the hub; whatever is wrong is an error of one line."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, ModelMixin
from safetensors import SafetensorError
from torch import nn

from aria import files
from aria.distill.models.hub import is_reachable
from aria.distill.models.weight_files import check_weights

COMPONENTS = ("unet", "transformer")
"""What a pipeline may call its denoising model."""
INDEX = "model_index.json"
"""The file that names the parts of a pipeline."""


def open_pipeline(path: str | Path, *, dtype: torch.dtype | None = None, **options: Any) -> DiffusionPipeline:
    """A pipeline through ``DiffusionPipeline.from_pretrained``; a folder that is none is refused by name.

    A hub that cannot be reached is no obstacle to a model that has been downloaded before.
    """
    folder = Path(path)
    if folder.is_file():
        raise ValueError(f"{path} is a file, not the folder of a pipeline")
    if folder.is_dir() and not (folder / INDEX).is_file():
        raise ValueError(f"{path} is no pipeline folder: it has no {INDEX}{files.contents(folder)}")
    if not folder.is_dir():
        if folder.is_absolute() or str(path).startswith("."):
            raise ValueError(f"there is no folder {path}")
        if not is_reachable(str(path), file=INDEX, revision=options.get("revision")):
            options["local_files_only"] = True
    try:
        of_index = {name: options[name] for name in ("revision", "local_files_only") if name in options}
        index = DiffusionPipeline.load_config(str(path), **of_index)
        for name in index if folder.is_dir() else ():
            check_weights(folder / name, options.get("variant"))
        kwargs = _absent(index) | options | {"use_safetensors": True}  # other weights are pickled, and could run code
        pipeline = DiffusionPipeline.from_pretrained(str(path), dtype=dtype or torch.float32, **kwargs)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"cannot open the pipeline {path}: {_first_line(error)}") from error
    for name, part in pipeline.components.items():
        if isinstance(part, nn.Module):
            _refuse_missing(part, f"{path}/{name}")
    if "id2label" in index:  # the names of classes, which diffusers reads and does not keep
        pipeline.register_to_config(id2label=index["id2label"])
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _absent(index: dict[str, Any]) -> dict[str, None]:
    """Text encoders, and their tokenizers, that a pipeline was saved without: diffusers wants them passed as None."""
    names = [name for name, kind in index.items() if isinstance(kind, list | tuple) and list(kind) == [None, None]]
    return {name: None for name in names if name.startswith(("text_encoder", "tokenizer"))}


def component_of(pipeline: DiffusionPipeline) -> str:
    """The name under which a pipeline keeps its denoising model: "unet" or "transformer"."""
    for name in COMPONENTS:
        if getattr(pipeline, name, None) is not None:
            return name
    raise ValueError(f"{type(pipeline).__name__} has no denoising model; one is called {' or '.join(COMPONENTS)}")


def open_model(path: str | Path, *, dtype: torch.dtype | None = None) -> ModelMixin:
    """A denoising model: a model's own folder, or the model of a pipeline's folder."""
    folder = _model_folder(path)
    config = folder / "config.json"
    if not config.is_file():
        raise ValueError(f"{path} is no model folder: it has no config.json{files.contents(folder)}")
    cls = model_class(config)
    try:
        check_weights(folder)
        model: ModelMixin = cls.from_pretrained(str(folder), dtype=dtype or torch.float32, use_safetensors=True)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"cannot open the model {path}: {_first_line(error)}") from error
    _refuse_missing(model, path)
    return model


def digest(path: str | Path) -> str:
    """A digest of the files that hold the weights of what :func:`open_model` opens."""
    seen = hashlib.sha256()
    for file in sorted(_model_folder(path).glob("*.safetensors")):
        with file.open("rb") as handle:
            seen.update(hashlib.file_digest(handle, "sha256").digest())
    return seen.hexdigest()[:16]


def _model_folder(path: str | Path) -> Path:
    """A model's own folder, or that of a pipeline's model."""
    folder = Path(path)
    if not (folder / INDEX).is_file():
        return folder
    for name in COMPONENTS:
        if (folder / name).is_dir():
            return folder / name
    raise ValueError(f"the pipeline {path} has no denoising model; one is called {' or '.join(COMPONENTS)}")


def _refuse_missing(model: nn.Module, path: str | Path) -> None:
    if missing := [name for name, tensor in model.state_dict().items() if tensor.is_meta]:
        raise ValueError(f"the weights in {path} are not complete: {missing[0]} is missing, {len(missing)} in all")


def model_class(config: Path) -> Any:
    """The class of diffusers that a model's ``config.json`` names."""
    import diffusers

    try:
        name = json.loads(config.read_text(encoding="utf-8")).get("_class_name", "")
    except (ValueError, RecursionError, AttributeError) as error:
        raise ValueError(f"{config} is no JSON object: {error}") from None
    cls = getattr(diffusers, name, None) if isinstance(name, str) else None
    if not (isinstance(cls, type) and issubclass(cls, ModelMixin)):
        raise ValueError(f"{config} names the class {name!r}, which is no model of diffusers")
    return cls


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]
