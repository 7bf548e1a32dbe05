"""The finding about the data: class and size balance of the training set."""

from typing import Any

from ..measures.data import DataMeasure
from .finding import Finding, percent


def find(m: dict[str, Any]) -> list[Finding]:
    """How many boxes there are, and of which sizes and classes."""
    data: DataMeasure | None = m["data"]
    if not data or not data["boxes"]:
        return []
    classes, boxes = data["classes"], data["boxes"]
    areas = ", ".join(f"{percent(n / boxes)} {name}" for name, n in data["areas"].items())
    text = (
        f"{boxes} boxes in {data['images']} training images: {areas} (COCO's limits, 32^2 and"
        " 96^2 px; a box on one of them counts as the larger)."
    )
    present = [c for c in classes if c["count"]]
    if len(present) > 1:
        text += (
            f" {present[0]['name']} has {percent(present[0]['count'] / boxes)} of them,"
            f" {present[-1]['name']} {percent(present[-1]['count'] / boxes)}."
        )
    if len(present) < len(classes):
        text += f" {len(classes) - len(present)} of {len(classes)} classes have no box."
    return [Finding("data", "", m["name"], text, of_run=False)]
