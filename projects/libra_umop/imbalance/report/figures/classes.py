"""The figures of the imbalance between classes."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from ..page import Card
from .base import GREY, LIGHT, Measured, lift_legend, log_axis, panels, run_colour, style

MOST, LEAST = 8, 8  # of more classes than both, the most and the least frequent are drawn


def cards(measured: Measured) -> list[Card]:
    """The figures with their titles and captions."""
    shown = [(i, m) for i, m in enumerate(measured) if m["class"]]
    first = [(i, m) for i, m in shown if not any(_same(m, o) for j, o in shown if j < i)]
    return [
        *(
            Card(_title("Boxes and images", m, first), boxes_and_images(m["class"]))
            for _, m in first
        ),
        Card(
            "AP against frequency",
            ap_against_boxes(shown),
            "A point is a class. Of few boxes in the validation set AP says little.",
        ),
        Card(
            "Gradient by class",
            parts(shown, "gradient"),
            "Parts of the classification gradient as it reached the scores of a class: from its own"
            " boxes, and from all that is not of the class.",
            wide=len(shown) > 1,
        ),
        Card(
            "Loss by class",
            parts(shown, "loss"),
            "Dense heads: the focal loss at the run's gamma and alpha. ROI heads: that of the"
            " regions of a class; the rest is background's.",
            wide=len(shown) > 1,
        ),
    ]


def _same(m: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(m["class"][k] == other["class"][k] for k in ("names", "boxes", "images"))


def _title(title: str, m: dict[str, Any], among: Sequence[Any]) -> str:
    return f"{title} ({m['name']})" if len(among) > 1 else title


def drawn(data: Any) -> list[int]:
    """Which of the classes are drawn, the most frequent first."""
    count = len(data["names"])
    if count <= MOST + LEAST:
        return list(range(count))
    return [*range(MOST), *range(count - LEAST, count)]


def boxes_and_images(data: Any) -> go.Figure:
    """How many boxes each class has, and in how many images."""
    index = drawn(data)
    labels = [data["names"][i] for i in index]
    figure = go.Figure()
    for key, colour in (("boxes", GREY), ("images", LIGHT)):
        values = [data[key][i] for i in index]
        figure.add_bar(
            y=labels,
            x=values,
            orientation="h",
            name=key,
            marker_color=colour,
            text=[str(v) for v in values],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{y}: %{x} " + key + "<extra></extra>",
        )
    style(figure, height=max(280, 90 + 34 * len(index)))
    figure.update_xaxes(range=[0, 1.2 * max(data["boxes"])])
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="")
    return figure


def ap_against_boxes(shown: Sequence[tuple[int, dict[str, Any]]]) -> go.Figure | None:
    """AP of each class over its number of training boxes, a colour a run."""
    figure, counts = go.Figure(), []
    for i, m in shown:
        data = m["class"]
        points = [
            (n, ap, name)
            for n, ap, name in zip(
                data["boxes"], data["AP"] or [None] * len(data["names"]), data["names"], strict=True
            )
            if n and ap is not None and ap == ap
        ]
        if not points:
            continue
        counts += [n for n, _, _ in points]
        few = len(points) <= MOST + LEAST and len(shown) == 1
        figure.add_scatter(
            x=[n for n, _, _ in points],
            y=[ap for _, ap, _ in points],
            text=[name for _, _, name in points],
            name=m["name"],
            mode="markers+text" if few else "markers",
            textposition="top center",
            marker={"color": run_colour(i), "size": 9},
            cliponaxis=False,
            hovertemplate="%{text}: %{x} boxes, %{y:.1f} AP<extra></extra>",
        )
    if not figure.data:
        return None
    style(figure, legend=len(figure.data) > 1)
    figure.update_xaxes(
        title_text="training boxes of the class", **log_axis(min(counts), max(counts))
    )
    top = max(max(trace.y) for trace in figure.data)
    figure.update_yaxes(title_text="AP", range=[0, 1.12 * top or 1])  # room for the highest name
    return figure


def parts(shown: Sequence[tuple[int, dict[str, Any]]], kind: str) -> go.Figure | None:
    """What each class's own boxes, and all others, have of the gradient or of the loss."""
    runs = [(i, m) for i, m in shown if m["class"][f"{kind}_positives"]]
    if not runs:
        return None
    figure = panels([m["name"] for _, m in runs], shared_yaxes=True)
    most = 0
    for column, (i, m) in enumerate(runs, start=1):
        data = m["class"]
        index = drawn(data)
        most = max(most, len(index))
        for part, name, colour in (
            ("positives", "its own boxes", run_colour(i)),
            ("negatives", "all others", LIGHT),
        ):
            values = data[f"{kind}_{part}"]
            if not values:
                continue
            figure.add_bar(
                y=[data["names"][k] for k in index],
                x=[100 * values[k] for k in index],
                orientation="h",
                name=name,
                legendgroup=part,
                showlegend=column == 1,
                marker_color=colour,
                hovertemplate="%{y}: %{x:.2g} %",
                row=1,
                col=column,
            )
    style(figure, height=max(280, 90 + 24 * most))
    figure.update_layout(barmode="stack")
    figure.update_xaxes(ticksuffix=" %", rangemode="tozero")
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="")
    return lift_legend(figure, len(runs) > 1)
