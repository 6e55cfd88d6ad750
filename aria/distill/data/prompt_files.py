"""Prompts read from files: text, CSV, JSON lines, Parquet, folders of ``datasets``."""

from __future__ import annotations

import csv
import importlib
import json
import math
from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from aria.distill.data.prompts import Growing, Prompts, Texts

Row = dict[str, Any]
LABEL = "label"
"""The column of a class-conditional teacher's classes, by number or by name."""
NAMES = ("text", "prompt", "caption", LABEL)
"""Columns that hold the prompts where none is given by name; the first that exists is taken."""
WEIGHT = "weight"
"""The column that becomes the pool's weights."""


def read_prompts(path: str | Path, *, column: str | None = None) -> Prompts:
    """Prompts from a .txt (one a line), .csv, .jsonl or .parquet file or a folder of ``datasets``' ``save_to_disk``.

    ``column`` names the prompts; without it they are in the first of ``text``, ``prompt``, ``caption`` and ``label``
    that exists, or in the only column. Rows whose text is empty are skipped and counted. Of the other columns,
    ``weight`` becomes the weights and the rest are kept by name. Prompts that are a ``label``, the classes of a
    class-conditional teacher, may be whole numbers and are kept as a column as well.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "pool.csv").write_text("prompt,animal,weight\\na cat,cat,3\\na dog,dog,1\\n")
    ...     prompts = read_prompts(f"{folder}/pool.csv")
    >>> list(prompts.texts), list(prompts.columns["animal"]), prompts.weight.tolist()
    (['a cat', 'a dog'], ['cat', 'dog'], [3.0, 1.0])
    """
    path = Path(path)
    ending = "a folder" if path.is_dir() else path.suffix.lower()
    if not path.exists():
        raise ValueError(f"there is no prompt file {path}")
    if ending not in READERS:
        raise ValueError(f"{path}: prompts are read from .txt, .csv, .jsonl, .parquet or a datasets folder")
    if ending == ".txt" and column is not None:
        raise ValueError(f"{path}: a .txt file has one prompt a line and no column {column!r}")
    return _collect(path, READERS[ending](path), column)


def _collect(path: Path, rows: Iterator[tuple[str, Row]], wanted: str | None) -> Prompts:
    """Sort the values of ``rows``, each with the place it comes from, into columns."""
    first = next(rows, None)
    if first is None:
        raise ValueError(f"{path}: it holds no prompt")
    column = _column(path, list(first[1]), wanted)
    weighted = WEIGHT in first[1] and column != WEIGHT
    data, ends, weights, skipped = bytearray(), array("q"), array("d"), 0
    columns: dict[str, Growing] = {}
    for place, row in chain([first], rows):
        if not (text := _text(path, place, row, column)):
            skipped += 1
            continue
        if weighted:
            weights.append(_weight(path, place, row.get(WEIGHT)))
        for name in row.keys() - {column} - ({WEIGHT} if weighted else set()):
            columns.setdefault(name, Growing()).put(len(ends), row[name])
        if column == LABEL:
            columns.setdefault(LABEL, Growing()).put(len(ends), text.decode())
        data += text
        ends.append(len(data))
    if not ends:
        raise ValueError(f"{path}: it holds no prompt, only {skipped} empty ones")
    kept = {name: grown.column(len(ends)) for name, grown in sorted(columns.items()) if not grown.nested}
    left_out = tuple(name for name, grown in sorted(columns.items()) if grown.nested)
    weight = torch.frombuffer(weights, dtype=torch.float64) if weighted else None
    if weight is not None and not 0 < float(weight.sum()) < math.inf:
        raise ValueError(f"{path}: column {WEIGHT!r} must have a positive sum that a float holds")
    texts = Texts(np.frombuffer(data, np.uint8), np.frombuffer(ends, np.int64))
    return Prompts(texts, kept, weight, skipped, left_out)


def _column(path: Path, have: list[str], wanted: str | None) -> str:
    """The column of the prompts: the one given by name, else the first of NAMES, else the only one."""
    exist = ", ".join(sorted(have)) or "none"
    if wanted is not None:
        if wanted not in have:
            raise ValueError(f"{path}: there is no column {wanted!r}; there are: {exist}")
        return wanted
    found = [name for name in NAMES if name in have] or (have if len(have) == 1 else [])
    if not found:
        raise ValueError(f"{path}: no column is called {', '.join(NAMES)}: name the one of the prompts, of: {exist}")
    return found[0]


def _weight(path: Path, place: str, value: Any) -> float:
    try:
        weight = float(value)
    except (TypeError, ValueError, OverflowError):  # the last of a whole number that no float holds
        weight = math.nan
    if not 0 <= weight < math.inf:
        raise ValueError(f"{path}, {place}: a weight must be a finite number of at least 0, got {value!r}")
    return weight


def spelled(column: str, value: Any) -> Any:
    """The value as a text where it is a class's number; everything else as it is."""
    return str(value) if column == LABEL and isinstance(value, int) and not isinstance(value, bool) else value


