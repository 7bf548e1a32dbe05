"""Fast R-CNN's output layers with losses of their own, and their loss region by region.

Letters: N images, R regions of all of them, K classes. Labels: [0, K) foreground, K background.
"""

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec, cat, cross_entropy, nonzero_tuple
from detectron2.modeling.roi_heads import FastRCNNOutputLayers, StandardROIHeads
from detectron2.structures import Instances
from fvcore.nn import smooth_l1_loss
from torch import nn

from ...functional.boxes.balanced_l1_loss import balanced_l1_loss
from ...functional.boxes.dense_box_loss import IOU_LOSSES
from ..balanced_l1 import balanced_l1_arguments
from .class_losses import build_class_loss

__all__ = [
    "BalancedBoxHead",
    "BalancedL1OutputLayers",
    "BalancedOutputLayers",
    "balance_losses",
    "region_losses",
]


class BalancedOutputLayers(FastRCNNOutputLayers):
    """:class:`FastRCNNOutputLayers` with a classification loss of its own."""

    @configurable
    def __init__(self, input_shape: ShapeSpec, *, class_loss: nn.Module | None = None, **kwargs):
        """The parent's layers with a loss of their own.

        Args:
            input_shape: shape of the region features.
            class_loss: gives the loss of each region, (R,), of scores (R, K + 1) and labels (R,);
                None for the parent's.
            kwargs: of :class:`FastRCNNOutputLayers`.
        """
        super().__init__(input_shape, **kwargs)
        self.class_loss = class_loss

    @classmethod
    def from_config(cls, cfg, input_shape):
        """Same interface as the parent's; also the classification loss that the config names."""
        return {**super().from_config(cfg, input_shape), "class_loss": build_class_loss(cfg)}

    def losses(
        self, predictions: tuple[torch.Tensor, torch.Tensor], proposals: list[Instances]
    ) -> dict[str, torch.Tensor]:
        """Same interface as :meth:`FastRCNNOutputLayers.losses`."""
        losses = super().losses(predictions, proposals)
        if self.class_loss is None:
            return losses
        gt_classes = cat([p.gt_classes for p in proposals])
        loss_cls = self.class_loss(predictions[0], gt_classes)
        loss_cls = loss_cls.sum() / max(gt_classes.numel(), 1)  # by all regions, as in the parent
        return {**losses, "loss_cls": loss_cls * self.loss_weight.get("loss_cls", 1.0)}


class BalancedL1OutputLayers(BalancedOutputLayers):
    """:class:`FastRCNNOutputLayers` with the balanced L1 loss on the box deltas.

    ``smooth_l1_beta`` is its transition point, ``loss_weight["loss_box_reg"]`` its weight.

    Args:
        input_shape: shape of the region features.
        balanced_l1: alpha, gamma and formula of :func:`balanced_l1_loss`, by default its own.
        kwargs: of :class:`FastRCNNOutputLayers`.

    Raises:
        ValueError: ``smooth_l1_beta`` is not positive.
    """

    @configurable
    def __init__(self, input_shape: ShapeSpec, *, balanced_l1: dict | None = None, **kwargs):
        super().__init__(input_shape, **kwargs)
        if self.smooth_l1_beta <= 0:
            raise ValueError(
                f"MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA is {self.smooth_l1_beta}, should be > 0 for"
                " balanced L1, whose transition point it is; Libra R-CNN has 1.0"
            )
        self.balanced_l1 = dict(balanced_l1 or {}, beta=self.smooth_l1_beta)

    @classmethod
    def from_config(cls, cfg, input_shape):
        """Same interface as the parent's; reads ``MODEL.BALANCED_L1``, too."""
        ret = super().from_config(cfg, input_shape)
        return {**ret, "balanced_l1": balanced_l1_arguments(cfg)}

    def box_reg_loss(
        self,
        proposal_boxes: torch.Tensor,
        gt_boxes: torch.Tensor,
        pred_deltas: torch.Tensor,
        gt_classes: torch.Tensor,
    ) -> torch.Tensor:
        """Same interface as :meth:`FastRCNNOutputLayers.box_reg_loss`: the balanced L1 loss."""
        fg_idxs = nonzero_tuple((gt_classes >= 0) & (gt_classes < self.num_classes))[0]
        fg_deltas = _own_class_deltas(pred_deltas, gt_classes, fg_idxs, proposal_boxes.shape[1])
        gt_deltas = self.box2box_transform.get_deltas(proposal_boxes[fg_idxs], gt_boxes[fg_idxs])
        loss = balanced_l1_loss(fg_deltas, gt_deltas, reduction="sum", **self.balanced_l1)
        return loss / max(gt_classes.numel(), 1)  # by all regions, as in the parent


