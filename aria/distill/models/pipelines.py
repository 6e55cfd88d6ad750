"""Opening pipelines and denoising models, from disk or from the hub; whatever is wrong is an error of one line."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, ModelMixin
from safetensors import SafetensorError
from torch import nn
from transformers import CLIPTokenizer, CLIPTokenizerFast

from aria import files
from aria.distill.models.configs import LARGEST, check_config, check_files, check_index, read_config
from aria.distill.models.hub import is_reachable
from aria.distill.models.weight_files import check_weights
from aria.fields import short
from aria.regular import is_there, read_object, regular

COMPONENTS = ("unet", "transformer")
"""What a pipeline may call its denoising model."""
INDEX, SCHEDULER = "model_index.json", "scheduler_config.json"
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
    index = _index(path, options)
    if folder.is_dir():
        _check_parts(folder, index, options.get("variant"))
    kwargs = _absent(index) | options | {"use_safetensors": True}  # other weights are pickled, and could run code
    with _third_party(f"cannot open the pipeline {path}"):
        pipeline = DiffusionPipeline.from_pretrained(str(path), dtype=dtype or torch.float32, **kwargs)
    for name, part in pipeline.components.items():
        if isinstance(part, nn.Module):
            _refuse_missing(part, f"{path}/{name}")
        if isinstance(part, CLIPTokenizer | CLIPTokenizerFast) and part.model_max_length > LARGEST:
            raise ValueError(f"{path}/{name} lacks model_max_length, the number of tokens that its text encoder takes")
    if "id2label" in index:  # the names of classes, which diffusers reads and does not keep
        pipeline.register_to_config(id2label=index["id2label"])
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _index(path: str | Path, options: Mapping[str, Any]) -> dict[str, Any]:
    """The index of a pipeline, on disk or on the hub, whose parts are classes of known libraries."""
    if (Path(path) / INDEX).is_file():
        try:
            index: Any = read_object(Path(path) / INDEX)
        except (ValueError, OSError) as error:
            raise ValueError(f"cannot open the pipeline {path}: {error}") from error
    else:
        with _third_party(f"cannot open the pipeline {path}"):
            of_index = {name: options[name] for name in ("revision", "local_files_only") if name in options}
            index = DiffusionPipeline.load_config(str(path), **of_index)
    check_index(path, index)
    return dict(index)


def _check_parts(folder: Path, index: Mapping[str, Any], variant: str | None) -> None:
    """Refuse damaged weights, odd files and configurations of foreign values in the folder of a pipeline."""
    import diffusers

    try:
        check_files(folder)
        for name, kind in index.items():
            if not (isinstance(kind, list) and (folder / name).is_dir()):
                continue
            check_weights(folder / name, variant)
            for path in [path for path in (folder / name / "config.json", folder / name / SCHEDULER) if is_there(path)]:
                config, cls = read_config(path), getattr(diffusers, str(kind[1]), None)
                if kind[0] == "diffusers" and isinstance(cls, type):
                    check_config(path, config, cls)
    except (ValueError, OSError) as error:
        raise ValueError(f"cannot open the pipeline {folder}: {error}") from error


@contextmanager
def _third_party(refusal: str) -> Iterator[None]:
    """Whatever diffusers and transformers raise for the files of a model is a refusal of these files: they check no
    types, so that a foreign value fails wherever it is used."""
    try:
        yield
    except Exception as error:
        known = isinstance(error, OSError | ValueError | RuntimeError | SafetensorError)
        kind = "" if known else f"{type(error).__name__}: "
        raise ValueError(f"{refusal}: {kind}{_first_line(error)}") from error


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
    if not is_there(config):
        raise ValueError(f"{path} is no model folder: it has no config.json{files.contents(folder)}")
    cls = model_class(config)
    try:
        check_files(folder)
        check_weights(folder)
    except (ValueError, OSError) as error:
        raise ValueError(f"cannot open the model {path}: {error}") from error
    with _third_party(f"cannot open the model {path}"):
        model: ModelMixin = cls.from_pretrained(str(folder), dtype=dtype or torch.float32, use_safetensors=True)
    _refuse_missing(model, path)
    return model


def digest(path: str | Path) -> str:
    """A digest of the files that hold the weights of what :func:`open_model` opens."""
    seen = hashlib.sha256()
    for file in weights_of(path):
        with file.open("rb") as handle:
            seen.update(hashlib.file_digest(handle, "sha256").digest())
    return seen.hexdigest()[:16]


def weights_of(path: str | Path) -> list[Path]:
    """The files that hold the weights of what :func:`open_model` opens."""
    return [regular(file) for file in sorted(_model_folder(path).glob("*.safetensors"))]


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

    described = read_config(config)
    name = described.get("_class_name", "")
    cls = getattr(diffusers, name, None) if isinstance(name, str) else None
    if not (isinstance(cls, type) and issubclass(cls, ModelMixin)):
        raise ValueError(f"{config} names the class {short(name)}, which is no model of diffusers")
    check_config(config, described, cls)
    return cls


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
