"""``aria partition``: the regions that a partitioner makes of a prompt file, in words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aria import files, specs
from aria.cli import options, tables
from aria.cli.errors import refusals
from aria.distill.settings import checks
from aria.distill.settings.choices import AUTO, PARTITION_FILE
from aria.progress import bar
from aria.text import shown

if TYPE_CHECKING:
    from aria.distill.data.prompts import Prompts
    from aria.pool import Pool

BATCH = 64
"""Texts encoded at a time."""


@click.command()
@click.option("--prompts", "path", required=True, type=click.Path(path_type=Path), metavar="P",
              help="The pool of prompts: a txt, csv, jsonl or parquet file, or a folder saved by the datasets library.")
@options.caption_column
@click.option("--partitioner", "spec", required=True, metavar="SPEC",
              help="Rule that groups prompts into regions, such as 'kmeans(64)' or 'labels(\"style\")'; auto is the "
                   "one that `aria distill` uses by default, `aria plugins` lists all.")  # fmt: skip
@options.teacher(required=False, help="The teacher whose text encoder embeds the prompts, if the partitioner needs it.")
@click.option("--cache_dir", "cache", type=click.Path(path_type=Path), metavar="C",
              help="Folder written by `aria cache`, whose encodings are used instead of a teacher; prompts that it "
                   "took from captions are grouped as well.")  # fmt: skip
@click.option("--examples", default=3, show_default=True, type=click.IntRange(0),
              help="Number of prompts shown for each region.")  # fmt: skip
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE",
              help="A .safetensors file to write the partition to, for `aria distill --partitioner FILE`.")  # fmt: skip
@options.as_json
def command(path: Path, column: str | None, spec: str, teacher: str | None, cache: Path | None, examples: int,
            output: Path | None, as_json: bool) -> None:  # fmt: skip
    """Group the prompts of a file into regions and describe each: size, share, typical words and some prompts.

    The prompts shown are those nearest to the center of the region. A partitioner that only uses columns of the file,
    such as labels, needs no teacher.
    """
    with refusals(output or path):
        _check(path, spec, teacher, cache, output)
        record = divide(path, column, spec, teacher=teacher, cache=cache, examples=examples, output=output)
    tables.echo_json(record) if as_json else tables.echo(_table(record))


def _check(path: Path, spec: str, teacher: str | None, cache: Path | None, output: Path | None) -> None:
    """Refuse what can be refused before torch is loaded."""
    if output is not None:
        files.check_writable(output)
        if output.suffix != PARTITION_FILE:
            raise ValueError(f"--output must be a {PARTITION_FILE} file, got {output}")
    if spec != AUTO:
        specs.check(spec, "partitioner")
    if teacher is not None and cache is not None:
        raise ValueError("embeddings come from --pretrained_model_name_or_path or from --cache_dir, not from both")
    checks.check_prompts(path)
    if teacher is not None:
        checks.check_pipeline(teacher)
    if cache is not None:
        checks.check_folder(cache / "conditions", "cache_dir")


def divide(
    path: Path,
    column: str | None,
    spec: str,
    *,
    teacher: str | None,
    cache: Path | None,
    examples: int,
    output: Path | None,
) -> dict[str, Any]:
    """Fit the partitioner and return what is in each region."""
    from aria import partitioners, registry
    from aria.distill.data.prompt_files import read_prompts
    from aria.distill.runs import regions

    if spec != AUTO:
        registry.partitioner(spec)  # refuses its arguments before the prompts are encoded
    pool = _pool(read_prompts(path, column=column), path, teacher, cache)
    partitioner = registry.partitioner(regions.spec(spec, len(pool)))
    try:
        partition = partitioner.fit(pool)
    except ValueError as error:
        if pool.embeddings is None and "embeddings" in str(error):
            raise ValueError(
                f"{spec} groups prompts by their embeddings: give --pretrained_model_name_or_path T or --cache_dir C"
            ) from error
        raise
    if output is not None:
        partitioners.save(partition, output)
    rows = _regions(partition, pool, examples)
    return {"partitioner": registry.spec(partitioner), "prompts": len(pool), "regions": rows}


def _pool(given: Prompts, path: Path, teacher: str | None, cache: Path | None) -> Pool:
    """The prompts, with embeddings where there is something that gives them."""
    if cache is not None:
        from aria.distill.data import Conditions

        conditions = Conditions(cache / "conditions", residency="disk")
        if not conditions.prompts.texts.starts_with(given.texts):
            raise ValueError(f"{cache} was not made from {path}: its prompts are different")
        return conditions.pool()
    return given.pool() if teacher is None else given.pool(_embedded(given, teacher))


def _embedded(prompts: Prompts, teacher: str) -> Any:
    """(N, D) float32 features of the prompts as `aria cache` keeps them; each distinct text is encoded once."""
    import torch

    from aria.distill.data.keys import distinct
    from aria.distill.models import denoisers
    from aria.distill.models.pipelines import open_pipeline

    pipeline = open_pipeline(teacher).to("cuda" if torch.cuda.is_available() else "cpu")
    denoiser = denoisers.of(pipeline)
    first, rows = distinct(prompts.texts)
    made: list[torch.Tensor] = []
    with bar("prompts") as progress:
        for start in range(0, len(first), BATCH):
            progress(start, len(first))
            batch = first[start : start + BATCH]
            condition = denoiser.encode(pipeline, [prompts.texts[i] for i in batch.tolist()], pipeline.device)
            made.append(denoiser.features(condition).float().cpu())
        progress(len(first), len(first))
    return torch.cat(made)[rows.long()]


def _regions(partition: Any, pool: Pool, examples: int) -> list[dict[str, Any]]:
    import torch

    from aria.distill.data.words import typical_words
    from aria.partitioners import describe

    members = partition.members
    cells = partition.cell(torch.arange(partition.num_regions)).tolist()
    words = typical_words(pool.texts or (), members.row.tolist(), members.rows)
    rows = []
    for one in describe(partition, pool, nearest=examples):
        row = {"region": one.region, "name": one.name, "size": one.size, "mass": one.mass}
        rows.append({**row, "words": words[cells[one.region]], "examples": list(one.texts)})
    return rows


def _table(record: dict[str, Any]) -> str:
    """One line for each region, with its typical words, and one for each of its examples."""
    regions = [row | {"name": shown(row["name"])} for row in record["regions"]]
    width = max(len(row["name"]) for row in regions)
    lines = [f"{'region':>6}  {'size':>8}  {'mass':>7}  {'name':<{width}}  words"]
    for row in regions:
        words = " ".join(row["words"])
        line = f"{row['region']:>6}  {row['size']:>8}  {row['mass']:>7.4f}  {row['name']:<{width}}  {words}"
        lines.append(line.rstrip())
        lines += [f"{'':>6}    {' '.join(text.split())}" for text in row["examples"]]
    return "\n".join([*lines, f"{len(regions)} regions of {record['prompts']} prompts by {record['partitioner']}"])
