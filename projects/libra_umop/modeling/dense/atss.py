"""ATSS (https://arxiv.org/abs/1912.02424): one anchor per location, matched by statistics.

Letters: N images, R anchors of all L levels, K classes. Labels: [0, K) foreground, K background.
"""

from itertools import pairwise
from typing import Any

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec, batched_nms
from detectron2.modeling import META_ARCH_REGISTRY, build_anchor_generator
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn

from ...functional.atss_matching import atss_match
from .centerness_detector import CenternessDetector, PointHead, centerness_targets
from .detector import BoxPart
from .losses.boxes.box_loss import clip_to_image
from .losses.boxes.centerness import centerness_loss_sum
from .losses.normalizers import RankTotals, count_positives
from .losses.predictions import LabelledPredictions

__all__ = ["ATSS", "ATSSHead", "UMOPATSS"]


class ATSSHead(PointHead):
    """FCOS's head with a learned factor for the box deltas of each level.

    As in the reference code, a convolution of the towers has no bias where a norm follows it.

    Args:
        kwargs: those of :class:`PointHead`.
    """

    def __init__(self, *, input_shape: list[ShapeSpec], **kwargs):
        super().__init__(input_shape=input_shape, **kwargs)
        self.scales = nn.ParameterList(nn.Parameter(torch.ones(())) for _ in input_shape)
        for tower in (self.cls_subnet, self.bbox_subnet):
            for layer, follower in pairwise(tower):
                if isinstance(layer, nn.Conv2d) and not isinstance(follower, nn.ReLU):
                    layer.bias = None

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], ...]:
        """Same interface as :meth:`PointHead.forward`; the deltas have a factor of their level."""
        logits, deltas, *centerness = super().forward(features)
        return logits, self.scaled(deltas, self.scales), *centerness

    def scaled(self, levels: list[Tensor], scales: nn.ParameterList) -> list[Tensor]:
        """Each level times its factor."""
        multiply = _scaled if self.training else torch.mul
        return [multiply(x, scale) for x, scale in zip(levels, scales, strict=True)]


def _scaled(x: Tensor, scale: Tensor) -> Tensor:
    """``x * scale``, but of an inf or NaN itself.

    No gradient comes to it where it is background, and 0 times it would be the NaN of all of
    ``scale``.
    """
    finite = x.isfinite()
    return torch.where(finite, x, 0) * scale + torch.where(finite, 0, x)


