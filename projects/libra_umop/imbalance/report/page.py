"""What a page shows, as records, and its HTML: Jinja2's templates beside this file make it.

A page is one file that needs no network: plotly.js, style and images are inside. Names of runs,
classes and files are text wherever they stand, for the templates escape all that is not markup.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from .figures.base import dark_style, run_colour, to_div

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: what it says.
        more: what stands behind it, softer.
        hint: what is said when it is pointed at.
        run: index of the run whose colour stands before it.
    """

    text: str
    more: str = ""
    hint: str = ""
    run: int | None = None


@dataclass(frozen=True)
class Table:
    """A table: the cells of its head, and (mark, cells) of each row.

    A mark is "lead" for the row that matters most, "rule" for one with a line above it, or "".
    """

    head: Sequence[Cell]
    rows: Sequence[tuple[str, Sequence[Cell]]]


@dataclass(frozen=True)
class Card:
    """A figure, a table or pictures under a title.

    Attributes:
        title: its title.
        content: a plotly figure, a :class:`Table`, :class:`~.images.Pictures`, or None where
            nothing of it was measured: the card is left out.
        caption: what the reader has to know of it.
        wide: whether it takes the whole row in any case.
    """

    title: str
    content: Any
    caption: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Section:
    """Cards under a title; nothing is shown of a section without any.

    Attributes:
        anchor: its name in links.
        title, intro: what it is about.
        cards: see :class:`Card`.
        key: CSS of the border of a sample and its word, for each kind of mark in pictures.
    """

    anchor: str
    title: str
    intro: str | Markup
    cards: Sequence[Card]
    key: Sequence[tuple[str, str]] = ()

    def placed(self) -> Iterator[tuple[Card, bool]]:
        """Cards, two in a row, and whether each takes the whole row, as one that is alone does."""
        cards = [card for card in self.cards if card.content is not None]
        is_left = True
        for i, card in enumerate(cards):
            is_last = i + 1 == len(cards) or cards[i + 1].wide
            is_wide = card.wide or (is_left and is_last)
            is_left = is_wide or not is_left
            yield card, is_wide


def render(template: Path, title: str, sections: Sequence[Section], **records: Any) -> str:
    """A whole page.

    Args:
        template: the file that extends ``base.html``.
        title: of the window.
        sections: those without any card are left out.
        **records: what else the template shows.
    """
    from plotly.offline import get_plotlyjs

    environment = Environment(
        loader=FileSystemLoader([template.parent, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(plot=_plot, run_colour=run_colour, unbroken=_unbroken)
    return environment.get_template(template.name).render(
        title=title,
        sections=[(section, cards) for section in sections if (cards := list(section.placed()))],
        style=Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),
        figures_on_dark=Markup(dark_style()),
        plotly_js=Markup(get_plotlyjs()),
        **records,
    )


def _plot(figure: Any, name: str) -> Markup:
    """A plotly figure as an element of this name."""
    return Markup(to_div(figure, name))


def _unbroken(text: str) -> str:
    """Text whose numbers are not parted from their percent signs."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%")
