"""The figures of the data: boxes by size, class and level."""

import math
from itertools import pairwise

import numpy as np
import plotly.graph_objects as go

from ....data.check.areas import LIMITS
from ...measures.data import DataMeasure, LevelCount
from ..page import Card
from .base import DARK, GREY, Measured, level_colour, style

MAX_CLASSES = 15


def cards(measured: Measured) -> list[Card]:
    """The figures with their titles and captions, once for runs that saw the same boxes."""
    cards: list[Card] = []
    shown: list[DataMeasure] = []
    for m in measured:
        data: DataMeasure | None = m["data"]
        if not data or not data["boxes"] or any(_is_same(data, other) for other in shown):
            continue
        shown.append(data)
        who = f" ({m['name']})" if len(measured) > 1 else ""
        cards.append(Card(f"Size of the boxes{who}", box_sides(data)))
        cards.append(Card(f"Classes{who}", box_classes(data)))
        if data["levels"]:
            note = "The level whose anchors are nearest in size, at training resolution."
            cards.append(Card(f"Levels{who}", box_levels(data["levels"]), note))
    return cards


def _is_same(a: DataMeasure, b: DataMeasure) -> bool:
    """Whether two runs saw the same boxes with the same levels."""
    boxes = (a["images"], a["boxes"], a["classes"]) == (b["images"], b["boxes"], b["classes"])
    return boxes and (a["areas"], a["levels"]) == (b["areas"], b["levels"])


def box_sides(data: DataMeasure) -> go.Figure:
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


def box_classes(data: DataMeasure) -> go.Figure:
    """Boxes per class, the most frequent first; the rest together."""
    classes = data["classes"]
    shown = [(c["name"], c["count"]) for c in classes[:MAX_CLASSES]]
    if len(classes) > MAX_CLASSES:
        rest = classes[MAX_CLASSES:]
        shown.append((f"{len(rest)} others", sum(c["count"] for c in rest)))
    return _horizontal_bars([name for name, _ in shown], [count for _, count in shown], [GREY])


def box_levels(levels: list[LevelCount]) -> go.Figure:
    """Boxes by the pyramid level whose anchors are nearest in size."""
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
