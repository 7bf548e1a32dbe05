"""ATSS (https://arxiv.org/abs/1912.02424): one anchor per location, matched by statistics.

Letters: N images, R anchors of all L levels, K classes. Labels: [0, K) foreground, K background.
"""

from itertools import pairwise

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec, batched_nms
from detectron2.modeling import META_ARCH_REGISTRY, build_anchor_generator, build_backbone
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.modeling.meta_arch.fcos import FCOSHead
from detectron2.structures import Boxes, ImageList, Instances
from torch import Tensor, nn

from ...functional.atss_matching import atss_match, centerness_target
from .detector import BoxPart, DenseLosses
from .losses.box_loss import DenseBoxLoss, clip_to_image
from .losses.centerness import centerness_loss_sum
from .losses.classification import ClassificationLoss
from .losses.normalizers import RankTotals, count_positives
from .scalars import DeferredScalars

__all__ = ["ATSS", "ATSSHead", "UMOPATSS"]


class ATSSHead(FCOSHead):
    """FCOS's head with a learned factor for the box deltas of each level.

    As in the reference code, a convolution of the towers has no bias where a norm follows it.
    """

    def __init__(self, *, input_shape: list[ShapeSpec], **kwargs):
        """Args:
        kwargs: those of :class:`FCOSHead`.
        """
        super().__init__(input_shape=input_shape, **kwargs)
        self.scales = nn.ParameterList(nn.Parameter(torch.ones(())) for _ in input_shape)
        for tower in (self.cls_subnet, self.bbox_subnet):
            for layer, follower in pairwise(tower):
                if isinstance(layer, nn.Conv2d) and not isinstance(follower, nn.ReLU):
                    layer.bias = None

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Same interface as :meth:`FCOSHead.forward`."""
        logits, deltas, centerness = super().forward(features)
        scaled = _scaled if self.training else torch.mul
        return (
            logits,
            [scaled(x, scale) for x, scale in zip(deltas, self.scales, strict=True)],
            centerness,
        )


def _scaled(x: Tensor, scale: Tensor) -> Tensor:
    """``x * scale``, but of an inf or NaN itself: no gradient comes to it where it is background,
    and 0 times it would be the NaN of all of ``scale``.
    """
    finite = x.isfinite()
    return torch.where(finite, x, 0) * scale + torch.where(finite, 0, x)


@META_ARCH_REGISTRY.register()
class ATSS(DenseLosses, DenseDetector):
    """RetinaNet whose positives are chosen by the statistics of each box's nearest anchors.

    Classification by focal loss, boxes by GIoU weighted with the centerness target, centerness by
    cross entropy; every normaliser is a mean over ranks.
    """

    keys = "ATSS"

    @configurable
    def __init__(
        self,
        *,
        backbone,
        head: nn.Module,
        head_in_features: list[str],
        anchor_generator: nn.Module,
        box2box_transform,
        num_classes: int,
        cls_loss: ClassificationLoss,
        match_topk: int = 9,
        box_reg_loss_weight: float = 2.0,
        centerness_loss_weight: float = 1.0,
        test_score_thresh: float = 0.05,
        test_topk_candidates: int = 1000,
        test_nms_thresh: float = 0.6,
        max_detections_per_image: int = 100,
        pixel_mean,
        pixel_std,
        input_format: str = "BGR",
    ):
        """Args:
        backbone, head, head_in_features, anchor_generator, box2box_transform, num_classes,
            pixel_mean, pixel_std, test_*, max_detections_per_image: as in
            :class:`detectron2.modeling.RetinaNet`; the head also predicts centerness, the
            score threshold is for the class score alone.
        cls_loss: the classification loss.
        match_topk: candidate anchors per box and level.
        box_reg_loss_weight, centerness_loss_weight: factors of the losses, >= 0.
        """
        super().__init__(
            backbone, head, head_in_features, pixel_mean=pixel_mean, pixel_std=pixel_std
        )
        if not (box_reg_loss_weight >= 0 and centerness_loss_weight >= 0):
            raise ValueError(
                "MODEL.ATSS.BBOX_REG_LOSS_WEIGHT and CENTERNESS_LOSS_WEIGHT must be >= 0, got "
                f"{box_reg_loss_weight} and {centerness_loss_weight}"
            )
        if match_topk < 1:
            raise ValueError(f"MODEL.ATSS.MATCH_TOPK must be >= 1, got {match_topk}")
        self.num_classes = num_classes
        self.anchor_generator = anchor_generator
        self.box2box_transform = box2box_transform
        self.match_topk = match_topk
        self.cls_loss = cls_loss
        self.box_loss = DenseBoxLoss(loss_type="giou")
        self.box_reg_loss_weight = box_reg_loss_weight
        self.centerness_loss_weight = centerness_loss_weight
        self.test_score_thresh = test_score_thresh
        self.test_topk_candidates = test_topk_candidates
        self.test_nms_thresh = test_nms_thresh
        self.max_detections_per_image = max_detections_per_image
        self.input_format = input_format
        self._scalars = DeferredScalars()

    @classmethod
    def from_config(cls, cfg):
        backbone = build_backbone(cfg)
        node = cfg.MODEL.ATSS
        feature_shapes = [backbone.output_shape()[f] for f in node.IN_FEATURES]
        anchor_generator = build_anchor_generator(cfg, feature_shapes)
        if set(anchor_generator.num_anchors) != {1}:
            raise ValueError(
                "ATSS has one anchor per location, MODEL.ANCHOR_GENERATOR gives "
                f"{anchor_generator.num_anchors}"
            )
        head = ATSSHead(
            input_shape=feature_shapes,
            num_classes=node.NUM_CLASSES,
            conv_dims=[feature_shapes[0].channels] * node.NUM_CONVS,
            norm=node.NORM,
            prior_prob=node.PRIOR_PROB,
        )
        return {
            "backbone": backbone,
            "head": head,
            "head_in_features": node.IN_FEATURES,
            "anchor_generator": anchor_generator,
            "box2box_transform": Box2BoxTransform(weights=node.BBOX_REG_WEIGHTS),
            "num_classes": node.NUM_CLASSES,
            "cls_loss": cls.build_cls_loss(cfg),
            "match_topk": node.MATCH_TOPK,
            "box_reg_loss_weight": node.BBOX_REG_LOSS_WEIGHT,
            "centerness_loss_weight": node.CENTERNESS_LOSS_WEIGHT,
            "test_score_thresh": node.SCORE_THRESH_TEST,
            "test_topk_candidates": node.TOPK_CANDIDATES_TEST,
            "test_nms_thresh": node.NMS_THRESH_TEST,
            "max_detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "input_format": cfg.INPUT.FORMAT,
        }

    def forward_training(self, images, features, predictions, gt_instances):
        """Same interface as :meth:`RetinaNet.forward_training`."""
        pred_logits, pred_anchor_deltas, pred_centerness = self._transpose_dense_predictions(
            predictions, [self.num_classes, 4, 1]
        )
        anchors = self.anchor_generator(features)
        gt_labels, gt_boxes = self.label_anchors(anchors, gt_instances)
        return self.losses(
            anchors, pred_logits, gt_labels, pred_anchor_deltas, gt_boxes, pred_centerness
        )

    @torch.no_grad()
    def label_anchors(self, anchors: list[Boxes], gt_instances: list[Instances]):
        """Same interface as :meth:`RetinaNet.label_anchors`; no anchor is ignored."""
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

    def losses(
        self,
        anchors: list[Boxes],
        pred_logits: list[Tensor],
        gt_labels: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        gt_boxes: list[Tensor],
        pred_centerness: list[Tensor],
    ) -> dict[str, Tensor]:
        """Same interface as :meth:`FCOS.losses`.

        Returns:
            "loss_cls", "loss_box_reg" and "loss_centerness".
        """
        predictions = self.label_predictions(
            anchors, pred_logits, gt_labels, pred_anchor_deltas, gt_boxes
        )
        targets = centerness_target(predictions.anchors, predictions.gt_boxes)
        targets = torch.where(predictions.is_pos, targets, 0.0)  # (N, R)
        loss_box_reg = self.box_loss_sum(predictions, targets)
        loss_centerness = self.centerness_loss_weight * centerness_loss_sum(
            pred_centerness, targets, predictions.is_pos
        )
        parts = {
            "loss_box_reg": BoxPart(loss_box_reg, targets.sum()),
            "loss_centerness": BoxPart(loss_centerness),
        }
        return self.finish_losses(predictions, "loss_cls", parts)

    def _normalizer(self, totals: RankTotals) -> Tensor:
        return count_positives(totals)

    def forward_inference(
        self, images: ImageList, features: list[Tensor], predictions: list[list[Tensor]]
    ) -> list[Instances]:
        """Same interface as :meth:`RetinaNet.forward_inference`."""
        pred_logits, pred_anchor_deltas, pred_centerness = self._transpose_dense_predictions(
            predictions, [self.num_classes, 4, 1]
        )
        anchors = self.anchor_generator(features)
        results = []
        for i, image_size in enumerate(images.image_sizes):
            levels = [
                self._decode_level(anchors_l, logits[i], deltas[i], centerness[i], image_size)
                for anchors_l, logits, deltas, centerness in zip(
                    anchors, pred_logits, pred_anchor_deltas, pred_centerness, strict=True
                )
            ]
            results.append(self._suppress(clip_to_image(levels[0].cat(levels))))
        return results

    def _decode_level(
        self, anchors: Boxes, logits: Tensor, deltas: Tensor, centerness: Tensor, image_size
    ) -> Instances:
        """Candidates of one level and image: chosen by class score, scored by score x centerness.

        Args:
            anchors: R_l boxes. logits: (R_l, K). deltas: (R_l, 4). centerness: (R_l, 1).
        """
        scores = logits.float().sigmoid()
        candidates = torch.nonzero(scores > self.test_score_thresh)  # (C, 2)
        scores = scores[candidates[:, 0], candidates[:, 1]]
        num_topk = candidates.shape[0]
        if isinstance(num_topk, Tensor):  # while tracing
            num_topk = torch.clamp(num_topk, max=self.test_topk_candidates)
        else:
            num_topk = min(num_topk, self.test_topk_candidates)
        scores, order = scores.topk(num_topk)
        anchor_idxs, classes = candidates[order].unbind(dim=1)
        boxes = self.box2box_transform.apply_deltas(
            deltas[anchor_idxs], anchors.tensor[anchor_idxs]
        )
        scores = scores * centerness[anchor_idxs, 0].float().sigmoid()
        return Instances(image_size, pred_boxes=Boxes(boxes), scores=scores, pred_classes=classes)

    def _suppress(self, pred: Instances) -> Instances:
        keep = batched_nms(
            pred.pred_boxes.tensor, pred.scores, pred.pred_classes, self.test_nms_thresh
        )
        return pred[keep[: self.max_detections_per_image]]


@META_ARCH_REGISTRY.register()
class UMOPATSS(ATSS):
    """ATSS with the progressive focal loss and level-wise resampling of ``MODEL.UMOP``."""

    own_cls_loss = "progressive_focal"
