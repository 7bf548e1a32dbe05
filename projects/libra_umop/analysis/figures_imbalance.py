"""The figures of the four imbalances. Each takes what ``measure_run`` gave for every run."""

from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from . import objective
from .figures import DARK, GREY, LIGHT, faint, level_colour, line, log_floor, run_colour, style, thin
from .records import ERROR_EDGES, IOU_EDGES

Measured = List[Dict[str, Any]]
# Bins drawn: negatives end at the background threshold, 0.5 in nearly every config.
LAST_IOU_BIN = 20


def panels(titles: List[str], **kwargs: Any) -> go.Figure:
    """Panels side by side, one per run, with a title only if there are several."""
    shown = titles if len(titles) > 1 else None
    space = 0.09 if len(titles) < 3 else 0.06
    return make_subplots(1, len(titles), subplot_titles=shown, horizontal_spacing=space, **kwargs)


def sample_histograms(measured: Measured) -> Optional[go.Figure]:
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
    figure.update_yaxes(type="log", dtick=1, ticksuffix=" %")
    figure.update_yaxes(title_text="of the negatives, per 0.025", col=1)
    figure.update_xaxes(title_text="IoU with the nearest object", range=[0, 0.5])
    return lift_legend(figure, len(shown) > 1)


def lift_legend(figure: go.Figure, has_titles: bool) -> go.Figure:
    """Make room between the legend and the titles of panels."""
    if has_titles:
        figure.update_layout(margin_t=58, legend_y=1.08)
    return figure


def sample_shares(measured: Measured) -> Optional[go.Figure]:
    """Share above IoU 0.05 of random picks, this sampler's and hard negatives, with the paper's."""
    shown = [(i, m) for i, m in enumerate(measured) if m["sample"]]
    if not shown:
        return None
    figure = go.Figure()
    kinds = {"random": "random picks", "picked": "this sampler", "hard": "hard negatives"}
    for i, m in shown:
        y = [100 * m["sample"][k]["share_above"] for k in kinds]
        figure.add_bar(
            x=list(kinds.values()), y=y, name=m["name"], marker_color=run_colour(i),
            text=[f"{v:.0f} %" for v in y], textposition="outside", cliponaxis=False,
            hovertemplate="%{x}: %{y:.1f} %",
        )
    style(figure, height=340)
    paper_line(figure, 30, "paper:<br>random 30 %")
    paper_line(figure, 60, "paper:<br>hard 60 %")
    figure.update_yaxes(title_text="negatives above IoU 0.05", ticksuffix=" %", range=[0, 108])
    return figure


def paper_line(figure: go.Figure, y: float, text: str) -> None:
    """A dashed line at a published number."""
    figure.add_hline(
        y=y, line={"dash": "dot", "color": GREY, "width": 1.5}, annotation_text=text,
        annotation_position="right", annotation_font={"size": 11, "color": DARK},
    )
    widest = max(len(part) for part in text.split("<br>"))
    figure.update_layout(margin_r=max(figure.layout.margin.r or 0, 16 + 6 * widest))


def feature_shares(measured: Measured) -> Optional[go.Figure]:
    """Each level's part in the integrated feature."""
    shown = [(i, m) for i, m in enumerate(measured) if m["feature"] and m["feature"]["share"]]
    if not shown:
        return None
    figure = go.Figure()
    for i, m in shown:
        feature = m["feature"]
        figure.add_bar(
            x=[name.upper() for name in feature["levels"]], y=[100 * v for v in feature["share"]],
            name=m["name"], marker_color=run_colour(i), hovertemplate="%{x}: %{y:.1f} %",
        )
    style(figure)
    equal = 100 / len(shown[0][1]["feature"]["levels"])
    paper_line(figure, equal, f"equal parts:<br>{equal:.0f} %")
    figure.update_yaxes(title_text="part of the integrated feature", ticksuffix=" %")
    return figure


def feature_norms(measured: Measured) -> Optional[go.Figure]:
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
                x=levels, y=m["feature"]["after"], name=f"{m['name']}, after BFP",
                marker_color=run_colour(i), customdata=gain,
                hovertemplate="%{x}: %{y:.3g}, %{customdata}",
            )
    style(figure)
    figure.update_yaxes(title_text="root mean square", rangemode="tozero")
    return figure


def main_head(m: Dict[str, Any]) -> Optional[str]:
    """The head whose boxes are the detections: the dense one, or the last of the ROI heads."""
    heads = [h for h in m["objective"] if h != "rpn"] or list(m["objective"])
    return heads[0] if heads else None


def gradient_shares(measured: Measured) -> Optional[go.Figure]:
    """What inliers are among the coordinates, and what they give of the gradient."""
    rows: List[Tuple[str, Dict[str, Any], str]] = []
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
            y=labels, x=share, orientation="h", name=f"inliers {name}", marker_color=colours,
            text=[f"{v:.0f} %" for v in share], textposition="outside", cliponaxis=False,
            hovertemplate="%{x:.1f} %",
        )
    style(figure, height=max(300, 110 + 46 * len(rows)))
    figure.add_vline(
        30, line={"dash": "dot", "color": GREY, "width": 1.5}, annotation_position="top",
        annotation_text="paper: 30 % of the gradient (smooth L1)", annotation_font_size=11,
    )
    figure.update_layout(margin_t=58, legend_y=1.08)
    figure.update_xaxes(ticksuffix=" %", range=[0, 112])
    figure.update_yaxes(autorange="reversed", showgrid=False, ticks="")
    return figure


