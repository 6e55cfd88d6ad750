"""The page of a comparison, made from its result alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aria import html
from aria.bench import figures, table, words
from aria.bench.arms import LOOKAHEAD

Result = Mapping[str, Any]

CHANGES = (
    "Change of the generation gap relative to {baseline} (%): mean over {seeds} paired seeds ± standard error; lower "
    "is better. The generation gap is the mean squared difference between the images that student and teacher make "
    "from the same noise. * marks changes significant at p\N{NO-BREAK SPACE}<\N{NO-BREAK SPACE}.01 in a paired t test, "
    "with p values adjusted (Holm) over all arms and groups of the table."
)
COLOURS = (
    html.tag("span", "Green", class_="good"),
    ": the gap shrinks by more than two standard errors; ",
    html.tag("span", "orange", class_="bad"),
    ": it grows by more than two; the rest may be chance.",
)
ROWS = "Each row is an arm, that is a way to allocate; each column is the mean over a group of conditions: "
MISLEADS = (
    "The last column is the error of noise predictions on images with their own conditions, unweighted over noise "
    "levels. It is shown because it is misleading: an arm can have the lowest error there and generate worse images."
)
ARMS = (
    "Arms differ in where they take the conditions from that replace an image's own and, where the table says so, in "
    "the weights of noise levels and in who makes the images. Worlds, initial weights, images, noise and timesteps are "
    "the same for all."
)
CURVES = (
    "The generation gap divided by the final gap of {baseline} with the same seed; mean and standard error (band) over "
    "{seeds} seeds. Where a line crosses 1, the arm has reached the final gap of {baseline}."
)
PARETO = (
    "How the gap of the rarest conditions changes (down is better) and how that of the most frequent ones does (left "
    "is better), with standard errors. {baseline} is at the origin; in the lower left quadrant both improve."
)
SPEED = "Steps: the share of the run until an arm reaches the final gap of {baseline}; a dash means never."
PAYS = "A group gets worse if its gap grows by more than two standard errors."
GAINS = {
    table.ORACLE: "Of the oracle's gain: the share of it that an arm achieves, uniformly over conditions; the oracle "
    "knows every region's exact discrepancy.",
    LOOKAHEAD: "Of lookahead's: the same share of the gain from restarting every arm from the currently best student.",
}
CHANCE = "Shares of the gain of {references} are not shown because that gain is not significant."
METRICS = (
    "gap: the generation gap; spread: the standard deviation over regions of the logarithm of their gap, which tells "
    "how much there is to allocate; x0: error of the image that a noise prediction implies; own: error of noise "
    "predictions on the training images, unweighted over noise levels; other metrics are defined by the task."
)


def page(result: Result) -> html.Html:
    """Everything about a comparison in one document."""
    values = {"baseline": result["baseline"], "seeds": len(result["seeds"])}
    curves = figures.curves(result).svg("curves")
    return html.page(
        f"Comparison on {result['task'].split('(')[0]}",
        _summary(result),
        html.section("Which groups gain and which pay", *_explained(result, values), _changes(result)),
        html.section("Arms", html.tag("p", ARMS), *_arms(result)),
        *_ends(result, values),
        html.section(
            "Training curves", html.figure(curves, CURVES.format(**values), "the generation gap over the steps")
        ),
        html.section("Speed and share of the possible gain", html.tag("p", _legend(result, values)), _speed(result)),
        _numbers(result),
    )


def _explained(result: Result, values: Mapping[str, object]) -> Iterator[html.Html]:
    """What the table of changes shows: its numbers, colours, rows and columns."""
    yield html.tag("p", CHANGES.format(**values), " ", *(COLOURS if len(result["seeds"]) > 1 else ()))
    groups = [part for name in result["groups"] for part in ("; ", html.tag("b", name), f" ({words.of_group(name)})")]
    yield html.tag("p", ROWS, *groups[1:], ".", f" {MISLEADS}" if table.OWN in result["table"][0] else "")


def _ends(result: Result, values: Mapping[str, object]) -> Iterator[html.Html]:
    if figures.has_ends(result):
        pareto = figures.pareto(result).svg("pareto")
        shown = html.figure(pareto, PARETO.format(**values), "change of the tail's gap against change of the head's")
        yield html.section("Frequent against rare conditions", shown)


def _summary(result: Result) -> html.Html:
    setting = result["setting"]
    facts = {
        "task": html.tag("code", result["task"]),
        "setting": f"replacement {setting['replacement']}, noise levels weighted {setting['weighting']}",
        "every run": f"{max(row['step'] for row in result['records'])} steps",
        "seeds": ", ".join(map(str, result["seeds"])),
        "command": html.tag("code", result["command"]),
        "made": f"{result['date']}, in {result['seconds']:.0f} s, not counting results that were reused",
    }
    return html.tag("section", html.pairs(facts))


def _changes(result: Result) -> html.Html:
    columns = {f"gap.{group}": group for group in result["groups"]}
    if table.OWN in result["table"][0]:
        columns[table.OWN] = "own images, ε error"
    kind = html.kind([row["arm"] for row in result["table"]])
    rows = []
    for row in result["table"]:
        shown = [_change(row[name], row["arm"] == result["baseline"]) for name in columns]
        rows.append(html.tag("tr", html.tag("td", row["arm"], class_=kind), *shown))
    titles = [html.tag("th", "arm"), *(html.tag("th", title, class_="number") for title in columns.values())]
    made = html.tag("table", html.tag("thead", html.tag("tr", *titles)), html.tag("tbody", *rows))
    return html.tag("div", made, class_="scroll")


def _change(cell: Mapping[str, Any], baseline: bool) -> html.Html:
    """A cell: green where the gap shrinks by more than two standard errors, orange where it grows by more than two."""
    if baseline:
        return html.tag("td", "0", class_="number soft")
    mean, error, p = cell["mean"], cell["error"], cell.get("p_adjusted")
    star = "*" if p is not None and p < table.LEVEL else ""
    change = table.signed(mean) + (f" ± {error:.1f}{star}" if error is not None else "")
    sure = error is not None and abs(mean) > 2 * error
    colour = (" good" if mean < 0 else " bad") if sure else ""
    return html.tag("td", change, class_=f"number{colour}")


def _arms(result: Result) -> Iterator[html.Html]:
    """What each arm does, and its settings."""
    shared = {"replacement", "weighting"}
    yield html.table([{"arm": arm["name"], "takes conditions from": words.of_arm(arm)} for arm in _all(result)])
    settings = [{"arm": arm["name"]} | {name: "from the setting" if value is None and name in shared else value
                                        for name, value in arm.items() if name != "name"}
                for arm in result["arms"]]  # fmt: skip
    yield html.details("Settings of the arms", html.table(settings))


def _all(result: Result) -> list[Mapping[str, Any]]:
    """The arms, and lookahead where it was run."""
    ahead = [{"name": row["arm"]} for row in result["table"] if row["arm"] == LOOKAHEAD]
    return [*result["arms"], *ahead]


def _legend(result: Result, values: Mapping[str, object]) -> str:
    """What the columns of the table of speed are, and why a share of a gain may be missing."""
    hidden = " and of ".join(table.hidden_references(result["table"]))
    sentences = [SPEED.format(**values), *(GAINS[name] for name in table.shown_references(result["table"]))]
    sentences += [CHANCE.format(references=hidden)] if hidden else []
    return " ".join([*sentences, *([PAYS] if len(result["seeds"]) > 1 else [])])


def _speed(result: Result) -> html.Html:
    rows = [_row(row, result["groups"]) for row in result["table"] if row["arm"] != result["baseline"]]
    known = {name for row in rows for name, value in row.items() if value is not None}
    return html.table([{name: value for name, value in row.items() if name in known} for row in rows])


def _row(row: dict[str, Any], groups: list[str]) -> dict[str, object]:
    worse = table.who_pays(row, groups)
    return {
        "arm": row["arm"],
        **{f"steps, {group}": share for group, share in row["steps"].items()},
        "of the oracle's gain": row["of_oracle"],
        "of lookahead's": row["of_lookahead"],
        "groups that get worse": None if worse is None else ", ".join(worse) or "none",
    }


def _numbers(result: Result) -> html.Html:
    values = [{"arm": row["arm"], **_values(row)} for row in result["table"]]
    return html.section(
        "Numbers",
        html.details("Final value of every metric, mean over seeds", html.tag("p", METRICS), html.table(values)),
        html.details("Recipe", html.pairs(_flat(result["recipe"]))),
        html.details("Machine and versions", html.pairs(_flat(result["machine"]))),
    )


def _values(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: cell["value"] for name, cell in row.items() if isinstance(cell, Mapping) and "value" in cell}


def _flat(settings: Mapping[str, Any]) -> dict[str, object]:
    """Nested settings as one level."""
    flat: dict[str, object] = {}
    for name, value in settings.items():
        flat |= _flat(value) if isinstance(value, Mapping) else {name: value}
    return flat
