"""Boxes of another convention than COCO's are told by all of them together, and only they."""

import json

import numpy as np
import pytest

from libra_umop.data.check.checking import UNUSABLE, check_dataset
from libra_umop.data.coco.conventions import other_convention
from libra_umop.data.datasets import load_dataset
from libra_umop.data.layouts.table import find_splits
from libra_umop.data.shapes import write_shapes
from libra_umop.errors import DatasetError
from testing.coco_files import document, write_dataset

# What exporters write for the box x, y, w, h of an image of W x H pixels.
WRITTEN = {
    "[x1, y1, x2, y2]": lambda x, y, w, h, W, H: [x, y, x + w, y + h],
    "[centre x, centre y, width, height]": lambda x, y, w, h, W, H: [x + w / 2, y + h / 2, w, h],
    "[y, x, height, width]": lambda x, y, w, h, W, H: [y, x, h, w],
    "[y1, x1, y2, x2]": lambda x, y, w, h, W, H: [y, x, y + h, x + w],
    "[x1, x2, y1, y2]": lambda x, y, w, h, W, H: [x, x + w, y, y + h],
    "[x, y, width, height] in fractions": lambda x, y, w, h, W, H: [x / W, y / H, w / W, h / H],
    "[x1, y1, x2, y2] in fractions": lambda x, y, w, h, W, H: [
        x / W,
        y / H,
        (x + w) / W,
        (y + h) / H,
    ],
    "[centre x, centre y, width, height] in fractions": lambda x, y, w, h, W, H: [
        (x + w / 2) / W,
        (y + h / 2) / H,
        w / W,
        h / H,
    ],
    "[x, y, width, height] in per cent": lambda x, y, w, h, W, H: [
        100 * x / W,
        100 * y / H,
        100 * w / W,
        100 * h / H,
    ],
}
SETS = [
    f"{name}/annotations/{split}.json"
    for name, splits in {"aquarium": 3, "bccd": 3, "coco_tiny": 2}.items()
    for split in ("train", "val", "test")[:splits]
]


def boxes_and_sizes(content):
    images = {image["id"]: (image["width"], image["height"]) for image in content["images"]}
    boxes = [a["bbox"] for a in content["annotations"]]
    return boxes, [images[a["image_id"]] for a in content["annotations"]]


@pytest.mark.parametrize("file", SETS)
def test_real_boxes_are_cocos_and_are_recognised_in_every_other_convention(shared_data, file):
    path = shared_data / file
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    boxes, sizes = boxes_and_sizes(json.loads(path.read_text()))
    assert other_convention(boxes, sizes) is None
    for convention, written in WRITTEN.items():
        theirs = [written(*box, *size) for box, size in zip(boxes, sizes, strict=True)]
        assert other_convention(theirs, sizes).startswith(convention)


def test_few_real_boxes_are_never_taken_for_another_convention(shared_data):
    rng = np.random.default_rng(0)
    for file in ("bccd/annotations/train.json", "coco_tiny/annotations/train.json"):
        boxes, sizes = map(np.array, boxes_and_sizes(json.loads((shared_data / file).read_text())))
        for count in (1, 2, 3, 5, 8, 20):
            for _ in range(100):
                few = rng.integers(0, len(boxes), count)
                assert other_convention(boxes[few], sizes[few]) is None


def test_drawn_boxes_are_recognised_too(tmp_path):
    write_shapes(tmp_path, num_train=20, num_val=1, size=64)
    boxes, sizes = boxes_and_sizes(json.loads((tmp_path / "annotations/train.json").read_text()))
    assert other_convention(boxes, sizes) is None
    for convention in ("[x1, y1, x2, y2]", "[x, y, width, height] in fractions"):
        theirs = [WRITTEN[convention](*box, *size) for box, size in zip(boxes, sizes, strict=True)]
        assert other_convention(theirs, sizes).startswith(convention)


@pytest.mark.parametrize("file", SETS)
def test_a_dozen_boxes_by_their_centres_are_mostly_recognised(shared_data, file):
    path = shared_data / file
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    boxes, sizes = map(np.array, boxes_and_sizes(json.loads(path.read_text())))
    name, rng, found = "[centre x, centre y, width, height]", np.random.default_rng(0), 0
    for _ in range(100):
        few = rng.integers(0, len(boxes), 12)
        assert other_convention(boxes[few], sizes[few]) is None
        pairs = zip(boxes[few], sizes[few], strict=True)
        said = other_convention([WRITTEN[name](*box, *size) for box, size in pairs], sizes[few])
        assert said in (None, name)
        found += said == name
    assert found > 40


def drawn(rng, count, how):
    """Boxes of objects that lie anywhere in a 640 x 480 image, partly outside, XYWH."""
    centre = rng.uniform(0, 1, (count, 2)) * (640, 480)
    size = rng.uniform(0.03, 0.4, (count, 2)) * (640, 480)
    if how == "large":
        centre = rng.uniform(0.4, 0.6, (count, 2)) * (640, 480)
        size = rng.uniform(0.5, 1, (count, 2)) * (640, 480)
    low, high = centre - size / 2, centre + size / 2
    if how == "cut":
        high = np.minimum(high, (640, 480))
    if how != "over every edge":
        low = np.maximum(low, 0)
    return np.concatenate([low, high - low], axis=1)


@pytest.mark.parametrize("how", ["cut", "over every edge", "over two edges", "large"])
@pytest.mark.parametrize("count", [1, 2, 4, 10, 100])
def test_boxes_over_the_edge_are_hardly_ever_taken_for_another_convention(how, count):
    rng = np.random.default_rng(count)
    sizes = [(640, 480)] * count
    alarms = sum(other_convention(drawn(rng, count, how), sizes) is not None for _ in range(500))
    assert alarms <= (0 if how in ("cut", "large") else 2)


@pytest.mark.parametrize(
    "boxes", [[], [[0, 0, 0, 0]], [[np.nan] * 4], [[np.inf, 0, 1, 1]], [[1e308, 0, 1e308, 1]]]
)
def test_boxes_that_say_nothing_are_not_judged(boxes):
    assert other_convention(boxes, [(96, 64)] * len(boxes)) is None


@pytest.mark.parametrize(
    "convention", ["[x1, y1, x2, y2]", "[x, y, width, height] in fractions of the image's"]
)
def test_check_and_training_refuse_such_a_file_in_one_line(tmp_path, convention):
    content = document(5)
    for a in content["annotations"]:
        a["bbox"] = WRITTEN[convention.removesuffix(" of the image's")](*a["bbox"], 96, 64)
    splits = find_splits(write_dataset(tmp_path, content))
    with pytest.raises(DatasetError) as e:
        load_dataset("mine", splits)
    path = tmp_path / "annotations" / "train.json"
    assert str(e.value).startswith(f"{path}: its 10 boxes look like {convention}")
    assert str(e.value).endswith("; should be [x, y, width, height] in pixels")
    checked = check_dataset(splits)
    assert checked.exit_code == UNUSABLE
    assert [d.kind for d in checked.defects["train"]] == ["box_convention"]
