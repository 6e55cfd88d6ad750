r"""Quantises the weights of a finished student to 8-bit integers, and measures the error this adds in each region.

Every linear layer and convolution stores integers and one scale for each of its outputs,

.. math::
    W_{ij} \approx s_i\, q_{ij}, \qquad q_{ij} \in \{-127, \dots, 127\}, \qquad s_i = \max_j |W_{ij}| / 127,

a quarter of the bytes of float32. Activations are not quantised: a layer dequantises its weights when it is called. So
this saves memory and disk; whether it saves time depends on the device. The layers come from ``optimum-quanto``.

A quantised student is a folder of ``config.json``, ``quantised.safetensors`` and ``quantisation.json``. diffusers
cannot open it; :func:`open_quantised` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

import aria
from aria import checks, files, progress
from aria.distill.data import Conditions, cache
from aria.distill.data.latents import IMAGES, SAMPLES, Latents
from aria.distill.engine.batch import Encodings, Images
from aria.distill.engine.batches import Source, State
from aria.distill.engine.learner import Learner, freeze
from aria.distill.models.pipelines import digest, model_class, open_model, open_pipeline
from aria.distill.models.weight_files import check_file
from aria.distill.runs import regions
from aria.distill.settings.config import Config
from aria.distill.teachers.teacher import Teacher
from aria.fields import Field, check
from aria.interfaces import Partition
from aria.regular import is_there, read_object
from aria.statistics import sum_by_region

WEIGHTS, RECORD, FOLDER = "quantised.safetensors", "quantisation.json", "quantised"
RECORDS = 64 << 20
"""Bytes of a record, which has a row for each region."""
LAYERS = Field(
    lambda value: isinstance(value, dict) and all(isinstance(layer, dict) for layer in value.values()),
    "an object with an object for each layer",
)
_FORMAT = "aria-quantised/1"


def quantise(model: nn.Module) -> nn.Module:
    """Quantise the model's weights to 8 bits, in place."""
    quanto = _quanto()
    quanto.quantize(model, weights=quanto.qint8)
    quanto.freeze(model)
    return model.requires_grad_(False).eval()


def save_quantised(model: Any, folder: Path, record: Mapping[str, Any] | None = None) -> None:
    """Write a quantised model and its ``record`` to a folder, atomically."""
    layers = _quanto().quantization_map(model)
    if not layers:
        raise ValueError(f"{type(model).__name__} has no quantised layer")
    with files.replacing_folder(folder) as fresh, files.system_errors(fresh):
        model.save_config(fresh)
        files.write_tensors(fresh / WEIGHTS, _tensors(model))
        described = {**(record or {}), "format": _FORMAT, "layers": layers, "library": _version()}
        files.write_json(fresh / RECORD, described)


def open_quantised(folder: str | Path) -> ModelMixin:
    """Open a model that :func:`save_quantised` wrote; it computes in float32."""
    place = Path(folder)
    layers = check(str(place / RECORD), read_record(place), {"layers": LAYERS})["layers"]
    config = place / "config.json"
    model: ModelMixin = model_class(config).from_config(read_object(config))
    try:
        check_file(place / WEIGHTS)
        weights = load_file(place / WEIGHTS)
        _quanto().requantize(model, weights, layers)
    except (OSError, ValueError, SafetensorError, KeyError, RuntimeError) as error:
        why = " ".join(str(error).split())[:300]
        raise ValueError(f"cannot open the quantised model {folder}: {why}") from error
    if differing := _tensors(model).keys() ^ weights.keys():
        raise ValueError(f"cannot open the quantised model {folder}: {sorted(differing)[0]} is missing or unexpected")
    return model.requires_grad_(False).eval()


def read_record(folder: Path) -> dict[str, Any]:
    """The record in the folder of a quantised model."""
    path = folder / RECORD
    if not is_there(path):
        raise ValueError(f"{folder} is no quantised model: it has no {RECORD}")
    record = read_object(path, most=RECORDS)
    if record.get("format") != _FORMAT:
        raise ValueError(f"{path} has the format {record.get('format')!r}, this version reads {_FORMAT!r}")
    return record


def quantise_run(
    run: Path, output: Path, *, teacher: str | None = None, samples: int = 512, batch_size: int = 16, seed: int = 0,
    bar: progress.Bar = progress.silent,
) -> dict[str, Any]:  # fmt: skip
    """Quantise the student of a finished run; return its record, which includes the discrepancy in every region.

    ``samples`` conditions are drawn uniformly over the run's regions and paired with noised images. Student and
    quantised student get the same inputs and are compared with the ``teacher``, by default the run's own, on a GPU if
    there is one.
    """
    checks.whole("samples", samples, least=1)
    checks.whole("batch_size", batch_size, least=1)
    config = _config(run)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    student = digest(run)
    before = open_model(run).to(device)
    after = quantise(open_model(run).to(device))
    pipeline = _pipeline(config, teacher).to(device)
    conditions, images = _data(run, config, pipeline, device)
    partition = aria.partitioners.load(run / regions.FILE).to(device)
    found = discrepancies(
        Teacher.of(pipeline),
        {"before": before, "after": after},
        partition,
        images,
        conditions,
        prediction=config.models.student_prediction,
        samples=samples,
        batch_size=batch_size,
        seed=seed,
        device=device,
        bar=bar,
    )
    size = {"before": _bytes(before.state_dict()), "after": _bytes(_tensors(after))}
    record = {"weights": "int8", "student": student, "bytes": size, "seed": seed, **found}
    save_quantised(after, output, record)
    return {"output": str(output), **record}


