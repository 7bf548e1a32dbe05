"""The finding about the imbalance between classes: boxes, AP and gradient, frequent and rare."""

from typing import Any

import numpy as np

from ..measures.classes import ClassMeasure
from .finding import Finding, advise, graded, percent

LEVERS = ("repeat_factor", "class_weights", "equalized_focal", "seesaw")
EVENED = 0.8  # of the ratio of boxes: from here on repeating images is worth a try


def find(m: dict[str, Any]) -> list[Finding]:
    """The most frequent against the rarest class, and the rarer half of them against the other."""
    data: ClassMeasure | None = m["class"]
    if not data:
        return []
    present = [i for i, n in enumerate(data["boxes"]) if n]
    top, low = present[0], present[-1]
    names, boxes, ratio = data["names"], data["boxes"], data["ratio"]
    times = f"{ratio:.0f}" if ratio >= 9.95 else f"{ratio:.1f}"
    text = (
        f"{names[top]} has {times} times the training boxes of {names[low]}"
        f" ({boxes[top]} in {data['images'][top]} images against {boxes[low]} in"
        f" {data['images'][low]})."
    )
    text += _halves(data, present)
    numbers = {k: data[k] for k in ("ratio", "repeat_threshold", "repeat_ratio")}  # type: ignore
    pair = (str(boxes[top]), str(boxes[low]), f"{names[top]} against {names[low]}: training boxes")
    size = graded(ratio, 10.0, 3.0)
    found = Finding("class", size, m["name"], text, numbers=numbers, pair=pair)
    return [_advise(found, m, data)]


def _halves(data: ClassMeasure, present: list[int]) -> str:
    """AP and gradient of the rarer half of the classes against the others, where measured."""
    half = len(present) // 2
    frequent, rare = present[:-half], present[-half:]
    text = ""
    if data["AP"]:
        ap = [
            [v for i in group if (v := data["AP"][i]) is not None and v == v]
            for group in (rare, frequent)
        ]
        if all(ap):
            text += (
                f" The rarer half of the classes has {np.mean(ap[0]):.1f} AP on average, the other"
                f" {np.mean(ap[1]):.1f}."
            )
    positives, negatives = data["gradient_positives"], data["gradient_negatives"]
    if positives and negatives:
        own, against = (sum(part[i] for i in rare) for part in (positives, negatives))
        text += (
            f" Of the classification gradient the rarer half's own boxes give {percent(own)}, what"
            f" presses on these classes {percent(against)};"
            f" {percent(sum(positives[i] for i in frequent))} and"
            f" {percent(sum(negatives[i] for i in frequent))} for the others."
        )
    return text


def _advise(found: Finding, m: dict[str, Any], data: ClassMeasure) -> Finding:
    """Name the first lever that would change something, or the one that is on."""
    on = [lever for lever in LEVERS if lever in m["levers"]]
    if on:
        found.size = "small" if found.size == "small" else ""
        found.text += f" This run has {' and '.join(on)}."
        return found
    evened = (
        f"with repeat-factor sampling (threshold {data['repeat_threshold']:.3g}, the median class)"
        f" it would be {data['repeat_ratio']:.1f} times"
    )
    if data["repeat_ratio"] <= EVENED * data["ratio"] or "class_weights" not in m["switches"]:
        return advise(found, m, "repeat_factor", f"Of the boxes that training sees, {evened}.")
    why = (
        f"Classes share their images: {evened}, little less. Class weights even out the loss"
        " itself."
    )
    return advise(found, m, "class_weights", why)
