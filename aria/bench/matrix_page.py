"""The page of a matrix, made from its result alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from aria import html
from aria.bench import summary, table
from aria.bench.static_search import TARGET
from aria.bench.words import of_group

OVER = (
    "Over all rows: the median change of the generation gap relative to {baseline} (%), its range over rows, how many "
    "are better, not shown to differ, and worse (paired t tests over seeds, p < .05 after Holm's adjustment over "
    "all rows and arms), and the p value of Wilcoxon's signed-rank test over the rows, which is not adjusted. Rows "
    "share teachers, prompts and noise, and all seeds the captions and their pictures: errors are those of training."
)
ROWS = (
    "Change of the generation gap of all captions relative to {baseline} (%), mean over paired seeds ± standard error. "
    "Green: the gap shrinks by more than two standard errors; orange: it grows by more than two. "
    "In brackets, the groups of captions whose gap grows by more than two standard errors, which may also be chance. "
    "Steps: the share of the run until the final gap of {baseline} is reached."
)
MIXES = (
    "The static mix of each row: the best of a grid, by the gap of all captions on seeds of the search, none of which "
    "is a seed of the comparison. Regions can gain: the most that any allocation over regions can remove of the mean "
    "loss, in %, estimated from the logs of random conditioning (aria-sim worth): the medians over seeds of the "
    "estimate and of both ends of its 90 % interval."
)


def page(result: Mapping[str, Any]) -> html.Html:
    """Everything about a matrix in one document."""
    found, rows = result["summary"], result["rows"].values()
    machines = {", ".join(f"{k} {v}" for k, v in row["machine"].items() if k != "versions") for row in rows}
    facts = {
        "rows": len(rows),
        "seeds": "; ".join(sorted({", ".join(map(str, row["seeds"])) for row in rows})),
        "seeds of the search": ", ".join(map(str, result["tuning"])),
        "command": html.tag("code", result["command"]),
        "machine": "; ".join(sorted(machines)),
    }
    parts = [part for baseline in found for part in _against(baseline, found[baseline])]
    mixes = [
        {"row": label, "mix": row["static"]["name"], "regions can gain": summary.worth_text(row["worth"])}
        for label, row in result["rows"].items()
    ]
    return html.page(
        "Matrix",
        html.tag("section", html.pairs(facts)),
        *parts,
        html.section("The best static mixes", html.tag("p", MIXES), html.table(mixes)),
    )


def _against(baseline: str, found: Mapping[str, Any]) -> Iterator[html.Html]:
    name = "random conditioning (rc)" if baseline == "rc" else f"the best {baseline} mix"
    over = [
        {"group": f"{group} ({of_group(group)})", "arm": arm, **_over(cell)}
        for group, arms in found["groups"].items()
        for arm, cell in arms.items()
    ]
    values = {"baseline": baseline}
    yield html.section(f"Beside {name}, row by row", html.tag("p", ROWS.format(**values)), _rows(found["rows"]))
    yield html.section(f"Beside {name}, over all rows", html.tag("p", OVER.format(**values)), html.table(over))


def _over(cell: Mapping[str, Any]) -> dict[str, object]:
    return {
        "median": table.signed(cell["median"]),
        "range": f"{table.signed(cell['lowest'])} … {table.signed(cell['highest'])}",
        "better": cell["better"],
        "not shown": cell["equal"],
        "worse": cell["worse"],
        "p": cell["p"],
    }


def _rows(rows: Mapping[str, Mapping[str, Any]]) -> html.Html:
    arms = list(dict.fromkeys(arm for row in rows.values() for arm in row))
    titles = [html.tag("th", "row"), *(html.tag("th", arm) for arm in arms)]
    body = [
        html.tag("tr", html.tag("td", label, class_="short"), *(_cell(row.get(arm)) for arm in arms))
        for label, row in rows.items()
    ]
    made = html.tag("table", html.tag("thead", html.tag("tr", *titles)), html.tag("tbody", *body))
    return html.tag("div", made, class_="scroll")


def _cell(found: Mapping[str, Any] | None) -> html.Html:
    if found is None:
        return html.tag("td", "–", class_="soft")
    change = found["changes"][TARGET]
    mean, error = change["mean"], change["error"]
    sure = error is not None and abs(mean) > 2 * error
    shown = html.tag(
        "span",
        table.signed(mean) + ("" if error is None else f" ± {error:.1f}"),
        class_=("good" if mean < 0 else "bad") if sure else "fixed",
    )
    pays = f" ({', '.join(found['pays'])})" if found["pays"] else ""
    steps = "" if found["steps"] is None else f", steps {found['steps']:.2f}"
    return html.tag("td", html.tag("span", shown, steps, class_="fixed"), html.tag("span", pays, class_="soft"))


