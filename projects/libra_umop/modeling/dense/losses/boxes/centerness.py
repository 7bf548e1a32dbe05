"""The loss of the centerness that ATSS and FCOS predict.

Letters: N images, R_l anchors of level l of L, R of all levels.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["centerness_loss_sum"]


def centerness_loss_sum(pred_centerness: list[Tensor], targets: Tensor, is_pos: Tensor) -> Tensor:
    """Binary cross entropy of the centerness, summed over the positives (0-dim fp32).

    Args:
        pred_centerness: L of (N, R_l, 1) logits.
        targets: (N, R) in [0, 1].
        is_pos: (N, R) bool.
    """
    logits = torch.cat(pred_centerness, dim=1).squeeze(dim=2).float()  # (N, R)
    logits = torch.where(is_pos, logits, 0.0)  # see DenseBoxLoss
    return F.binary_cross_entropy_with_logits(
        logits, targets, weight=is_pos.float(), reduction="sum"
    )
