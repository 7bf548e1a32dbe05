"""The figures of the level imbalance."""

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..page import Card
from .base import (
    GREY,
    LIGHT,
    Measured,
    faint,
    level_colour,
    lift_legend,
    line,
    log_axis,
    log_floor,
    panels,
    run_colour,
    style,
    thin,
)


def cards(measured: Measured) -> list[Card]:
    """The figures with their titles and captions."""
    shown = []
    for head, name in (("dense", "anchors"), ("rpn", "RPN anchors")):
        note = "Box: quartiles over the measured iterations."
        if head == "rpn":
            note += " The RPN samples its anchors; these are the sampled positives."
        title = f"Positives of all {name}, per level and iteration"
        shown.append(Card(title, level_positives(measured, head), note))
        note = "Sum of absolute gradients at the classification logits."
        figure = level_gradients(measured, head)
        shown.append(Card("Classification gradient by level", figure, note))
    return [
        *shown,
        Card(
            "gamma and alpha of each level",
            focus_over_time(measured),
            "As UMOP sets them from the mean probability of the level's positives; for a run"
            " without UMOP, as it would. Dotted: the limits of gamma. At gamma 2 and delta 0.5"
            " gamma moves only while the mean probability lies in [0.082, 0.223].",
            wide=True,
        ),
        Card(
            "How often gamma is at a limit",
            clipped_shares(measured),
            "Share of the measured iterations in which the level has positives.",
        ),
    ]


def level_positives(measured: Measured, head: str) -> go.Figure | None:
    """Positives over all anchors per level and iteration, as box plots on a logarithmic axis."""
    shown = [(i, m) for i, m in enumerate(measured) if head in m["level"]]
    floor = log_floor([row for _, m in shown for row in m["level"][head]["rates"]])
    if not shown or floor is None:
        return None
    figure = go.Figure()
    for i, m in shown:
        entry = m["level"][head]
        rates = thin(entry["rates"])
        x = [name.upper() for row in rates for name in entry["levels"]]
        y = [100 * max(value, floor) for row in rates for value in row]
        figure.add_box(
            x=x,
            y=y,
            name=m["name"],
            marker={"color": run_colour(i), "size": 3},
            line={"width": 1.5},
            boxpoints="outliers",
            fillcolor=faint(run_colour(i), 0.25),
            hoverinfo="y",
        )
    style(figure, height=360)
    figure.update_layout(boxmode="group", boxgap=0.3)
    rates = [v for _, m in shown for row in m["level"][head]["rates"] for v in row]
    axis = log_axis(300 * floor, 100 * max(rates), " %")
    if min(rates) <= 0:
        axis["range"][0] = np.log10(80 * floor)
        labels = dict(zip(axis["tickvals"], axis["ticktext"], strict=True))
        labels = {100 * floor: "none", **{v: t for v, t in labels.items() if v > 140 * floor}}
        axis["tickvals"], axis["ticktext"] = list(labels), list(labels.values())
    figure.update_yaxes(title_text="positives of all anchors", **axis)
    return figure


def focus_over_time(measured: Measured) -> go.Figure | None:
    """Gamma and alpha of each level over training, a column a run."""
    shown = [m for m in measured if "dense" in m["level"]]
    if not shown:
        return None
    titles = [m["name"] for m in shown] if len(shown) > 1 else None
    figure = make_subplots(
        2,
        len(shown),
        shared_xaxes=True,
        shared_yaxes=True,
        column_titles=titles,
        vertical_spacing=0.06,
        horizontal_spacing=0.05,
    )
    for column, m in enumerate(shown, start=1):
        entry = m["level"]["dense"]
        iterations = thin(entry["iterations"])
        for row, key in enumerate(("gamma", "alpha"), start=1):
            table = list(zip(*thin(entry[key]), strict=True))
            for i, name in enumerate(entry["levels"]):
                colour = level_colour(i, len(entry["levels"]))
                trace = line(iterations, table[i], name.upper(), colour, legendgroup=name)
                trace.update(showlegend=row == column == 1, connectgaps=False)
                figure.add_trace(trace, row, column)
        for limit in (-1, 1):
            y = entry["focus"]["gamma"] + limit * entry["focus"]["delta"]
            figure.add_hline(y, line={"dash": "dot", "color": GREY, "width": 1}, row=1, col=column)
    style(figure, height=420)
    figure.update_xaxes(title_text="iteration", row=2)
    limits = [_limits(m["level"]["dense"]["focus"]) for m in shown]
    for row, name in enumerate(("gamma", "alpha"), start=1):
        low, high = min(x[name][0] for x in limits), max(x[name][1] for x in limits)
        margin = 0.06 * (high - low) + 1e-3
        figure.update_yaxes(range=[low - margin, high + margin], row=row)
    figure.update_yaxes(title_text="gamma of the level", row=1, col=1)
    figure.update_yaxes(title_text="alpha of the level", row=2, col=1)
    return lift_legend(figure, len(shown) > 1)


def _limits(focus: dict[str, float]) -> dict[str, tuple[float, float]]:
    """Between which values gamma and alpha = w / gamma can lie."""
    low, high = focus["gamma"] - focus["delta"], focus["gamma"] + focus["delta"]
    return {"gamma": (low, high), "alpha": (focus["w"] / high, focus["w"] / max(low, 1e-6))}


def clipped_shares(measured: Measured) -> go.Figure | None:
    """How often each level's gamma is at a limit."""
    figure = go.Figure()
    for i, m in enumerate(measured):
        entry = m["level"].get("dense")
        if entry:
            figure.add_bar(
                x=[name.upper() for name in entry["levels"]],
                y=[100 * v if v is not None else None for v in entry["clipped"]],
                name=m["name"],
                marker_color=run_colour(i),
                hovertemplate="%{x}: %{y:.0f} %",
            )
    if not figure.data:
        return None
    style(figure)
    figure.update_yaxes(title_text="gamma at a limit", ticksuffix=" %", range=[0, 103])
    return figure


def level_gradients(measured: Measured, head: str) -> go.Figure | None:
    """Which level, and there positives or negatives, the classification gradient comes from."""
    shown = [(i, m) for i, m in enumerate(measured) if head in m["level"]]
    shown = [(i, m) for i, m in shown if m["level"][head]["gradient_positives"]]
    if not shown:
        return None
    figure = panels([m["name"] for _, m in shown], shared_yaxes=True)
    for column, (i, m) in enumerate(shown, start=1):
        entry = m["level"][head]
        for key, name, colour in (
            ("gradient_positives", "from positives", run_colour(i)),
            ("gradient_negatives", "from negatives", LIGHT),
        ):
            bar = go.Bar(
                x=[name_l.upper() for name_l in entry["levels"]],
                y=[100 * v for v in entry[key]],
                name=name,
                legendgroup=key,
                marker_color=colour,
                showlegend=column == 1,
                hovertemplate="%{x}: %{y:.2f} %",
            )
            figure.add_trace(bar, 1, column)
    style(figure)
    figure.update_layout(barmode="stack")
    figure.update_yaxes(ticksuffix=" %")
    figure.update_yaxes(title_text="of the classification gradient", col=1)
    return lift_legend(figure, len(shown) > 1)
