"""What came from a file is shown as text: it acts neither on a terminal nor on a page nor on a Markdown file."""

from __future__ import annotations

import ast
import importlib.util
import json
import random
import sys
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from aria import html, text
from aria.cli import errors, main, tables

ROOT = Path(__file__).resolve().parent.parent.parent
EVIL = "\x1b]0;title\x07\x9b31m\u202eback\u2066\u2028\r\x00\u200b\ud800"
SHOWN = r"\x1b]0;title\x07\x9b31m\u202eback\u2066\u2028\r\x00\u200b\ud800"
ACTING = ("Cc", "Cs", "Co", "Cn", "Zl", "Zp")
MARKDOWN = "a|b `c` <script>alert(1)</script> *d* [e](f)\n---\n# g \\"
needs_diffusers = pytest.mark.skipif(importlib.util.find_spec("diffusers") is None, reason="needs diffusers")


def acting(shown: str) -> set[str]:
    """The characters that would act on a terminal or on the order of others."""
    return {char for char in shown if unicodedata.category(char) in ACTING or 0x202A <= ord(char) <= 0x202E
            or 0x2066 <= ord(char) <= 0x2069 or char in "\u200e\u200f\u061c\u200b\ufeff"}  # fmt: skip


def test_every_acting_character_has_its_escape():
    assert text.shown(EVIL) == SHOWN and text.shown(SHOWN) == SHOWN
    whole = "".join(map(chr, range(sys.maxunicode + 1)))
    assert not acting(text.shown(whole)) and acting(text.shown_lines(whole)) == {"\n", "\t"}


@pytest.mark.parametrize("plain", ["a cat", "猫", "قطة", "گربه\u200cها", "👩\u200d🚀", "\u00a0\u3000", "é e\u0301"])
def test_ordinary_text_of_any_script_stays(plain):
    assert text.shown(plain) == plain == text.shown_lines(plain) == text.shown_json(plain)


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5))
def test_json_has_the_same_value(value):
    document = json.dumps(value, ensure_ascii=False, indent=1)
    assert json.loads(text.shown_json(document)) == value and acting(text.shown_json(document)) <= {"\n", "\t"}


def test_errors_and_tables_are_safe():
    assert errors.one_line(ValueError(f"{EVIL}\nb")) == f"{SHOWN.replace(chr(92) + 'u2028' + chr(92) + 'r', ' ')} b"
    assert not acting(tables.table([{"name": EVIL}])) - {"\n"} and not acting(tables.as_json({EVIL: EVIL}))
    for error in (ValueError(EVIL), OSError(2, "none", EVIL), click.UsageError(EVIL), click.ClickException(EVIL)):
        with pytest.raises(click.ClickException) as caught, errors.refusals():
            raise error
        assert not acting(caught.value.format_message()), error
        assert caught.value.exit_code == (1 if type(error) is click.ClickException else 2)


@pytest.mark.parametrize("path", sorted((ROOT / "aria" / "cli" / "commands").glob("*.py")), ids=lambda path: path.stem)
def test_commands_print_through_tables_alone(path):
    """No caller can forget to escape: ``tables.echo`` and ``tables.echo_json`` are the only ways to print."""
    names = [ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    assert not {"click.echo", "click.secho", "print", "echo"} & set(names)


def partition(prompts, spec, *more):
    return CliRunner().invoke(main, ["partition", "--prompts", str(prompts), "--partitioner", spec, *more])


@needs_diffusers
def test_regions_are_shown_safely(tmp_path):
    prompts, evil = tmp_path / "p.jsonl", EVIL.replace("\ud800", "").replace("\x00", "")
    rows = [{"text": f"a {evil} {place}", "style": f"s{evil}"} for place in range(4)]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for more in ([], ["--json"]):
        result = partition(prompts, "labels('style')", *more)
        assert result.exit_code == 0, result.output
        assert not acting(result.stdout) - {"\n"} and "title" in result.stdout
    assert json.loads(result.stdout)["regions"][0]["name"] == f"style=s{evil}"
    result = partition(tmp_path / f"no{evil[:8]}", "one_region")
    assert result.exit_code == 2 and not acting(result.stderr) - {"\n"}


def test_pages_are_safe():
    cell = html.table([{EVIL: f"<b>{EVIL}"}])
    assert not acting(cell) and "&lt;b&gt;" in cell and SHOWN in cell


def test_markdown_has_no_marks_of_others():
    shown = text.markdown(MARKDOWN)
    assert "<" not in shown and "\n" not in shown and not acting(text.markdown(EVIL))
    rng = random.Random(5309)
    for _ in range(200):
        odd = "".join(rng.choice("`|*_[]<>&\\\n\r\t ab") for _ in range(12))
        safe = text.markdown(odd)
        for place, char in enumerate(safe):
            before = len(safe[:place]) - len(safe[:place].rstrip("\\"))
            assert char not in "<>\n\r\t" and (char not in "`|*[]" or before % 2 == 1), (odd, safe)


@needs_diffusers
def test_the_model_card_holds_settings_as_text(tmp_path, monkeypatch):
    import yaml
    from torch import nn

    from aria.distill.models import denoisers
    from aria.distill.runs import card
    from aria.distill.runs.plan import resolve
    from aria.distill.settings.config import Config

    monkeypatch.setattr(card, "count", lambda model: "1 k")
    name = 'owner/na"me\n---\n<script>\\u0041\u202e'
    config = Config().with_values({
        "pretrained_model_name_or_path": name, "output_dir": str(tmp_path), "objective": "output",
        "validation_prompts": [MARKDOWN, EVIL],
    })  # fmt: skip
    (tmp_path / "losses.jsonl").write_text(
        json.dumps({"step": 1, "out|put<b>\n`x": 1.0, "lr": 0.1, "steps_per_second": 1.0}) + "\n"
    )
    run = SimpleNamespace(student=nn.Linear(1, 1), teacher=None, step_count=1)
    shown = card.write(resolve(config), run, denoisers.StableDiffusion())
    header, _, body = shown.removeprefix("---\n").partition("\n---\n")
    assert yaml.safe_load(header)["base_model"] == text.shown(name) and len(yaml.safe_load(header)) == 3
    assert "<script>" not in body and "<b>" not in body and not acting(body) - {"\n"}
    for line in body.splitlines():
        if line.startswith("| validation_prompts"):
            assert line.replace("\\|", "").count("|") == 3 and "script" in line
    shown.encode()
