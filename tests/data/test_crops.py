"""Crops: they show the object they are placed at, and cut polygons to the pixel."""

import sys

import cv2
import numpy as np
import pytest
from detectron2.data import transforms as T
from detectron2.data.detection_utils import polygons_to_bitmask

from libra_umop.data.augmentation.crops import (
    Crop,
    RandomCrop,
    clip_polygon,
    offset_to_show,
)

SQUARE = np.array([[10, 10], [30, 10], [30, 30], [10, 30]], dtype=np.float64)
# A comb of three teeth that hang on a bar: of its lower part three pieces remain.
COMB = np.array(
    [[0, 0], [50, 0], [50, 40], [40, 40], [40, 10], [30, 10], [30, 40], [20, 40], [20, 10]]
    + [[10, 10], [10, 40], [0, 40]],
    dtype=np.float64,
)


def area(points):
    x, y = points.T
    return abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2


@pytest.mark.parametrize(
    "polygon, window, wanted",
    [
        (SQUARE, (0, 0, 50, 50), 400),
        (SQUARE, (20, 0, 50, 50), 200),
        (SQUARE, (20, 20, 50, 50), 100),
        (SQUARE, (15, 12, 25, 22), 100),  # all of the window
        (SQUARE, (30, 0, 50, 50), 0),  # it only touches
        (SQUARE, (31, 31, 50, 50), 0),
        (COMB, (0, 20, 50, 60), 3 * 10 * 20),
        (COMB, (5, 5, 45, 30), 40 * 5 + 5 * 20 + 10 * 20 + 5 * 20),
    ],
)
def test_what_is_left_of_a_polygon_has_the_area_made_by_hand(polygon, window, wanted):
    left = clip_polygon(polygon, window)
    assert (area(left) if len(left) else 0) == pytest.approx(wanted)
    assert (left >= np.array(window[:2])).all() and (left <= np.array(window[2:])).all()


@pytest.mark.parametrize("seed", range(20))
def test_a_cropped_polygon_is_its_mask_cropped(seed):
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 12))
    radii = rng.uniform(10, 45, 12)[:, None]
    star = 50 + radii * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    x0, y0 = rng.integers(0, 60, 2)
    crop = Crop(int(x0), int(y0), 40, 35)
    whole = polygons_to_bitmask([star.reshape(-1)], 100, 100)
    wanted = whole[y0 : y0 + 35, x0 : x0 + 40]
    left = [p.reshape(-1) for p in crop.apply_polygons([star])]
    got = polygons_to_bitmask(left, 35, 40)
    # Pixels that the outline goes through may fall on either side of it; no others.
    wanted, got, square = wanted.astype(np.uint8), got.astype(np.uint8), np.ones((3, 3), np.uint8)
    assert (got <= cv2.dilate(wanted, square)).all() and (got >= cv2.erode(wanted, square)).all()


def test_polygons_are_cut_without_shapely(monkeypatch):
    monkeypatch.setitem(sys.modules, "shapely", None)
    crop = RandomCrop("absolute", (20, 20)).get_transform(np.zeros((40, 40, 3), dtype=np.uint8))
    assert crop.apply_polygons([SQUARE - 5])[0].max() <= 20


@pytest.mark.parametrize("seed", range(30))
def test_a_crop_placed_at_an_object_shows_all_of_it(seed):
    np.random.seed(seed)
    image = np.zeros((1800, 2400, 3), dtype=np.uint8)
    boxes = np.array([[5.5, 3, 60, 40], [2300, 1700, 2399.5, 1800], [1000, 900, 1100, 1000]])
    crop = RandomCrop("absolute", (512, 512), object_prob=1.0).get_transform(image, boxes)
    assert 0 <= crop.x0 <= 2400 - 512 and 0 <= crop.y0 <= 1800 - 512
    inside = (boxes >= [crop.x0, crop.y0] * 2) & (boxes <= [crop.x0 + 512, crop.y0 + 512] * 2)
    assert inside.all(axis=1).any()


def test_a_crop_smaller_than_its_object_lies_in_it():
    np.random.seed(0)
    starts = [offset_to_show(100, 300, 50, 1000) for _ in range(300)]
    assert (min(starts), max(starts)) == (100, 250)


def test_all_places_that_show_an_object_are_as_likely():
    np.random.seed(0)
    starts = [offset_to_show(20.5, 24.5, 10, 100) for _ in range(4000)]  # 15 .. 20
    counts = np.bincount(starts, minlength=100)
    assert counts[15:21].sum() == 4000
    chi_square = ((counts[15:21] - 4000 / 6) ** 2 / (4000 / 6)).sum()
    assert chi_square < 20.5  # 99.9 % of chi-square with 5 degrees of freedom


@pytest.mark.parametrize("boxes", [None, np.zeros((0, 4)), np.array([[1.0, 1, 5, 5]])])
def test_without_the_key_it_is_detectron2s(boxes):
    image = np.zeros((90, 120, 3), dtype=np.uint8)
    crops = []
    for kind in (T.RandomCrop, RandomCrop):
        crop = kind("relative_range", (0.3, 0.3))
        np.random.seed(3)
        args = (image,) if kind is T.RandomCrop else (image, boxes)
        found = crop.get_transform(*args)
        crops.append((found.x0, found.y0, found.w, found.h, np.random.rand()))
    assert crops[0] == crops[1]


@pytest.mark.parametrize("boxes", [None, np.zeros((0, 4))])
def test_an_image_without_objects_is_cropped_anywhere(boxes):
    np.random.seed(0)
    crop = RandomCrop("absolute", (10, 10), object_prob=1.0)
    image = np.zeros((30, 30, 3), dtype=np.uint8)
    assert len({crop.get_transform(image, boxes).x0 for _ in range(200)}) == 21
