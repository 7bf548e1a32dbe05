"""Between classes: boxes and images of each, its AP, and its part of loss and gradient.

Repeat-factor sampling (Gupta et al., LVIS, appendix B.2) shows an image as often as the rarest of
its classes asks for; what it would do to the boxes of the classes is counted from the data.
"""

from collections import Counter
from typing import Any, TypedDict

import numpy as np

from ...data.check.repeat_factors import repeat_factors
from ..report.run import Run
from .data import read_coco

PARTS = ("loss_positives", "loss_negatives", "gradient_positives", "gradient_negatives")


class ClassMeasure(TypedDict):
    """Lists over the K classes, the most frequent first; None where it was not measured.

    Attributes:
        names: of the classes; those without a box come last.
        boxes, images: of the training set, without crowd regions.
        AP: of the last evaluation, in percent, each None where it has none.
        loss_positives, gradient_positives: mean part that a class's own anchors or regions have of
            all classification loss and gradient, that on background included.
        loss_negatives, gradient_negatives: the part of all others in its column; a softmax has a
            loss of regions and not of columns, so that ``loss_negatives`` is None.
        loss_background: a softmax's part of the loss on background; None for a sigmoid.
        ratio: boxes of the most frequent over those of the rarest class that has any.
        repeat_threshold, repeat_ratio: repeat-factor sampling's threshold for these data, and the
            ratio of the boxes shown with it.
    """

    names: list[str]
    boxes: list[int]
    images: list[int]
    AP: list[float | None] | None
    loss_positives: list[float] | None
    loss_negatives: list[float] | None
    gradient_positives: list[float] | None
    gradient_negatives: list[float] | None
    loss_background: float | None
    ratio: float
    repeat_threshold: float
    repeat_ratio: float


def measure(run: Run) -> ClassMeasure | None:
    """What :func:`measure_classes` says of a run; None where its training set is not known."""
    if run.train_set is None:
        return None
    metrics = run.final_metrics()
    return measure_classes(
        read_coco(run.train_set), run.steps, run.meta.get("class_names", []), metrics
    )


def measure_classes(
    coco: dict[str, Any],
    steps: list[dict[str, Any]],
    class_names: list[str],
    metrics: dict[str, float],
) -> ClassMeasure | None:
    """Count the boxes, and average what was measured over all steps.

    Args:
        coco: content of a COCO file.
        steps: see :mod:`libra_umop.imbalance.records`.
        class_names: by label, as in the steps.
        metrics: "AP-<class name>" of the last evaluation, percent.

    Returns:
        See :class:`ClassMeasure`; None with fewer than two classes that have a box.
    """
    names = {c["id"]: c["name"] for c in coco["categories"]}
    in_images: dict[Any, list[str]] = {image["id"]: [] for image in coco["images"]}
    for a in coco["annotations"]:
        if not a.get("iscrowd") and a["image_id"] in in_images:
            in_images[a["image_id"]].append(names[a["category_id"]])
    boxes = Counter(name for found in in_images.values() for name in found)
    if len(boxes) < 2:
        return None
    images = Counter(name for found in in_images.values() for name in set(found))
    order = sorted(names.values(), key=lambda name: -boxes[name])
    threshold, factors = repeat_factors(list(in_images.values()))
    shown: Counter[str] = Counter()
    for found, factor in zip(in_images.values(), factors, strict=True):
        for name in found:
            shown[name] += factor  # type: ignore[assignment]
    ap = [metrics.get(f"AP-{name}") for name in order]
    parts = _parts(steps, class_names, order)
    return {
        "names": order,
        "boxes": [boxes[name] for name in order],
        "images": [images[name] for name in order],
        "AP": ap if any(v is not None for v in ap) else None,
        "loss_positives": parts["loss_positives"],
        "loss_negatives": parts["loss_negatives"],
        "gradient_positives": parts["gradient_positives"],
        "gradient_negatives": parts["gradient_negatives"],
        "loss_background": parts["loss_background"],
        "ratio": max(boxes.values()) / min(boxes.values()),
        "repeat_threshold": threshold,
        "repeat_ratio": max(shown.values()) / min(shown.values()),
    }


def _parts(steps: list[dict[str, Any]], class_names: list[str], order: list[str]) -> dict[str, Any]:
    """Means over the steps that measured the classes, in the order of the names."""
    found = [section for s in steps for section in s.get("class", {}).values()]
    index = [class_names.index(n) for n in order if n in class_names]
    fits = len(index) == len(order)
    means: dict[str, Any] = {}
    for part in PARTS:
        rows = [s[part] for s in found if len(s.get(part) or ()) == len(class_names)]
        rows = [row for row in rows if None not in row]
        means[part] = np.mean(rows, axis=0)[index].tolist() if rows and fits else None
    background = [s["loss_background"] for s in found if s.get("loss_background") is not None]
    return {**means, "loss_background": float(np.mean(background)) if background else None}
