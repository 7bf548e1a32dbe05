"""The figures of the data and of runs side by side."""

from typing import Any, Dict, List, Optional

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from .compare import ap_series, ap_table, loss_names, series, smooth
from .data import LARGE, SMALL
from .figures import DARK, GREY, faint, level_colour, line, run_colour, style, thin
from .figures_imbalance import lift_legend, panels
from .run import Run

Measured = List[Dict[str, Any]]
MAX_PANELS = 6
MAX_CLASSES = 15


def box_sides(data: Dict[str, Any]) -> go.Figure:
    """How large the boxes are, with COCO's limits."""
    sides = np.maximum(np.asarray(data["sides"]), 1.0)
    edges = np.arange(0, np.ceil(np.log2(sides.max(initial=2.0))) + 0.25, 0.25)
    count, _ = np.histogram(np.log2(sides), edges)
    figure = go.Figure(
        go.Bar(
            x=((edges[:-1] + edges[1:]) / 2).tolist(), y=count.tolist(), marker_color=GREY,
            customdata=[f"{2**a:.0f} to {2**b:.0f} px" for a, b in zip(edges, edges[1:])],
            hovertemplate="%{customdata}: %{y} boxes<extra></extra>",
        )
    )
    style(figure, height=280, legend=False)
    figure.update_layout(bargap=0.04)
    for limit in (SMALL, LARGE):
        figure.add_vline(np.log2(limit), line={"dash": "dot", "color": DARK, "width": 1},
                         annotation_text=f"{limit:.0f} px", annotation_font_size=11)
    ticks = list(range(int(edges[-1]) + 1))
    figure.update_xaxes(title_text="side of a box, px (square root of its area)", tickvals=ticks,
                        ticktext=[str(2**t) for t in ticks])
    figure.update_yaxes(title_text="boxes")
    return figure


def box_classes(data: Dict[str, Any]) -> go.Figure:
    """Boxes per class, the most frequent first; the rest together."""
    classes = data["classes"]
    shown = [(c["name"], c["count"]) for c in classes[:MAX_CLASSES]]
    if len(classes) > MAX_CLASSES:
        rest = classes[MAX_CLASSES:]
        shown.append((f"{len(rest)} others", sum(c["count"] for c in rest)))
    return _horizontal_bars([name for name, _ in shown], [count for _, count in shown], [GREY])


def box_levels(data: Dict[str, Any]) -> go.Figure:
    """Boxes by the pyramid level whose anchors are nearest in size."""
    levels = data["levels"]
    names = [f"{entry['name'].upper()} ({entry['size']:.0f} px)" for entry in levels]
    colours = [level_colour(i, len(levels)) for i in range(len(levels))]
    return _horizontal_bars(names, [entry["count"] for entry in levels], colours)


def _horizontal_bars(names: List[str], counts: List[int], colours: List[str]) -> go.Figure:
    """Bars with their numbers, the first on top."""
    total = max(sum(counts), 1)
    figure = go.Figure(
        go.Bar(
            x=counts, y=names, orientation="h", cliponaxis=False, textposition="outside",
            marker_color=colours if len(colours) == len(names) else colours[0],
            text=[f"{c} ({100 * c / total:.1f} %)" for c in counts],
            hovertemplate="%{y}: %{x} boxes<extra></extra>",
        )
    )
    style(figure, height=max(280, 70 + 22 * len(names)), legend=False)
    figure.update_xaxes(title_text="boxes", range=[0, max([*counts, 1]) * 1.3])
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="")
    return figure


