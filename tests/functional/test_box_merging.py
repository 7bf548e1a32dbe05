"""Soft-NMS and box voting, by hand arithmetic and by the loop of the paper in plain Python."""

import math

import pytest
import torch

from libra_umop.functional.boxes.box_merging import DECAYS, soft_nms, vote_boxes

# IoU of the first with the second 0.8, with the third 0.5, of the second with the third 0.625.
BOXES = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 5], [20, 20, 30, 30]])
SCORES = torch.tensor([0.9, 0.8, 0.6, 0.5])
ONE_CLASS = torch.zeros(4, dtype=torch.int64)


def iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    inter = width * height
    areas = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
    return inter / (sum(areas) - inter)


def naive(boxes, scores, decay, threshold, sigma, min_score):
    """One class, as in figure 2 of the paper."""
    left, kept = list(zip(boxes, scores, range(len(boxes)), strict=True)), []
    while left:
        best = max(left, key=lambda x: x[1])
        left.remove(best)
        kept.append((best[2], best[1]))
        overlaps = [iou(best[0], box) for box, _, _ in left]
        factors = [
            (1 - o if o >= threshold else 1) if decay == "linear" else math.exp(-(o**2) / sigma)
            for o in overlaps
        ]
        left = [(b, s * f, i) for (b, s, i), f in zip(left, factors, strict=True)]
    return [(i, s) for i, s in kept if s >= min_score]


def random_detections(num, num_classes):
    generator = torch.Generator().manual_seed(0)
    corners = 60 * torch.rand(num, 2, generator=generator)
    sides = 10 + 40 * torch.rand(num, 2, generator=generator)
    classes = torch.randint(0, num_classes, (num,), generator=generator)
    return (
        torch.cat((corners, corners + sides), dim=1),
        torch.rand(num, generator=generator),
        classes,
    )


def test_linear_decay_by_hand():
    idxs, scores = soft_nms(BOXES, SCORES, ONE_CLASS, decay="linear", iou_threshold=0.6)
    # 0.8 fades to 0.8 (1 - 0.8); 0.6 not by the first (IoU 0.5) and
    # not by the fourth (apart).
    assert idxs.tolist() == [0, 2, 3, 1]
    second = 0.8 * (1 - 0.8) * (1 - 0.625)  # by the first and by the third
    torch.testing.assert_close(scores, torch.tensor([0.9, 0.6, 0.5, second]))


def test_gaussian_decay_by_hand():
    idxs, scores = soft_nms(BOXES, SCORES, ONE_CLASS, decay="gaussian", sigma=0.5)
    third = 0.6 * math.exp(-(0.5**2) / 0.5)  # 0.364, ahead of the second
    second = 0.8 * math.exp(-(0.8**2) / 0.5) * math.exp(-(0.625**2) / 0.5)
    assert idxs.tolist() == [0, 3, 2, 1]
    torch.testing.assert_close(scores, torch.tensor([0.9, 0.5, third, second]))


@pytest.mark.parametrize("decay", DECAYS)
def test_classes_do_not_fade_each_other(decay):
    idxs, scores = soft_nms(BOXES, SCORES, torch.arange(4), decay=decay)
    assert idxs.tolist() == [0, 1, 2, 3] and torch.equal(scores, SCORES)


@pytest.mark.parametrize("decay", DECAYS)
def test_of_each_class_it_is_the_papers_loop_and_the_first_are_the_best_of_all(decay):
    boxes, scores, classes = random_detections(120, 4)
    expected = []
    for label in range(4):
        own = (classes == label).nonzero()[:, 0]
        kept = naive(boxes[own].tolist(), scores[own].tolist(), decay, 0.3, 0.5, 1e-3)
        expected += [(own[i].item(), s) for i, s in kept]
    expected.sort(key=lambda x: -x[1])
    numbers = {"decay": decay, "iou_threshold": 0.3, "sigma": 0.5}
    idxs, faded = soft_nms(boxes, scores, classes, max_detections=120, **numbers)
    assert idxs.tolist() == [i for i, _ in expected]
    torch.testing.assert_close(faded, torch.tensor([s for _, s in expected]))
    few, few_scores = soft_nms(boxes, scores, classes, max_detections=25, **numbers)
    assert few.tolist() == idxs[:25].tolist() and torch.equal(few_scores, faded[:25])


@pytest.mark.parametrize("decay", DECAYS)
def test_without_detections_there_are_none_and_the_arguments_stay(decay):
    idxs, scores = soft_nms(BOXES[:0], SCORES[:0], ONE_CLASS[:0], decay=decay)
    assert idxs.shape == scores.shape == (0,) and idxs.dtype == torch.int64
    before = SCORES.clone()
    soft_nms(BOXES, SCORES, ONE_CLASS, decay=decay)
    assert torch.equal(SCORES, before)


@pytest.mark.parametrize("numbers", [{"decay": "hard"}, {"sigma": 0.0}])
def test_what_is_out_of_range_is_refused(numbers):
    with pytest.raises(ValueError, match=next(iter(numbers))):
        soft_nms(BOXES, SCORES, ONE_CLASS, **numbers)


def test_boxes_vote_by_score_within_their_class_and_overlap():
    classes = torch.tensor([0, 0, 0, 1])
    voted = vote_boxes(BOXES[:1], classes[:1], BOXES, SCORES, classes, iou_threshold=0.75)
    height = (0.9 * 10 + 0.8 * 8) / (0.9 + 0.8)
    torch.testing.assert_close(voted, torch.tensor([[0.0, 0, 10, height]]))
    other_class = torch.ones(1, dtype=torch.int64)
    nobody = vote_boxes(BOXES[:1], other_class, BOXES, SCORES, classes, iou_threshold=0.75)
    assert torch.equal(nobody, BOXES[:1])


def test_of_no_boxes_none_votes():
    assert vote_boxes(BOXES[:0], ONE_CLASS[:0], BOXES, SCORES, ONE_CLASS).shape == (0, 4)
    kept = vote_boxes(BOXES[:1], ONE_CLASS[:1], BOXES[:0], SCORES[:0], ONE_CLASS[:0])
    assert torch.equal(kept, BOXES[:1])
