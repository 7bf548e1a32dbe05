"""Masks as exporters write them: decoded as pycocotools does, repaired, or named."""

import json
import random

import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.data import DatasetCatalog
from detectron2.data.detection_utils import annotations_to_instances, transform_instance_annotations
from detectron2.data.transforms import NoOpTransform, TransformList

from libra_umop.data.check.checking import CLEAN, DEFECTS, check_dataset
from libra_umop.data.coco.masks import runs_of_text, usable_mask
from libra_umop.data.datasets import load_dataset, register
from libra_umop.data.layouts.table import find_splits
from libra_umop.errors import DatasetError
from testing.coco_files import HEIGHT, WIDTH, document, write_dataset

SIZE = [HEIGHT, WIDTH]
PIXELS = np.zeros((HEIGHT, WIDTH), np.uint8)
PIXELS[8:38, 8:48] = 1
TEXT = mask_util.encode(np.asfortranarray(PIXELS))["counts"].decode()
COUNTS = [8 * HEIGHT + 8, *[30, 34] * 39, 30, (WIDTH - 48) * HEIGHT + 26]
POLYGON = [8.0, 8.0, 48.0, 8.0, 48.0, 38.0, 8.0, 38.0]

# name: what a file holds, and the kind of defect, None for none; all are the pixels of PIXELS.
USABLE = {
    "compressed": ({"size": SIZE, "counts": TEXT}, None),
    "counts as a list": ({"size": SIZE, "counts": COUNTS}, None),
    "counts as whole floats": ({"size": SIZE, "counts": [float(n) for n in COUNTS]}, None),
    "counts as texts": ({"size": SIZE, "counts": [str(n) for n in COUNTS]}, "mask_values"),
    "size as texts": ({"size": [str(n) for n in SIZE], "counts": TEXT}, "mask_values"),
    "bytes as text": ({"size": SIZE, "counts": str(TEXT.encode())}, "mask_values"),
    "in a list": ([{"size": SIZE, "counts": TEXT}], None),
    "with more keys": ({"size": SIZE, "counts": TEXT, "area": 1200}, None),
    "polygon": ([POLYGON], None),
    "flat polygon": (POLYGON, "mask_nesting"),
    "polygon of points": ([[8, 8], [48, 8], [48, 38], [8, 38]], "mask_nesting"),
    "polygons of points": ([[[8, 8], [48, 8], [48, 38], [8, 38]]], "mask_nesting"),
    "polygon and rubbish": ([POLYGON, [1, 2], []], None),
    "polygon of texts": ([[str(v) for v in POLYGON]], "mask_values"),
}
# name: what a file holds, and words of the line about it
BROKEN = {
    "null": (None, "is None"),
    "empty": ([], "is []"),
    "a text": ("polygon", "is 'polygon'"),
    "a number": (3, "is 3"),
    "a line": ([[1, 2, 3, 4]], "3 or more points"),
    "an odd polygon": ([[1, 2, 3, 4, 5, 6, 7]], "3 or more points"),
    "right of the image": ([[800, 8, 840, 8, 840, 30]], "wholly outside the image of"),
    "above the image": ([[8, -9, 40, -9, 40, 0]], "wholly outside the image of"),
    "no RLE": ({"size": SIZE, "counts": "no RLE at all"}, "no RLE"),
    "cut off": ({"size": SIZE, "counts": TEXT[:-1]}, "no RLE" if ord(TEXT[-2]) & 32 else "pixels"),
    "blank": ({"size": SIZE, "counts": " "}, "no RLE"),
    "nothing": ({"size": SIZE, "counts": ""}, "no RLE"),
    "counts null": ({"size": SIZE, "counts": None}, "no RLE"),
    "counts missing": ({"size": SIZE}, "no RLE"),
    "counts negative": ({"size": SIZE, "counts": [7000, -856]}, "no RLE"),
    "counts too short": ({"size": SIZE, "counts": [100, 20]}, "120 pixels"),
    "counts fractional": ({"size": SIZE, "counts": [0.5, 6143.5]}, "no RLE"),
    "not the bytes of a text": ({"size": SIZE, "counts": "b'\\x"}, "no RLE"),
    "bytes beyond ASCII": ({"size": SIZE, "counts": "b'\\xff'"}, "no RLE"),
    "beyond ASCII": ({"size": SIZE, "counts": "é" * 9}, "no RLE"),
    "size swapped": ({"size": SIZE[::-1], "counts": TEXT}, "[96, 64], should be that of the image"),
    "size of another image": ({"size": [32, 48], "counts": TEXT}, "[32, 48], should be"),
    "size missing": ({"counts": TEXT}, "None, should be"),
    "no object": ({"size": SIZE, "counts": [HEIGHT * WIDTH]}, "without a pixel"),
}