@META_ARCH_REGISTRY.register()
class ATSS(CenternessDetector):
    """FCOS with an anchor per location, positive by the statistics of each box's nearest anchors.

    Classification by focal loss, boxes by GIoU weighted with the centerness target, centerness by
    cross entropy; every normaliser is a mean over ranks.

    Args:
        anchor_generator: one anchor per location; by default a square of 8 strides.
        box2box_transform: between anchors and boxes; by default Box2BoxTransform.
        match_topk: candidate anchors per box and level.
        box_reg_loss_weight, centerness_loss_weight: factors of the losses, >= 0.
        test_score_thresh: for the class score alone.
        kwargs: those of :class:`CenternessDetector`.

    Raises:
        ValueError: for a number out of its range, or another number of anchors.
    """

    keys = "ATSS"
    head_class: type[PointHead] = ATSSHead

    @configurable
    def __init__(
        self,
        *,
        anchor_generator: DefaultAnchorGenerator | None = None,
        box2box_transform: Any = None,
        match_topk: int = 9,
        box_reg_loss_weight: float = 2.0,
        centerness_loss_weight: float = 1.0,
        test_score_thresh: float = 0.05,
        **kwargs,
    ):
        super().__init__(
            box2box_transform=box2box_transform or Box2BoxTransform((10.0, 10.0, 5.0, 5.0)),
            box_reg_loss_weight=box_reg_loss_weight,
            test_score_thresh=test_score_thresh,
            **kwargs,
        )
        if not centerness_loss_weight >= 0:
            raise ValueError(
                f"MODEL.ATSS.CENTERNESS_LOSS_WEIGHT is {centerness_loss_weight}, should be >= 0"
            )
        if match_topk < 1:
            raise ValueError(f"MODEL.ATSS.MATCH_TOPK is {match_topk}, should be >= 1")
        anchors: Any = anchor_generator or self._square_anchors()
        self.anchor_generator = anchors
        if set(anchors.num_anchors) != {1}:
            raise ValueError(
                f"anchors per location of MODEL.ANCHOR_GENERATOR are {anchors.num_anchors},"
                " should be 1 on each level for ATSS"
            )
        self.match_topk = match_topk
        self.centerness_loss_weight = centerness_loss_weight

    @classmethod
    def from_config(cls, cfg):
        """Same interface as the parent's; reads this project's keys, too."""
        ret = super().from_config(cfg)
        node = cfg.MODEL.ATSS
        shapes = ret["backbone"].output_shape()
        ret["anchor_generator"] = build_anchor_generator(cfg, [shapes[f] for f in node.IN_FEATURES])
        ret["box2box_transform"] = Box2BoxTransform(weights=node.BBOX_REG_WEIGHTS)
        ret["match_topk"] = node.MATCH_TOPK
        ret["centerness_loss_weight"] = node.CENTERNESS_LOSS_WEIGHT
        return ret

    def _square_anchors(self) -> nn.Module:
        shapes = self.backbone.output_shape()
        strides = [shapes[f].stride for f in self.head_in_features]
        sizes = [[8 * stride] for stride in strides]
        return DefaultAnchorGenerator(sizes=sizes, aspect_ratios=[1.0], strides=strides, offset=0.0)

    def match_anchors(self, anchors: list[Boxes], gt_instances: list[Instances]):
        """Same interface as the parent's; positive by the statistics of the nearest anchors."""
        num_anchors_per_level = [len(x) for x in anchors]
        all_anchors = Boxes.cat(anchors).tensor  # (R, 4)
        gt_labels, matched_gt_boxes = [], []
        for gt_per_image in gt_instances:
            gt_boxes_i = gt_per_image.gt_boxes.tensor
            if len(gt_boxes_i) == 0:
                labels_i = torch.full_like(all_anchors[:, 0], self.num_classes, dtype=torch.int64)
                gt_labels.append(labels_i)
                matched_gt_boxes.append(torch.zeros_like(all_anchors))
                continue
            matched_idxs = atss_match(
                all_anchors, num_anchors_per_level, gt_boxes_i, topk=self.match_topk
            )
            gt_idxs = matched_idxs.clamp(min=0)
            gt_labels.append(
                torch.where(matched_idxs >= 0, gt_per_image.gt_classes[gt_idxs], self.num_classes)
            )
            matched_gt_boxes.append(gt_boxes_i[gt_idxs])
        return gt_labels, matched_gt_boxes

    def box_losses(
        self, predictions: LabelledPredictions, *others: list[Tensor]
    ) -> dict[str, BoxPart]:
        """Same interface as :meth:`DenseLosses.box_losses`: by centerness, if there is any."""
        if not self.has_centerness:
            return {"loss_box_reg": self.quality_weighted(predictions)}
        (pred_centerness,) = others
        targets = centerness_targets(predictions)
        loss_centerness = self.centerness_loss_weight * centerness_loss_sum(
            pred_centerness, targets, predictions.is_pos
        )
        return {
            "loss_box_reg": BoxPart(self.box_loss_sum(predictions, targets), targets.sum()),
            "loss_centerness": BoxPart(loss_centerness),
        }

    def _normalizer(self, totals: RankTotals) -> Tensor:
        return count_positives(totals)

    def forward_inference(
        self, images: ImageList, features: list[Tensor], predictions: list[list[Tensor]]
    ) -> list[Instances]:
        """Same interface as :meth:`RetinaNet.forward_inference`; centerness counts in the score."""
        logits, deltas, others = self.arrange(predictions)
        anchors = self.anchor_generator(features)
        by_level = [anchors, logits, deltas] + others[:1] * self.has_centerness
        results = []
        for i, image_size in enumerate(images.image_sizes):
            levels = [
                self._decode_level(image_size, anchors_l, *(x[i] for x in level))
                for anchors_l, *level in zip(*by_level, strict=True)
            ]
            results.append(self._suppress(clip_to_image(levels[0].cat(levels))))
        return results

    def _decode_level(
        self,
        image_size,
        anchors: Boxes,
        logits: Tensor,
        deltas: Tensor,
        centerness: Tensor | None = None,
    ) -> Instances:
        """Candidates of one level and image: chosen by class score, scored by score x centerness.

        Args:
            image_size: (H, W) in pixels.
            anchors: R_l boxes. logits: (R_l, K). deltas: (R_l, 4). centerness: (R_l, 1), if any.
        """
        scores, anchor_idxs, classes = self._top_candidates(logits.float().sigmoid())
        boxes = self.box2box_transform.apply_deltas(
            deltas[anchor_idxs], anchors.tensor[anchor_idxs]
        )
        if centerness is not None:
            scores = scores * centerness[anchor_idxs, 0].float().sigmoid()
        return Instances(image_size, pred_boxes=Boxes(boxes), scores=scores, pred_classes=classes)

    def _top_candidates(self, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of a level's class scores, (R_l, K), the best above the threshold.

        Returns:
            Scores, indices of anchors and classes, (C,) each.
        """
        candidates = torch.nonzero(scores > self.test_score_thresh)  # (C, 2)
        scores = scores[candidates[:, 0], candidates[:, 1]]
        num_topk = candidates.shape[0]
        if isinstance(num_topk, Tensor):  # while tracing
            num_topk = torch.clamp(num_topk, max=self.test_topk_candidates)
        else:
            num_topk = min(num_topk, self.test_topk_candidates)
        scores, order = scores.topk(num_topk)
        anchor_idxs, classes = candidates[order].unbind(dim=1)
        return scores, anchor_idxs, classes

    def _suppress(self, pred: Instances) -> Instances:
        keep = batched_nms(
            pred.pred_boxes.tensor, pred.scores, pred.pred_classes, self.test_nms_thresh
        )
        return pred[keep[: self.max_detections_per_image]]


@META_ARCH_REGISTRY.register()
class UMOPATSS(ATSS):
    """ATSS with the progressive focal loss and level-wise resampling of ``MODEL.UMOP``."""

    own_cls_loss = "progressive_focal"
    has_other_cls_losses = False
