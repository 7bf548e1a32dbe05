"""Classification losses of ROI heads against the imbalance between classes, region by region.

Letters: R regions, K classes. Labels: [0, K) foreground, K background.
"""

import torch
from detectron2.config import CfgNode
from detectron2.layers import cross_entropy
from torch import Tensor, nn

from ...functional.long_tail import seesaw_loss
from ...key import Key, declare
from ...ranges import NOT_NEGATIVE, OneOf
from ...utils.ranks import sum_over_ranks
from ..class_weights import build_class_weights, require_counted
from ..optional_buffers import OptionalBuffers

__all__ = ["SeesawLoss", "WeightedCrossEntropy", "build_class_loss"]

CLASS_LOSSES = ("cross_entropy", "seesaw")

declare(
    "MODEL.ROI_BOX_HEAD",
    CLS_LOSS_TYPE=Key(
        "cross_entropy",
        OneOf(CLASS_LOSSES),
        "The classification loss of the Libra and OHEM heads:"
        ' "cross_entropy" (Detectron2\'s, or the weighted one of MODEL.CLASS_WEIGHTS) or "seesaw"'
        " (Wang et al., CVPR 2021; background stays a column of the softmax, untouched by it).",
    ),
    SEESAW_P=Key(
        0.8, NOT_NEGATIVE, "p, how much less a frequent class presses on a rarer one; 0 for none."
    ),
    SEESAW_Q=Key(
        2.0, NOT_NEGATIVE, "q, how much more it does where regions are taken for it; 0 for none."
    ),
)


class WeightedCrossEntropy(nn.Module):
    """Cross entropy, a region weighted by its class, background by 1.

    Args:
        class_weights: (K,).
    """

    class_weights: Tensor

    def __init__(self, class_weights: Tensor):
        super().__init__()
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, scores: Tensor, gt_classes: Tensor) -> Tensor:
        """The loss of each region, (R,), of scores (R, K + 1) and labels (R,)."""
        require_counted(self.class_weights)
        weights = torch.cat((self.class_weights, self.class_weights.new_ones(1)))  # (K + 1,)
        return weights[gt_classes] * cross_entropy(scores.float(), gt_classes, reduction="none")


class SeesawLoss(OptionalBuffers):
    """Seesaw loss with how often each class was seen so far, on all ranks, in its checkpoints.

    Args:
        num_classes: K.
        p, q: see :func:`seesaw_loss`.
    """

    class_counts: Tensor

    def __init__(self, num_classes: int, *, p: float = 0.8, q: float = 2.0):
        super().__init__()
        self.p, self.q = p, q
        self.register_buffer("class_counts", torch.zeros(num_classes, dtype=torch.int64))

    def forward(self, scores: Tensor, gt_classes: Tensor) -> Tensor:
        """The loss of each region, (R,), of scores (R, K + 1) and labels (R,).

        Regions are counted where gradients are computed: a pass that only measures, such as that
        of validation losses or OHEM's ranking, neither counts nor meets other ranks.
        """
        if torch.is_grad_enabled():
            seen = self.class_counts.new_zeros(scores.shape[1])
            seen.index_add_(0, gt_classes, torch.ones_like(gt_classes))
            self.class_counts += sum_over_ranks(seen[:-1])
        return seesaw_loss(scores, gt_classes, self.class_counts, p=self.p, q=self.q)


def build_class_loss(cfg: CfgNode) -> nn.Module | None:
    """The classification loss that a config names; None for Detectron2's.

    Raises:
        ValueError: class weights for a loss that has none, or a sigmoid loss beside this one.
    """
    head, num_classes = cfg.MODEL.ROI_BOX_HEAD, cfg.MODEL.ROI_HEADS.NUM_CLASSES
    class_weights = build_class_weights(cfg, num_classes)
    if head.CLS_LOSS_TYPE not in CLASS_LOSSES:
        raise ValueError(
            f"MODEL.ROI_BOX_HEAD.CLS_LOSS_TYPE is {head.CLS_LOSS_TYPE!r}, should be one of"
            f" {CLASS_LOSSES}"
        )
    is_seesaw = head.CLS_LOSS_TYPE == "seesaw"
    if head.USE_SIGMOID_CE and (is_seesaw or class_weights is not None):
        raise ValueError(
            "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE is True, should be False with MODEL.ROI_BOX_HEAD."
            f"CLS_LOSS_TYPE {head.CLS_LOSS_TYPE} and MODEL.CLASS_WEIGHTS.BETA"
            f" {cfg.MODEL.CLASS_WEIGHTS.BETA}"
        )
    if is_seesaw and class_weights is not None:
        raise ValueError(
            f"MODEL.CLASS_WEIGHTS.BETA is {cfg.MODEL.CLASS_WEIGHTS.BETA}, should be 0 where"
            " MODEL.ROI_BOX_HEAD.CLS_LOSS_TYPE is 'seesaw', which weighs classes itself"
        )
    if is_seesaw:
        return SeesawLoss(num_classes, p=head.SEESAW_P, q=head.SEESAW_Q)
    return None if class_weights is None else WeightedCrossEntropy(class_weights)
