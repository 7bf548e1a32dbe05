"""Suppression in a fixed number of picks is Detectron2's, cut at that number."""

import pytest
import torch
from detectron2.layers import batched_nms

from libra_umop.export.suppression import FILLING, pick_best, survivors

COUNT = 20


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.9])
def test_picks_are_those_of_batched_nms_cut_at_their_number(threshold):
    for seed in range(5):
        torch.manual_seed(seed)
        corners = torch.rand(200, 2) * 40
        boxes = torch.cat([corners, corners + torch.rand(200, 2) * 30], dim=1)
        scores, classes = torch.rand(200), torch.randint(3, (200,))
        picks, values = pick_best(boxes, scores, classes, threshold, COUNT)
        expected = batched_nms(boxes, scores, classes, threshold)[:COUNT]
        assert torch.equal(picks[: len(expected)], expected)
        assert torch.equal(values[: len(expected)], scores[expected])
        assert (values[len(expected) :] == FILLING).all()


def test_nothing_is_picked_twice_and_no_candidate_is_no_pick():
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 9], [20, 20, 20, 30]])
    scores, classes = torch.tensor([0.5, FILLING, 0.4]), torch.zeros(3, dtype=torch.int64)
    picks, values = pick_best(boxes, scores, classes, 0.5, 3)
    assert picks[:2].tolist() == [0, 2] and values.tolist() == [0.5, pytest.approx(0.4), FILLING]
    assert pick_best(boxes, scores, classes, 0.5, 1)[0].tolist() == [0]


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7])
def test_survivors_are_those_of_batched_nms(threshold):
    for seed in range(5):
        torch.manual_seed(seed)
        corners = torch.rand(2, 200, 2) * 40
        boxes = torch.cat([corners, corners + torch.rand(2, 200, 2) * 30], dim=2)
        boxes[:, ::7] *= 0  # without an area
        scores, one_class = torch.arange(200.0, 0, -1), torch.zeros(200)
        for image, kept in zip(boxes, survivors(boxes, threshold, rounds=200), strict=True):
            expected = batched_nms(image, scores, one_class, threshold)
            assert torch.equal(kept.nonzero()[:, 0], expected.sort().values)


def test_a_chain_of_boxes_needs_a_round_for_each():
    """Each overlaps the next alone, so every other one stays; too few rounds leave its end open."""
    left = torch.arange(30.0) * 6
    boxes = torch.stack([left, 0 * left, left + 10, 0 * left + 10], dim=1)[None]
    every_other = (torch.arange(30) % 2 == 0)[None]
    assert torch.equal(survivors(boxes, 0.2, rounds=30), every_other)
    assert not torch.equal(survivors(boxes, 0.2, rounds=10), every_other)