def losses(runs: List[Run]) -> Optional[go.Figure]:
    """Every logged loss over training: faint as logged, strong as moving average."""
    names = loss_names(runs)[:MAX_PANELS]
    if not names:
        return None
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = make_subplots(rows, columns, subplot_titles=names, vertical_spacing=0.17,
                           horizontal_spacing=0.07)
    for k, name in enumerate(names):
        for i, run in enumerate(runs):
            x, y = series(run, name)
            if not x:
                continue
            place = {"row": k // columns + 1, "col": k % columns + 1}
            colour = run_colour(i)
            raw = line(thin(x), thin(y), run.name, faint(colour, 0.25), width=1)
            figure.add_trace(raw.update(showlegend=False, hoverinfo="skip"), **place)
            strong = line(thin(x), thin(smooth(y)), run.name, colour, legendgroup=run.name)
            figure.add_trace(strong.update(showlegend=k == 0), **place)
    style(figure, height=90 + 210 * rows)
    figure.update_xaxes(title_text="iteration", row=rows)
    return lift_legend(figure, True)


def ap_curves(runs: List[Run]) -> Optional[go.Figure]:
    """AP at every evaluation."""
    figure = go.Figure()
    for i, run in enumerate(runs):
        x, y = ap_series(run)
        if x:
            figure.add_trace(line(x, y, run.name, run_colour(i), mode="lines+markers"))
    if not figure.data:
        return None
    style(figure)
    figure.update_xaxes(title_text="iteration")
    figure.update_yaxes(title_text="box AP", rangemode="tozero")
    return figure


def ap_by_size(runs: List[Run]) -> Optional[go.Figure]:
    """AP, AP50, AP75 and AP of small, medium and large objects."""
    rows = [r for r in ap_table(runs)["rows"] if not r["name"].startswith("AP-")]
    rows = [r for r in rows if any(v is not None for v in r["values"])]
    if not rows:
        return None
    figure = go.Figure()
    labels = {"APs": "AP small", "APm": "AP medium", "APl": "AP large"}
    for i, run in enumerate(runs):
        y = [r["values"][i] for r in rows]
        figure.add_bar(
            x=[labels.get(r["name"], r["name"]) for r in rows], y=y, name=run.name,
            marker_color=run_colour(i), text=[f"{v:.1f}" if v is not None else "" for v in y],
            textposition="outside", cliponaxis=False, textfont_size=11, hovertemplate="%{x}: %{y:.2f}",
        )
    style(figure)
    figure.update_yaxes(title_text="percent", rangemode="tozero")
    return figure


def precision_recall(measured: Measured) -> Optional[go.Figure]:
    """Precision over recall at IoU 0.5, a panel for each of the classes with most objects."""
    shown = [(i, m) for i, m in enumerate(measured) if m["detections"]]
    if not shown:
        return None
    names = _largest_classes([m for _, m in shown], MAX_PANELS)
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = make_subplots(rows, columns, subplot_titles=names, vertical_spacing=0.2,
                           horizontal_spacing=0.07)
    labelled = set()
    for k, name in enumerate(names):
        for i, m in shown:
            curve = next((c for c in m["detections"]["curves"] if c["name"] == name), None)
            if curve is None:
                continue
            trace = line(thin(curve["recall"], 120), thin(curve["precision"], 120), m["name"],
                         run_colour(i), legendgroup=m["name"], showlegend=i not in labelled)
            trace.hovertemplate = "recall %{x:.2f}: precision %{y:.2f}"
            labelled.add(i)
            figure.add_trace(trace, k // columns + 1, k % columns + 1)
    style(figure, height=100 + 220 * rows)
    figure.update_xaxes(range=[0, 1.02])
    figure.update_xaxes(title_text="recall", row=rows)
    figure.update_yaxes(range=[0, 1.02])
    figure.update_yaxes(title_text="precision", col=1)
    return lift_legend(figure, True)


def _largest_classes(measured: Measured, number: int) -> List[str]:
    """Names of the classes with most objects in the ground truth."""
    confusion = measured[0]["detections"]["confusion"]
    totals = np.sum(confusion["matrix"], axis=1)[:-1]
    order = np.argsort(-totals, kind="stable")[:number]
    have = {c["name"] for m in measured for c in m["detections"]["curves"]}
    return [confusion["labels"][k] for k in order if confusion["labels"][k] in have]


def confusions(measured: Measured) -> Optional[go.Figure]:
    """Confusion matrices, rows in percent of the true class, a panel a run."""
    shown = [m for m in measured if m["detections"]]
    if not shown:
        return None
    labels = shown[0]["detections"]["confusion"]["labels"]
    totals = np.sum(shown[0]["detections"]["confusion"]["matrix"], axis=1)[:-1]
    keep = sorted(np.argsort(-totals, kind="stable")[:MAX_CLASSES].tolist())
    figure = panels([m["name"] for m in shown], shared_yaxes=True)
    for column, m in enumerate(shown, start=1):
        whole = np.asarray(m["detections"]["confusion"]["matrix"], dtype=float)
        index = [*keep, len(labels)]
        part = whole[np.ix_(index, index)]
        share = 100 * part / np.maximum(whole[index].sum(axis=1, keepdims=True), 1)
        heat = go.Heatmap(
            z=share.round(2).tolist(), text=part.astype(int).tolist(), texttemplate="%{text}",
            x=[labels[k] for k in keep] + ["missed"], y=[labels[k] for k in keep] + ["nothing there"],
            colorscale=[[0, "#F7F9FB"], [0.5, "#7FB2D6"], [1, "#08519C"]], zmin=0, zmax=100,
            showscale=False, xgap=2, ygap=2,
            hovertemplate="true: %{y}<br>found as: %{x}<br>%{text} boxes, %{z:.0f} %<extra></extra>",
        )
        figure.add_trace(heat, 1, column)
    style(figure, height=max(300, 150 + 26 * len(keep)), legend=False)
    figure.update_xaxes(title_text="found as", showline=False, ticks="")
    figure.update_yaxes(autorange="reversed", ticks="", showgrid=False)
    figure.update_yaxes(title_text="true class", col=1)
    return figure
