"""The drawn set: repeatable, tight boxes, every size, empty and crowded images."""

import json

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from libra_umop.data.shapes import CLASSES, CROWDED_OBJECTS, MIN_SIZE_PX, write_shapes


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    path = tmp_path_factory.mktemp("shapes")
    write_shapes(path, num_train=40, num_val=20, size=192)
    return path


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not(root, tmp_path):
    write_shapes(tmp_path, num_train=40, num_val=20, size=192)
    for file in sorted(root.rglob("*.*")):
        assert file.read_bytes() == (tmp_path / file.relative_to(root)).read_bytes(), file.name
    write_shapes(tmp_path, num_train=1, num_val=1, seed=1)
    first = root / "images" / "train_00000.png"
    assert first.read_bytes() != (tmp_path / "images" / "train_00000.png").read_bytes()


def test_pycocotools_reads_it_and_boxes_span_every_size(root):
    coco = COCO(root / "annotations" / "train.json")
    boxes = np.array([a["bbox"] for a in coco.dataset["annotations"]])
    assert (boxes[:, :2] >= 0).all() and (boxes[:, :2] + boxes[:, 2:] <= 192).all()
    long_sides = boxes[:, 2:].max(axis=1)
    assert long_sides.min() < 1.5 * MIN_SIZE_PX and long_sides.max() > 120
    assert {a["category_id"] for a in coco.dataset["annotations"]} == {1, 2, 3, 4}
    assert [c["name"] for c in coco.dataset["categories"]] == list(CLASSES)


def test_some_images_are_empty_and_some_crowded(root):
    coco = COCO(root / "annotations" / "train.json")
    counts = [len(coco.getAnnIds(imgIds=i)) for i in coco.getImgIds()]
    assert counts.count(0) == 2
    assert max(counts) > CROWDED_OBJECTS / 2


def test_boxes_are_tight_around_the_drawn_pixels(root):
    """An object alone in its image differs from the background inside its box and nowhere else."""
    coco = COCO(root / "annotations" / "train.json")
    alone = [i for i in coco.getImgIds() if len(coco.getAnnIds(imgIds=i)) == 1]
    assert alone, "no image with a single object: draw more of them"
    for image_id in alone:
        file_name = coco.loadImgs(image_id)[0]["file_name"]
        image = cv2.imread(str(root / "images" / file_name)).astype(int)
        x, y, w, h = (int(v) for v in coco.loadAnns(coco.getAnnIds(imgIds=image_id))[0]["bbox"])
        # The object is of one flat colour, the background is noisy.
        flat = (image == image[y + h // 2, x + w // 2]).all(axis=2)
        rows, columns = np.nonzero(flat)
        assert (columns.min(), rows.min()) == (x, y)
        assert (columns.max() + 1, rows.max() + 1) == (x + w, y + h)


def test_impossible_requests_are_refused(tmp_path):
    with pytest.raises(ValueError, match="size is 32"):
        write_shapes(tmp_path, size=32)
    with pytest.raises(ValueError, match="num_train, num_val are"):
        write_shapes(tmp_path, num_val=0)
    assert not list(tmp_path.iterdir())


def test_annotations_say_that_the_set_is_whole(root):
    assert not list(root.rglob("*.partial"))
    for split in ("train", "val"):
        content = json.loads((root / "annotations" / f"{split}.json").read_text())
        assert all((root / "images" / i["file_name"]).is_file() for i in content["images"])
