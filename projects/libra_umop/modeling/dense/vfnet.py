"""VarifocalNet (https://arxiv.org/abs/2008.13367): ATSS with a star-shaped look at each box.

Letters: N images, R_l anchors of level l of L, K classes, C channels.
"""

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec, get_norm
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.modeling.box_regression import _DEFAULT_SCALE_CLAMP
from torch import Tensor, nn
from torch.nn import functional as F

from ..backbones.deformable import DeformConv2d
from .atss import ATSSHead
from .centerness_detector import init_conv
from .detector import BoxPart
from .edge_distances import EdgeDistanceATSS
from .losses.predictions import LabelledPredictions
from .losses.quality import LevelVarifocalLoss

__all__ = ["VFNet", "VFNetHead"]

# A new head's boxes reach this many strides to each side, twice as far as an ATSS anchor.
_REACH = 8
# How much of the classes' and the refinement's gradient gets through the star to the first box.
_STAR_GRADIENT = 0.1


class VFNetHead(ATSSHead):
    """ATSS's head without centerness; it looks at a first box to refine it and to tell its class.

    A 3x3 deformable convolution takes nine samples: the location, and the corners and the middles
    of the edges of the first box.

    Args:
        kwargs: those of :class:`ATSSHead`.

    Args:
        box_reg_loss_weight, refined_box_reg_loss_weight: factors of the first and of the
            refined boxes' loss, >= 0.
        kwargs: those of :class:`EdgeDistanceATSS`.

    Raises:
        ValueError: for a number out of its range.
    """

    def __init__(
        self,
        *,
        input_shape: list[ShapeSpec],
        conv_dims: list[int],
        norm: str = "GN",
        **kwargs,
    ):
        kwargs["has_centerness"] = False
        super().__init__(input_shape=input_shape, conv_dims=conv_dims, norm=norm, **kwargs)
        channels = conv_dims[-1]
        layers = [nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=not norm)]
        layers += [get_norm(norm, channels)] if norm else []
        self.bbox_conv = nn.Sequential(*layers, nn.ReLU())
        self.refine_conv = DeformConv2d(in_channels=channels, out_channels=channels)
        self.bbox_refine = nn.Conv2d(channels, 4, kernel_size=3, padding=1)
        self.refine_scales = nn.ParameterList(nn.Parameter(torch.ones(())) for _ in input_shape)
        self.cls_conv = DeformConv2d(in_channels=channels, out_channels=channels)
        for layer in (self.bbox_conv[0], self.refine_conv, self.bbox_refine, self.cls_conv):
            init_conv(layer)

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], ...]:
        """Look twice.

        Args:
            features: L of (N, C, H, W).

        Returns:
            L each of logits (N, K, H, W) and of the distances from the location to the left, top,
            right and bottom edge of the refined and of the first box, (N, 4, H, W) fp32 in strides.
        """
        towers = [self.bbox_subnet(x) for x in features]
        firsts = self.scaled([self.bbox_pred(self.bbox_conv(x)) for x in towers], self.scales)
        firsts = [_REACH * _positive(x) for x in firsts]
        stars = [star_offsets(x) for x in firsts]
        looks = [F.relu(self.refine_conv(*args)) for args in zip(towers, stars, strict=True)]
        factors = self.scaled([self.bbox_refine(x) for x in looks], self.refine_scales)
        refined = [_refined(x, y.detach()) for x, y in zip(factors, firsts, strict=True)]
        looks = [self.cls_conv(self.cls_subnet(x), y) for x, y in zip(features, stars, strict=True)]
        return [self.cls_score(F.relu(x)) for x in looks], refined, firsts


def _positive(x: Tensor) -> Tensor:
    """``e^x``, at least in fp32, limited as Detectron2 limits the sizes of its boxes."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    return x.to(dtype).clamp(max=_DEFAULT_SCALE_CLAMP).exp()


def _refined(factor: Tensor, first: Tensor) -> Tensor:
    """``e^factor * first``; no gradient comes to a factor of a NaN if none is asked of it."""
    known = ~first.isnan()
    return torch.where(known, _positive(factor) * torch.where(known, first, 0.0), torch.nan)


def star_offsets(distances: Tensor) -> Tensor:
    """Offsets of a 3x3 deformable convolution that samples a box's corners and edges (figure 3).

    Args:
        distances: (N, 4, H, W) from each location to the left, top, right and bottom edge, in
            strides. A tenth of the gradient reaches them.

    Returns:
        (N, 18, H, W) in strides, y before x for each sample, row by row from the upper left corner;
        0 where the distance is no finite number.
    """
    x = distances.detach() + _STAR_GRADIENT * (distances - distances.detach())
    left, top, right, bottom = torch.where(x.isfinite(), x, 0.0).unbind(dim=1)
    none = torch.zeros_like(left)
    # A convolution's own samples lie one stride apart; the star's where the box ends.
    samples = [
        offset
        for row, y in enumerate((-top, none, bottom))
        for column, x in enumerate((-left, none, right))
        for offset in (y - (row - 1), x - (column - 1))
    ]
    return torch.stack(samples, dim=1)


@META_ARCH_REGISTRY.register()
class VFNet(EdgeDistanceATSS):
    """ATSS with the varifocal loss on scores that look at the box, which is refined once."""

    head_class = VFNetHead
    own_cls_loss = "varifocal"
    own_cls_loss_class = LevelVarifocalLoss

    @configurable
    def __init__(
        self,
        *,
        box_reg_loss_weight: float = 1.5,
        refined_box_reg_loss_weight: float = 2.0,
        **kwargs,
    ):
        super().__init__(box_reg_loss_weight=box_reg_loss_weight, **kwargs)
        if not refined_box_reg_loss_weight >= 0:
            raise ValueError(
                "MODEL.VFNET.REFINED_BOX_REG_LOSS_WEIGHT is"
                f" {refined_box_reg_loss_weight}, should be >= 0"
            )
        self.refined_box_reg_loss_weight = refined_box_reg_loss_weight

    @classmethod
    def from_config(cls, cfg) -> dict[str, Any]:
        """Same interface as the parent's."""
        ret = super().from_config(cfg)
        ret["box_reg_loss_weight"] = cfg.MODEL.VFNET.BBOX_REG_LOSS_WEIGHT
        ret["refined_box_reg_loss_weight"] = cfg.MODEL.VFNET.REFINED_BOX_REG_LOSS_WEIGHT
        return ret

    def arrange(self, predictions: Sequence[list[Tensor]]):
        """Same interface as the parent's, of refined boxes; others: deltas of the first ones."""
        logits, *boxes = self._transpose_dense_predictions(predictions, [self.num_classes, 4, 4])
        units = self.stride_in_anchors()
        refined, first = (
            [x * unit for x, unit in zip(levels, units, strict=True)] for levels in boxes
        )
        return logits, refined, [first]

    def box_weights(self, predictions: LabelledPredictions) -> Tensor:
        """Same interface as the parent's: the boxes' overlap with the matched ones."""
        return predictions.quality()

    def box_losses(
        self, predictions: LabelledPredictions, *others: list[Tensor]
    ) -> dict[str, BoxPart]:
        """Same interface as the parent's; ``others`` as of :meth:`arrange`."""
        (first,) = others
        first_predictions = predictions.with_deltas(torch.cat(first, dim=1))
        factor = self.refined_box_reg_loss_weight
        return {
            **super().box_losses(first_predictions),
            "loss_box_refine": self.quality_weighted(predictions, factor),
        }
