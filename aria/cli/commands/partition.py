"""``aria partition``: the regions that a partitioner makes of a prompt file, in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aria import whole_file
from aria.cli.errors import refusals
from aria.progress import bar

if TYPE_CHECKING:
    from aria.distill.data.prompts import Prompts
    from aria.pool import Pool

BATCH = 64
"""Texts encoded at a time."""


@click.command()
@click.option("--prompts", "path", required=True, type=click.Path(path_type=Path), metavar="P",
              help="The pool: a .txt, .csv, .jsonl or .parquet file, or a folder saved by datasets.")  # fmt: skip
@click.option("--caption_column", "column", metavar="NAME", help="Its column; else text, prompt, caption or label.")
@click.option("--partitioner", "spec", required=True, metavar="SPEC",
              help="Such as 'kmeans(64)' or 'labels(\"style\")'; `aria plugins` lists them.")  # fmt: skip
@click.option("--pretrained_model_name_or_path", "teacher", metavar="T",
              help="The teacher whose encoder gives the embeddings, where the partitioner needs them.")  # fmt: skip
@click.option("--cache_dir", "cache", type=click.Path(path_type=Path), metavar="C",
              help="A folder of `aria cache` that has them already; its captions are divided too.")  # fmt: skip
@click.option("--examples", default=3, show_default=True, type=click.IntRange(0), help="Prompts shown of each region.")
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE",
              help="Write the partition, for aria.partitioners.load.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object instead of the table.")
def command(path: Path, column: str | None, spec: str, teacher: str | None, cache: Path | None, examples: int,
            output: Path | None, as_json: bool) -> None:  # fmt: skip
    """Divide a prompt file into regions and describe each: its size, its share, its words and some of its prompts.

    The prompts shown are those nearest to the region's middle. Text-only partitioners such as labels need no teacher.
    """
    with refusals(output or path):
        record = divide(path, column, spec, teacher=teacher, cache=cache, examples=examples, output=output)
    click.echo(json.dumps(record, ensure_ascii=False) if as_json else _table(record))


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

    if output is not None:
        whole_file.check_writable(output)
        if output.suffix != ".safetensors":  # by which `aria distill --partitioner` knows it
            raise ValueError(f"--output must be a .safetensors file, got {output}")
    partitioner = registry.partitioner(spec)
    if teacher is not None and cache is not None:
        raise ValueError("embeddings come from --pretrained_model_name_or_path or from --cache_dir, not from both")
    pool = _pool(read_prompts(path, column=column), path, teacher, cache)
    try:
        partition = partitioner.fit(pool)
    except ValueError as error:
        if pool.embeddings is None and "embeddings" in str(error):
            raise ValueError(
                f"{spec} divides embeddings: say whose, with --pretrained_model_name_or_path T or --cache_dir C"
            ) from error
        raise
    if output is not None:
        partitioners.save(partition, output)
    regions = _regions(partition, pool, examples)
    return {"partitioner": registry.spec(partitioner), "prompts": len(pool), "regions": regions}


def _pool(given: Prompts, path: Path, teacher: str | None, cache: Path | None) -> Pool:
    """The prompts, with embeddings where there is something that gives them."""
    if cache is not None:
        from aria.distill.data import Conditions

        conditions = Conditions(cache / "conditions", residency="disk")
        if not conditions.prompts.texts.starts_with(given.texts):
            raise ValueError(f"{cache} was not made from {path}: its prompts are others")
        return conditions.pool()
    return given.pool() if teacher is None else given.pool(_embedded(given, teacher))


def _embedded(prompts: Prompts, teacher: str) -> Any:
    """(N, D) float32 features of the prompts as `aria cache` keeps them; each distinct text is encoded once."""
    import torch

    from aria.distill.data.encode import distinct
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
        told = {"region": one.region, "name": one.name, "size": one.size, "mass": one.mass}
        rows.append({**told, "words": words[cells[one.region]], "examples": list(one.texts)})
    return rows


def _table(record: dict[str, Any]) -> str:
    """Two lines a region at most: the numbers with the words, and the examples."""
    regions = record["regions"]
    width = max(len(row["name"]) for row in regions)
    lines = [f"{'region':>6}  {'size':>8}  {'mass':>7}  {'name':<{width}}  words"]
    for row in regions:
        words = " ".join(row["words"])
        told = f"{row['region']:>6}  {row['size']:>8}  {row['mass']:>7.4f}  {row['name']:<{width}}  {words}"
        lines.append(told.rstrip())
        lines += [f"{'':>6}    {' '.join(text.split())}" for text in row["examples"]]
    return "\n".join([*lines, f"{len(regions)} regions of {record['prompts']} prompts by {record['partitioner']}"])
