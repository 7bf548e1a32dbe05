"""The sheet shows each image twice, with what is annotated and with what was found."""

import cv2
import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, BoxMode, Instances

from libra_umop.inference.contact_sheet import contact_sheet


@pytest.fixture
def record(tmp_path):
    file_name = str(tmp_path / "image.png")
    cv2.imwrite(file_name, np.full((60, 100, 3), 128, dtype=np.uint8))
    box = {"bbox": [10, 10, 50, 40], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0}
    return {"file_name": file_name, "height": 60, "width": 100, "annotations": [box]}


def find_nothing(image):
    return Instances(
        image.shape[:2],
        pred_boxes=Boxes(torch.zeros(0, 4)),
        scores=torch.zeros(0),
        pred_classes=torch.zeros(0, dtype=torch.int64),
    )


def test_only_the_tile_that_has_a_box_shows_one(record):
    sheet = contact_sheet([record], find_nothing, ["cell"], tile_px=100)
    left, right = np.split(sheet[40:], 2, axis=1)  # below the captions

    def coloured(tile):
        return (np.ptp(tile.astype(int), axis=2) > 30).sum()

    assert coloured(left) > 50 and coloured(right) == 0


def test_empty_list_and_unreadable_image_are_named(record):
    with pytest.raises(ValueError, match="no image"):
        contact_sheet([], lambda image: None, ["cell"])
    with pytest.raises(ValueError, match="gone.png"):
        contact_sheet([{**record, "file_name": "gone.png"}], lambda image: None, ["cell"])


@pytest.mark.parametrize("num_classes", [3, 80])
def test_the_legend_has_the_classes_of_the_sheet_and_no_colour_twice(record, num_classes):
    names = [f"a class with a long name {i}" for i in range(num_classes)]
    boxes = [
        {"bbox": [i, i % 50, i + 5, i % 50 + 9], "bbox_mode": BoxMode.XYXY_ABS, "category_id": i}
        for i in range(0, num_classes, 2)
    ]
    sheet = contact_sheet([{**record, "annotations": boxes}], find_nothing, names)
    assert sheet.shape[1] < 700  # a pair is narrow, so the classes need many lines
    colours, counts = np.unique(sheet.reshape(-1, 3), axis=0, return_counts=True)
    squares = {tuple(c.tolist()) for c, n in zip(colours, counts, strict=True) if n >= 17 * 17}
    assert len({c for c in squares if max(c) - min(c) > 30}) == len(boxes)


def test_a_portrait_is_no_taller_than_a_landscape_is_wide(tmp_path):
    cv2.imwrite(str(tmp_path / "tall.png"), np.zeros((900, 30, 3), dtype=np.uint8))
    record = {"file_name": str(tmp_path / "tall.png"), "annotations": []}
    sheet = contact_sheet([record], find_nothing, ["cell"], tile_px=100)
    assert sheet.shape[0] < 200
