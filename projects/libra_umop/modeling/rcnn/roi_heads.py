"""ROI heads of Libra R-CNN: balanced samplers and the balanced L1 loss."""

from collections.abc import Sequence

import torch
from detectron2.config import configurable
from detectron2.layers import nonzero_tuple
from detectron2.modeling.proposal_generator.proposal_utils import add_ground_truth_to_proposals
from detectron2.modeling.roi_heads import ROI_HEADS_REGISTRY, CascadeROIHeads, StandardROIHeads
from detectron2.structures import Instances, pairwise_iou
from detectron2.utils.events import get_event_storage

from ...functional.iou_balanced_sampling import (
    sample_instance_balanced_positives,
    sample_iou_balanced_negatives,
)
from .box_predictor import balance_box_loss
from .poolers import use_sparse_roi_align

__all__ = ["LibraROIHeads", "LibraCascadeROIHeads"]

POSITIVE_SAMPLERS = ("random", "instance_balanced")
NEGATIVE_SAMPLERS = ("random", "iou_balanced")
# Of Libra R-CNN, section 3.1.
IOU_BALANCED = {"num_bins": 3, "floor_iou": 0.0, "floor_fraction": 0.0, "bin_range": "threshold"}


def _random_sample(candidates: torch.Tensor, num_samples: int) -> torch.Tensor:
    """As Detectron2's ``subsample_labels`` draws."""
    return torch.randperm(len(candidates), device=candidates.device)[:num_samples]


