"""The comparison that decides whether an exported file is kept."""

import pytest
import torch

from libra_umop.export.verify import compare, sample_image

BOXES = torch.tensor([[0.0, 0, 10, 10], [20, 20, 40, 50], [5, 5, 9, 30]])
SCORES = torch.tensor([0.9, 0.6, 0.3])
CLASSES = torch.tensor([0, 1, 1])


def agreement(boxes=BOXES, scores=SCORES, classes=CLASSES, **kwargs):
    return compare((BOXES, SCORES, CLASSES), (boxes, scores, classes), size=(60, 60), **kwargs)


def test_the_same_detections_agree():
    assert agreement() == ((60, 60), 3, 0.0, 0.0, 0)


@pytest.mark.filterwarnings("error")
def test_detections_that_a_gradient_would_flow_through_are_compared_without_a_warning():
    assert agreement(BOXES.clone().requires_grad_(), SCORES.clone().requires_grad_()) == agreement()


def test_their_order_is_free():
    order = torch.tensor([2, 0, 1])
    assert agreement(BOXES[order], SCORES[order], CLASSES[order]).num_unmatched == 0


def test_differences_within_the_tolerances_are_reported_and_match():
    result = agreement(BOXES + 0.06, SCORES - 5e-4)
    assert result.num_unmatched == 0
    assert result.box_error_px == pytest.approx(0.06, abs=1e-5)
    assert result.score_error == pytest.approx(5e-4, abs=1e-6)


@pytest.mark.parametrize(
    "boxes, scores, classes",
    [
        (BOXES + 0.2, SCORES, CLASSES),
        (BOXES, SCORES - 2e-3, CLASSES),
        (BOXES, SCORES, CLASSES + 1),
    ],
)
def test_larger_differences_match_nothing(boxes, scores, classes):
    assert agreement(boxes, scores, classes).num_unmatched == 6


def test_a_detection_that_one_side_lacks_is_unmatched():
    assert agreement(BOXES[:2], SCORES[:2], CLASSES[:2]).num_unmatched == 1


def test_a_detection_is_matched_once():
    twice = [0, 0, 1, 2]
    assert agreement(BOXES[twice], SCORES[twice], CLASSES[twice]).num_unmatched == 1


def test_at_the_threshold_a_detection_may_be_on_either_side():
    lacking = (BOXES[:2], SCORES[:2], CLASSES[:2])
    assert agreement(*lacking, score_threshold=0.2995).num_unmatched == 0
    assert agreement(*lacking, score_threshold=0.29).num_unmatched == 1


def test_at_the_cut_off_a_detection_may_be_on_either_side():
    scores = torch.tensor([0.9, 0.6, 0.3005])
    other = BOXES.clone()
    other[2] += 3
    assert agreement(other, scores, max_detections=3).num_unmatched == 0
    assert agreement(other, scores, max_detections=4).num_unmatched == 2


def test_no_detections_agree_with_none():
    none = (torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    assert compare(none, none, size=(8, 8)) == ((8, 8), 0, 0.0, 0.0, 0)
    assert agreement(*none).num_unmatched == 3


def test_sample_images_are_repeatable_pixels():
    image = sample_image((40, 70), seed=3)
    assert image.shape == (3, 40, 70) and torch.equal(image, sample_image((40, 70), seed=3))
    assert torch.equal(image, image.round()) and image.min() >= 0 and image.max() <= 255
    assert image.std() > 20
