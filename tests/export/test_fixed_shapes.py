"""Suppression in a fixed number of picks is Detectron2's, cut at that number."""

import pytest
import torch
from detectron2.layers import batched_nms

from libra_umop.export.fixed_shapes import FILLING, pick_best

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
