"""The report as one HTML page that needs no network: plotly.js, style and images are inside."""

import html
from collections.abc import Sequence
from typing import Any

from ...levers import LEVERS
from ..findings.finding import Finding, percent
from ..findings.rows import CAVEAT
from .figures.base import run_colour, to_div
from .style import STYLE

# Nothing may be fetched, wherever the page is opened; plotly.js makes pictures from data and blobs.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
)


class Page:
    """Sections of the page, collected one after the other."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.links: list[str] = []
        self._figures: list[tuple[bool, str]] = []
        self._count = 0

    def figure(self, figure: Any | None, title: str, caption: str = "", wide: bool = False) -> None:
        """Add a plotly figure to the section under way; nothing for None."""
        if figure is None:
            return
        self._count += 1
        self.card(to_div(figure, f"figure-{self._count}"), title, caption, wide)

    def card(self, content: str, title: str, caption: str = "", wide: bool = False) -> None:
        """Add HTML with a title to the section under way."""
        note = f"<figcaption>{caption}</figcaption>" if caption else ""
        body = f"<h3>{html.escape(title)}</h3>{note}{content}</figure>"
        self._figures.append((wide, body))

    def section(self, anchor: str, title: str, intro: str) -> None:
        """Close the section under way: a title over what was added; none if that is empty."""
        if self._figures:
            self.links.append(f'<a href="#{anchor}">{html.escape(title)}</a>')
            self.parts.append(
                f'<section id="{anchor}"><h2>{html.escape(title)}</h2><p>{intro}</p>'
                f'<div class="grid">{"".join(self._cards())}</div></section>'
            )
        self._figures = []

    def _cards(self) -> list[str]:
        """The cards of the section, two in a row; one that would be alone takes the whole row."""
        cards, is_left = [], True
        for i, (wide, body) in enumerate(self._figures):
            is_last = i + 1 == len(self._figures) or self._figures[i + 1][0]
            is_wide = wide or (is_left and is_last)
            is_left = is_wide or not is_left
            cards.append(f'<figure class="card{" wide" if is_wide else ""}">{body}')
        return cards

    def html(self, title: str, head: str, foot: str) -> str:
        """The whole page."""
        from plotly.offline import get_plotlyjs

        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
            f'<title>{html.escape(title)}</title><link rel="icon" href="data:,">'
            f"<style>{STYLE}</style><script>{get_plotlyjs()}</script></head><body>"
            f'<header><div>{head}</div></header><nav><div><a href="#findings">Findings</a>'
            f"{''.join(self.links)}</div></nav><main>{''.join(self.parts)}</main>"
            f"<footer>{foot}</footer></body></html>\n"
        )


def dot(index: int) -> str:
    """The colour of a run as a small square."""
    return f'<span class="dot" style="background:{run_colour(index)}"></span>'


def badge(size: str) -> str:
    """How large an imbalance is, as a label."""
    return f'<span class="badge {size}">{size}</span>' if size else ""


def header(measured: Sequence[dict[str, Any]]) -> str:
    """Title, and what each run is."""
    runs = "".join(
        f'<div class="run">{dot(i)}{html.escape(m["name"])}'
        f"<span>{html.escape(_describe(m))}</span></div>"
        for i, m in enumerate(measured)
    )
    return (
        "<h1>What is out of balance, and what to do about it</h1>"
        '<p class="soft">Measured during training: which negatives are sampled, what each pyramid'
        " level contributes, which errors drive the box loss, and which levels are starved of"
        " positives.</p>"
        f'<div class="runs">{runs}</div>'
    )


def _describe(m: dict[str, Any]) -> str:
    """A run in a few words: detector, evaluation, how often it was measured."""
    # What stands behind a comma is the lever's range, of no use beside commas between words.
    on = " + ".join(LEVERS[name].title.partition(",")[0] for name in m["levers"])
    words = [f"{m['detector'] or ''}{' with ' if on else ''}{on}"]
    if "AP" in m["AP"]:
        words.append(f"{m['AP']['AP']:.1f} AP")
    if m["collection"]:
        words.append(f"{m['collection']['steps']} steps measured")
    return ", ".join(w for w in words if w)


def _unbroken(text: str) -> str:
    """Text for the page, its numbers not parted from their percent signs."""
    return html.escape(text).replace(" %", "&nbsp;%")


def tiles(measured: Sequence[dict[str, Any]], findings: list[Finding]) -> str:
    """The four imbalances of the first run that measured each, as one number against another."""
    cells = []
    for kind, pair in (
        ("sample", _sample_pair),
        ("feature", _feature_pair),
        ("objective", _objective_pair),
        ("level", _level_pair),
    ):
        for m in measured:
            found = next((f for f in findings if f.imbalance == kind and f.run == m["name"]), None)
            if found:
                left, right, text = pair(found, m)
                who = f" in {m['name']}" if len(measured) > 1 else ""
                cells.append(
                    f'<a class="tile {found.size}" href="#{kind}">'
                    f"<h3>{kind}{badge(found.size)}</h3>"
                    f'<div class="pair">{left} <small>against</small> {right}</div>'
                    f"<p>{html.escape(text + who)}</p></a>"
                )
                break
    return f'<div class="tiles">{"".join(cells)}</div>' if cells else ""


def _sample_pair(found: Finding, m: dict[str, Any]):
    hard, random = found.numbers["hard"], found.numbers["random"]
    text = "hard negatives against random picks that overlap an object (IoU > 0.05)"
    return percent(hard), percent(random), text


def _feature_pair(found: Finding, m: dict[str, Any]):
    share, levels = found.numbers["share"], found.numbers["levels"]
    top, low = share.index(max(share)), share.index(min(share))
    text = f"{levels[top].upper()} against {levels[low].upper()}: part of the integrated feature"
    return percent(share[top]), percent(max(share[low], 0.0)), text


def _objective_pair(found: Finding, m: dict[str, Any]):
    text = "inliers among the box coordinates against their part of the box gradient"
    return percent(found.numbers["inliers"]), percent(found.numbers["gradient_inliers"]), text


def _level_pair(found: Finding, m: dict[str, Any]):
    rate, levels = found.numbers["rate"], found.numbers["levels"]
    top, low = rate.index(max(rate)), rate.index(min(r for r in rate if r > 0))
    text = f"{levels[top].upper()} against {levels[low].upper()}: positives of all anchors"
    return percent(rate[top]), percent(rate[low]), text


def findings_section(measured: Sequence[dict[str, Any]], findings: list[Finding]) -> str:
    """Tiles and sentences."""
    index = {m["name"]: i for i, m in enumerate(measured)}
    items = []
    for f in findings:
        who = ""
        if len(measured) > 1 and f.imbalance not in ("comparison", "data"):
            who = f'<span class="who">{dot(index[f.run])}{html.escape(f.run)}</span>'
        switch = ""
        if f.switch:
            keys = " ".join(f"<code>{html.escape(' '.join(pair))}</code>" for pair in f.switch)
            title = html.escape(LEVERS[f.lever].title)
            switch = f'<p class="switch">Try {title}: {keys}</p>'
        items.append(
            f'<li><div class="kind">{f.imbalance}{badge(f.size)}</div>'
            f"<div>{who}<p>{_unbroken(f.text)}</p>{switch}</div></li>"
        )
    if not items:
        items = [
            "<li><div></div><div>Nothing was measured in these runs. Train with"
            " <code>ANALYSIS.ENABLED True</code>.</div></li>"
        ]
    return (
        f'<section id="findings"><h2>Findings</h2>{tiles(measured, findings)}'
        f'<ul class="findings card">{"".join(items)}</ul>'
        f'<p class="caveat">{html.escape(CAVEAT)}</p></section>'
    )


def ap_table_html(table: dict[str, Any], names: Sequence[str]) -> str:
    """The AP table, differences to the first run beside each value."""
    head = "".join(f"<th>{dot(i)} {html.escape(n)}</th>" for i, n in enumerate(names))
    head = head.replace('class="dot" style="', 'class="dot" style="display:inline-block;')
    rows, is_class = [], False
    for row in table["rows"]:
        cells = []
        for i, (value, gap) in enumerate(zip(row["values"], row["differences"], strict=True)):
            text = "" if value is None else f"{value:.2f}"
            if i and gap is not None:
                text += f'<span class="diff">{gap:+.2f}</span>'
            cells.append(f"<td>{text}</td>")
        mark = "lead" if row["name"] == "AP" else ""
        if row["name"].startswith("AP-") and not is_class:
            mark, is_class = "rule", True
        label = f"AP of {row['name'][3:]}" if row["name"].startswith("AP-") else row["name"]
        rows.append(f'<tr class="{mark}"><td>{html.escape(label)}</td>{"".join(cells)}</tr>')
    return f'<div class="scroll"><table><tr><th></th>{head}</tr>{"".join(rows)}</table></div>'


def picture_rows(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> str:
    """Images of one kind: a row each, a column per run; for one run, three in a row."""
    columns = len(names) if len(names) > 1 else 3
    cells = []
    for row in rows:
        for cell in row["cells"]:
            mark = dot(list(names).index(cell["run"]))
            cells.append(
                f"<figure>{cell['svg']}<figcaption>{mark}{html.escape(row['file'])}: "
                f"{html.escape(cell['text'])}</figcaption></figure>"
            )
    grid = f"grid-template-columns:repeat({min(columns, 4)},minmax(0,1fr))"
    return f'<div class="pictures" style="{grid}">{"".join(cells)}</div>'
