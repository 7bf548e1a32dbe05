"""Losses of boxes, and what becomes of boxes that overlap: torch only, one idea a file."""

from .balanced_l1_loss import balanced_l1_loss
from .box_merging import soft_nms, vote_boxes
from .dense_box_loss import box_deltas, box_iou, ciou_loss, diou_loss, giou_loss

__all__ = [
    "balanced_l1_loss",
    "box_deltas",
    "box_iou",
    "ciou_loss",
    "diou_loss",
    "giou_loss",
    "soft_nms",
    "vote_boxes",
]
