"""How the detections of several views of an image become one set, by what ``TEST.AUG`` says."""

from dataclasses import dataclass
from math import sqrt
from typing import Any

from detectron2.layers import batched_nms
from detectron2.structures import Boxes, Instances

from ...functional.boxes.box_merging import DECAYS, soft_nms, vote_boxes

__all__ = ["NMS_TYPES", "ViewMerging", "in_scale_range"]

NMS_TYPES = ("hard", *DECAYS)


@dataclass(frozen=True, kw_only=True)
class ViewMerging:
    """Suppression of what several views have found, and voting of the suppressed.

    Args:
        nms_type: "hard" non-maximum suppression, or a ``decay`` of :func:`soft_nms`.
        sigma: of its "gaussian", > 0.
        vote_thresh: boxes of a class that overlap a kept one by this IoU vote on it
            (:func:`vote_boxes`), in (0, 1]; 1 for no voting.

    Raises:
        ValueError: for an unknown name or a number out of its range.
    """

    nms_type: str = "hard"
    sigma: float = 0.5
    vote_thresh: float = 1.0

    def __post_init__(self):
        if self.nms_type not in NMS_TYPES:
            raise ValueError(
                f"TEST.AUG.NMS_TYPE is {self.nms_type!r}, should be one of {NMS_TYPES}"
            )
        if not self.sigma > 0:
            raise ValueError(f"TEST.AUG.SOFT_NMS_SIGMA is {self.sigma}, should be > 0")
        if not 0 < self.vote_thresh <= 1:
            raise ValueError(f"TEST.AUG.VOTE_THRESH is {self.vote_thresh}, should be in (0, 1]")

    @classmethod
    def from_cfg(cls, cfg) -> "ViewMerging":
        """From ``TEST.AUG``."""
        aug = cfg.TEST.AUG
        return cls(nms_type=aug.NMS_TYPE, sigma=aug.SOFT_NMS_SIGMA, vote_thresh=aug.VOTE_THRESH)

    def __call__(
        self, candidates: Instances, nms_thresh: float, max_detections: int | None
    ) -> Instances:
        """Merge.

        Args:
            candidates: of all views in one frame, with ``pred_boxes``, ``scores`` and
                ``pred_classes``.
            nms_thresh: the detector's own IoU threshold, for "hard" and "linear".
            max_detections: how many are kept at most; None for no limit.

        Returns:
            Those kept, best first, with their new scores and boxes.
        """
        boxes, scores = candidates.pred_boxes.tensor, candidates.scores
        classes = candidates.pred_classes
        if self.nms_type == "hard":
            keep = batched_nms(boxes, scores, classes, nms_thresh)[:max_detections]
            merged = candidates[keep]
        else:
            keep, new_scores = soft_nms(
                boxes,
                scores,
                classes,
                decay=self.nms_type,
                iou_threshold=nms_thresh,
                sigma=self.sigma,
                max_detections=len(scores) if max_detections is None else max_detections,
            )
            merged = candidates[keep]
            merged.scores = new_scores
        if self.vote_thresh < 1:
            voted = vote_boxes(
                merged.pred_boxes.tensor,
                merged.pred_classes,
                boxes,
                scores,
                classes,
                iou_threshold=self.vote_thresh,
            )
            merged.pred_boxes = Boxes(voted)
        return merged


def in_scale_range(candidates: Instances, view: dict[str, Any]) -> Instances:
    """Those of a view's candidates whose size that view is for.

    Args:
        candidates: with ``pred_boxes`` in pixels of the view.
        view: its "image", (3, H, W), the "height" and "width" of the original, and, unless it is
            for all sizes, "scale_range": smallest and largest square root of a box's area in pixels
            of the original.
    """
    if "scale_range" not in view:
        return candidates
    low, high = view["scale_range"]
    view_height, view_width = view["image"].shape[1:]
    zoom = sqrt(view["height"] * view["width"] / (view_height * view_width))
    size = candidates.pred_boxes.area().sqrt() * zoom
    return candidates[(low <= size) & (size <= high)]
