"""The figures of the objective level."""

from itertools import pairwise
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ...measures import objective
from ...records import ERROR_EDGES
from ..page import Card
from .base import DARK, GREY, LIGHT, Measured, lift_legend, line, panels, run_colour, style, thin


def cards(measured: Measured) -> list[Card]:
    """The figures with their titles and captions."""
    return [
        Card(
            "Inliers' share",
            gradient_shares(measured),
            "Inliers: errors below the loss's transition point, or below 1 where it has none.",
        ),
        Card("Loss and gradient", loss_curves(measured), "At the runs' own parameters."),
        Card(
            "Where the gradient comes from",
            error_histogram(measured),
            "Cumulative over the error of a coordinate, in the units of the head's box coding. The"
            " further the coloured line lies below the grey one, the more outliers dominate.",
        ),
        Card("Inliers' share of the gradient over training", inliers_over_time(measured)),
    ]


def main_head(m: dict[str, Any]) -> str | None:
    """The head whose boxes are the detections: the dense one, or the last of the ROI heads."""
    heads = [h for h in m["objective"] if h != "rpn"] or list(m["objective"])
    return heads[0] if heads else None


def gradient_shares(measured: Measured) -> go.Figure | None:
    """What inliers are among the coordinates, and what they give of the gradient."""
    rows: list[tuple[str, dict[str, Any], str]] = []
    for i, m in enumerate(measured):
        for head, entry in m["objective"].items():
            label = head.replace("roi_heads", "ROI heads").replace("_", " ").replace("rpn", "RPN")
            label = f"{m['name']}, {label}" if len(measured) > 1 else label
            rows.append((label, entry, run_colour(i)))
    if not rows:
        return None
    figure = go.Figure()
    labels = [label for label, _, _ in rows]
    for key, name, colours in (
        ("inliers", "of the coordinates", [LIGHT] * len(rows)),
        ("gradient_inliers", "of the gradient", [colour for _, _, colour in rows]),
    ):
        share = [100 * entry[key] for _, entry, _ in rows]
        figure.add_bar(
            y=labels,
            x=share,
            orientation="h",
            name=f"inliers {name}",
            marker_color=colours,
            text=[f"{v:.0f} %" for v in share],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{x:.1f} %",
        )
    style(figure, height=max(300, 110 + 46 * len(rows)))
    figure.add_vline(
        30,
        line={"dash": "dot", "color": GREY, "width": 1.5},
        annotation_position="top",
        annotation_text="paper: 30 % of the gradient (smooth L1)",
        annotation_font_size=11,
    )
    figure.update_layout(margin_t=58, legend_y=1.08)
    figure.update_xaxes(ticksuffix=" %", range=[0, 112])
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="")
    return figure


def loss_curves(measured: Measured) -> go.Figure | None:
    """Loss and gradient of each run's box loss, beside smooth L1 and balanced L1 as published."""
    losses: dict[str, tuple[dict[str, Any], str, str]] = {}
    for i, m in enumerate(measured):
        head = main_head(m)
        loss = m["objective"][head]["loss"] if head else {}
        if loss.get("type") in objective.COORDINATE_LOSSES:
            losses[m["name"]] = (loss, run_colour(i), "solid")
    if not losses:
        return None
    beta = max(objective.transition(loss) for loss, _, _ in losses.values())
    smooth_l1 = {"type": "smooth_l1", "beta": beta}
    balanced = {"type": "balanced_l1", "beta": beta, "alpha": 0.5, "gamma": 1.5}
    losses[f"smooth L1, beta {beta:.2g}"] = (smooth_l1, GREY, "dot")
    losses[f"balanced L1, alpha 0.5, gamma 1.5, beta {beta:.2g}"] = (balanced, DARK, "dash")
    figure = make_subplots(1, 2, subplot_titles=["loss", "gradient"], horizontal_spacing=0.09)
    x = np.linspace(0, 2 * beta, 401)
    for name, (loss, colour, dash) in losses.items():
        for column, y in enumerate(
            (objective.value(x, loss), objective.gradient(x, loss)), start=1
        ):
            trace = line(x.round(5), y.round(5), name, colour, dash=dash, legendgroup=name)
            figure.add_trace(trace.update(showlegend=column == 1), 1, column)
    style(figure)
    figure.update_xaxes(title_text="error of a coordinate, |x|")
    return lift_legend(figure, True)


def error_histogram(measured: Measured) -> go.Figure | None:
    """Where the errors are, and where the gradient comes from, a panel a run."""
    shown = [(i, m, main_head(m)) for i, m in enumerate(measured) if main_head(m)]
    if not shown:
        return None
    figure = panels([m["name"] for _, m, _ in shown], shared_yaxes=True)
    x = [(a + b) / 2 for a, b in pairwise(ERROR_EDGES)] + [ERROR_EDGES[-1] + 0.05]
    for column, (i, m, head) in enumerate(shown, start=1):
        entry = m["objective"][head]
        for key, name, colour in (
            ("count", "coordinates", GREY),
            ("gradient", "gradient", run_colour(i)),
        ):
            y = (100 * np.cumsum(entry[key])).round(3)
            trace = line(x, y, name, colour, width=2.5, legendgroup=key)
            trace.update(showlegend=column == 1, hovertemplate="|x| < %{x:.2f}: %{y:.0f} %")
            figure.add_trace(trace, 1, column)
        figure.add_vline(
            entry["threshold"], line={"dash": "dot", "color": DARK, "width": 1}, row=1, col=column
        )
    style(figure)
    figure.update_yaxes(ticksuffix=" %", range=[0, 103])
    figure.update_yaxes(title_text="share below |x|", col=1)
    figure.update_xaxes(title_text="error of a coordinate, |x|")
    return lift_legend(figure, len(shown) > 1)


def inliers_over_time(measured: Measured) -> go.Figure | None:
    """The inliers' share of the gradient over training."""
    figure = go.Figure()
    for i, m in enumerate(measured):
        head = main_head(m)
        curve = m["objective"][head]["curve"] if head else None
        if curve and len(curve[0]) > 1:
            y = [100 * v if v is not None else None for v in thin(curve[1])]
            figure.add_trace(line(thin(curve[0]), y, m["name"], run_colour(i)))
    if not figure.data:
        return None
    style(figure)
    figure.update_yaxes(
        title_text="inliers' share of the gradient", ticksuffix=" %", range=[0, 103]
    )
    figure.update_xaxes(title_text="iteration")
    return figure
