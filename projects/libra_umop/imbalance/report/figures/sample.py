"""The figures of the sample level."""

import numpy as np
import plotly.graph_objects as go

from ...records import IOU_EDGES
from ..page import Card
from .base import (
    DARK,
    GREY,
    Measured,
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


def cards(measured: Measured) -> list[Card]:
    """The figures with their titles and captions."""
    wide = sum(m["sample"] is not None for m in measured) > 1
    return [
        Card(
            "IoU of negatives",
            sample_histograms(measured),
            "Hard negatives: the tenth with the highest classification loss of those scored. Random"
            " picks: what uniform sampling would draw on average.",
            wide,
        ),
        Card(
            "Negatives that overlap an object",
            sample_shares(measured),
            "Share above IoU 0.05.",
            wide,
        ),
    ]


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
