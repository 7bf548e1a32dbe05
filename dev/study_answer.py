#!/usr/bin/env python
"""Tables and picture of the study in benchmarks/studies/h100_paired, from its JSON.

dev/study_answer.py                 write the tables of README and of the log
dev/study_answer.py --check         only say whether they are up to date
dev/study_answer.py --figure FILE   a page with the forest plot and the curves
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

REPO = Path(__file__).resolve().parents[1]
STUDIES = REPO / "benchmarks" / "studies" / "h100_paired"
README, LOG = REPO / "README.md", REPO / "benchmarks" / "log" / "study_h100.md"
BEGIN, END = "<!-- table: study -->", "<!-- end of table -->"
DETECTORS = {"faster_rcnn": "Faster R-CNN", "atss": "ATSS", "retinanet": "RetinaNet"}
LENGTHS = ("600", "1200")
ENOUGH_SEEDS = 5
LEVERS = {
    "libra": "Libra: both samplers, BFP, balanced L1",
    "pfl_lrp": "UMOP: `pfl_lrp`, as released",
    "pfl_lrp_mean": "UMOP: `pfl_lrp_mean`, as its equation says",
    "rfs": "repeat-factor sampling, threshold 0.5",
}


class Row(NamedTuple):
    """A variant on one data set, in one study."""

    detector: str
    data: str
    length: str
    variant: dict[str, Any]

    @property
    def difference(self) -> dict[str, Any]:
        """Of AP, to the baseline; {} of the baseline itself."""
        return self.variant["metrics"]["AP"].get("difference", {})

    @property
    def is_decisive(self) -> bool:
        """Whether it has the seeds that a verdict needs."""
        return len(self.difference.get("by_seed", ())) >= ENOUGH_SEEDS


def rows() -> Iterator[Row]:
    """All of them; a folder is named DETECTOR_ITERATIONS."""
    for detector in DETECTORS:
        for length in LENGTHS:
            results = json.loads((STUDIES / f"{detector}_{length}" / "results.json").read_text())
            for data, content in results["datasets"].items():
                for variant in content["variants"]:
                    yield Row(detector, data, length, variant)


def short_table() -> str:
    """README's: the comparisons with enough seeds."""
    lines = ["| lever | detector | data, iterations | AP | difference | verdict |"]
    lines.append("|---|---|---|---|---|---|")
    for row in filter(lambda row: row.is_decisive, rows()):
        plain = next(r for r in rows() if r[:3] == row[:3] and r.variant["name"] == "baseline")
        ap = [r.variant["metrics"]["AP"]["mean"] for r in (plain, row)]
        lines.append(
            f"| {LEVERS[row.variant['name']]} | {DETECTORS[row.detector]} |"
            f" {row.data}, {row.length} | {ap[0]:.1f} → {ap[1]:.1f} | {_interval(row.difference)} |"
            f" {_verdict(row.difference)} |"
        )
    return "\n".join(lines)


