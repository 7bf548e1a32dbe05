"""The figures of the data: boxes by size, class and level."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import plotly.graph_objects as go

from ....data.check.areas import LIMITS
from .base import DARK, GREY, level_colour, style

MAX_CLASSES = 15


def box_sides(data: dict[str, Any]) -> go.Figure:
    """How large the boxes are, with COCO's limits."""
    sides = np.maximum(np.asarray(data["sides"]), 1.0)
    edges = np.arange(0, np.ceil(np.log2(sides.max(initial=2.0))) + 0.25, 0.25)
    count, _ = np.histogram(np.log2(sides), edges)
    figure = go.Figure(
        go.Bar(
            x=((edges[:-1] + edges[1:]) / 2).tolist(),
            y=count.tolist(),
            marker_color=GREY,
            customdata=[f"{2**a:.0f} to {2**b:.0f} px" for a, b in pairwise(edges)],
            hovertemplate="%{customdata}: %{y} boxes<extra></extra>",
        )
    )
    style(figure, height=280, legend=False)
    figure.update_layout(bargap=0.04)
    for limit in map(math.sqrt, LIMITS):
        figure.add_vline(
            np.log2(limit),
            line={"dash": "dot", "color": DARK, "width": 1},
            annotation_text=f"{limit:.0f} px",
            annotation_font_size=11,
        )
    ticks = list(range(int(edges[-1]) + 1))
    figure.update_xaxes(
        title_text="side of a box, px (square root of its area)",
        tickvals=ticks,
        ticktext=[str(2**t) for t in ticks],
    )
    figure.update_yaxes(title_text="boxes")
    return figure


def box_classes(data: dict[str, Any]) -> go.Figure:
    """Boxes per class, the most frequent first; the rest together."""
    classes = data["classes"]
    shown = [(c["name"], c["count"]) for c in classes[:MAX_CLASSES]]
    if len(classes) > MAX_CLASSES:
        rest = classes[MAX_CLASSES:]
        shown.append((f"{len(rest)} others", sum(c["count"] for c in rest)))
    return _horizontal_bars([name for name, _ in shown], [count for _, count in shown], [GREY])


def box_levels(data: dict[str, Any]) -> go.Figure:
    """Boxes by the pyramid level whose anchors are nearest in size."""
    levels = data["levels"]
    names = [f"{entry['name'].upper()} ({entry['size']:.0f} px)" for entry in levels]
    colours = [level_colour(i, len(levels)) for i in range(len(levels))]
    return _horizontal_bars(names, [entry["count"] for entry in levels], colours)


def _horizontal_bars(names: list[str], counts: list[int], colours: list[str]) -> go.Figure:
    """Bars with their numbers, the first on top."""
    total = max(sum(counts), 1)
    figure = go.Figure(
        go.Bar(
            x=counts,
            y=names,
            orientation="h",
            cliponaxis=False,
            textposition="outside",
            marker_color=colours if len(colours) == len(names) else colours[0],
            text=[f"{c} ({100 * c / total:.1f} %)" for c in counts],
            hovertemplate="%{y}: %{x} boxes<extra></extra>",
        )
    )
    style(figure, height=max(280, 70 + 22 * len(names)), legend=False)
    figure.update_xaxes(title_text="boxes", range=[0, max([*counts, 1]) * 1.3])
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="")
    return figure
