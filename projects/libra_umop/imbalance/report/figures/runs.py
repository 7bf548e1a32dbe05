"""The figures of runs side by side."""

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ..compare import ap_series, ap_table, loss_names, series, smooth
from ..run import Run
from .base import Measured, faint, lift_legend, line, panels, run_colour, style, thin

MAX_PANELS = 6
MAX_CLASSES = 15
# Of a confusion matrix, from no box to all of a row; a dark page inverts them.
SHADES = ((0, "#F7F9FB"), (0.5, "#7FB2D6"), (1, "#08519C"))


def losses(runs: list[Run]) -> go.Figure | None:
    """Every logged loss over training: faint as logged, strong as moving average."""
    names = loss_names(runs)[:MAX_PANELS]
    if not names:
        return None
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = make_subplots(
        rows, columns, subplot_titles=names, vertical_spacing=0.17, horizontal_spacing=0.07
    )
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


def ap_curves(runs: list[Run]) -> go.Figure | None:
    """AP at every evaluation; none if no run was evaluated more than once."""
    figure = go.Figure()
    curves = [ap_series(run) for run in runs]
    for i, (run, (x, y)) in enumerate(zip(runs, curves, strict=True)):
        if x:
            figure.add_trace(line(x, y, run.name, run_colour(i), mode="lines+markers"))
    if not any(len(x) > 1 for x, _ in curves):
        return None
    style(figure)
    figure.update_xaxes(title_text="iteration")
    figure.update_yaxes(title_text="box AP", rangemode="tozero")
    return figure


def ap_by_size(runs: list[Run]) -> go.Figure | None:
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
            x=[labels.get(r["name"], r["name"]) for r in rows],
            y=y,
            name=run.name,
            marker_color=run_colour(i),
            text=[f"{v:.1f}" if v is not None else "" for v in y],
            textposition="outside",
            cliponaxis=False,
            textfont_size=11,
            hovertemplate="%{x}: %{y:.2f}",
        )
    style(figure)
    figure.update_yaxes(title_text="percent", rangemode="tozero")
    return figure


def precision_recall(measured: Measured) -> go.Figure | None:
    """Precision over recall at IoU 0.5, a panel for each of the classes with most objects."""
    shown = [(i, m) for i, m in enumerate(measured) if m["detections"]]
    if not shown:
        return None
    names = _largest_classes([m for _, m in shown], MAX_PANELS)
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = make_subplots(
        rows, columns, subplot_titles=names, vertical_spacing=0.2, horizontal_spacing=0.07
    )
    labelled = set()
    for k, name in enumerate(names):
        for i, m in shown:
            curve = next((c for c in m["detections"]["curves"] if c["name"] == name), None)
            if curve is None:
                continue
            trace = line(
                thin(curve["recall"], 120),
                thin(curve["precision"], 120),
                m["name"],
                run_colour(i),
                legendgroup=m["name"],
                showlegend=i not in labelled,
            )
            trace.hovertemplate = "recall %{x:.2f}: precision %{y:.2f}"
            labelled.add(i)
            figure.add_trace(trace, k // columns + 1, k % columns + 1)
    style(figure, height=100 + 220 * rows)
    figure.update_xaxes(range=[0, 1.02])
    figure.update_xaxes(title_text="recall", row=rows)
    figure.update_yaxes(range=[0, 1.02])
    figure.update_yaxes(title_text="precision", col=1)
    return lift_legend(figure, True)


def _largest_classes(measured: Measured, number: int) -> list[str]:
    """Names of the classes with most objects in the ground truth."""
    confusion = measured[0]["detections"]["confusion"]
    totals = np.sum(confusion["matrix"], axis=1)[:-1]
    order = np.argsort(-totals, kind="stable")[:number]
    have = {c["name"] for m in measured for c in m["detections"]["curves"]}
    return [confusion["labels"][k] for k in order if confusion["labels"][k] in have]


def confusions(measured: Measured) -> go.Figure | None:
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
            z=share.round(2).tolist(),
            text=part.astype(int).tolist(),
            texttemplate="%{text}",
            x=[labels[k] for k in keep] + ["missed"],
            y=[labels[k] for k in keep] + ["nothing there"],
            colorscale=SHADES,
            zmin=0,
            zmax=100,
            showscale=False,
            xgap=2,
            ygap=2,
            hovertemplate="true: %{y}<br>found as: %{x}<br>%{text} boxes, %{z:.0f} %"
            "<extra></extra>",
        )
        figure.add_trace(heat, 1, column)
    style(figure, height=max(300, 150 + 26 * len(keep)), legend=False)
    figure.update_xaxes(title_text="found as", showline=False, ticks="")
    figure.update_yaxes(autorange="reversed", ticks="", showgrid=False)
    figure.update_yaxes(title_text="true class", col=1)
    return figure