class BalancedSampling:
    """What the Libra heads share: an ROIHeads whose samplers see the IoU of every proposal and the
    ground-truth box that it is matched to. With both samplers "random", and without the sparse
    ROIAlign, it is its parent.
    """

    @configurable
    def __init__(
        self,
        *,
        negative_sampler: str = "iou_balanced",
        positive_sampler: str = "instance_balanced",
        iou_balanced: dict | None = None,
        sparse_roi_align: bool = True,
        **kwargs,
    ):
        """Args:
            negative_sampler: "random" or "iou_balanced".
            positive_sampler: "random" or "instance_balanced".
            iou_balanced: num_bins, floor_iou, floor_fraction and bin_range of
                :func:`sample_iou_balanced_negatives`; those left out are the paper's.
            sparse_roi_align: whether to train on a CPU with :class:`SparseROIAlign`.
            kwargs: of the parent.

        Raises:
            ValueError: a sampler that does not exist, or a number of ``iou_balanced`` out of range.
        """
        super().__init__(**kwargs)
        _check_choice("NEGATIVE_SAMPLER", negative_sampler, NEGATIVE_SAMPLERS)
        _check_choice("POSITIVE_SAMPLER", positive_sampler, POSITIVE_SAMPLERS)
        self.negative_sampler = negative_sampler
        self.positive_sampler = positive_sampler
        if sparse_roi_align:
            use_sparse_roi_align(self)
        iou_balanced = {**IOU_BALANCED, **(iou_balanced or {})}
        matcher = self.proposal_matcher
        start, end = negatives_range(matcher.thresholds[1:-1], matcher.labels)
        self.iou_balanced = dict(iou_balanced, max_iou=end)
        if iou_balanced["bin_range"] == "threshold":
            self.iou_balanced["floor_iou"] = max(iou_balanced["floor_iou"], start)
        sample_iou_balanced_negatives(torch.empty(0), 0, **self.iou_balanced)  # are they in range?

    @classmethod
    def from_config(cls, cfg, input_shape):
        ret = super().from_config(cfg, input_shape)
        bins = cfg.MODEL.ROI_HEADS.IOU_BALANCED
        ret["negative_sampler"] = cfg.MODEL.ROI_HEADS.NEGATIVE_SAMPLER
        ret["positive_sampler"] = cfg.MODEL.ROI_HEADS.POSITIVE_SAMPLER
        ret["iou_balanced"] = {
            "num_bins": bins.NUM_BINS,
            "floor_iou": bins.FLOOR_IOU,
            "floor_fraction": bins.FLOOR_FRACTION,
            "bin_range": bins.BIN_RANGE,
        }
        ret["sparse_roi_align"] = cfg.MODEL.ROI_HEADS.SPARSE_ROI_ALIGN
        return ret

    @torch.no_grad()
    def label_and_sample_proposals(
        self, proposals: list[Instances], targets: list[Instances]
    ) -> list[Instances]:
        """Same interface as :meth:`ROIHeads.label_and_sample_proposals`."""
        if self.proposal_append_gt:
            proposals = add_ground_truth_to_proposals(targets, proposals)
        sampled, num_fg, num_bg = [], 0, 0
        for proposals_i, targets_i in zip(proposals, targets, strict=True):
            match_quality = pairwise_iou(targets_i.gt_boxes, proposals_i.proposal_boxes)
            matched_idxs, matched_labels = self.proposal_matcher(match_quality)
            fg_idxs, bg_idxs = self._sample(match_quality, matched_idxs, matched_labels)
            sampled.append(
                self._with_targets(proposals_i, targets_i, matched_idxs, fg_idxs, bg_idxs)
            )
            num_fg += len(fg_idxs)
            num_bg += len(bg_idxs)

        storage = get_event_storage()
        storage.put_scalar("roi_head/num_fg_samples", num_fg / max(len(sampled), 1))
        storage.put_scalar("roi_head/num_bg_samples", num_bg / max(len(sampled), 1))
        return sampled

    def _sample(
        self, match_quality: torch.Tensor, matched_idxs: torch.Tensor, matched_labels: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Args:
            match_quality: IoU of M ground-truth boxes and R proposals, (M, R).
            matched_idxs: the ground-truth box of each proposal, (R,), in [0, M).
            matched_labels: 1 for foreground, 0 for background, -1 for ignored, (R,).

        Returns:
            Indices of the sampled foreground and background proposals.
        """
        fg_idxs = nonzero_tuple(matched_labels == 1)[0]
        bg_idxs = nonzero_tuple(matched_labels == 0)[0]
        num_fg = min(len(fg_idxs), int(self.batch_size_per_image * self.positive_fraction))
        num_bg = self.batch_size_per_image - num_fg

        if self.positive_sampler == "random":
            fg = _random_sample(fg_idxs, num_fg)
        else:
            fg = sample_instance_balanced_positives(matched_idxs[fg_idxs], num_fg)
        if self.negative_sampler == "random" or len(match_quality) == 0:  # no box, no IoU
            bg = _random_sample(bg_idxs, num_bg)
        else:
            ious = match_quality.gather(0, matched_idxs[None])[0, bg_idxs]
            bg = sample_iou_balanced_negatives(ious, num_bg, **self.iou_balanced)
        return fg_idxs[fg], bg_idxs[bg]

    def _with_targets(
        self,
        proposals_i: Instances,
        targets_i: Instances,
        matched_idxs: torch.Tensor,
        fg_idxs: torch.Tensor,
        bg_idxs: torch.Tensor,
    ) -> Instances:
        """The sampled proposals of one image with the gt_* fields of what they are matched to."""
        sampled_idxs = torch.cat([fg_idxs, bg_idxs])
        sampled = proposals_i[sampled_idxs]
        gt_classes = sampled_idxs.new_full(sampled_idxs.shape, self.num_classes)
        if len(targets_i) > 0:
            gt_idxs = matched_idxs[sampled_idxs]
            gt_classes[: len(fg_idxs)] = targets_i.gt_classes[gt_idxs[: len(fg_idxs)]]
            for name, value in targets_i.get_fields().items():
                if name.startswith("gt_") and name != "gt_classes" and not sampled.has(name):
                    sampled.set(name, value[gt_idxs])
        sampled.gt_classes = gt_classes
        return sampled


def _check_choice(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"MODEL.ROI_HEADS.{key} is {value!r}, not one of {allowed}")


def negatives_range(thresholds: Sequence[float], labels: Sequence[int]) -> tuple[float, float]:
    """Where the IoUs of background begin and end.

    Args:
        thresholds, labels: as of :class:`Matcher`; label i is for the IoUs below threshold i and
            from threshold i - 1 on.

    Raises:
        ValueError: there is not one label more than thresholds, no interval is background (0), or
            the last one is.
    """
    ends = [0.0, *thresholds, float("inf")]
    background = [i for i, label in enumerate(labels) if label == 0]
    if len(labels) != len(ends) - 1 or not background or background[-1] == len(labels) - 1:
        raise ValueError(
            f"MODEL.ROI_HEADS.IOU_LABELS is {list(labels)}, should be one more than IOU_THRESHOLDS"
            f" {list(thresholds)} and call an interval of them background (0), not the last one"
        )
    return ends[background[0]], ends[background[-1] + 1]


@ROI_HEADS_REGISTRY.register()
class LibraROIHeads(BalancedSampling, StandardROIHeads):
    """:class:`StandardROIHeads` with balanced samplers, and with the balanced L1 loss where
    ``MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE`` is "balanced_l1".
    """

    @classmethod
    def _init_box_head(cls, cfg, input_shape):
        ret = super()._init_box_head(cfg, input_shape)
        ret["box_predictor"] = balance_box_loss(cfg, ret["box_predictor"], ret["box_head"])
        return ret


@ROI_HEADS_REGISTRY.register()
class LibraCascadeROIHeads(BalancedSampling, CascadeROIHeads):
    """:class:`CascadeROIHeads` with balanced samplers at its first stage.

    The first stage is the only one that samples. The balanced L1 loss is used at every stage where
    ``MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE`` is "balanced_l1".
    """

    @classmethod
    def _init_box_head(cls, cfg, input_shape):
        ret = super()._init_box_head(cfg, input_shape)
        ret["box_predictors"] = [
            balance_box_loss(cfg, predictor, box_head)
            for predictor, box_head in zip(ret["box_predictors"], ret["box_heads"], strict=True)
        ]
        return ret
