"""Files of prompts: every format gives the same pool, and mistakes are named in one line."""

from __future__ import annotations

import json
import sys

import pytest

from aria.distill.data.prompt_files import read_prompts
from aria.partitioners import Labels

ROWS = [
    {"text": "a cat", "animal": "cat", "year": 1, "weight": 1.0},
    {"text": "ein Bär, 熊", "animal": "bear", "year": 2, "weight": 0.0},
    {"text": "", "animal": "none", "year": 3, "weight": 5.0},
    {"text": "a cat", "animal": "cat", "year": 1, "weight": 2.5},
]


def as_csv(folder):
    lines = ["text,animal,year,weight", *(f'"{r["text"]}",{r["animal"]},{r["year"]},{r["weight"]}' for r in ROWS)]
    (folder / "p.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder / "p.csv"


def as_jsonl(folder):
    (folder / "p.jsonl").write_text("\n".join(json.dumps(row) for row in ROWS), encoding="utf-8")
    return folder / "p.jsonl"


def as_parquet(folder):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pa.Table.from_pylist(ROWS), folder / "p.parquet", row_group_size=2)
    return folder / "p.parquet"


def as_datasets(folder):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    datasets.Dataset.from_list(ROWS).save_to_disk(folder / "saved")
    return folder / "saved"


@pytest.mark.parametrize("write", [as_csv, as_jsonl, as_parquet, as_datasets])
def test_every_file_format_gives_the_same_prompts(write, tmp_path):
    prompts = read_prompts(write(tmp_path))
    assert list(prompts.texts) == ["a cat", "ein Bär, 熊", "a cat"]
    assert prompts.skipped == 1
    assert list(prompts.columns["animal"]) == ["cat", "bear", "cat"]
    assert [str(year) for year in prompts.columns["year"]] == ["1", "2", "1"]
    assert prompts.weight.tolist() == [1.0, 0.0, 2.5]
    assert Labels("animal").fit(prompts.pool()).mass.tolist() == [0.0, 1.0]


def test_lines_of_a_text_file(tmp_path):
    path = tmp_path / "p.txt"
    path.write_bytes("\ufeffa cat\r\n\r\n  a dog  \n   \nthe end".encode())
    prompts = read_prompts(path)
    assert list(prompts.texts) == ["a cat", "a dog", "the end"]
    assert prompts.skipped == 2 and prompts.weight is None and not prompts.columns


def test_the_column_of_the_prompts_can_be_chosen(tmp_path):
    assert list(read_prompts(as_jsonl(tmp_path), column="animal").texts) == ["cat", "bear", "none", "cat"]


