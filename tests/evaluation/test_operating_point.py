"""Precision, recall and F1 at a score threshold, counted by hand."""

import math

import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from libra_umop.evaluation.coco import operating_point


def evaluated(detections, annotations):
    """A COCOeval of one image of two classes; boxes are (x, y, w, h)."""
    coco = COCO()
    coco.dataset = {
        "info": {},
        "images": [{"id": 1, "width": 100, "height": 100}],
        "categories": [{"id": 1}, {"id": 2}],
        "annotations": [
            {
                "id": i + 1,
                "image_id": 1,
                "category_id": c,
                "bbox": b,
                "area": b[2] * b[3],
                "iscrowd": crowd,
            }
            for i, (c, b, crowd) in enumerate(annotations)
        ],
    }
    coco.createIndex()
    results = coco.loadRes(
        [{"image_id": 1, "category_id": c, "bbox": b, "score": s} for c, b, s in detections]
    )
    coco_eval = COCOeval(coco, results, "bbox")
    coco_eval.evaluate()
    coco_eval.accumulate()
    return coco_eval


A, B, FAR = [0, 0, 10, 10], [40, 40, 20, 20], [80, 80, 10, 10]
OBJECTS = [(1, A, 0), (1, B, 0), (2, A, 0), (2, FAR, 1)]
DETECTIONS = [(1, A, 0.9), (1, FAR, 0.8), (1, B, 0.3), (2, A, 0.6), (2, FAR, 0.7)]


@pytest.mark.parametrize(
    "score_thresh, right, wrong",
    [(0.5, 2, 1), (0.2, 3, 1), (0.85, 1, 0)],  # the crowd region's detection counts neither way
)
def test_counts_are_those_made_by_hand(score_thresh, right, wrong):
    point = operating_point(evaluated(DETECTIONS, OBJECTS), score_thresh, 0.5)
    precision, recall = right / (right + wrong), right / 3
    assert point["precision"] == pytest.approx(100 * precision)
    assert point["recall"] == pytest.approx(100 * recall)
    assert point["F1"] == pytest.approx(100 * 2 * precision * recall / (precision + recall))


def test_iou_threshold_decides_what_is_right():
    shifted = evaluated([(1, [0, 0, 10, 7], 0.9)], [(1, A, 0)])  # IoU 0.7
    assert operating_point(shifted, 0.5, 0.7)["precision"] == 100
    assert operating_point(shifted, 0.5, 0.75)["precision"] == 0


def test_without_detections_above_the_threshold_precision_is_nan_and_recall_zero():
    point = operating_point(evaluated(DETECTIONS, OBJECTS), 0.95, 0.5)
    assert math.isnan(point["precision"]) and point["recall"] == 0 and point["F1"] == 0


def test_iou_threshold_that_coco_does_not_have_is_refused():
    with pytest.raises(ValueError, match="IOU_THRESH is 0.52, should be one of"):
        operating_point(evaluated(DETECTIONS, OBJECTS), 0.5, 0.52)