def discrepancies(
    teacher: Teacher,
    students: Mapping[str, Any],
    partition: Partition,
    images: Images,
    conditions: Encodings,
    *,
    prediction: str | None = None,
    samples: int = 512,
    batch_size: int = 16,
    seed: int = 0,
    device: torch.device | str = "cpu",
    bar: progress.Bar = progress.silent,
) -> dict[str, Any]:
    """The mean squared difference between each student's outputs and the teacher's, overall and by region.

    Overall is the mean over the regions that were drawn, weighted by their shares of the pool. All models and the
    partition must be on ``device``.
    """
    sampler = aria.Sampler(partition, "constant", "uniform", floor=0.0, warmup=0, seed=seed)
    source, state = Source(
        images, conditions, sampler, teacher.schedule, size=batch_size, replacement=torch.ones(len(teacher.schedule)),
        null_probability=0.0, seed=seed, device=device,
    ), State()  # fmt: skip
    converted = prediction is not None and prediction != teacher.prediction
    convert = (source.schedule, str(prediction), teacher.prediction) if converted else None
    reference = Learner(teacher.evaluate or teacher.denoiser, freeze(teacher.model))
    learners = {name: Learner(teacher.denoiser, freeze(model), convert=convert) for name, model in students.items()}
    count = torch.zeros(partition.num_regions, dtype=torch.float64, device=device)
    total = {name: torch.zeros_like(count) for name in students}
    steps = -(-samples // batch_size)
    with bar("comparing") as report, torch.no_grad():
        for step in range(steps):
            report(step, steps)
            batch, pending = source.next(state)
            state = source.advance(pending, batch.noisy, teacher.prediction)
            inputs = batch.noisy, batch.timestep, batch.condition
            target = reference(*inputs)[0]
            errors = [_errors(learner(*inputs)[0], target) for learner in learners.values()]
            seen, *sums = sum_by_region(batch.region, (torch.ones_like(errors[0]), *errors), len(count))
            count += seen
            for running, now in zip(total.values(), sums, strict=True):
                running += now
        report(steps, steps)
    return _summarised(partition, count.cpu(), {name: value.cpu() for name, value in total.items()})


def _errors(student: Tensor, teacher: Tensor) -> Tensor:
    """(B,) float64 mean squared differences."""
    return (student.double() - teacher.double()).square().flatten(1).mean(1)


def _summarised(partition: Partition, count: Tensor, total: Mapping[str, Tensor]) -> dict[str, Any]:
    """Means overall and by region, from (K,) counts and sums."""
    seen = count > 0
    share = partition.mass.cpu() * seen
    means = {name: torch.where(seen, value / count.clamp(min=1), 0.0) for name, value in total.items()}
    overall = {name: float((share * mean).sum() / share.sum()) for name, mean in means.items()}
    rows = [
        {"region": k, "n": int(count[k]), **{name: float(mean[k]) for name, mean in means.items()}}
        for k in seen.nonzero().flatten().tolist()
    ]
    return {"samples": int(count.sum()), "discrepancy": overall, "regions": rows}


def _config(run: Path) -> Config:
    """The settings of a finished run."""
    for name in ("config.json", regions.FILE, "model_index.json"):
        if not (run / name).is_file():
            raise ValueError(f"{run} is no finished run of `aria distill`: it has no {name}")
    config = Config.read(run / "config.json", allow_imports=True)  # nothing is made of its specs here
    if config.conditioning.guidance is not None or config.models.halve_from is not None:
        raise ValueError("students that take the guidance scale or halve their teacher's steps cannot be measured")
    return config


def _pipeline(config: Config, teacher: str | None) -> Any:
    """The pipeline of ``teacher``; by default the run's own, in the revision and variant that it was trained with."""
    if teacher is not None:
        return open_pipeline(teacher)
    models = config.models
    return open_pipeline(models.pretrained_model_name_or_path, revision=models.revision, variant=models.variant)


def _data(run: Path, config: Config, pipeline: Any, device: torch.device) -> tuple[Conditions, Latents]:
    folder = Path(config.data.cache_dir) if config.data.cache_dir else run / "cache"
    if not (folder / "conditions").is_dir():
        raise ValueError(f"the run's cache is not at {folder}: make it again with `aria cache`")
    data = config.data
    own: dict[str, Any] = {"source": IMAGES} if data.train_data_dir else {"source": SAMPLES}
    own["num_images"] = None if data.train_data_dir else data.num_images
    own |= {"resolution": data.resolution, "frames": data.num_frames}
    conditions, images = cache.opened(folder, pipeline=pipeline, device=device, **own)
    regions.check_prompts(run, conditions.prompts.texts)
    return conditions, images


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """All tensors of the model, without the other entries that quanto adds to the state dict."""
    return {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}


def _bytes(tensors: Mapping[str, Tensor]) -> int:
    return sum(value.numel() * value.element_size() for value in tensors.values())


def _quanto() -> Any:
    if find_spec("optimum") is None or find_spec("optimum.quanto") is None:
        raise ValueError("optimum-quanto is needed to quantise: pip install 'aria-distill[quantise]'")
    import optimum.quanto

    return optimum.quanto


def _version() -> str:
    from importlib.metadata import version

    return f"optimum-quanto {version('optimum-quanto')}"
