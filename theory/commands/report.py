"""``aria-sim report``: all claims and figures in one HTML file, or the figures as files of their own."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from aria import files, html
from aria.cli import errors
from aria.progress import bar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from theory.figures import Picture, Rows

TABLES_FIRST = ("against-the-limit", "best-rate")
"""Figures whose table of numbers is open from the start."""
READING = (
    "Each line is a statement checked for a shipped tracker or allocator, or for a foil that is not shipped, in a "
    "simulated regime. Measured / reference is 1 if a bound is attained; ± is the half-width of a confidence interval "
    "that misses with probability 10⁻⁶, so that any false alarm on this page has probability at most {alarm:.1g}. "
    "× limit is the certified error divided by the smallest error that any linear tracker can certify. A mutant is a "
    "wrong formula or a tracker with a wrong parameter: it must make the claim fail, unless its effect is too small "
    "for this sample size (underpowered)."
)


def _file(ctx: click.Context, parameter: click.Parameter, value: str | None) -> Path | None:
    """Refuse a file that cannot be written, before anything is computed."""
    if value is None:
        return None
    files.check_writable(Path(value))
    return Path(value)


def _folder(ctx: click.Context, parameter: click.Parameter, value: str | None) -> Path | None:
    """Refuse a folder that cannot be written to, before anything is computed."""
    if value is None:
        return None
    files.check_writable(Path(value) / "figure.svg")
    return Path(value)


@click.command("report")
@click.option("--out", metavar="FILE", callback=_file, help="Page to write [default: report.html, none with --figures]")
@click.option("--figures", metavar="FOLDER", callback=_folder, help="Write each figure here as an SVG file.")
@click.option("--quick/--full", "quick", default=True, help="Most claims, or all claims with more replicas.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Random seed.")
def command(out: Path | None, figures: Path | None, quick: bool, seed: int) -> None:
    """Write one self-contained HTML page with every claim of verify, every figure, and their numbers.

    The page needs no network and no scripts, and follows the dark mode of the browser. Exit code: 1 if a claim fails or
    a mutant survives (the page is written anyway), 2 for a mistake in the command.
    """
    if any(find_spec(name) is None for name in ("scipy", "matplotlib")):
        raise errors.Refusal("scipy and matplotlib are needed: pip install 'aria-distill[sim]'")
    from aria.files import replacing
    from theory.commands import verify

    drawn = list(_drawn(1.0 if quick else verify.FULL, seed))
    if figures is not None:
        for name, picture, rows in drawn:
            picture.chart(rows).write(figures / f"{name}.svg")
        click.echo(f"{len(drawn)} figures in {figures}")
        if out is None:
            return
    shown, sound = verify.measure_claims(quick, seed)
    out = out or Path("report.html")
    with replacing(out) as unfinished:
        unfinished.write_text(_page(shown, drawn, quick, seed), encoding="utf-8")
    click.echo(f"{_summary(shown['summary'])} {out}")
    if not sound:
        click.get_current_context().exit(1)


def _drawn(size: float, seed: int) -> Iterator[tuple[str, Picture, Rows]]:
    """Every figure with its numbers."""
    from theory.figures import FIGURES

    with bar("figures") as progress:
        for i, (name, picture) in enumerate(FIGURES.items()):
            progress(i, len(FIGURES))
            yield name, picture, picture.measure(seed, size)
        progress(len(FIGURES), len(FIGURES))


# --------------------------------------------------------------------------------------------------------------- a page


def _page(shown: dict[str, Any], drawn: list[tuple[str, Picture, Rows]], quick: bool, seed: int) -> html.Html:
    from importlib.metadata import version

    end = shown["summary"]
    command_line = f"aria-sim report --{'quick' if quick else 'full'} --seed {seed}"
    sound = not end["fallen"] and not end["survived"]
    links = [html.tag("li", html.tag("a", "Claims", href="#claims"))]
    links += [html.tag("li", html.tag("a", picture.title, href=f"#{name}")) for name, picture, _ in drawn]
    return html.page(
        "How well trackers follow a moving discrepancy",
        html.tag("p", "Bounds and simulations were computed by ", html.tag("code", command_line),
                 f" of aria-distill {version('aria-distill')}; σ is the standard deviation of the noise and D "
                 "the largest move of the truth in one step."),
        html.tag("p", html.tag("strong", _summary(end), class_="good" if sound else "bad")),
        html.tag("ul", *links),
        _claims(shown["claims"], end),
        *(_section(name, picture, rows) for name, picture, rows in drawn),
    )  # fmt: skip


def _summary(end: dict[str, Any]) -> str:
    return (
        f"{end['claims']} claims, {end['fallen']} fallen; mutants: {end['killed']} killed, {end['survived']} survived, "
        f"{end['underpowered']} underpowered."
    )


def _claims(rows: list[dict[str, Any]], end: dict[str, Any]) -> html.Html:
    return html.tag(
        "section",
        html.tag("h2", "Claims"),
        html.tag("p", READING.format(alarm=end["false_alarm"]), class_="soft"),
        html.table([_claim(row) for row in rows]),
        id="claims",
    )  # fmt: skip


def _claim(row: dict[str, Any]) -> dict[str, object]:
    from theory.commands import verify

    sign = {"equal": "=", "at most": "≤", "above": ">"}[row["sense"]]
    ratio = f"{row['ratio']:.4f} ± {row['half_width']:.4f}"
    if not row["reference"]:  # no ratio
        ratio = f"({row['ratio']:.2g} ± {row['half_width']:.2g})"
    holds = html.tag("strong", "holds" if row["holds"] else "FALLS", class_="good" if row["holds"] else "bad")
    killed, tried = len(row["killed"]), len(row["killed"]) + len(row["survived"])
    left = [f"{fate}: {', '.join(row[fate])}" for fate in ("survived", "underpowered") if row[fate]]
    return {
        "statement": row["statement"],
        "regime": row["regime"],
        "tracker or allocator": html.tag("code", verify.short(row["tracker"])),
        "claim": html.tag("span", f"{row['quantity']} {sign} {row['reference']:.4g}", class_="fixed"),
        "measured / reference": html.tag("span", ratio, class_="fixed"),
        "× limit": row["times_limit"],
        "verdict": holds,
        "mutants killed": html.tag("span", f"{killed} of {tried}", class_="fixed bad" if row["survived"] else "fixed"),
        "others": "; ".join(left) or "–",
    }


def _section(name: str, picture: Picture, rows: Rows) -> html.Html:
    return html.tag(
        "section",
        html.tag("h2", picture.title),
        html.figure(picture.chart(rows).svg(name), picture.caption, picture.title),
        html.details("The numbers", html.table(_readable(rows)), open=name in TABLES_FIRST),
        id=name,
    )


def _readable(rows: Rows) -> list[dict[str, Any]]:
    """Merge each "x" and "x ±" into one column."""
    return [
        {
            name: html.tag("span", f"{value:.4g} ± {row[f'{name} ±']:.2g}", class_="fixed")
            if f"{name} ±" in row
            else value
            for name, value in row.items()
            if not name.endswith(" ±")
        }
        for row in rows
    ]
