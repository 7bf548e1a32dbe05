"""The sections of the page: one for each imbalance, the runs side by side, and their pictures."""

from collections.abc import Sequence
from typing import Any

from ..measures.data import read_coco
from ..measures.detections import choose_images
from .compare import ap_table
from .figures import runs as figures
from .figures.base import Measured
from .images import FALSE_ALARM, HIT, pictures_of
from .imbalances import IMBALANCES
from .page import Card, Cell, Section, Table
from .run import Run

PICTURE_TITLES = {
    "worst": "Worst images",
    "best": "Best images",
    "different": "Images on which the runs differ most",
}
PICTURE_KEY = (
    (f"border-color:{HIT}", "hit"),
    (f"border-color:{FALSE_ALARM}", "false alarm"),
    ("border:2px dashed #fff;outline:1px solid #6b7480", "missed object"),
)


def all_sections(runs: list[Run], measured: Measured, min_score: float) -> list[Section]:
    """The sections in their order.

    Args:
        runs: the first is what others are compared with.
        measured: :func:`libra_umop.imbalance.measures.measure.measure_run` of each.
        min_score: from here on a detection counted in the confusion matrix and on images.
    """
    return [
        *(Section(i.name, i.title, i.intro, i.cards(measured)) for i in IMBALANCES),
        comparison(runs, measured, min_score),
        pictures(runs, measured, min_score),
    ]


def comparison(runs: list[Run], measured: Measured, min_score: float) -> Section:
    """The last evaluations, and the way there."""
    note = "Differences to the first run." if len(runs) > 1 else "The last evaluation."
    cards = [
        Card("Box AP", _ap_cells(runs), note),
        Card("AP by threshold and size", figures.ap_by_size(runs)),
        Card("AP over training", figures.ap_curves(runs)),
        Card(
            "Losses over training",
            figures.losses(runs),
            "Faint: as logged; strong: moving average. Losses of different kinds do not compare.",
            wide=True,
        ),
        Card(
            "Precision over recall",
            figures.precision_recall(measured),
            "At IoU 0.5, by faster-coco-eval.",
            wide=True,
        ),
        Card(
            "Confusion matrix",
            figures.confusions(measured),
            f"Detections with a score of {min_score:g} or more, matched at IoU 0.5 regardless of"
            " class, by faster-coco-eval. Numbers are boxes; the shade is the share of the row.",
            wide=True,
        ),
    ]
    title = "Runs side by side" if len(runs) > 1 else "Evaluation"
    return Section("runs", title, "The last evaluation of each run, and its way there.", cards)


def _ap_cells(runs: list[Run]) -> Table | None:
    """The table of AP, differences to the first run beside each value."""
    rows: list[tuple[str, list[Cell]]] = []
    for row in ap_table(runs)["rows"]:
        name = row["name"]
        is_first_class = name.startswith("AP-") and not any(mark == "rule" for mark, _ in rows)
        mark = "lead" if name == "AP" else "rule" if is_first_class else ""
        label = f"AP of {name[3:]}" if name.startswith("AP-") else name
        rows.append((mark, [Cell(label), *_ap_row(row)]))
    head = [Cell(""), *(Cell(run.name, run=i) for i, run in enumerate(runs))]
    return Table(head, rows) if rows else None


def _ap_row(row: dict[str, Any]) -> list[Cell]:
    """A cell for each run."""
    cells = []
    for i, (value, gap) in enumerate(zip(row["values"], row["differences"], strict=True)):
        text = "" if value is None else f"{value:.2f}"
        cells.append(Cell(text, f"{gap:+.2f}" if i and gap is not None else ""))
    return cells


def pictures(runs: Sequence[Run], measured: Measured, min_score: float) -> Section:
    """The worst and best images, and those on which runs differ."""
    cards: list[Card] = []
    found = [(i, m["detections"]["images"]) for i, m in enumerate(measured) if m["detections"]]
    first = runs[found[0][0]] if found else None
    if first and first.ground_truth:
        found = [(i, images) for i, images in found if runs[i].ground_truth == first.ground_truth]
        indices, per_run = [i for i, _ in found], [images for _, images in found]
        truth = read_coco(first.ground_truth)
        for kind, ids in choose_images(per_run).items():
            content = pictures_of(truth, indices, per_run, ids)
            cards.append(Card(PICTURE_TITLES[kind], content, wide=True))
    return Section(
        "images",
        "Images",
        f"By F1 at score {min_score:g} and IoU 0.5. Point at a box for its class and"
        " score. False alarms that look right point to objects that nobody has labelled.",
        cards,
        PICTURE_KEY,
    )