def _text(path: Path, place: str, row: Row, column: str) -> bytes:
    """The UTF-8 bytes of a row's text, without the space around it; nothing where there is none."""
    if column not in row:
        raise ValueError(f"{path}, {place}: there is no {column!r}; there are: {', '.join(sorted(row)) or 'none'}")
    text = spelled(column, row[column])
    if not isinstance(text, str | None):
        raise ValueError(f"{path}, {place}: {column!r} must be a text, got {text!r}")
    if "\0" in (text or ""):
        raise ValueError(f"{path}, {place}: {column!r} has the character of code 0, which no text has")
    return (text or "").strip().encode()


# ------------------------------------------------------------------------------------------------------------- formats


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """The decoded lines of a file with their numbers, counted from 1."""
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                bad = offset + error.start
                raise ValueError(f"{path}, line {number}: not UTF-8 at byte {bad} of the file") from None
            if b"\0" in line:  # UTF-16 without its mark reads as UTF-8 full of these
                bad = offset + line.index(b"\0")
                raise ValueError(f"{path}, line {number}: no text in UTF-8: byte {bad} of the file is 0")
            offset += len(line)


def _txt(path: Path) -> Iterator[tuple[str, Row]]:
    return ((f"line {number}", {"text": line}) for number, line in lines(path))


def _jsonl(path: Path) -> Iterator[tuple[str, Row]]:
    for number, line in lines(path):
        if not line.strip():
            continue
        yield f"line {number}", json_object(path, number, line)


def json_object(path: Path, number: int, line: str) -> Row:
    """The object in a line of JSON, whose texts can be written as UTF-8: JSON can spell half a surrogate pair."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:  # the latter where brackets are nested too deeply
        raise ValueError(f"{path}, line {number}: no JSON: {error}") from None
    if not isinstance(row, dict):
        raise ValueError(f"{path}, line {number}: each line must be a JSON object, got {line.strip()[:40]}")
    for name in row if "\\u" in line else ():
        try:
            json.dumps({name: row[name]}, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError(f"{path}, line {number}: {name!r} cannot be written as UTF-8: {line.strip()}") from None
    return row


def _csv(path: Path) -> Iterator[tuple[str, Row]]:
    reader = csv.reader((line for _, line in lines(path)), strict=True)
    try:
        header = next(reader, [])
        if len(set(header)) < len(header):
            raise ValueError(f"{path}: its header names a column twice: {', '.join(header)}")
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                many = f"{len(cells)} cells where the header has {len(header)}"
                raise ValueError(f"{path}, line {reader.line_num}: {many}")
            yield f"line {reader.line_num}", dict(zip(header, cells))
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: no CSV: {error}") from None


def _parquet(path: Path) -> Iterator[tuple[str, Row]]:
    parquet = _imported(path, "pyarrow.parquet")
    try:
        yield from _arrow(path, parquet.ParquetFile(path).iter_batches())
    except (_imported(path, "pyarrow").ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # refused by the system; pyarrow's own have none
            raise
        raise ValueError(f"{path}: no parquet file: {_first_line(error)}") from None


def _folder(path: Path) -> Iterator[tuple[str, Row]]:
    datasets = _imported(path, "datasets")
    try:
        loaded = datasets.load_from_disk(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:  # the last two of foreign JSON
        raise ValueError(f"{path}: no folder saved by datasets: {_first_line(error)}") from None
    if isinstance(loaded, datasets.DatasetDict):
        splits = ", ".join(f"{path / name}" for name in loaded)
        raise ValueError(f"{path}: it holds several splits; give the folder of one: {splits}")
    yield from _arrow(path, loaded.with_format("arrow").iter(4096))


def _imported(path: Path, module: str) -> Any:
    """A package that only some formats need."""
    package = module.split(".")[0]
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ValueError(f"reading {path} needs {package}: pip install {package}") from None


def _arrow(path: Path, batches: Iterable[Any]) -> Iterator[tuple[str, Row]]:
    """Rows of Arrow batches; nested values become a list unread, since only their being nested matters."""
    number, temporal = 0, _imported(path, "pyarrow.types").is_temporal
    for batch in batches:
        columns = {name: _values(batch.column(i), temporal) for i, name in enumerate(batch.schema.names)}
        if len(columns) < batch.num_columns:
            raise ValueError(f"{path}: it has a column twice: {', '.join(batch.schema.names)}")
        for i in range(len(batch)):
            number += 1
            yield f"row {number}", {name: values[i] for name, values in columns.items()}


def _values(column: Any, temporal: Callable[[Any], bool]) -> list[Any]:
    """The values of an Arrow column, or as many lists: of times, which are no labels, Python cannot hold all."""
    left_out = column.type.num_fields or temporal(column.type)
    return [[]] * len(column) if left_out else list(column.to_pylist())


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0]


READERS = {".txt": _txt, ".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet, "a folder": _folder}