def balance_losses(
    cfg: CfgNode, predictor: FastRCNNOutputLayers, input_shape: ShapeSpec
) -> FastRCNNOutputLayers:
    """The output layers with the losses that a config names.

    Args:
        predictor: what the parent of an ROIHeads built.
        input_shape: of the region features that it takes.

    Returns:
        ``predictor`` where the losses are Detectron2's; else output layers of the same coding of
        boxes with those of ``MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE`` "balanced_l1", and of
        ``CLS_LOSS_TYPE`` and ``MODEL.CLASS_WEIGHTS``.

    Raises:
        ValueError: see :func:`build_class_loss`.
    """
    if cfg.MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE == "balanced_l1":
        layers = BalancedL1OutputLayers
    elif build_class_loss(cfg) is not None:
        layers = BalancedOutputLayers
    else:
        return predictor
    return layers(cfg, input_shape, box2box_transform=predictor.box2box_transform)


class BalancedBoxHead(StandardROIHeads):
    """:class:`StandardROIHeads` whose output layers are those of :func:`balance_losses`."""

    @classmethod
    def _init_box_head(cls, cfg, input_shape):
        ret = super()._init_box_head(cfg, input_shape)
        shape = ret["box_head"].output_shape
        return {**ret, "box_predictor": balance_losses(cfg, ret["box_predictor"], shape)}


def _own_class_deltas(
    pred_deltas: torch.Tensor, gt_classes: torch.Tensor, fg_idxs: torch.Tensor, box_dim: int
) -> torch.Tensor:
    """The deltas, (F, B), that the F foreground regions predict for their own class."""
    if pred_deltas.shape[1] == box_dim:  # one box for all classes
        return pred_deltas[fg_idxs]
    per_class = pred_deltas.unflatten(1, (-1, box_dim))  # (R, K, B)
    return per_class[fg_idxs, gt_classes[fg_idxs]]


def region_losses(
    predictor: FastRCNNOutputLayers,
    predictions: tuple[torch.Tensor, torch.Tensor],
    proposals: list[Instances],
) -> torch.Tensor:
    """The weighted loss of each region; its mean is the sum of ``predictor.losses(...)``.

    Args:
        predictor: any :class:`FastRCNNOutputLayers` without federated loss.
        predictions, proposals: as for its ``losses``.

    Returns:
        Loss of the regions of all images, (R,), in their order.
    """
    scores, pred_deltas = predictions
    gt_classes = cat([p.gt_classes for p in proposals])
    if getattr(predictor, "class_loss", None) is not None:
        loss_cls = predictor.class_loss(scores, gt_classes)
    elif predictor.use_sigmoid_ce:
        target = F.one_hot(gt_classes, num_classes=predictor.num_classes + 1).to(scores.dtype)
        loss_cls = F.binary_cross_entropy_with_logits(
            scores[:, :-1], target[:, :-1], reduction="none"
        ).sum(dim=1)
    else:
        loss_cls = cross_entropy(scores, gt_classes, reduction="none")

    fg_idxs = nonzero_tuple(gt_classes < predictor.num_classes)[0]
    proposal_boxes = cat([p.proposal_boxes.tensor for p in proposals])[fg_idxs]
    # An image without ground truth has no gt_boxes; its regions are all background.
    gt_boxes = [(p.gt_boxes if p.has("gt_boxes") else p.proposal_boxes).tensor for p in proposals]
    fg_deltas = _own_class_deltas(pred_deltas, gt_classes, fg_idxs, proposal_boxes.shape[1])
    fg_losses = _box_losses(predictor, fg_deltas, proposal_boxes, cat(gt_boxes)[fg_idxs])
    loss_box = torch.zeros_like(loss_cls, dtype=fg_losses.dtype).index_add(0, fg_idxs, fg_losses)

    weight = predictor.loss_weight
    return loss_cls * weight.get("loss_cls", 1.0) + loss_box * weight.get("loss_box_reg", 1.0)


def _box_losses(
    predictor: FastRCNNOutputLayers,
    pred_deltas: torch.Tensor,
    proposal_boxes: torch.Tensor,
    gt_boxes: torch.Tensor,
) -> torch.Tensor:
    """Unweighted box loss of each foreground region, (F,)."""
    transform = predictor.box2box_transform
    if predictor.box_reg_loss_type in IOU_LOSSES:
        pred_boxes = transform.apply_deltas(pred_deltas, proposal_boxes)
        return IOU_LOSSES[predictor.box_reg_loss_type](pred_boxes, gt_boxes)
    gt_deltas = transform.get_deltas(proposal_boxes, gt_boxes)
    if isinstance(predictor, BalancedL1OutputLayers):
        loss = balanced_l1_loss(pred_deltas, gt_deltas, **predictor.balanced_l1)
    else:
        loss = smooth_l1_loss(pred_deltas, gt_deltas, beta=predictor.smooth_l1_beta)
    return loss.sum(dim=1)