def full_table() -> str:
    """The log's: every row, those of one seed too."""
    lines = ["| detector | iterations | data | row | seeds | AP | difference | verdict |"]
    lines.append("|---|---|---|---|---|---|---|---|")
    for row in rows():
        name, seeds = row.variant["name"], row.variant["seeds_done"]
        if not seeds:
            continue
        cells = [DETECTORS[row.detector], row.length, row.data, f"`{name}`", str(len(seeds))]
        cells.append(f"{row.variant['metrics']['AP']['mean']:.2f}")
        if row.difference:
            cells += [_interval(row.difference), _verdict(row.difference)]
        else:
            cells += ["", ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _interval(difference: dict[str, Any]) -> str:
    if difference["low"] is None:
        return f"{difference['mean']:+.2f}"
    low, high = difference["low"], difference["high"]
    return f"{difference['mean']:+.2f} [{low:+.2f}, {high:+.2f}]"


def _verdict(difference: dict[str, Any]) -> str:
    """In words; that an interval holds 0 can be seen beside them."""
    verdict, reason = difference["verdict"], difference["reason"]
    shown = verdict if verdict == "not shown" else f"**{verdict}**"
    return f"{shown}: {reason}" if reason not in ("", "the interval holds 0") else shown


def render(page: str, table: str) -> str:
    """``page`` with the part between the markers written anew."""
    head, rest = page.split(BEGIN, 1)
    return f"{head}{BEGIN}\n{table}\n{END}{rest.split(END, 1)[1]}"


def figure() -> str:
    """The page whose picture README shows."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    from libra_umop.imbalance.report.figures.base import style

    titles = [f"{DETECTORS[d]} on aquarium, 1200 iterations" for d in DETECTORS]
    shown = make_subplots(
        rows=2,
        cols=3,
        specs=[[{"colspan": 3}, None, None], [{}, {}, {}]],
        row_heights=[0.44, 0.56],
        vertical_spacing=0.2,
        subplot_titles=["AP against the same detector without the lever", *titles],
    )
    _draw_forest(shown)
    for column, detector in enumerate(DETECTORS, 1):
        _draw_curves(shown, detector, column)
    style(shown, height=720, legend=False)
    shown.update_layout(paper_bgcolor="#FFFFFF", width=1240, margin={"t": 40, "l": 70, "r": 30})
    return go.Figure(shown).to_html(include_plotlyjs=True, config={"displayModeBar": False})


def _draw_forest(shown: Any) -> None:
    from libra_umop.imbalance.report.figures.base import DARK, GREY, INK
    from libra_umop.study.answer.page import COLOURS

    for row in filter(lambda row: row.is_decisive, rows()):
        d, name = row.difference, row.variant["name"]
        label = f"{DETECTORS[row.detector]}, {row.data}: <b>{name}</b>"
        colour = COLOURS.get(d["verdict"], DARK)
        ring = {"symbol": "circle-open", "size": 7, "color": GREY}
        seeds = list(d["by_seed"].values())
        shown.add_scatter(
            x=seeds, y=[label] * len(seeds), mode="markers", marker=ring, row=1, col=1
        )
        bar = {"type": "constant", "value": d["high"] - d["mean"], "thickness": 2, "width": 6}
        marker = {"size": 11, "color": colour}
        shown.add_scatter(x=[d["mean"]], y=[label], marker=marker, error_x=bar, row=1, col=1)
        shown.add_annotation(
            x=4.5, y=label, showarrow=False, xanchor="right", row=1, col=1,
            text=f"{_interval(d)}  {d['verdict']}", font={"color": INK},
        )  # fmt: skip
    shown.add_vline(x=0, line={"color": DARK, "width": 1, "dash": "dot"}, row=1, col=1)
    shown.update_xaxes(title_text="AP points", range=[-2.6, 4.6], row=1, col=1)
    shown.update_yaxes(autorange="reversed", row=1, col=1)


def _draw_curves(shown: Any, detector: str, column: int) -> None:
    from libra_umop.imbalance.report.figures.base import faint, line, run_colour

    folder = STUDIES / f"{detector}_1200"
    every = json.loads((folder / "curves.json").read_text())["aquarium"]
    curves = {name: runs for name, runs in every.items() if len(runs) >= ENOUGH_SEEDS}
    for index, (name, by_seed) in enumerate(sorted(curves.items())):
        series = [seed["bbox/AP"] for seed in by_seed.values()]
        x = [int(i) for i in series[0]]
        values = [[s[str(i)] for s in series] for i in x]
        colour = run_colour(index)
        low, high = [min(v) for v in values], [max(v) for v in values]
        band = line(x + x[::-1], high + low[::-1], name, faint(colour, 0.0), width=0)
        shown.add_trace(band.update(fill="toself", fillcolor=faint(colour, 0.14)), 2, column)
        mean = [sum(v) / len(v) for v in values]
        shown.add_trace(line(x, mean, name, colour, mode="lines+markers"), 2, column)
        shown.add_annotation(
            x=1180, y=2 + 1.5 * (len(curves) - 1 - index), text=f"<b>{name}</b> {mean[-1]:.1f}",
            font={"color": colour}, showarrow=False, xanchor="right", row=2, col=column,
        )  # fmt: skip
    shown.update_xaxes(title_text="iteration", row=2, col=column)
    shown.update_yaxes(title_text="box AP", range=[0, 22], row=2, col=column)


def main() -> None:
    """Write the tables, check them, or write the page of the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="change nothing; 1 if out of date")
    parser.add_argument("--figure", type=Path, metavar="FILE", help="HTML to be made")
    args = parser.parse_args()
    if args.figure:
        args.figure.write_text(figure(), encoding="utf-8")
        return
    pages = {README: short_table(), LOG: full_table()}
    new = {path: render(path.read_text(), table) for path, table in pages.items()}
    if args.check:
        sys.exit(any(path.read_text() != text for path, text in new.items()))
    for path, text in new.items():
        path.write_text(text)


if __name__ == "__main__":
    main()
