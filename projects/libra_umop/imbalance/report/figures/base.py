"""How every figure of the report looks, and what they share."""

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

Measured = list[dict[str, Any]]  # what measure_run gave for every run

# Okabe and Ito's colours, told apart with any colour vision; the n-th run has the n-th everywhere.
RUN_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREY, DARK, LIGHT, INK = "#8A929C", "#343B45", "#D5DAE0", "#1C2127"
# Finest level to coarsest, dark to light (viridis), told apart in grey as well.
LEVEL_COLOURS = ("#440154", "#3B528B", "#21918C", "#5EC962", "#D0B100")
FONT = "Inter, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
GRID, AXIS = "#E8EBEF", "#B6BDC6"
# What is drawn on a dark page in place of colours that are made for a light one.
ON_DARK = {
    INK: "#E6EAF0",
    DARK: "#C6CED8",
    GREY: "#9AA4B0",
    LIGHT: "#5B6672",
    GRID: "#2C343D",
    AXIS: "#5B6672",
    "#440154": "#B48BD8",
    "#3B528B": "#7E9BE0",
    "#0072B2": "#5C8CFF",
}
# What a reader may do with a figure; nothing of it reaches a network.
PLOT_CONFIG = {
    "displaylogo": False,
    "responsive": True,
    "modeBarButtons": [["toImage", "resetScale2d"]],
    "toImageButtonOptions": {"scale": 2},
}


def run_colour(index: int) -> str:
    """The colour of the run with this index, the same in every figure."""
    return RUN_COLOURS[index % len(RUN_COLOURS)]


def faint(colour: str, opacity: float) -> str:
    """A #RRGGBB colour as rgba()."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def level_colour(index: int, count: int) -> str:
    """The colour of a pyramid level, by its place among ``count``."""
    last = len(LEVEL_COLOURS) - 1
    return LEVEL_COLOURS[round(index * last / max(count - 1, 1))]


def dark_style() -> str:
    """CSS that gives figures their colours of :data:`ON_DARK`.

    Plotly writes colours as ``rgb(r, g, b)`` into each element's style, by which they are found.
    """
    rules = []
    for light, dark in ON_DARK.items():
        red, green, blue = (int(light[i : i + 2], 16) for i in (1, 3, 5))
        for name in ("stroke", "fill"):
            found = f'.js-plotly-plot [style*="{name}: rgb({red}, {green}, {blue})"]'
            rules.append(f"{found}{{{name}:{dark}!important}}")
        rules.append(f'.dot[style*="{light}"]{{background:{dark}!important}}')
    return "".join(rules)


def style(figure: go.Figure, *, height: int = 320, legend: bool = True) -> go.Figure:
    """Give ``figure`` the look of the page, in place.

    Args:
        figure: any plotly figure.
        height: px.
        legend: whether it needs one.
    """
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 58, "r": 14, "t": 34 if legend else 26, "b": 46},
        font={"family": FONT, "size": 13, "color": INK},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        showlegend=legend,
        legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "font": {"size": 12}},
        hoverlabel={"font": {"family": FONT, "size": 12}},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": LIGHT, "activecolor": DARK},
        bargap=0.25,
    )
    axis = {
        "gridcolor": GRID,
        "zeroline": False,
        "linecolor": AXIS,
        "ticks": "outside",
        "ticklen": 4,
        "tickcolor": AXIS,
        "automargin": True,
        "title_font_size": 12,
        "title_standoff": 8,
    }
    figure.update_xaxes(**{**axis, "showgrid": False, "showline": True})
    figure.update_yaxes(**axis)
    figure.update_annotations(font_size=12)
    return figure


def to_div(figure: go.Figure, name: str) -> str:
    """``figure`` as an HTML element with id ``name``; plotly.js comes with the page."""
    return figure.to_html(
        full_html=False,
        include_plotlyjs=False,
        div_id=name,
        config=PLOT_CONFIG,
        include_mathjax=False,
    )


def line(x: Sequence[Any], y: Sequence[Any], name: str, colour: str, **more: Any) -> go.Scatter:
    """A line; ``more`` goes to plotly, ``dash``, ``width`` and ``shape`` to its line."""
    look: dict[str, Any] = {"color": colour, "width": more.pop("width", 2)}
    for key in ("dash", "shape"):
        if key in more:
            look[key] = more.pop(key)
    more.setdefault("mode", "lines")
    return go.Scatter(x=list(x), y=list(y), name=name, line=look, **more)


def thin(values: list[Any], number: int = 400) -> list[Any]:
    """At most ``number`` of ``values``, evenly chosen, the last among them."""
    if len(values) <= number:
        return values
    step = len(values) / number
    return [values[min(int((i + 1) * step) - 1, len(values) - 1)] for i in range(number)]


def log_floor(values: list[list[float]]) -> float | None:
    """Where zeros are drawn on a logarithmic axis: below the smallest that is not zero."""
    positive = [v for row in values for v in row if v > 0]
    return min(positive) / 3 if positive else None


def log_axis(low: float, high: float, unit: str = "") -> dict[str, Any]:
    """A logarithmic axis over positive values, with at least two labelled ticks on it.

    Args:
        low, high: the smallest and the largest value; the axis goes to the ticks beyond them.
        unit: behind each label.

    Returns:
        arguments of plotly's ``update_yaxes``.
    """
    decades = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    steps = [m * 10.0**k for k in decades for m in (1, 2, 5)]
    start = max(v for v in steps if v <= low * (1 + 1e-9))
    end = min(v for v in steps if v > start and v >= high * (1 - 1e-9))
    ticks = [v for v in steps if start <= v <= end]
    if len(ticks) > 9:  # three decades or more
        ticks = [v for v in ticks if math.isclose(v, 10.0 ** round(math.log10(v)))]
    return {
        "type": "log",
        "range": [math.log10(start) - 0.02, math.log10(end) + 0.02],
        "tickvals": ticks,
        "ticktext": [f"{v:g}{unit}" for v in ticks],
    }


def panels(titles: list[str], **kwargs: Any) -> go.Figure:
    """Panels side by side, one per run, with a title only if there are several."""
    shown = titles if len(titles) > 1 else None
    space = 0.09 if len(titles) < 3 else 0.06
    return make_subplots(1, len(titles), subplot_titles=shown, horizontal_spacing=space, **kwargs)


def lift_legend(figure: go.Figure, has_titles: bool) -> go.Figure:
    """Make room between the legend and the titles of panels."""
    if has_titles:
        figure.update_layout(margin_t=58, legend_y=1.08)
    return figure


def paper_line(figure: go.Figure, y: float, text: str) -> None:
    """A dashed line at a published number."""
    figure.add_hline(
        y=y,
        line={"dash": "dot", "color": GREY, "width": 1.5},
        annotation_text=text,
        annotation_position="right",
        annotation_font={"size": 11, "color": DARK},
    )
    widest = max(len(part) for part in text.split("<br>"))
    figure.update_layout(margin_r=max(figure.layout.margin.r or 0, 16 + 6 * widest))
