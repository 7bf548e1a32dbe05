"""Does an exported file give the detections of the model? Asked before the file is handed over."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

Detections = tuple[Tensor, Tensor, Tensor]
Detector = Callable[[Tensor], Detections]


class Agreement(NamedTuple):
    """How far two detectors agree on one image.

    Attributes:
        size: (H, W) of the image.
        num_boxes: detections of the first.
        box_error_px: largest difference of a coordinate over the detections that match.
        score_error: largest difference of a score over them.
        num_unmatched: detections of either that the other lacks.
    """

    size: tuple[int, int]
    num_boxes: int
    box_error_px: float
    score_error: float
    num_unmatched: int

    def __str__(self) -> str:
        return (
            f"{self.size[0]}x{self.size[1]}: {self.num_boxes} boxes, largest difference "
            f"{self.box_error_px:.2g} px and {self.score_error:.1g} in score, "
            f"{self.num_unmatched} unmatched"
        )


def compare(
    reference: Detections,
    other: Detections,
    *,
    size: tuple[int, int],
    max_detections: int | None = None,
    score_threshold: float = 0.0,
    box_tolerance_px: float = 0.1,
    score_tolerance: float = 1e-3,
) -> Agreement:
    """Match two sets of detections one to one.

    A pair has the same class, boxes within ``box_tolerance_px`` in every coordinate and scores
    within ``score_tolerance``. Their order is free, as equal scores have none. A detection whose
    score is within the tolerance of the threshold, or of the lowest kept one where
    ``max_detections`` cut a set off, may have fallen to either side, and is not counted as
    unmatched.

    Args:
        reference, other: boxes (R, 4) XYXY pixels, scores (R,), classes (R,).
        size: (H, W) of the image, for the report.
        max_detections: the most that each can hold, None for any number.
        score_threshold: below which both drop detections.
    """
    (boxes, scores, classes), (boxes2, scores2, classes2) = (
        [tensor.detach() for tensor in detections] for detections in (reference, other)
    )
    box_error = (boxes[:, None] - boxes2[None]).abs().amax(dim=2)  # (R, R2)
    score_error = (scores[:, None] - scores2[None]).abs()
    fits = (classes[:, None] == classes2[None]) & (box_error <= box_tolerance_px)
    fits &= score_error <= score_tolerance
    cost = (box_error + score_error).masked_fill(~fits, torch.inf)
    rows, columns = _match(cost)
    cut = max(_cut_off(scores, scores2, max_detections), score_threshold) + score_tolerance
    left = torch.ones(len(scores), dtype=torch.bool).index_fill(0, rows, False)
    left2 = torch.ones(len(scores2), dtype=torch.bool).index_fill(0, columns, False)
    num_unmatched = (left & (scores > cut)).sum() + (left2 & (scores2 > cut)).sum()
    return Agreement(
        size=size,
        num_boxes=len(scores),
        box_error_px=float(box_error[rows, columns].max()) if len(rows) else 0.0,
        score_error=float(score_error[rows, columns].max()) if len(rows) else 0.0,
        num_unmatched=int(num_unmatched),
    )


def _match(cost: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of finite cost, cheapest first; each row and column at most once."""
    pairs = torch.nonzero(torch.isfinite(cost))
    used, used2, kept = set(), set(), []
    for i in cost[pairs[:, 0], pairs[:, 1]].argsort().tolist():
        row, column = pairs[i].tolist()
        if row not in used and column not in used2:
            used.add(row)
            used2.add(column)
            kept.append((row, column))
    matched = torch.tensor(kept, dtype=torch.int64).reshape(-1, 2)
    return matched[:, 0], matched[:, 1]


def _cut_off(scores: Tensor, scores2: Tensor, max_detections: int | None) -> float:
    """The lowest score that a full set still holds; 0 if neither set is full."""
    full = [s for s in (scores, scores2) if max_detections and len(s) >= max_detections]
    return max((float(s.min()) for s in full), default=0.0)


def sample_image(size: tuple[int, int], seed: int = 0) -> Tensor:
    """A colourful image with edges at many scales, (3, H, W) float32 of whole numbers 0..255."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.zeros(1, 3, *size)
    for cells in (2, 5, 13, 34):
        shape = (1, 3, min(cells, size[0]), min(cells, size[1]))
        pattern = torch.rand(shape, generator=generator)
        image += torch.nn.functional.interpolate(pattern, size=size, mode="nearest")
    return (image[0] / 4 * 255).round()


def verify(
    reference: Detector, other: Detector, images: Sequence[Tensor], **kwargs: Any
) -> list[Agreement]:
    """Compare two detectors on every image, (3, H, W); ``kwargs`` go to :func:`compare`."""
    return [
        compare(reference(image), other(image), size=(image.shape[-2], image.shape[-1]), **kwargs)
        for image in images
    ]
