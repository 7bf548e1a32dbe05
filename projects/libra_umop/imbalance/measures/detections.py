"""Detections against ground truth: precision and recall, confusions, and images one by one.

Matching, precision-recall and the confusion matrix are faster-coco-eval's.
"""

import contextlib
import io
from typing import Any

import numpy as np

IOU = 0.5


def measure_detections(
    coco: dict[str, Any], detections: list[dict[str, Any]], *, min_score: float = 0.5
) -> dict[str, Any] | None:
    """Compare a run's detections with the ground truth at IoU 0.5.

    Args:
        coco: content of the COCO JSON file.
        detections: COCO result dicts; those of images that the file lacks are left out.
        min_score: from here on a detection counts in the confusion matrix and per image.

    Returns:
        ``curves`` [{name, recall, precision, scores, auc}] per class; ``confusion`` {labels,
        matrix}: rows are true classes, columns predicted ones, then "missed"; the last row holds
        what was detected where nothing is; ``images`` {image id: {tp, fp, fn, f1, matched}} with
        ids of matched detections; ``detections`` {image id: [...]} at or above ``min_score``.
        None without detections, or without an object that they could find.

    Raises:
        ModuleNotFoundError: faster-coco-eval is not installed.
    """
    known = {image["id"] for image in coco["images"]}
    detections = [d for d in detections if d["image_id"] in known and "bbox" in d]
    if not detections or all(a.get("iscrowd") for a in coco["annotations"]):
        return None
    from faster_coco_eval import COCO
    from faster_coco_eval.extra import Curves, PreviewResults

    def copies(items):
        return [dict(item) for item in items]

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO({**coco, "annotations": copies(coco["annotations"])})
        curves = Curves(truth, truth.loadRes(copies(detections)), iou_tresh=IOU, useCats=True)
        strong = copies(d for d in detections if d["score"] >= min_score)
        preview = PreviewResults(truth, truth.loadRes(strong), iou_tresh=IOU, useCats=False)
    names = {c["id"]: c["name"] for c in coco["categories"]}
    return {
        "curves": [
            {
                "name": names[curve["category_id"]],
                "recall": np.asarray(curve["recall_list"]).tolist(),
                "precision": np.asarray(curve["precision_list"]).tolist(),
                "auc": float(curve["auc"]),
            }
            for curve in curves.build_curve("category_id")
        ],
        "confusion": _confusion(preview, [names[k] for k in preview.cocoGt.cats]),
        "min_score": min_score,
        **_per_image(preview, coco, names),
    }


def _confusion(preview: Any, labels: list[str]) -> dict[str, Any]:
    """faster-coco-eval's matrix, its false positives moved to a row: they have no true class.

    It gives (K, K + 2), false positives and misses as columns.
    """
    matrix = np.asarray(preview.compute_confusion_matrix(), dtype=float)
    num_classes = len(labels)
    square = np.zeros((num_classes + 1, num_classes + 1))
    square[:num_classes, :num_classes] = matrix[:, :num_classes]
    square[num_classes, :num_classes] = matrix[:, num_classes]
    square[:num_classes, num_classes] = matrix[:, num_classes + 1]
    return {"labels": labels, "matrix": square.astype(int).tolist()}


def _per_image(preview: Any, coco: dict[str, Any], names: dict[int, str]) -> dict[str, Any]:
    """Hits and misses of every image, and its boxes to draw. A hit has the right class."""
    truth, found = preview.cocoGt.anns, preview.cocoDt.anns
    images: dict[Any, dict[str, Any]] = {
        image["id"]: {"tp": 0, "fp": 0, "fn": 0, "truth": [], "found": []}
        for image in coco["images"]
    }
    hit = set()
    for ann in found.values():
        match = truth.get(ann.get("gt_id"))
        is_hit = match is not None and match["category_id"] == ann["category_id"]
        if match is not None and match.get("iscrowd"):
            continue
        if is_hit:
            hit.add(match["id"])
        entry = images[ann["image_id"]]
        entry["tp" if is_hit else "fp"] += 1
        box = {"bbox": ann["bbox"], "name": names[ann["category_id"]], "score": ann["score"]}
        entry["found"].append({**box, "hit": is_hit})
    for key, ann in truth.items():
        if ann.get("iscrowd"):
            continue
        entry = images[ann["image_id"]]
        entry["fn"] += key not in hit
        box = {"bbox": ann["bbox"], "name": names[ann["category_id"]]}
        entry["truth"].append({**box, "hit": key in hit})
    for entry in images.values():
        total = 2 * entry["tp"] + entry["fp"] + entry["fn"]
        entry["f1"] = 2 * entry["tp"] / total if total else 1.0
    return {"images": images}


def choose_images(runs: list[dict[Any, dict[str, Any]]], number: int = 3) -> dict[str, list[Any]]:
    """The images to show, the same for all runs.

    Args:
        runs: ``images`` of :func:`measure_detections` for each run, over one data set.

    Returns:
        image ids: ``worst`` and ``best`` by F1 averaged over the runs (with objects, those with
        many boxes first among equals), and for several runs ``different``, where F1 differs most
        between the first and another.
    """
    shared = set.intersection(*(set(run) for run in runs))
    ids = [k for k in sorted(shared, key=str) if runs[0][k]["truth"]]
    mean = {k: float(np.mean([run[k]["f1"] for run in runs])) for k in ids}
    size = {k: len(runs[0][k]["truth"]) for k in ids}
    worst = sorted((k for k in ids if mean[k] < 1), key=lambda k: (mean[k], -size[k]))[:number]
    good = [k for k in ids if mean[k] > 0 and k not in worst]
    best = sorted(good, key=lambda k: (-mean[k], -size[k]))[:number]
    chosen = {"worst": worst, "best": best, "different": []}
    if len(runs) > 1:
        gap = {k: max(abs(run[k]["f1"] - runs[0][k]["f1"]) for run in runs[1:]) for k in ids}
        rest = [k for k in ids if gap[k] > 0 and k not in worst and k not in best]
        chosen["different"] = sorted(rest, key=lambda k: -gap[k])[:number]
    return chosen
