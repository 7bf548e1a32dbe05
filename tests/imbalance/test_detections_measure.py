"""Detections against ground truth: cases whose answer is visible."""

import pytest

from libra_umop.imbalance.measures.detections import choose_images, measure_detections

pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is not installed (extra plots)")

CAT, DOG = 3, 8


def coco(*boxes):
    """Two images of 100 px; boxes (image, category, x, y, side[, iscrowd])."""
    annotations = []
    for i, (image, category, x, y, side, *crowd) in enumerate(boxes, start=1):
        annotations.append(
            {
                "id": i,
                "image_id": image,
                "category_id": category,
                "bbox": [x, y, side, side],
                "area": side * side,
                "iscrowd": crowd[0] if crowd else 0,
            }
        )
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 100, "height": 100} for i in (1, 2)]
    categories = [{"id": CAT, "name": "cat"}, {"id": DOG, "name": "dog"}]
    return {"images": images, "annotations": annotations, "categories": categories}


def found(image, category, x, y, side, score):
    return {"image_id": image, "category_id": category, "bbox": [x, y, side, side], "score": score}


TRUTH = coco((1, CAT, 0, 0, 20), (1, DOG, 50, 50, 30), (2, CAT, 10, 10, 40))


def test_perfect_detections():
    perfect = [
        found(1, CAT, 0, 0, 20, 0.9),
        found(1, DOG, 50, 50, 30, 0.8),
        found(2, CAT, 10, 10, 40, 0.7),
    ]
    measured = measure_detections(TRUTH, perfect)
    assert [c["name"] for c in measured["curves"]] == ["cat", "dog"]
    assert all(c["auc"] == pytest.approx(1) for c in measured["curves"])
    assert measured["confusion"]["matrix"] == [[2, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert [measured["images"][i]["f1"] for i in (1, 2)] == [1, 1]


def test_missed_confused_and_false_boxes():
    detections = [
        found(1, DOG, 0, 0, 20, 0.9),  # a cat called dog
        found(1, DOG, 70, 0, 20, 0.8),  # nothing there; the dog is missed
        found(2, CAT, 10, 10, 40, 0.7),
        found(2, CAT, 60, 60, 10, 0.2),  # too weak to count
    ]
    measured = measure_detections(TRUTH, detections)
    matrix = measured["confusion"]["matrix"]
    assert matrix == [[1, 1, 0], [0, 0, 1], [0, 1, 0]]  # rows true, columns found, last missed
    first = measured["images"][1]
    assert (first["tp"], first["fp"], first["fn"], first["f1"]) == (0, 2, 2, 0)
    assert [b["hit"] for b in measured["images"][2]["found"]] == [True]


def test_crowd_regions_are_neither_missed_nor_found():
    truth = coco((1, CAT, 0, 0, 20), (2, CAT, 0, 0, 90, 1))
    measured = measure_detections(truth, [found(1, CAT, 0, 0, 20, 0.9)])
    assert measured["images"][2]["fn"] == 0 and measured["images"][2]["truth"] == []


def test_detections_of_unknown_images_are_left_out():
    assert measure_detections(TRUTH, [found(77, CAT, 0, 0, 20, 0.9)]) is None
    assert measure_detections(TRUTH, []) is None


def test_inputs_are_unchanged():
    detections = [found(1, CAT, 0, 0, 20, 0.9)]
    before = [dict(d) for d in detections], [dict(a) for a in TRUTH["annotations"]]
    measure_detections(TRUTH, detections)
    assert before == (detections, TRUTH["annotations"])


def test_images_to_show_are_worst_best_and_most_different():
    def image(f1, boxes=1):
        return {"f1": f1, "truth": [{}] * boxes}

    a = {
        1: image(0.1),
        2: image(0.9),
        3: image(0.5),
        4: image(0.9, boxes=7),
        5: image(0.0, boxes=0),
    }
    b = {
        1: image(0.1),
        2: image(0.9),
        3: image(0.7),
        4: image(0.9, boxes=7),
        5: image(0.0, boxes=0),
    }
    assert choose_images([a, b], 1) == {"worst": [1], "best": [4], "different": [3]}
    assert choose_images([a], 1)["different"] == []
