"""How ROI heads draw the proposals that they learn from: samplers that a config can name.

Letters: M ground-truth boxes, R proposals of one image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from detectron2.modeling.matcher import Matcher
from detectron2.structures import Instances, pairwise_iou
from torch import Tensor

from ... import ranges
from ...functional.iou_balanced_sampling import (
    BIN_RANGES,
    sample_instance_balanced_positives,
    sample_iou_balanced_negatives,
)
from ...key import Key, declare
from ...ranges import OneOf

__all__ = [
    "NEGATIVE_SAMPLERS",
    "POSITIVE_SAMPLERS",
    "InstanceBalancedSampler",
    "IoUBalancedSampler",
    "MatchedProposals",
    "RandomSampler",
    "Sampler",
    "build_sampler",
    "match_proposals",
    "negatives_range",
    "register_sampler",
]


class MatchedProposals(NamedTuple):
    """What a sampler sees of an image.

    Attributes:
        proposals: R, with ``proposal_boxes`` (XYXY pixels) and, where a proposal generator made
            them, ``objectness_logits``.
        targets: M, with ``gt_boxes`` and ``gt_classes``.
        ious: of each proposal with the box that it is matched to, (R,) fp32; 0 without boxes.
        matched_idxs: that box, (R,) int64 in [0, M); 0 without boxes.
        labels: 1 for foreground, 0 for background, -1 for what is to be ignored, (R,).
        background: the IoUs between which the matcher calls a proposal background.
    """

    proposals: Instances
    targets: Instances
    ious: Tensor
    matched_idxs: Tensor
    labels: Tensor
    background: tuple[float, float]


class Sampler:
    """Draws some of an image's candidates. It keeps no state and draws from torch's generator."""

    @classmethod
    def from_config(cls, cfg) -> dict[str, Any]:
        """The constructor's arguments."""
        return {}

    def check(self, background: tuple[float, float]) -> None:
        """Refuse numbers that are out of range, or do not go with the IoUs of the background.

        Raises:
            ValueError: with the number and what it should be.
        """

    def __call__(self, matched: MatchedProposals, candidates: Tensor, num_samples: int) -> Tensor:
        """Draw from the candidates.

        Args:
            matched: the image, on any device.
            candidates: int64 indices of the proposals that may be drawn, all foreground or all
                background; there may be none.
            num_samples: how many to draw; >= 0.

        Returns:
            min(num_samples, len(candidates)) of ``candidates``, all different, in any order.
        """
        raise NotImplementedError


NEGATIVE_SAMPLERS: dict[str, type[Sampler]] = {}  # value of NEGATIVE_SAMPLER -> class
POSITIVE_SAMPLERS: dict[str, type[Sampler]] = {}
declare(
    "MODEL.ROI_HEADS",
    NEGATIVE_SAMPLER=Key(
        "iou_balanced",
        OneOf(NEGATIVE_SAMPLERS),
        'How LibraROIHeads draws negatives: "random" is Detectron2\'s way, "iou_balanced" Libra'
        " R-CNN's (section 3.1), or a name given to register_sampler.",
    ),
    POSITIVE_SAMPLER=Key(
        "instance_balanced",
        OneOf(POSITIVE_SAMPLERS),
        'How LibraROIHeads draws positives: "random", or "instance_balanced": as many of each'
        " ground-truth box (Libra R-CNN, section 3.1), or a name given to register_sampler.",
    ),
)


def register_sampler(name: str, *tables: dict[str, type[Sampler]]):
    """Make a :class:`Sampler` the ``name`` in NEGATIVE_SAMPLERS, POSITIVE_SAMPLERS or both."""

    def register(sampler: type[Sampler]) -> type[Sampler]:
        for table in tables:
            assert name not in table, f"a sampler is named {name!r} already"
            table[name] = sampler
        return sampler

    return register


def build_sampler(table: dict[str, type[Sampler]], name: str, cfg=None) -> Sampler:
    """The sampler of this name in ``table``, with its numbers of ``cfg`` or, by default, its own.

    Raises:
        ValueError: there is none.
    """
    if name not in table:
        key = "POSITIVE_SAMPLER" if table is POSITIVE_SAMPLERS else "NEGATIVE_SAMPLER"
        raise ValueError(f"MODEL.ROI_HEADS.{key} is {name!r}{OneOf(table).refusal(name)}")
    return table[name](**({} if cfg is None else table[name].from_config(cfg)))


@register_sampler("random", NEGATIVE_SAMPLERS, POSITIVE_SAMPLERS)
@dataclass(frozen=True)
class RandomSampler(Sampler):
    """As Detectron2's ``subsample_labels`` draws."""

    def __call__(self, matched: MatchedProposals, candidates: Tensor, num_samples: int) -> Tensor:
        """Same interface as :meth:`Sampler.__call__`: each with the same probability."""
        order = torch.randperm(len(candidates), device=candidates.device)
        return candidates[order[:num_samples]]