def test_columns_that_come_late_and_nested_ones(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "a"}\n{"prompt": "b", "style": "ink", "boxes": [1]}\n{"prompt": "c"}\n')
    prompts = read_prompts(path)
    assert list(prompts.columns["style"]) == [None, "ink", None]
    assert prompts.left_out == ("boxes",)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("p.txt", b"", "it holds no prompt"),
        ("p.txt", b"\n \n", "it holds no prompt, only 2 empty ones"),
        ("p.txt", b"a cat\na d\xffg\n", "line 2: not UTF-8 at byte 9 of the file"),
        ("p.md", b"a cat", "prompts are read from .txt, .csv, .jsonl, .parquet or a datasets folder"),
        ("p.csv", b"a,b\n1,2\n", "no column is called text, prompt, caption, label: name the one of the prompts, of"),
        ("p.csv", b"text,b\n1,2\n3\n", "line 3: 1 cells where the header has 2"),
        ("p.csv", b"text,text\n1,2\n", "its header names a column twice: text, text"),
        ("p.csv", b"text,weight\na,1\nb,heavy\n", "line 3: a weight must be .* at least 0, got 'heavy'"),
        ("p.csv", b"text,weight\na,nan\n", "a weight must be a finite number of at least 0, got 'nan'"),
        ("p.csv", b"text,weight\na,0\n", "column 'weight' must have a positive sum"),
        ("p.csv", b'text\n"a', "line 2: no CSV: unexpected end of data"),
        ("p.jsonl", b'{"text": "a"}\n{"text"\n', "line 2: no JSON: "),
        ("p.jsonl", b'{"text": "a"}\n[1]\n', r"line 2: each line must be a JSON object, got \[1\]"),
        ("p.jsonl", b'{"text": "a"}\n{"b": 1}\n', "line 2: there is no 'text'; there are: b"),
        ("p.jsonl", b'{"text": 3}\n', "line 1: 'text' must be a text, got 3"),
        ("p.jsonl", b'{"text": "\\ud800"}\n', "line 1: 'text' cannot be written as UTF-8"),
        ("p.jsonl", b'{"text": "a", "weight": 1}\n{"text": "b"}\n', "line 2: a weight must be .* got None"),
        ("p.jsonl", b'{"text": "a"}\n' + b"[" * 20_000, "line 2: no JSON: "),
        ("p.jsonl", b'{"text": "a", "weight": 1%s}\n' % (b"0" * 400), "line 1: a weight must be .* got 1000"),
        ("p.jsonl", b'{"text": 1%s}\n' % (b"0" * 5000), "line 1: no JSON: .*4300 digits"),
        ("p.parquet", b"no parquet", "p.parquet: no parquet file: "),
        ("p.parquet", b"PAR1" + b"\xff" * 8 + b"\x08\0\0\0PAR1", "no parquet file: Couldn't deserialize thrift"),
    ],
)
def test_mistakes_are_named_in_one_line(name, content, sentence, tmp_path):
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=sentence) as caught:
        read_prompts(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_a_missing_file_and_a_missing_column(tmp_path):
    with pytest.raises(ValueError, match="there is no prompt file .*nothing.txt"):
        read_prompts(tmp_path / "nothing.txt")
    with pytest.raises(ValueError, match="there is no column 'prompt'; there are: animal, text, weight, year"):
        read_prompts(as_csv(tmp_path), column="prompt")
    (tmp_path / "p.txt").write_text("a")
    with pytest.raises(ValueError, match="one prompt a line and no column 'x'"):
        read_prompts(tmp_path / "p.txt", column="x")


@pytest.mark.parametrize(
    ("write", "module", "package"), [(as_parquet, "pyarrow.parquet", "pyarrow"), (as_datasets, "datasets", "datasets")]
)
def test_a_missing_package_is_named(write, module, package, tmp_path, monkeypatch):
    path = write(tmp_path)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=f"needs {package}: pip install {package}"):
        read_prompts(path)


def test_folders_that_are_no_dataset_or_several(tmp_path):
    datasets = pytest.importorskip("datasets")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no folder saved by datasets"):
        read_prompts(tmp_path / "empty")
    datasets.disable_progress_bars()
    part = datasets.Dataset.from_list(ROWS)
    datasets.DatasetDict(train=part, test=part).save_to_disk(tmp_path / "both")
    with pytest.raises(ValueError, match="several splits; give the folder of one: .*both/train, .*both/test"):
        read_prompts(tmp_path / "both")


def test_classes_may_be_numbers_and_are_a_column_as_well(tmp_path):
    path = tmp_path / "classes.jsonl"
    path.write_text('{"label": 7, "kind": "bird"}\n{"label": "goldfish", "kind": "fish"}\n')
    prompts = read_prompts(path)
    assert list(prompts.texts) == list(prompts.columns["label"]) == ["7", "goldfish"]
    assert list(prompts.columns["kind"]) == ["bird", "fish"]
    assert Labels("label").fit(prompts.pool()).names() == ["label=7", "label=goldfish"]
    path.write_text('{"label": true}\n')
    with pytest.raises(ValueError, match="'label' must be a text, got True"):
        read_prompts(path)
    path.write_text('{"text": 7, "label": 7}\n')
    with pytest.raises(ValueError, match="'text' must be a text, got 7"):
        read_prompts(path)
