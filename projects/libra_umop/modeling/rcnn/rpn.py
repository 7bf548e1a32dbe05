"""The region proposal network with the two changes that Libra R-CNN's code offers for it."""

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.layers import cat, nonzero_tuple
from detectron2.modeling import PROPOSAL_GENERATOR_REGISTRY
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.sampling import subsample_labels
from detectron2.structures import Boxes, Instances, pairwise_iou
from detectron2.utils.events import get_event_storage
from detectron2.utils.memory import retry_if_cuda_oom
from torch import Tensor

from ...functional.boxes.balanced_l1_loss import balanced_l1_loss
from ..balanced_l1 import balanced_l1_arguments
from ..ignore_regions import is_ignored

__all__ = ["LibraRPN"]


@PROPOSAL_GENERATOR_REGISTRY.register()
class LibraRPN(RPN):
    """:class:`RPN` with a limit on the negatives for each positive, and the balanced L1 loss.

    The latter where ``MODEL.RPN.BBOX_REG_LOSS_TYPE`` is "balanced_l1". With neither it is its
    parent.

    Under a limit an image seldom has the ``batch_size_per_image`` anchors that its parent divides
    the losses by, so they are divided by the anchors used, as in the released code.

    Args:
        neg_pos_ratio: largest number of negatives for each positive; no limit if <= 0.
        balanced_l1: alpha, gamma and formula of :func:`balanced_l1_loss`, by default its own;
            ``smooth_l1_beta`` is its transition point.
        kwargs: of :class:`RPN`.

    Raises:
        ValueError: the loss is balanced L1 and ``smooth_l1_beta`` is not positive.
    """

    @configurable
    def __init__(self, *, neg_pos_ratio: float = -1.0, balanced_l1: dict | None = None, **kwargs):
        super().__init__(**kwargs)
        if self.box_reg_loss_type == "balanced_l1" and self.smooth_l1_beta <= 0:
            raise ValueError(
                f"MODEL.RPN.SMOOTH_L1_BETA is {self.smooth_l1_beta}, should be > 0 for balanced L1,"
                " whose transition point it is"
            )
        self.neg_pos_ratio = neg_pos_ratio
        self.balanced_l1 = dict(balanced_l1 or {}, beta=self.smooth_l1_beta)

    @classmethod
    def from_config(cls, cfg, input_shape):
        """Same interface as the parent's; reads this project's keys, too."""
        ret = super().from_config(cfg, input_shape)
        ret["neg_pos_ratio"] = cfg.MODEL.RPN.NEG_POS_RATIO
        ret["balanced_l1"] = balanced_l1_arguments(cfg)
        return ret

    @torch.jit.unused
    @torch.no_grad()
    def label_and_sample_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Same interface as the parent's, but draws no anchor in an ignore region."""
        labels, gt_boxes = [], []
        for targets_i in gt_instances:
            ignored = is_ignored(Boxes.cat(anchors), targets_i)
            if ignored is None:
                (labels_i,), (gt_boxes_i,) = super().label_and_sample_anchors(anchors, [targets_i])
            else:
                labels_i, gt_boxes_i = self._label_and_sample(
                    Boxes.cat(anchors), targets_i, ignored
                )
            labels.append(labels_i)
            gt_boxes.append(gt_boxes_i)
        return labels, gt_boxes

    @torch.jit.unused
    def _label_and_sample(
        self, anchors: Boxes, targets: Instances, ignored: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What the parent does with an image, but (R,) ``ignored`` anchors are no candidates.

        They are matched: without them a box in a region would make the best of the others positive,
        however little it overlaps.
        """
        match_quality = retry_if_cuda_oom(pairwise_iou)(targets.gt_boxes, anchors)  # (M, R)
        matched_idxs, labels = retry_if_cuda_oom(self.anchor_matcher)(match_quality)
        labels = labels.to(ignored.device)
        if self.anchor_boundary_thresh >= 0:
            labels[~anchors.inside_box(targets.image_size, self.anchor_boundary_thresh)] = -1
        labels.masked_fill_(ignored, -1)
        labels = self._subsample_labels(labels)
        if len(targets) == 0:
            return labels, torch.zeros_like(anchors.tensor)
        return labels, targets.gt_boxes[matched_idxs].tensor

    def _subsample_labels(self, label: Tensor) -> Tensor:
        """Same interface as :meth:`RPN._subsample_labels`.

        An image without a positive counts as one with one, so that it still teaches what background
        is.
        """
        if self.neg_pos_ratio <= 0:
            return super()._subsample_labels(label)
        pos_idxs, neg_idxs = subsample_labels(
            label, self.batch_size_per_image, self.positive_fraction, 0
        )
        neg_idxs = neg_idxs[: int(self.neg_pos_ratio * max(len(pos_idxs), 1))]  # drawn at random
        label.fill_(-1)
        label[pos_idxs] = 1
        label[neg_idxs] = 0
        return label

    @torch.jit.unused
    def losses(
        self,
        anchors: list[Boxes],
        pred_objectness_logits: list[Tensor],
        gt_labels: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        gt_boxes: list[Tensor],
    ) -> dict[str, Tensor]:
        """Same interface as :meth:`RPN.losses`; divided by the anchors used under a limit."""
        if self.box_reg_loss_type == "balanced_l1":
            losses = self._balanced_l1_losses(
                Boxes.cat(anchors).tensor,
                cat(pred_objectness_logits, dim=1),
                torch.stack(gt_labels),
                cat(pred_anchor_deltas, dim=1),
                torch.stack(gt_boxes),
            )
        else:
            losses = super().losses(
                anchors, pred_objectness_logits, gt_labels, pred_anchor_deltas, gt_boxes
            )
        if self.neg_pos_ratio <= 0:
            return losses
        num_used = (torch.stack(gt_labels) >= 0).sum().clamp(min=1)
        scale = self.batch_size_per_image * len(gt_labels) / num_used
        return {name: loss * scale for name, loss in losses.items()}

    @torch.jit.unused
    def _balanced_l1_losses(
        self, anchors: Tensor, logits: Tensor, labels: Tensor, deltas: Tensor, gt_boxes: Tensor
    ) -> dict[str, Tensor]:
        """:meth:`RPN.losses` with the balanced L1 loss in the place of the smooth one.

        Args:
            anchors: (R, 4) XYXY pixels, of all levels.
            logits: (N, R). labels: (N, R), 1 positive, 0 negative, -1 not used.
            deltas: (N, R, 4), predicted.
            gt_boxes: (N, R, 4) XYXY pixels, matched.
        """
        image_idxs, anchor_idxs = nonzero_tuple(labels == 1)
        used = nonzero_tuple(labels >= 0)
        gt_deltas = self.box2box_transform.get_deltas(
            anchors[anchor_idxs], gt_boxes[image_idxs, anchor_idxs]
        )
        loss_loc = balanced_l1_loss(
            deltas[image_idxs, anchor_idxs], gt_deltas, reduction="sum", **self.balanced_l1
        )
        loss_cls = F.binary_cross_entropy_with_logits(
            logits[used], labels[used].float(), reduction="sum"
        )

        num_images, num_pos, num_used = len(labels), len(image_idxs), len(used[0])
        storage = get_event_storage()
        storage.put_scalar("rpn/num_pos_anchors", num_pos / num_images)
        storage.put_scalar("rpn/num_neg_anchors", (num_used - num_pos) / num_images)
        normalizer = self.batch_size_per_image * num_images
        return {
            "loss_rpn_cls": loss_cls / normalizer * self.loss_weight.get("loss_rpn_cls", 1.0),
            "loss_rpn_loc": loss_loc / normalizer * self.loss_weight.get("loss_rpn_loc", 1.0),
        }
