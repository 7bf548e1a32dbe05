"""COCO's metrics, and precision, recall and F1 of the detections that a user would see."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.evaluation import COCOEvaluator


def build_coco_evaluator(cfg: CfgNode, dataset_name: str) -> COCOEvaluator:
    """The evaluator that ``TEST`` describes; detections go to ``OUTPUT_DIR/inference``."""
    folder = os.path.join(cfg.OUTPUT_DIR, "inference")
    point = cfg.TEST.OPERATING_POINT
    if not point.ENABLED:
        return COCOEvaluator(dataset_name, output_dir=folder)
    return OperatingPointEvaluator(
        dataset_name,
        output_dir=folder,
        score_thresh=point.SCORE_THRESH,
        iou_thresh=point.IOU_THRESH,
    )


class OperatingPointEvaluator(COCOEvaluator):
    """Same interface as :class:`detectron2.evaluation.COCOEvaluator`, with three metrics more.

    Args:
        score_thresh: detections below it do not count.
        iou_thresh: from which IoU on a detection is right; one of COCO's.
    """

    def __init__(self, *args, score_thresh: float = 0.5, iou_thresh: float = 0.5, **kwargs):
        super().__init__(*args, use_fast_impl=False, **kwargs)  # the fast one keeps no matches
        self._score_thresh = score_thresh
        self._iou_thresh = iou_thresh

    def _derive_coco_results(self, coco_eval, iou_type, class_names=None):
        results = super()._derive_coco_results(coco_eval, iou_type, class_names)
        if coco_eval is not None:
            point = operating_point(coco_eval, self._score_thresh, self._iou_thresh)
            suffix = f"@{self._score_thresh:g}"
            results.update({name + suffix: value for name, value in point.items()})
        return results


def operating_point(coco_eval: Any, score_thresh: float, iou_thresh: float) -> dict[str, float]:
    """Precision, recall and F1 in percent over all classes, at one score threshold.

    Args:
        coco_eval: a ``COCOeval`` after ``evaluate()``.
        score_thresh: detections below it do not count.
        iou_thresh: a detection is right at this IoU or above; one of ``coco_eval.params.iouThrs``.

    Returns:
        "precision", "recall" and "F1"; NaN where there is no detection, no object, or neither.
        Crowd regions and what falls on them count neither way, as in AP.

    Raises:
        ValueError: COCO has no such IoU threshold.
    """
    thresholds = np.asarray(coco_eval.params.iouThrs)
    found = np.flatnonzero(np.isclose(thresholds, iou_thresh))
    if len(found) == 0:
        raise ValueError(
            f"TEST.OPERATING_POINT.IOU_THRESH is {iou_thresh}, should be one of"
            f" {[round(float(t), 2) for t in thresholds]}"
        )
    matched = wrong = objects = 0
    for image in _of_all_areas(coco_eval):
        counts = np.asarray(image["dtScores"]) >= score_thresh
        counts = counts & ~np.asarray(image["dtIgnore"])[found[0]].astype(bool)
        is_matched = np.asarray(image["dtMatches"])[found[0]] > 0
        matched += int((counts & is_matched).sum())
        wrong += int((counts & ~is_matched).sum())
        objects += int((~np.asarray(image["gtIgnore"]).astype(bool)).sum())
    return {
        "precision": _percent(matched, matched + wrong),
        "recall": _percent(matched, objects),
        "F1": _percent(2 * matched, matched + wrong + objects),
    }


def _of_all_areas(coco_eval: Any) -> Sequence[dict[str, Any]]:
    """The per-image, per-class matches for objects of every size and COCO's largest limit."""
    everything = list(coco_eval.params.areaRng[0])
    images = [e for e in coco_eval.evalImgs if e is not None]
    return [e for e in images if list(e["aRng"]) == everything]


def _percent(part: int, whole: int) -> float:
    return 100.0 * part / whole if whole else float("nan")
