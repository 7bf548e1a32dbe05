"""The probe of two-stage detectors: which negatives the ROI heads learn from, and box errors."""

from typing import Any

import torch
import torch.nn.functional as F
from detectron2.structures import pairwise_iou
from torch import nn

from ...modeling.ignore_regions import drop_ignored
from .probes import BoxErrors, Probe, iou_histogram


class ROIHeadsProbe(Probe):
    """Negatives' IoU and box errors of any :class:`detectron2.modeling.ROIHeads`.

    Hard negatives are looked for among all candidates: the first box head scores some of them,
    evenly spread over the RPN's ranking, once more without gradient. A head without a
    ``box_pooler`` (C4) is only asked about those it was trained on.

    Args:
        model: as in :class:`Probe`; it has ``roi_heads``.
        num_probed: negatives scored per image; 0 asks only about those trained on.
        hard_fraction: part of the scored negatives, by loss, that is called hard; (0, 1].
    """

    def __init__(self, model: nn.Module, *, num_probed: int = 32, hard_fraction: float = 0.1):
        super().__init__(model)
        self.num_probed = num_probed
        self.hard_fraction = hard_fraction
        predictors = self.model.roi_heads.box_predictor
        self.is_cascade = isinstance(predictors, nn.ModuleList)
        self.predictors = list(predictors) if self.is_cascade else [predictors]
        self._targets: list[Any] = []
        self._negatives: list[Any] = []  # per image: boxes, IoU (both of negatives)
        self._sample: dict[str, Any] = {}
        self._errors: dict[str, BoxErrors] = {}

    def attach(self) -> None:
        """Listen to the sampling, the losses of each stage, and the scores."""
        self.wrap(self.model.roi_heads, "label_and_sample_proposals", self._listen_sampling)
        for stage, predictor in enumerate(self.predictors):
            self._wrap_losses(stage, predictor)
        if self.num_probed > 0 and hasattr(self.model.roi_heads, "box_pooler"):
            self.hook(self.model.roi_heads, self._listen_heads)

    def _wrap_losses(self, stage: int, predictor: nn.Module) -> None:
        head = f"roi_heads_stage{stage}" if self.is_cascade else "roi_heads"

        def listen(result, *, predictions, proposals):
            self._add_errors(head, predictor, predictions[1], proposals)
            if stage == 0:
                self._add_picked(predictor, predictions[0], proposals)

        self.wrap(predictor, "losses", listen)

    def _listen_sampling(self, result, *, proposals, targets) -> None:
        """All candidates: the proposals before the sampler, ground truth left out."""
        self._targets = targets
        self._negatives = []
        candidates = drop_ignored(proposals, targets)
        for proposals_i, targets_i in zip(candidates, targets, strict=True):
            boxes = proposals_i.proposal_boxes
            quality = pairwise_iou(targets_i.gt_boxes, boxes)  # (M, R)
            _, labels = self.model.roi_heads.proposal_matcher(quality)
            is_negative = labels == 0
            self._negatives.append((boxes[is_negative], largest(quality)[is_negative]))
        self._sample["all"] = sum(iou_histogram(ious) for _, ious in self._negatives)

    def _add_picked(self, predictor, scores, proposals) -> None:
        """The negatives that the loss is taken over, and what random ones would be on average."""
        background = predictor.num_classes
        picked: Any = 0
        random: Any = 0
        ious = []
        for proposals_i, targets_i, (_, candidates) in zip(
            proposals, self._targets, self._negatives, strict=True
        ):
            quality = pairwise_iou(targets_i.gt_boxes, proposals_i.proposal_boxes)
            is_negative = proposals_i.gt_classes == background
            ious.append(largest(quality))
            picked = picked + iou_histogram(ious[-1][is_negative])
            every = iou_histogram(candidates)
            random = random + every / every.sum().clamp(min=1) * is_negative.sum()
        self._sample.update(picked=picked, random=random)
        if "hard" not in self._sample:
            is_negative = torch.cat([p.gt_classes for p in proposals]) == background
            self._add_hard(predictor, scores[is_negative], torch.cat(ious)[is_negative], "picked")

    def _listen_heads(self, roi_heads, args, output) -> None:
        """Score some of all negatives once more, in evaluation mode, and keep the hardest."""
        if not self._negatives or len(args) < 2:
            return
        chosen = [spread(len(ious), self.num_probed, ious.device) for _, ious in self._negatives]
        boxes = [boxes[c] for (boxes, _), c in zip(self._negatives, chosen, strict=True)]
        ious = torch.cat([ious[c] for (_, ious), c in zip(self._negatives, chosen, strict=True)])
        if not len(ious):
            return
        head = roi_heads.box_head[0] if self.is_cascade else roi_heads.box_head
        modes = [(m, m.training) for m in head.modules()]
        head.eval()  # neither batch statistics nor dropout of the training may notice
        try:
            features = [args[1][name] for name in roi_heads.box_in_features]
            scores = self.predictors[0](head(roi_heads.box_pooler(features, boxes)))[0]
        finally:
            for module, mode in modes:
                module.training = mode
        self._add_hard(self.predictors[0], scores, ious, "all")

    def _add_hard(self, predictor, scores, ious, among: str) -> None:
        """Add the hardest by loss of the negatives: scores (R, K+1), overlaps (R,)."""
        if getattr(predictor, "use_sigmoid_ce", False):
            losses = F.softplus(scores[:, :-1].float()).sum(dim=1)
        else:
            losses = -F.log_softmax(scores.float(), dim=1)[:, -1]
        num_hard = max(int(self.hard_fraction * len(losses)), min(len(losses), 1))
        self._sample["hard"] = iou_histogram(ious[losses.topk(num_hard).indices])
        self._sample["hard_among"] = among

    def _add_errors(self, head: str, predictor, deltas, proposals) -> None:
        """Box errors of the positives, for class-wise (R, 4K) or class-agnostic (R, 4) deltas."""
        classes = torch.cat([p.gt_classes for p in proposals])
        keep = ((classes >= 0) & (classes < predictor.num_classes)).nonzero()[:, 0]  # (P,)
        anchors = torch.cat([p.proposal_boxes.tensor for p in proposals])[keep]
        boxes = [(p.gt_boxes if p.has("gt_boxes") else p.proposal_boxes).tensor for p in proposals]
        targets = predictor.box2box_transform.get_deltas(anchors, torch.cat(boxes)[keep])
        dim = targets.shape[1]
        column = torch.zeros_like(keep) if deltas.shape[1] == dim else classes[keep]

        def select(x):
            return x.view(len(x), -1, dim)[keep, column]  # (P, 4)

        errors = self._errors[head] = BoxErrors()
        bins = errors.add(select(deltas) - targets)
        self.on_gradient(deltas, lambda g: errors.add_gradient(bins, select(g)))

    def sections(self) -> dict[str, Any]:
        """What was counted: "sample" and "objective", each where there was something."""
        found: dict[str, Any] = {}
        if all(kind in self._sample for kind in ("all", "random", "picked", "hard")):
            found["sample"] = {
                k: v.tolist() if torch.is_tensor(v) else v for k, v in self._sample.items()
            }
        objective = {head: errors.section() for head, errors in self._errors.items()}
        objective = {head: section for head, section in objective.items() if section}
        return {**found, **({"objective": objective} if objective else {})}


def largest(quality: torch.Tensor) -> torch.Tensor:
    """Each box's largest overlap, (R,), of (M, R); zeros where there is no ground truth."""
    if quality.shape[0] == 0:
        return quality.new_zeros(quality.shape[1])
    return quality.max(dim=0).values


def spread(count: int, number: int, device: torch.device) -> torch.Tensor:
    """At most ``number`` indices, evenly over ``count``; no random numbers are used up."""
    if count <= number:
        return torch.arange(count, device=device)
    return torch.arange(number, device=device) * count // number
