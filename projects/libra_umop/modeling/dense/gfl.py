"""GFL (https://arxiv.org/abs/2006.04388): scores as quality, edges as distributions, over ATSS.

Letters: N images, R_l anchors of level l of L, K classes, n + 1 bins.
"""

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn

from ...functional.quality_losses import distribution_focal_loss
from .atss import ATSSHead
from .centerness_detector import init_conv
from .detector import BoxPart
from .edge_distances import EdgeDistanceATSS
from .losses.boxes.box_loss import target_deltas
from .losses.predictions import LabelledPredictions
from .losses.quality import LevelQualityFocalLoss

__all__ = ["GFL", "GFLHead"]


class GFLHead(ATSSHead):
    """ATSS's head without centerness, and with n + 1 logits for each edge: of 0, 1, ... n strides.

    ``bbox_pred`` gives those of the left edge first, then of the top, right and bottom one.

    Args:
        num_bins: n, >= 1.
        kwargs: those of :class:`ATSSHead`.

    Raises:
        ValueError: for a number out of its range.

    Args:
        dfl_loss_weight: factor of the distribution focal loss, >= 0.
        kwargs: those of :class:`EdgeDistanceATSS`.

    Raises:
        ValueError: for a number out of its range.
    """

    def __init__(
        self, *, input_shape: list[ShapeSpec], conv_dims: list[int], num_bins: int = 16, **kwargs
    ):
        kwargs["has_centerness"] = False
        super().__init__(input_shape=input_shape, conv_dims=conv_dims, **kwargs)
        if num_bins < 1:
            raise ValueError(f"MODEL.GFL.NUM_BINS is {num_bins}, should be >= 1")
        self.num_bins = num_bins
        self.bbox_pred = nn.Conv2d(conv_dims[-1], 4 * (num_bins + 1), kernel_size=3, padding=1)
        init_conv(self.bbox_pred)


@META_ARCH_REGISTRY.register()
class GFL(EdgeDistanceATSS):
    """ATSS with the quality focal loss, and edges as distributions that learn by their own loss."""

    head_class = GFLHead
    own_cls_loss = "quality_focal"
    own_cls_loss_class = LevelQualityFocalLoss

    @configurable
    def __init__(self, *, dfl_loss_weight: float = 0.25, **kwargs):
        super().__init__(**kwargs)
        if not dfl_loss_weight >= 0:
            raise ValueError(f"MODEL.GFL.DFL_LOSS_WEIGHT is {dfl_loss_weight}, should be >= 0")
        self.dfl_loss_weight = dfl_loss_weight

    @classmethod
    def from_config(cls, cfg) -> dict[str, Any]:
        """Same interface as the parent's."""
        ret = super().from_config(cfg)
        ret["dfl_loss_weight"] = cfg.MODEL.GFL.DFL_LOSS_WEIGHT
        return ret

    @classmethod
    def head_arguments(cls, cfg) -> dict[str, Any]:
        """Same interface as the parent's."""
        return {"num_bins": cfg.MODEL.GFL.NUM_BINS}

    def arrange(self, predictions: Sequence[list[Tensor]]):
        """Same interface as the parent's; others: the edges' logits, L of (N, R_l, 4, n + 1)."""
        num_logits = self.head.num_bins + 1
        logits, edges = self._transpose_dense_predictions(
            predictions, [self.num_classes, 4 * num_logits]
        )
        edges = [x.unflatten(2, (4, num_logits)) for x in edges]
        units = self.stride_in_anchors()
        deltas = [expected_bin(x) * unit for x, unit in zip(edges, units, strict=True)]
        return logits, deltas, [edges]

    def box_losses(
        self, predictions: LabelledPredictions, *others: list[Tensor]
    ) -> dict[str, BoxPart]:
        """Same interface as the parent's; ``others`` as of :meth:`arrange`."""
        (edges,) = others
        weights = self.box_weights(predictions)  # (N, R)
        loss_dfl = (self._edge_losses(predictions, edges) * weights).sum()
        return {
            **super().box_losses(predictions),
            "loss_dfl": BoxPart.of_quality(self.dfl_loss_weight * loss_dfl, weights),
        }

    def _edge_losses(self, predictions: LabelledPredictions, edges: list[Tensor]) -> Tensor:
        """(N, R): distribution focal loss, mean over a box's four edges, of the positives."""
        anchors = predictions.anchors.expand_as(predictions.gt_boxes)
        deltas = target_deltas(predictions.transform, anchors, predictions.gt_boxes)
        units = zip(edges, self.stride_in_anchors(), strict=True)
        unit = torch.cat([unit.expand(x.shape[1]) for x, unit in units])  # (R,)
        distances = deltas / unit[:, None]  # (N, R, 4), in strides
        # An inf that is only left out of the sum would still make its gradient NaN.
        logits = torch.where(predictions.is_pos[..., None, None], torch.cat(edges, dim=1), 0.0)
        losses = distribution_focal_loss(logits.flatten(0, 2), distances.flatten())
        return losses.view(distances.shape).mean(dim=2)


def expected_bin(logits: Tensor) -> Tensor:
    """The mean of distributions over 0, 1, ..., n.

    Args:
        logits: (..., n + 1). Where one of an edge is no finite number, its mean is NaN, and no
            gradient comes to it if none is asked of that mean.

    Returns:
        (...), fp32 (fp64 for fp64 logits).
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    finite = logits.isfinite().all(dim=-1)
    p = torch.where(finite[..., None], logits, 0.0).to(dtype).softmax(dim=-1)
    bins = torch.arange(logits.shape[-1], dtype=dtype, device=logits.device)
    return torch.where(finite, (p * bins).sum(dim=-1), torch.nan)
