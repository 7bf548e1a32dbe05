"""Every layout that datasets come in gives what the same data give as plain COCO."""

import json

import pytest

from libra_umop.data.check.checking import CLEAN, check_dataset
from libra_umop.data.datasets import dataset_dicts, load_dataset
from libra_umop.data.layouts.table import find_splits
from testing.coco_files import document, write_images
from testing.layout_writers import WITH_LIST_OF_NAMES, WRITERS


def contents(root):
    """What Detectron2 gets of each split: by the name of the picture its size and its boxes."""
    dataset = load_dataset("x", find_splits(str(root)))
    ids = {c["id"]: i for i, c in enumerate(dataset.categories)}
    return {split: by_file(dataset_dicts(data, ids)) for split, data in dataset.splits.items()}, (
        dataset.class_names
    )


def by_file(records):
    return {
        record["file_name"].rsplit("/", 1)[-1]: (
            (record["width"], record["height"]),
            [(a["category_id"], a["iscrowd"], *a["bbox"]) for a in record["annotations"]],
        )
        for record in records
    }


def require_equal(read, plain, names, plain_names):
    """Images, sizes and classes exactly, boxes to 1e-9 px, each with its own class's name."""
    assert sorted(names) == sorted(plain_names)
    assert read.keys() == plain.keys()
    for name, (size, boxes) in plain.items():
        assert read[name][0] == size
        assert len(read[name][1]) == len(boxes)
        for own, expected in zip(read[name][1], boxes, strict=True):
            assert names[own[0]] == plain_names[expected[0]] and own[1] == expected[1]
            assert own[2:] == pytest.approx(expected[2:], abs=1e-9)


def subset(content, count):
    images = content["images"][:count]
    ids = {image["id"] for image in images}
    boxes = [a for a in content["annotations"] if a["image_id"] in ids]
    return {**content, "images": images, "annotations": boxes}


def write_in(layout, root, documents, images):
    root.mkdir(parents=True)
    WRITERS[layout](root, documents, images)
    return root


@pytest.mark.parametrize(
    "layout, name", [*((w, "bccd") for w in WRITERS), ("YOLO", "aquarium"), ("VOC", "aquarium")]
)
def test_a_layout_gives_what_the_same_data_give_as_coco(tmp_path, shared_data, layout, name):
    plain = {}
    for split, count in (("train", 6), ("val", 3)):
        text = (shared_data / name / "annotations" / f"{split}.json").read_text()
        plain[split] = subset(json.loads(text), count)
    used = {a["category_id"] for d in plain.values() for a in d["annotations"]}
    for content in plain.values():  # what no box names, layouts without a list of names lack
        content["categories"] = [c for c in content["categories"] if c["id"] in used]
    images = shared_data / name / "images"
    root = write_in(layout, tmp_path / "own", plain, images)
    (tmp_path / "plain" / "annotations").mkdir(parents=True)
    (tmp_path / "plain" / "images").symlink_to(images)
    for split, content in plain.items():
        (tmp_path / "plain" / "annotations" / f"{split}.json").write_text(json.dumps(content))
    read, names = contents(root)
    expected, plain_names = contents(tmp_path / "plain")
    for split, records in read.items():
        require_equal(records, expected[split], names, plain_names)
    assert names == (plain_names if layout in WITH_LIST_OF_NAMES else sorted(plain_names))
    assert "train" in read


@pytest.mark.parametrize("layout", WRITERS)
def test_sound_data_are_clean_in_every_layout(tmp_path, layout):
    documents = {"train": document(3), "val": document(2)}
    for seed, (split, content) in enumerate(documents.items()):
        for image in content["images"]:
            image["file_name"] = f"{split} {image['file_name']}"
        write_images(tmp_path / "images", content, seed)
    root = write_in(layout, tmp_path / "own", documents, tmp_path / "images")
    checked = check_dataset(find_splits(str(root)))
    assert checked.exit_code == CLEAN, checked.defects
    assert checked.class_names == ["cat", "dog"]
    assert {name: len(data.images) for name, data in checked.splits.items()}["train"] == 3
    assert all(len(d.objects) == 2 * len(d.images) for d in checked.splits.values())