def loss_curves(measured: Measured) -> Optional[go.Figure]:
    """Loss and gradient of each run's box loss, beside smooth L1 and balanced L1 as published."""
    losses: Dict[str, Tuple[Dict[str, Any], str, str]] = {}
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
        for column, y in enumerate((objective.value(x, loss), objective.gradient(x, loss)), start=1):
            trace = line(x.round(5), y.round(5), name, colour, dash=dash, legendgroup=name)
            figure.add_trace(trace.update(showlegend=column == 1), 1, column)
    style(figure)
    figure.update_xaxes(title_text="error of a coordinate, |x|")
    return lift_legend(figure, True)


def error_histogram(measured: Measured) -> Optional[go.Figure]:
    """Where the errors are, and where the gradient comes from, a panel a run."""
    shown = [(i, m, main_head(m)) for i, m in enumerate(measured) if main_head(m)]
    if not shown:
        return None
    figure = panels([m["name"] for _, m, _ in shown], shared_yaxes=True)
    x = [(a + b) / 2 for a, b in zip(ERROR_EDGES, ERROR_EDGES[1:])] + [ERROR_EDGES[-1] + 0.05]
    for column, (i, m, head) in enumerate(shown, start=1):
        entry = m["objective"][head]
        for key, name, colour in (
            ("count", "coordinates", GREY), ("gradient", "gradient", run_colour(i))
        ):
            y = (100 * np.cumsum(entry[key])).round(3)
            trace = line(x, y, name, colour, width=2.5, legendgroup=key)
            trace.update(showlegend=column == 1, hovertemplate="|x| < %{x:.2f}: %{y:.0f} %")
            figure.add_trace(trace, 1, column)
        figure.add_vline(entry["threshold"], line={"dash": "dot", "color": DARK, "width": 1},
                         row=1, col=column)
    style(figure)
    figure.update_yaxes(ticksuffix=" %", range=[0, 103])
    figure.update_yaxes(title_text="share below |x|", col=1)
    figure.update_xaxes(title_text="error of a coordinate, |x|")
    return lift_legend(figure, len(shown) > 1)


def inliers_over_time(measured: Measured) -> Optional[go.Figure]:
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
    figure.update_yaxes(title_text="inliers' share of the gradient", ticksuffix=" %", range=[0, 103])
    figure.update_xaxes(title_text="iteration")
    return figure


def level_positives(measured: Measured, head: str) -> Optional[go.Figure]:
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
            x=x, y=y, name=m["name"], marker={"color": run_colour(i), "size": 3},
            line={"width": 1.5}, boxpoints="outliers", fillcolor=faint(run_colour(i), 0.25),
            hoverinfo="y",
        )
    style(figure, height=360)
    figure.update_layout(boxmode="group", boxgap=0.3)
    decades = [10.0**k for k in range(-6, 3) if 10.0**k > 140 * floor]
    figure.update_yaxes(
        type="log", title_text="positives of all anchors", range=[np.log10(80 * floor), None],
        tickvals=[100 * floor, *decades], ticktext=["none", *(f"{v:g} %" for v in decades)],
    )
    return figure


def focus_over_time(measured: Measured) -> Optional[go.Figure]:
    """gamma and alpha of each level over training, a column a run."""
    shown = [m for m in measured if "dense" in m["level"]]
    if not shown:
        return None
    titles = [m["name"] for m in shown] if len(shown) > 1 else None
    figure = make_subplots(
        2, len(shown), shared_xaxes=True, shared_yaxes=True, column_titles=titles,
        vertical_spacing=0.06, horizontal_spacing=0.05,
    )
    for column, m in enumerate(shown, start=1):
        entry = m["level"]["dense"]
        iterations = thin(entry["iterations"])
        for row, key in enumerate(("gamma", "alpha"), start=1):
            table = list(zip(*thin(entry[key])))
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
    figure.update_yaxes(title_text="gamma of the level", row=1, col=1)
    figure.update_yaxes(title_text="alpha of the level", row=2, col=1)
    return lift_legend(figure, len(shown) > 1)


def clipped_shares(measured: Measured) -> Optional[go.Figure]:
    """How often each level's gamma is at a limit."""
    figure = go.Figure()
    for i, m in enumerate(measured):
        entry = m["level"].get("dense")
        if entry:
            figure.add_bar(
                x=[name.upper() for name in entry["levels"]],
                y=[100 * v if v is not None else None for v in entry["clipped"]],
                name=m["name"], marker_color=run_colour(i), hovertemplate="%{x}: %{y:.0f} %",
            )
    if not figure.data:
        return None
    style(figure)
    figure.update_yaxes(title_text="gamma at a limit", ticksuffix=" %", range=[0, 103])
    return figure


def level_gradients(measured: Measured, head: str) -> Optional[go.Figure]:
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
                x=[name_l.upper() for name_l in entry["levels"]], y=[100 * v for v in entry[key]],
                name=name, legendgroup=key, marker_color=colour, showlegend=column == 1,
                hovertemplate="%{x}: %{y:.2f} %",
            )
            figure.add_trace(bar, 1, column)
    style(figure)
    figure.update_layout(barmode="stack")
    figure.update_yaxes(ticksuffix=" %")
    figure.update_yaxes(title_text="of the classification gradient", col=1)
    return lift_legend(figure, len(shown) > 1)
