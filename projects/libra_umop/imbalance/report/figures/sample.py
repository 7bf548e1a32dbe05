"""The figures of the sample and the feature level."""

import numpy as np
import plotly.graph_objects as go

from ...records import IOU_EDGES
from .base import (
    DARK,
    GREY,
    Measured,
    faint,
    lift_legend,
    line,
    log_axis,
    panels,
    paper_line,
    run_colour,
    style,
)

# Bins drawn: negatives end at the background threshold, 0.5 in nearly every config.
LAST_IOU_BIN = 20


def sample_histograms(measured: Measured) -> go.Figure | None:
    """IoU of all negatives, random picks, this sampler's picks and the hard ones, a panel a run."""
    shown = [(i, m) for i, m in enumerate(measured) if m["sample"]]
    if not shown:
        return None
    figure = panels([m["name"] for _, m in shown], shared_yaxes=True)
    x = np.repeat(IOU_EDGES[: LAST_IOU_BIN + 1], 2)[1:-1].tolist()
    for column, (i, m) in enumerate(shown, start=1):
        kinds = (
            ("all", "all negatives", GREY, "dot", 1.5),
            ("random", "random picks (expected)", GREY, "solid", 2),
            ("picked", "this sampler's picks", run_colour(i), "solid", 3),
            ("hard", "hard negatives", DARK, "dash", 2),
        )
        for kind, name, colour, dash, width in kinds:
            bins = m["sample"][kind]["histogram"][:LAST_IOU_BIN]
            y = [100 * v if v > 0 else None for v in np.repeat(bins, 2)]
            trace = line(x, y, name, colour, dash=dash, width=width, legendgroup=kind)
            trace.update(showlegend=column == 1, hovertemplate="IoU %{x:.3f}: %{y:.2f} %")
            figure.add_trace(trace, 1, column)
    style(figure, height=340)
    drawn = [v for trace in figure.data for v in trace.y if v is not None]
    figure.update_yaxes(**log_axis(min(drawn), max(drawn), " %"))
    figure.update_yaxes(title_text="of the negatives, per 0.025", col=1)
    figure.update_xaxes(title_text="IoU with the nearest object", range=[0, 0.5])
    return lift_legend(figure, len(shown) > 1)


def sample_shares(measured: Measured) -> go.Figure | None:
    """Share above IoU 0.05 of random picks, this sampler's and hard negatives, with the paper's."""
    shown = [(i, m) for i, m in enumerate(measured) if m["sample"]]
    if not shown:
        return None
    figure = go.Figure()
    kinds = {"random": "random picks", "picked": "this sampler", "hard": "hard negatives"}
    for i, m in shown:
        y = [100 * m["sample"][k]["share_above"] for k in kinds]
        figure.add_bar(
            x=list(kinds.values()),
            y=y,
            name=m["name"],
            marker_color=run_colour(i),
            text=[f"{v:.0f} %" for v in y],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{x}: %{y:.1f} %",
        )
    style(figure, height=340)
    paper_line(figure, 30, "paper:<br>random 30 %")
    paper_line(figure, 60, "paper:<br>hard 60 %")
    figure.update_yaxes(title_text="negatives above IoU 0.05", ticksuffix=" %", range=[0, 108])
    return figure


def feature_shares(measured: Measured) -> go.Figure | None:
    """Each level's part in the integrated feature."""
    shown = [(i, m) for i, m in enumerate(measured) if m["feature"] and m["feature"]["share"]]
    if not shown:
        return None
    figure = go.Figure()
    for i, m in shown:
        feature = m["feature"]
        figure.add_bar(
            x=[name.upper() for name in feature["levels"]],
            y=[100 * v for v in feature["share"]],
            name=m["name"],
            marker_color=run_colour(i),
            hovertemplate="%{x}: %{y:.1f} %",
        )
    style(figure)
    equal = 100 / len(shown[0][1]["feature"]["levels"])
    paper_line(figure, equal, f"equal parts:<br>{equal:.0f} %")
    figure.update_yaxes(title_text="part of the integrated feature", ticksuffix=" %")
    return figure


def feature_norms(measured: Measured) -> go.Figure | None:
    """Root mean square of each level, before and after BFP where there is one."""
    shown = [(i, m) for i, m in enumerate(measured) if m["feature"] and m["feature"]["before"]]
    if not shown:
        return None
    figure = go.Figure()
    for i, m in shown:
        levels = [name.upper() for name in m["feature"]["levels"]]
        before = {"color": faint(run_colour(i), 0.35), "line": {"color": run_colour(i), "width": 1}}
        label = f"{m['name']}, before BFP" if m["feature"]["after"] else m["name"]
        figure.add_bar(x=levels, y=m["feature"]["before"], name=label, marker=before)
        if m["feature"]["after"]:
            gain = [f"BFP adds {100 * g:.0f} %" for g in m["feature"]["gain"]]
            figure.add_bar(
                x=levels,
                y=m["feature"]["after"],
                name=f"{m['name']}, after BFP",
                marker_color=run_colour(i),
                customdata=gain,
                hovertemplate="%{x}: %{y:.3g}, %{customdata}",
            )
    style(figure)
    figure.update_yaxes(title_text="root mean square", rangemode="tozero")
    return figure
