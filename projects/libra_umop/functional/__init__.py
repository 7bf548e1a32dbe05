"""The methods as pure functions and small modules: torch only, one idea a file.

Every one has an example, which runs after ``import torch`` and
``from libra_umop.functional import *``.
"""

from .atss_matching import atss_match, centerness_target
from .balanced_pyramid import (
    BalancedFeaturePyramid,
    ConvRefinement,
    NonLocalRefinement,
    gather_levels,
    scatter_levels,
)
from .boxes import (
    balanced_l1_loss,
    box_deltas,
    box_iou,
    ciou_loss,
    diou_loss,
    giou_loss,
    soft_nms,
    vote_boxes,
)
from .focal_loss import focal_loss_sum
from .hard_negative_mining import hard_negative_bce_sum, hardest
from .iou_balanced_sampling import sample_instance_balanced_positives, sample_iou_balanced_negatives
from .long_tail import (
    class_balance,
    class_balanced_focal_loss_sum,
    effective_number_weights,
    equalized_focal_loss_sum,
    focal_loss_by_class,
    seesaw_loss,
)
from .progressive_focal_loss import focus_from_sums, focus_sums, progressive_focus
from .quality_losses import distribution_focal_loss, quality_focal_loss_sum, varifocal_loss_sum
from .roi_align import sparse_roi_align

__all__ = [
    "BalancedFeaturePyramid",
    "ConvRefinement",
    "NonLocalRefinement",
    "atss_match",
    "balanced_l1_loss",
    "box_deltas",
    "box_iou",
    "centerness_target",
    "ciou_loss",
    "class_balance",
    "class_balanced_focal_loss_sum",
    "diou_loss",
    "distribution_focal_loss",
    "effective_number_weights",
    "equalized_focal_loss_sum",
    "focal_loss_by_class",
    "focal_loss_sum",
    "focus_from_sums",
    "focus_sums",
    "gather_levels",
    "giou_loss",
    "hard_negative_bce_sum",
    "hardest",
    "progressive_focus",
    "quality_focal_loss_sum",
    "sample_instance_balanced_positives",
    "sample_iou_balanced_negatives",
    "scatter_levels",
    "seesaw_loss",
    "soft_nms",
    "sparse_roi_align",
    "varifocal_loss_sum",
    "vote_boxes",
]