def with_mask(segmentation):
    """The document with this mask on annotation 10, and polygons on the others."""
    content = document()
    for a in content["annotations"]:
        x, y, w, h = a["bbox"]
        a["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    content["annotations"][0]["segmentation"] = segmentation
    return content


@pytest.mark.parametrize("name", USABLE)
def test_usable_mask_reaches_training_with_the_pixels_it_stands_for(tmp_path, name):
    segmentation, kind = USABLE[name]
    content = with_mask(segmentation)
    splits = find_splits(write_dataset(tmp_path, content, with_mask([POLYGON])))
    dataset = load_dataset("m", splits, masks=True)
    found = [d.kind for d in dataset.splits["train"].defects]
    assert found == ([kind] if kind else [])
    assert any("read as they are meant (1 repaired mask_" in line for line in dataset.lines) == (
        kind is not None
    )
    names = register(dataset, str(tmp_path / "clean"))
    record = DatasetCatalog.get(names["train"])[0]
    transforms = TransformList([NoOpTransform()])
    annotations = [
        transform_instance_annotations(a, transforms, tuple(SIZE)) for a in record["annotations"]
    ]
    instances = annotations_to_instances(annotations, tuple(SIZE), mask_format="bitmask")
    assert np.array_equal(instances.gt_masks.tensor[0].numpy(), PIXELS.astype(bool))


@pytest.mark.parametrize("name", BROKEN)
def test_broken_mask_is_named_by_training_and_by_the_check(tmp_path, name):
    segmentation, words = BROKEN[name]
    content = with_mask(segmentation)
    splits = find_splits(write_dataset(tmp_path, content, with_mask([POLYGON])))
    dataset = load_dataset("mine", splits, masks=True)
    line = next(line for line in dataset.lines if "1 dropped mask" in line)
    assert "image id 1, annotation id 10" in line and words in line
    checked = check_dataset(splits, masks=True)
    assert checked.exit_code == DEFECTS
    defect = next(d for d in checked.defects["train"] if d.kind == "mask")
    assert (defect.image_id, defect.annotation_id) == (1, 10) and words in defect.message
    # Boxes alone need no mask, but one that is there should be one.
    assert check_dataset(splits).exit_code == (CLEAN if segmentation == [] else DEFECTS)


def test_a_file_without_masks_is_refused_with_the_key(tmp_path):
    with pytest.raises(DatasetError, match="first: image id 1, .* id 10.*MODEL.MASK_ON False"):
        load_dataset("mine", find_splits(write_dataset(tmp_path)), masks=True)


def test_runs_of_text_are_pycocotools():
    rng = np.random.default_rng(0)
    for _ in range(200):
        height, width = (int(n) for n in rng.integers(1, 80, 2))
        mask = np.asfortranarray(rng.random((height, width)) < rng.random(), dtype=np.uint8)
        text = mask_util.encode(mask)["counts"].decode()
        rle = {"size": [height, width], "counts": runs_of_text(text)}
        assert sum(rle["counts"]) == height * width
        assert np.array_equal(mask_util.decode(mask_util.frPyObjects(rle, height, width)), mask)


def test_any_text_is_runs_or_none():
    rng = random.Random(0)
    for _ in range(5000):
        text = "".join(chr(rng.randrange(1, 300)) for _ in range(rng.randrange(12)))
        mask, kind, _ = usable_mask({"size": SIZE, "counts": text}, WIDTH, HEIGHT)
        assert (mask is None) == (kind == "mask")


def test_repaired_masks_are_evaluated_from_a_file_of_their_own(tmp_path):
    content = with_mask({"size": SIZE, "counts": str(TEXT.encode())})
    splits = find_splits(write_dataset(tmp_path, with_mask([POLYGON]), content))
    dataset = load_dataset("m", splits, masks=True)
    register(dataset, str(tmp_path / "clean"))
    written = json.loads((tmp_path / "clean" / "m_val.json").read_text())
    assert written["annotations"][0]["segmentation"] == {"size": SIZE, "counts": TEXT}
