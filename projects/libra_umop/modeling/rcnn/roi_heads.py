"""ROI heads of Libra R-CNN: balanced samplers and the balanced L1 loss."""

import torch
from detectron2.config import configurable
from detectron2.layers import ShapeSpec, nonzero_tuple
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.proposal_generator.proposal_utils import add_ground_truth_to_proposals
from detectron2.modeling.roi_heads import (
    ROI_HEADS_REGISTRY,
    CascadeROIHeads,
    Res5ROIHeads,
    ROIHeads,
)
from detectron2.structures import Instances
from detectron2.utils.events import get_event_storage
from torch import Tensor

from ..ignore_regions import drop_ignored
from .box_predictor import BalancedBoxHead, balance_losses
from .poolers import use_sparse_roi_align
from .samplers import (
    NEGATIVE_SAMPLERS,
    POSITIVE_SAMPLERS,
    MatchedProposals,
    Sampler,
    build_sampler,
    match_proposals,
    negatives_range,
)

__all__ = ["LibraCascadeROIHeads", "LibraROIHeads", "LibraRes5ROIHeads"]


class BalancedSampling(ROIHeads):
    """Mixin that the Libra heads share: ROIHeads with a sampler of negatives and one of positives.

    Samplers see the IoU of every proposal and the ground-truth box that it is matched to. With both
    "random", and without the sparse ROIAlign, the heads are their parents.

    Args:
        negative_sampler: a sampler, or the name of one in NEGATIVE_SAMPLERS with its defaults.
        positive_sampler: the same of POSITIVE_SAMPLERS.
        sparse_roi_align: whether to train on a CPU with :class:`SparseROIAlign`.
        kwargs: of the parent.

    Raises:
        ValueError: a sampler that does not exist, or a number of one is out of range.
    """

    @configurable
    def __init__(
        self,
        *,
        negative_sampler: Sampler | str = "iou_balanced",
        positive_sampler: Sampler | str = "instance_balanced",
        sparse_roi_align: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if isinstance(negative_sampler, str):
            negative_sampler = build_sampler(NEGATIVE_SAMPLERS, negative_sampler)
        if isinstance(positive_sampler, str):
            positive_sampler = build_sampler(POSITIVE_SAMPLERS, positive_sampler)
        self.negative_sampler = negative_sampler
        self.positive_sampler = positive_sampler
        if sparse_roi_align:
            use_sparse_roi_align(self)
        self._check_samplers(self.proposal_matcher)

    @classmethod
    def from_config(cls, cfg, input_shape):
        ret = super().from_config(cfg, input_shape)
        keys = cfg.MODEL.ROI_HEADS
        ret["negative_sampler"] = build_sampler(NEGATIVE_SAMPLERS, keys.NEGATIVE_SAMPLER, cfg)
        ret["positive_sampler"] = build_sampler(POSITIVE_SAMPLERS, keys.POSITIVE_SAMPLER, cfg)
        ret["sparse_roi_align"] = keys.SPARSE_ROI_ALIGN
        return ret

    def _check_samplers(self, matcher: Matcher) -> None:
        """Refuse numbers that do not go with the IoUs that ``matcher`` calls background."""
        background = negatives_range(matcher.thresholds[1:-1], matcher.labels)
        self.negative_sampler.check(background)
        self.positive_sampler.check(background)

    @torch.no_grad()
    def label_and_sample_proposals(
        self, proposals: list[Instances], targets: list[Instances]
    ) -> list[Instances]:
        """Same interface as :meth:`ROIHeads.label_and_sample_proposals`; by the samplers."""
        proposals = drop_ignored(proposals, targets)
        if self.proposal_append_gt:
            proposals = add_ground_truth_to_proposals(targets, proposals)
        sampled, num_fg, num_bg = self._label_and_sample(proposals, targets, self.proposal_matcher)
        storage = get_event_storage()
        storage.put_scalar("roi_head/num_fg_samples", num_fg)
        storage.put_scalar("roi_head/num_bg_samples", num_bg)
        return sampled

    def _label_and_sample(
        self, proposals: list[Instances], targets: list[Instances], matcher: Matcher
    ) -> tuple[list[Instances], float, float]:
        """What the samplers draw, and how many are foreground and background per image."""
        sampled, num_fg, num_bg = [], 0, 0
        for proposals_i, targets_i in zip(proposals, targets, strict=True):
            matched = match_proposals(proposals_i, targets_i, matcher)
            fg_idxs, bg_idxs = self._sample(matched)
            sampled.append(self._with_targets(matched, fg_idxs, bg_idxs))
            num_fg += len(fg_idxs)
            num_bg += len(bg_idxs)
        num_images = max(len(sampled), 1)
        return sampled, num_fg / num_images, num_bg / num_images

    def _sample(self, matched: MatchedProposals) -> tuple[Tensor, Tensor]:
        """Indices of the sampled foreground and background proposals of one image."""
        fg_idxs = nonzero_tuple(matched.labels == 1)[0]
        bg_idxs = nonzero_tuple(matched.labels == 0)[0]
        num_fg = min(len(fg_idxs), int(self.batch_size_per_image * self.positive_fraction))
        num_bg = self.batch_size_per_image - num_fg
        fg_idxs = self.positive_sampler(matched, fg_idxs, num_fg)
        return fg_idxs, self.negative_sampler(matched, bg_idxs, num_bg)

    def _with_targets(
        self, matched: MatchedProposals, fg_idxs: Tensor, bg_idxs: Tensor
    ) -> Instances:
        """The sampled proposals of one image with the gt_* fields of what they are matched to."""
        targets = matched.targets
        sampled_idxs = torch.cat([fg_idxs, bg_idxs])
        sampled = matched.proposals[sampled_idxs]
        gt_classes = sampled_idxs.new_full(sampled_idxs.shape, self.num_classes)
        if len(targets) > 0:
            gt_idxs = matched.matched_idxs[sampled_idxs]
            gt_classes[: len(fg_idxs)] = targets.gt_classes[gt_idxs[: len(fg_idxs)]]
            for name, value in targets.get_fields().items():
                if name.startswith("gt_") and name != "gt_classes" and not sampled.has(name):
                    sampled.set(name, value[gt_idxs])
        sampled.gt_classes = gt_classes
        return sampled


@ROI_HEADS_REGISTRY.register()
class LibraROIHeads(BalancedSampling, BalancedBoxHead):
    """:class:`StandardROIHeads` with balanced samplers, and with the balanced L1 loss if asked for.

    That is where ``MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE`` is "balanced_l1".
    """


@ROI_HEADS_REGISTRY.register()
class LibraCascadeROIHeads(BalancedSampling, CascadeROIHeads):
    """:class:`CascadeROIHeads` with balanced samplers at its first stage, or at all of them.

    The balanced L1 loss is used at every stage where ``MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE`` is
    "balanced_l1".

    Args:
        sample_every_stage: as the reference code of Cascade R-CNN samples: later stages draw, too,
            from the boxes of the stage before and the ground truth, by their own matchers; without
            it they learn from all of these boxes, as in Detectron2.
        kwargs: of :class:`BalancedSampling` and :class:`CascadeROIHeads`.

    Raises:
        ValueError: as of :class:`BalancedSampling`, for the background of any stage that samples.
    """

    @configurable
    def __init__(self, *, sample_every_stage: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.sample_every_stage = sample_every_stage
        for matcher in self.proposal_matchers if sample_every_stage else ():
            self._check_samplers(matcher)

    @classmethod
    def from_config(cls, cfg, input_shape):
        """Same interface as the parent's; reads ``SAMPLE_EVERY_STAGE``, too."""
        ret = super().from_config(cfg, input_shape)
        ret["sample_every_stage"] = cfg.MODEL.ROI_BOX_CASCADE_HEAD.SAMPLE_EVERY_STAGE
        return ret

    @classmethod
    def _init_box_head(cls, cfg, input_shape):
        ret = super()._init_box_head(cfg, input_shape)
        ret["box_predictors"] = [
            balance_losses(cfg, predictor, box_head.output_shape)
            for predictor, box_head in zip(ret["box_predictors"], ret["box_heads"], strict=True)
        ]
        return ret

    def _match_and_label_boxes(
        self, proposals: list[Instances], stage: int, targets: list[Instances]
    ) -> list[Instances]:
        """Same interface as the parent's; without the boxes in ignore regions, or sampled."""
        proposals = drop_ignored(proposals, targets)
        if not self.sample_every_stage:
            return super()._match_and_label_boxes(proposals, stage, targets)
        targets = [_boxes_only(x) for x in targets]
        if self.proposal_append_gt:
            proposals = [_append_boxes(*x) for x in zip(proposals, targets, strict=True)]
        matcher = self.proposal_matchers[stage]
        sampled, num_fg, num_bg = self._label_and_sample(proposals, targets, matcher)
        storage = get_event_storage()
        storage.put_scalar(f"stage{stage}/roi_head/num_fg_samples", num_fg)
        storage.put_scalar(f"stage{stage}/roi_head/num_bg_samples", num_bg)
        return sampled


def _append_boxes(proposals: Instances, targets: Instances) -> Instances:
    """The proposals of a later stage, which are boxes alone, and the ground truth."""
    objects = Instances(targets.image_size, proposal_boxes=targets.gt_boxes)
    return Instances.cat([proposals, objects])


def _boxes_only(targets: Instances) -> Instances:
    """The ground truth without masks and keypoints, which the later stages do not ask for."""
    boxes = targets[:]
    for name in set(boxes.get_fields()) - {"gt_boxes", "gt_classes"}:
        boxes.remove(name)
    return boxes


@ROI_HEADS_REGISTRY.register()
class LibraRes5ROIHeads(BalancedSampling, Res5ROIHeads):
    """:class:`Res5ROIHeads`, of C4 models, with balanced samplers and the losses asked for.

    DC5 models have the heads of :class:`LibraROIHeads`.
    """

    @classmethod
    def from_config(cls, cfg, input_shape):
        """Same interface as the parent's; with the losses that a config names."""
        ret = super().from_config(cfg, input_shape)
        predictor = ret["box_predictor"]
        shape = ShapeSpec(channels=predictor.cls_score.in_features, height=1, width=1)
        ret["box_predictor"] = balance_losses(cfg, predictor, shape)
        return ret
