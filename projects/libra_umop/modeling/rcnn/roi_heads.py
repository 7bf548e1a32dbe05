"""ROI heads of Libra R-CNN: balanced samplers and the balanced L1 loss."""

import torch
from detectron2.config import configurable
from detectron2.layers import nonzero_tuple
from detectron2.modeling.proposal_generator.proposal_utils import add_ground_truth_to_proposals
from detectron2.modeling.roi_heads import (
    ROI_HEADS_REGISTRY,
    CascadeROIHeads,
    ROIHeads,
    StandardROIHeads,
)
from detectron2.structures import Instances
from detectron2.utils.events import get_event_storage
from torch import Tensor

from ..ignore_regions import drop_ignored
from .box_predictor import balance_box_loss
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

__all__ = ["LibraROIHeads", "LibraCascadeROIHeads"]


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
        matcher = self.proposal_matcher
        background = negatives_range(matcher.thresholds[1:-1], matcher.labels)
        negative_sampler.check(background)
        positive_sampler.check(background)

    @classmethod
    def from_config(cls, cfg, input_shape):
        ret = super().from_config(cfg, input_shape)
        keys = cfg.MODEL.ROI_HEADS
        ret["negative_sampler"] = build_sampler(NEGATIVE_SAMPLERS, keys.NEGATIVE_SAMPLER, cfg)
        ret["positive_sampler"] = build_sampler(POSITIVE_SAMPLERS, keys.POSITIVE_SAMPLER, cfg)
        ret["sparse_roi_align"] = keys.SPARSE_ROI_ALIGN
        return ret

    @torch.no_grad()
    def label_and_sample_proposals(
        self, proposals: list[Instances], targets: list[Instances]
    ) -> list[Instances]:
        """Same interface as :meth:`ROIHeads.label_and_sample_proposals`; by the samplers."""
        proposals = drop_ignored(proposals, targets)
        if self.proposal_append_gt:
            proposals = add_ground_truth_to_proposals(targets, proposals)
        sampled, num_fg, num_bg = [], 0, 0
        for proposals_i, targets_i in zip(proposals, targets, strict=True):
            matched = match_proposals(proposals_i, targets_i, self.proposal_matcher)
            fg_idxs, bg_idxs = self._sample(matched)
            sampled.append(self._with_targets(matched, fg_idxs, bg_idxs))
            num_fg += len(fg_idxs)
            num_bg += len(bg_idxs)

        storage = get_event_storage()
        storage.put_scalar("roi_head/num_fg_samples", num_fg / max(len(sampled), 1))
        storage.put_scalar("roi_head/num_bg_samples", num_bg / max(len(sampled), 1))
        return sampled

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
class LibraROIHeads(BalancedSampling, StandardROIHeads):
    """:class:`StandardROIHeads` with balanced samplers, and with the balanced L1 loss if asked for.

    That is where ``MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE`` is "balanced_l1".
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

    def _match_and_label_boxes(
        self, proposals: list[Instances], stage: int, targets: list[Instances]
    ) -> list[Instances]:
        """Same interface as the parent's; without the boxes in ignore regions."""
        return super()._match_and_label_boxes(drop_ignored(proposals, targets), stage, targets)
