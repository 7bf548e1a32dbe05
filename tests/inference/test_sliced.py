"""Tiles: they cover an image, one tile is the predictor, and borders cut no object in two."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from libra_umop.errors import ConfigError
from libra_umop.evaluation.sliced import merge_tiles, tile_windows
from libra_umop.inference.sliced import TiledPredictor


@pytest.mark.parametrize("height, width", [(100, 100), (101, 350), (64, 40), (1000, 333)])
@pytest.mark.parametrize("overlap", [0.0, 0.25])
def test_tiles_cover_the_image_and_overlap(height, width, overlap):
    windows = tile_windows(height, width, 100, overlap).int().tolist()
    seen = np.zeros((height, width), dtype=int)
    for x0, y0, x1, y1 in windows:
        assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
        assert (x1 - x0, y1 - y0) == (min(100, width), min(100, height))
        seen[y0:y1, x0:x1] += 1
    assert seen.min() == 1
    for axis, length in ((0, width), (1, height)):
        starts = sorted({w[axis] for w in windows})
        gaps = [b - a for a, b in zip(starts, starts[1:], strict=False)]
        assert all(gap <= 100 * (1 - overlap) for gap in gaps), (starts, length)


class Finder:
    """Finds the rectangles of one colour, as a perfect detector of each crop would."""

    cfg = SimpleNamespace(MODEL=SimpleNamespace(MASK_ON=False))
    class_names = ["a"]

    def __init__(self):
        self.shapes = []

    def predict_batch(self, images):
        return [self.find(image) for image in images]

    def find(self, image):
        self.shapes.append(image.shape[:2])
        boxes, scores, classes = [], [], []
        for value in sorted(set(np.unique(image[:, :, 0])) - {0}):
            ys, xs = np.nonzero(image[:, :, 0] == value)
            boxes.append([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
            scores.append(len(xs) / 1e5)  # a part is less sure than the whole
            classes.append(int(value) % 2)
        found = Instances(image.shape[:2])
        found.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
        found.scores, found.pred_classes = (
            torch.tensor(scores),
            torch.tensor(classes, dtype=torch.int64),
        )
        return {"instances": found}


def scene(*boxes, size=(300, 500)):
    image = np.zeros((*size, 3), dtype=np.uint8)
    for value, (x0, y0, x1, y1) in enumerate(boxes, 1):
        image[y0:y1, x0:x1] = value
    return image


def found_in(image, **kwargs):
    output = TiledPredictor(Finder(), **kwargs)(image)["instances"]
    return sorted(zip(output.pred_classes.tolist(), output.pred_boxes.tensor.tolist(), strict=True))


def test_an_image_in_one_tile_is_the_predictors():
    image, finder = scene((10, 10, 60, 40), (200, 100, 260, 180)), Finder()
    expected = finder(image) if callable(finder) else finder.find(image)
    got = TiledPredictor(finder, size=500)(image)["instances"]
    assert got.image_size == expected["instances"].image_size
    assert torch.equal(got.pred_boxes.tensor, expected["instances"].pred_boxes.tensor)
    assert torch.equal(got.scores, expected["instances"].scores)


@pytest.mark.parametrize(
    "boxes",
    [
        [(10, 10, 60, 40)],  # in one tile
        [(165, 20, 195, 50)],  # whole in two tiles
        [(150, 20, 230, 60)],  # whole in one, cut in the other
        [(90, 20, 330, 60)],  # across three tiles
        [(20, 90, 60, 280)],  # across tiles below each other
        [(3, 20, 497, 60)],  # and on, tile after tile
        [(100, 100, 400, 290)],  # larger than a tile both ways
        [(100, 20, 400, 60), (100, 62, 400, 100)],  # neighbours of two classes
        [(170, 20, 185, 60), (1, 1, 4, 4), (186, 20, 199, 60)],  # neighbours of one class
        [],
    ],
)
def test_objects_are_whole_wherever_the_borders_are(boxes):
    image = scene(*boxes)
    expected = Finder().find(image)["instances"]
    expected = sorted(
        zip(expected.pred_classes.tolist(), expected.pred_boxes.tensor.tolist(), strict=True)
    )
    assert found_in(image, size=200, overlap=0.25) == expected


def test_boxes_of_one_tile_are_left_as_its_detector_gave_them():
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 10, 10]])
    windows = torch.tensor([[0.0, 0, 20, 20], [10, 0, 30, 20]])
    zeros = torch.zeros(2, dtype=torch.int64)
    _, kept = merge_tiles(boxes, torch.tensor([0.5, 0.9]), zeros, zeros, windows)
    assert kept.tolist() == [1, 0]


@pytest.mark.parametrize(
    "kwargs, said", [({"size": 3}, "--tiles is 3"), ({"size": 64, "overlap": 1.0}, "overlap is 1")]
)
def test_what_cannot_be_is_refused(kwargs, said):
    with pytest.raises(ConfigError, match=said):
        TiledPredictor(Finder(), **kwargs)


def test_masks_are_refused():
    finder = Finder()
    finder.cfg = SimpleNamespace(MODEL=SimpleNamespace(MASK_ON=True))
    with pytest.raises(ConfigError, match="boxes only"):
        TiledPredictor(finder, size=64)
