"""Samplers that a config can name. Oracles: the functions they stand for, and visible answers."""

from dataclasses import dataclass

import pytest
import torch
from detectron2.modeling.matcher import Matcher
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from libra_umop.config.loading import load_config
from libra_umop.errors import ConfigError
from libra_umop.functional import (
    sample_instance_balanced_positives,
    sample_iou_balanced_negatives,
)
from libra_umop.modeling.rcnn.samplers import (
    NEGATIVE_SAMPLERS,
    POSITIVE_SAMPLERS,
    IoUBalancedSampler,
    Sampler,
    build_sampler,
    match_proposals,
    register_sampler,
)
from testing.tiny_rcnn import tiny_config, tiny_model

MATCHER = Matcher([0.1, 0.5], [-1, 0, 1])
LIBRA = {
    "faster_rcnn_R_50_FPN_1x": "LibraROIHeads",
    "cascade_rcnn_R_50_FPN_1x": "LibraCascadeROIHeads",
}
EVERY = [(t, name) for t in (NEGATIVE_SAMPLERS, POSITIVE_SAMPLERS) for name in t]


def random_boxes(num, generator):
    corner = torch.rand(num, 2, generator=generator) * 60
    return torch.cat([corner, corner + 20 + torch.rand(num, 2, generator=generator) * 20], dim=1)


def an_image(num_boxes=3, num_proposals=200, seed=0):
    """Proposals of which many lie near a box, and scores that rise with their index."""
    generator = torch.Generator().manual_seed(seed)
    targets = Instances((100, 100), gt_boxes=Boxes(random_boxes(num_boxes, generator)))
    targets.gt_classes = torch.arange(num_boxes) % 3
    boxes = random_boxes(num_proposals, generator)
    if num_boxes:
        near = targets.gt_boxes.tensor.repeat(num_proposals, 1)[:num_proposals]
        boxes = torch.where(torch.rand(num_proposals, 1, generator=generator) < 0.5, near, boxes)
        boxes += torch.randn(num_proposals, 4, generator=generator) * 3
    proposals = Instances((100, 100), proposal_boxes=Boxes(boxes))
    proposals.objectness_logits = torch.arange(float(num_proposals))
    return proposals, targets


@pytest.mark.parametrize("num_boxes", [0, 1, 3])
@pytest.mark.parametrize("table, name", EVERY)
def test_every_sampler_draws_different_candidates_as_many_as_there_are(table, name, num_boxes):
    matched = match_proposals(*an_image(num_boxes), MATCHER)
    sampler = build_sampler(table, name, load_config(""))
    for label in (-1, 0, 1):
        candidates = (matched.labels == label).nonzero()[:, 0]
        for num_samples in (0, 1, 20, 1000):
            drawn = sampler(matched, candidates, num_samples)
            assert len(drawn) == min(num_samples, len(candidates)) == len(set(drawn.tolist()))
            assert set(drawn.tolist()) <= set(candidates.tolist())


@pytest.mark.parametrize("seed", range(5))
def test_the_balanced_samplers_are_the_functions_to_the_last_index(seed):
    matched = match_proposals(*an_image(seed=seed), MATCHER)
    positives, negatives = ((matched.labels == label).nonzero()[:, 0] for label in (1, 0))
    numbers = {"num_bins": 4, "floor_iou": 0.2, "floor_fraction": 0.25}
    draws = [
        (
            lambda: POSITIVE_SAMPLERS["instance_balanced"]()(matched, positives, 8),
            lambda: positives[
                sample_instance_balanced_positives(matched.matched_idxs[positives], 8)
            ],
        ),
        (
            lambda: IoUBalancedSampler(**numbers)(matched, negatives, 24),
            lambda: negatives[
                sample_iou_balanced_negatives(matched.ious[negatives], 24, max_iou=0.5, **numbers)
            ],
        ),
        (
            lambda: NEGATIVE_SAMPLERS["random"]()(matched, negatives, 24),
            lambda: negatives[torch.randperm(len(negatives))[:24]],
        ),
    ]
    for ours, oracle in draws:
        results = []
        for draw in (ours, oracle):
            torch.manual_seed(seed)
            results.append((draw(), torch.get_rng_state()))
        assert all(torch.equal(*pair) for pair in zip(*results, strict=True))


def test_what_a_sampler_sees_is_what_the_matcher_says():
    proposals, targets = an_image()
    matched = match_proposals(proposals, targets, MATCHER)
    assert matched.background == (0.1, 0.5)
    labels = torch.bucketize(matched.ious, torch.tensor([0.1, 0.5]), right=True) - 1
    assert torch.equal(matched.labels.long(), labels)
    without = match_proposals(*an_image(0), MATCHER)
    assert (without.ious == 0).all() and (without.matched_idxs == 0).all()


@pytest.mark.parametrize("name", LIBRA)
def test_a_sampler_of_ones_own_sees_scores_and_classes_and_is_named_by_a_key(name, monkeypatch):
    @dataclass(frozen=True)
    class Surest(Sampler):
        """Those of the highest score: false alarms."""

        def __call__(self, matched, candidates, num_samples):
            scores = matched.proposals.objectness_logits[candidates]
            return candidates[scores.argsort(descending=True)[:num_samples]]

    @dataclass(frozen=True)
    class RareFirst(Sampler):
        """Those of class 2 first."""

        def __call__(self, matched, candidates, num_samples):
            classes = matched.targets.gt_classes[matched.matched_idxs[candidates]]
            return candidates[(classes != 2).long().argsort(stable=True)[:num_samples]]

    monkeypatch.setitem(NEGATIVE_SAMPLERS, "surest", Surest)
    monkeypatch.setitem(POSITIVE_SAMPLERS, "rare", RareFirst)
    names = ["MODEL.ROI_HEADS.NEGATIVE_SAMPLER", "surest", "MODEL.ROI_HEADS.POSITIVE_SAMPLER"]
    options = ["MODEL.ROI_HEADS.NAME", LIBRA[name], *names, "rare"]
    load_config("", [*names, "rare"])  # the key knows them, too
    head = tiny_model(tiny_config(name, options)).roi_heads
    proposals, targets = an_image()
    with EventStorage():
        (sampled,) = head.label_and_sample_proposals([proposals], [targets])
    num_fg = int((sampled.gt_classes < 3).sum())
    assert 0 < num_fg < len(sampled)
    assert (sampled.gt_classes[:num_fg] == 2).all()
    matched = match_proposals(proposals, targets, head.proposal_matcher)
    surest = (matched.labels == 0).nonzero()[:, 0].flip(0)[: len(sampled) - num_fg]
    assert torch.equal(sampled.objectness_logits[num_fg:], proposals.objectness_logits[surest])


def test_a_name_that_no_sampler_has_is_refused_with_those_that_there_are():
    with pytest.raises(ConfigError, match=r"should be one of iou_balanced, .*; did you mean iou_b"):
        load_config("", ["MODEL.ROI_HEADS.NEGATIVE_SAMPLER", "iou_balance"])
    with pytest.raises(ValueError, match=r"POSITIVE_SAMPLER is 'iou', should be one of instance"):
        build_sampler(POSITIVE_SAMPLERS, "iou")
    with pytest.raises(AssertionError, match="'random' already"):
        register_sampler("random", NEGATIVE_SAMPLERS)(Sampler)