@register_sampler("instance_balanced", POSITIVE_SAMPLERS)
@dataclass(frozen=True)
class InstanceBalancedSampler(Sampler):
    """As many of each ground-truth box: :func:`sample_instance_balanced_positives`."""

    def __call__(self, matched: MatchedProposals, candidates: Tensor, num_samples: int) -> Tensor:
        """Same interface as :meth:`Sampler.__call__`: evenly over the boxes."""
        boxes = matched.matched_idxs[candidates]
        return candidates[sample_instance_balanced_positives(boxes, num_samples)]


declare(
    "MODEL.ROI_HEADS.IOU_BALANCED",
    NUM_BINS=Key(
        3, ranges.AT_LEAST_1, "K, the number of equal bins over the negatives' IoU range."
    ),
    FLOOR_IOU=Key(
        0.0,
        ranges.BELOW_1,
        "f, the IoU below which `FLOOR_FRACTION` of the negatives is drawn at random; it has to be"
        " below the background's threshold.",
    ),
    FLOOR_FRACTION=Key(
        0.0, ranges.FRACTION, "r, that fraction. Only if the bins run dry is more taken from there."
    ),
    BIN_RANGE=Key(
        "threshold",
        OneOf(BIN_RANGES),
        'Where the bins end: "threshold" (the paper: where `IOU_THRESHOLDS` and `IOU_LABELS`, or a'
        " cascade's first of `ROI_BOX_CASCADE_HEAD.IOUS`, end the background; they begin where it"
        ' begins) or "observed" (the reference code: at the largest IoU of all boxes, ground truth'
        " included: 1).",
    ),
)


@register_sampler("iou_balanced", NEGATIVE_SAMPLERS)
@dataclass(frozen=True, kw_only=True)
class IoUBalancedSampler(Sampler):
    """Evenly over the IoU: :func:`sample_iou_balanced_negatives`, whose arguments these are.

    The bins span what the matcher calls background. Without a box there is no IoU: at random.
    """

    num_bins: int = 3
    floor_iou: float = 0.0
    floor_fraction: float = 0.0
    bin_range: str = "threshold"

    @classmethod
    def from_config(cls, cfg) -> dict[str, Any]:
        """Same interface as :meth:`Sampler.from_config`: keys of ``IOU_BALANCED``."""
        keys = cfg.MODEL.ROI_HEADS.IOU_BALANCED
        return {
            "num_bins": keys.NUM_BINS,
            "floor_iou": keys.FLOOR_IOU,
            "floor_fraction": keys.FLOOR_FRACTION,
            "bin_range": keys.BIN_RANGE,
        }

    def __call__(self, matched: MatchedProposals, candidates: Tensor, num_samples: int) -> Tensor:
        """Same interface as :meth:`Sampler.__call__`: evenly over IoU, at random without a box."""
        if len(matched.targets) == 0:
            return RandomSampler()(matched, candidates, num_samples)
        ious = matched.ious[candidates]
        numbers = self._numbers(matched.background)
        return candidates[sample_iou_balanced_negatives(ious, num_samples, **numbers)]

    def check(self, background: tuple[float, float]) -> None:
        """Same interface as :meth:`Sampler.check`: bins below the background's end."""
        end = background[1]
        if self.bin_range == "threshold" and not self.floor_iou < end:
            raise ValueError(
                f"MODEL.ROI_HEADS.IOU_BALANCED.FLOOR_IOU is {self.floor_iou!r}, should be in"
                f" [0, {end}), below the end of the background"
            )
        sample_iou_balanced_negatives(torch.empty(0), 0, **self._numbers(background))

    def _numbers(self, background: tuple[float, float]) -> dict[str, Any]:
        start, end = background
        begin = start if self.bin_range == "threshold" else 0.0
        return {**vars(self), "floor_iou": max(self.floor_iou, begin), "max_iou": end}


def match_proposals(proposals: Instances, targets: Instances, matcher: Matcher) -> MatchedProposals:
    """What ``matcher`` makes of the R proposals and M ground-truth boxes of an image.

    Raises:
        ValueError: see :func:`negatives_range`.
    """
    match_quality = pairwise_iou(targets.gt_boxes, proposals.proposal_boxes)  # (M, R)
    matched_idxs, labels = matcher(match_quality)
    if len(targets) > 0:
        ious = match_quality.gather(0, matched_idxs[None])[0]
    else:
        ious = match_quality.new_zeros(len(proposals))
    background = negatives_range(matcher.thresholds[1:-1], matcher.labels)
    return MatchedProposals(proposals, targets, ious, matched_idxs, labels, background)


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
