"""The figures of the feature level."""

import plotly.graph_objects as go

from ..page import Card
from .base import Measured, faint, paper_line, run_colour, style


def cards(measured: Measured) -> list[Card]:
    """The figures with their titles and captions."""
    return [
        Card(
            "What each level gives",
            feature_shares(measured),
            "Projection of the rescaled level on the integrated feature; the parts sum to 100 %.",
        ),
        Card(
            "Norm of each level",
            feature_norms(measured),
            "Root mean square of the activations. Point at a bar after BFP to see how much was"
            " added.",
        ),
    ]


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
