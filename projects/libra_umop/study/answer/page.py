"""The study as a page in the report's form: a forest plot, and curves with bands."""

from pathlib import Path
from typing import Any

import plotly.graph_objects as go
from markupsafe import Markup

from ...imbalance.report.figures.base import DARK, GREY, faint, line, run_colour, style
from ...imbalance.report.page import Card, Cell, Section, Table, render
from ...imbalance.report.run import read_metrics
from ..records import BASELINE, run_folder
from .results import failures, interval, table_cells, verdict
from .statistics import HELPS, HURTS

__all__ = ["page_of"]

TEMPLATE = Path(__file__).with_name("study.html")
COLOURS = {HELPS: "#009E73", HURTS: "#D55E00"}  # Okabe and Ito's, as the report's runs have
ROW_PX = 34
CURVES = (("bbox/AP", "box AP"), ("total_loss", "total loss"))
MOST_CURVES = 6  # told apart by colour


def page_of(results: dict[str, Any], folder: Path) -> str:
    """The whole page as HTML; it needs no network.

    Args:
        results: of :func:`libra_umop.study.answer.results.collect`.
        folder: of the study; the curves are read from its runs.
    """
    sections = []
    for number, (name, dataset) in enumerate(results["datasets"].items()):
        rows = dataset["variants"]
        cards = [
            Card("All variants", _table(rows), "Percent; means over seeds that are done.", True),
            Card(
                "Difference of AP to the baseline",
                forest(rows),
                "Dot: mean over seeds. Bar: its 95 % interval. Rings: single seeds. Only a bar that"
                " leaves out 0 shows anything; a ring alone is one seed, which shows nothing.",
                True,
            ),
        ]
        for key, title in CURVES:
            figure = curves(rows, folder, name, results["seeds"], key, title)
            note = "Line: mean over seeds. Band: all seeds."
            cards.append(Card(f"{title} over training", figure, note))
        anchor = "findings" if not number else f"data-{number}"
        sections.append(Section(anchor, name, _sentences(rows), cards))
    return render(TEMPLATE, "Which lever helps", sections, results=results)


def _sentences(rows: list[dict[str, Any]]) -> Markup:
    """One sentence for each variant; it says no more than the interval."""
    parts = []
    for row in rows:
        if row["name"] != BASELINE:
            difference = row["metrics"]["AP"]["difference"]
            words = f"{verdict(difference)} ({interval(difference)} AP)"
            parts.append(Markup("<b>{}</b> {}").format(row["name"], words))
    return Markup("<br>").join([Markup("; ").join(parts) + ".", *failures(rows)])


def _table(rows: list[dict[str, Any]]) -> Table:
    """The variants, the baseline marked; one that is pointed at says its keys."""
    header, *cells = table_cells(rows)
    lines = []
    for row, (first, *rest) in zip(rows, cells, strict=True):
        mark = "lead" if row["name"] == BASELINE else ""
        hint = f"{row['title']}: {row['keys']}"
        lines.append((mark, [Cell(first, hint=hint), *map(Cell, rest)]))
    return Table([Cell(text) for text in header], lines)


def forest(rows: list[dict[str, Any]]) -> go.Figure | None:
    """Difference of AP per variant and number of seeds; None without any."""
    shown = [
        (row["name"], row["metrics"]["AP"]["difference"])
        for row in rows
        if row["name"] != BASELINE and row["metrics"]["AP"]["difference"]["mean"] is not None
    ]
    if not shown:
        return None
    figure = go.Figure()
    for name, difference in shown:
        # A verdict with a reason is none, or one that falls among all comparisons.
        colour = DARK if difference["reason"] else COLOURS[difference["verdict"]]
        seeds = difference["by_seed"]
        label = f"{name} ({len(seeds)})"
        figure.add_scatter(
            x=list(seeds.values()),
            y=[label] * len(seeds),
            mode="markers",
            marker={"symbol": "circle-open", "size": 7, "color": GREY},
            text=[f"seed {seed}" for seed in seeds],
            hovertemplate="%{text}: %{x:+.2f}<extra></extra>",
        )
        if difference["low"] is None:
            continue
        half = difference["high"] - difference["mean"]
        bar = {"type": "constant", "value": half, "thickness": 2, "width": 6}
        figure.add_scatter(
            x=[difference["mean"]],
            y=[label],
            mode="markers",
            marker={"size": 11, "color": colour},
            error_x=bar,
            hovertemplate=f"{interval(difference)}: {verdict(difference)}<extra></extra>",
        )
    style(figure, height=90 + ROW_PX * len(shown), legend=False)
    figure.add_vline(x=0, line={"color": DARK, "width": 1, "dash": "dot"})
    figure.update_xaxes(title_text="AP points")
    figure.update_yaxes(autorange="reversed", type="category")
    return figure


def curves(
    rows: list[dict[str, Any]], folder: Path, dataset: str, seeds: list[int], key: str, title: str
) -> go.Figure | None:
    """A metric over iterations: mean and band over seeds, per variant; None without curves."""
    figure = go.Figure()
    has_curve = False
    for index, row in enumerate(rows):
        series = [
            _series(run_folder(folder, dataset, row["name"], seed) / "metrics.json", key)
            for seed in seeds
        ]
        x, low, centre, high = _band([s for s in series if s])
        if not x:
            continue
        has_curve = has_curve or len(x) > 1
        colour = run_colour(index)
        is_shown: Any = True if index < MOST_CURVES else "legendonly"
        band = line(x + x[::-1], high + low[::-1], row["name"], faint(colour, 0.0), width=0)
        band.update(fill="toself", fillcolor=faint(colour, 0.14), hoverinfo="skip")
        figure.add_trace(band.update(showlegend=False, legendgroup=row["name"], visible=is_shown))
        mode = "lines+markers" if len(x) < 30 else "lines"
        strong = line(x, centre, row["name"], colour, mode=mode, legendgroup=row["name"])
        figure.add_trace(strong.update(visible=is_shown))
    if not has_curve:
        return None
    style(figure, height=360)
    figure.update_xaxes(title_text="iteration")
    figure.update_yaxes(title_text=title)
    return figure


def _series(path: Path, key: str) -> dict[int, float]:
    """A metric by iteration; {} where it was not logged."""
    lines = read_metrics(path)
    return {int(entry["iteration"]): entry[key] for entry in lines if entry.get(key) is not None}


def _band(
    series: list[dict[int, float]],
) -> tuple[list[int], list[float], list[float], list[float]]:
    """Iterations that all seeds have, and lowest, mean and highest value there."""
    common = sorted(set.intersection(*map(set, series))) if series else []
    values = [[s[x] for s in series] for x in common]
    return (
        common,
        [min(v) for v in values],
        [sum(v) / len(v) for v in values],
        [max(v) for v in values],
    )
