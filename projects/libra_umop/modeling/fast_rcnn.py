"""Fast R-CNN output layers whose boxes learn from the balanced L1 loss."""

from typing import Dict

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec, nonzero_tuple
from detectron2.modeling.roi_heads import FastRCNNOutputLayers

from ..functional.balanced_l1_loss import balanced_l1_loss

__all__ = ["BalancedL1OutputLayers"]


class BalancedL1OutputLayers(FastRCNNOutputLayers):
    """
    :class:`FastRCNNOutputLayers` with the balanced L1 loss on the box deltas. ``smooth_l1_beta`` is
    its transition point, ``loss_weight["loss_box_reg"]`` its weight.
    """

    @configurable
    def __init__(self, input_shape: ShapeSpec, *, balanced_l1: Dict, **kwargs):
        """
        Args:
            input_shape: shape of the region features.
            balanced_l1: alpha, gamma and formula of :func:`balanced_l1_loss`.
            kwargs: of :class:`FastRCNNOutputLayers`.

        Raises:
            ValueError: ``smooth_l1_beta`` is not positive.
        """
        super().__init__(input_shape, **kwargs)
        if self.smooth_l1_beta <= 0:
            raise ValueError(
                f"MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA is {self.smooth_l1_beta}, but balanced L1 needs "
                "a transition point > 0; Libra R-CNN has 1.0"
            )
        self.balanced_l1 = dict(balanced_l1, beta=self.smooth_l1_beta)

    @classmethod
    def from_config(cls, cfg, input_shape):
        ret = super().from_config(cfg, input_shape)
        ret["balanced_l1"] = {
            "alpha": cfg.MODEL.BALANCED_L1.ALPHA,
            "gamma": cfg.MODEL.BALANCED_L1.GAMMA,
            "formula": cfg.MODEL.BALANCED_L1.FORMULA,
        }
        return ret

    def box_reg_loss(
        self,
        proposal_boxes: torch.Tensor,
        gt_boxes: torch.Tensor,
        pred_deltas: torch.Tensor,
        gt_classes: torch.Tensor,
    ) -> torch.Tensor:
        """
        Same interface as :meth:`FastRCNNOutputLayers.box_reg_loss`.
        """
        box_dim = proposal_boxes.shape[1]
        fg_idxs = nonzero_tuple((gt_classes >= 0) & (gt_classes < self.num_classes))[0]
        if pred_deltas.shape[1] == box_dim:  # one box for all classes
            fg_pred_deltas = pred_deltas[fg_idxs]
        else:
            per_class = pred_deltas.view(len(pred_deltas), self.num_classes, box_dim)
            fg_pred_deltas = per_class[fg_idxs, gt_classes[fg_idxs]]
        fg_gt_deltas = self.box2box_transform.get_deltas(proposal_boxes[fg_idxs], gt_boxes[fg_idxs])
        loss = balanced_l1_loss(
            fg_pred_deltas,
            fg_gt_deltas,
            reduction="sum",
            **self.balanced_l1,
        )
        return loss / max(gt_classes.numel(), 1)  # by all regions, as in the parent
