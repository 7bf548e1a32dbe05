"""The check of a whole dataset: every defect by image and annotation, and what the set holds."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling.poolers import assign_boxes_to_levels
from detectron2.structures import Boxes
from PIL import Image

from libra_umop.data.check.checking import CLEAN, DEFECTS, UNUSABLE, check_dataset, check_headers
from libra_umop.data.check.report import as_json, as_text
from libra_umop.data.check.statistics import (
    ATSS_ANCHORS,
    RETINANET_ANCHORS,
    ResizedTo,
    boxes_per_level,
    describe_split,
    nearest_anchor_level,
    resized_boxes,
)
from libra_umop.data.coco.parsing import parse_coco
from libra_umop.data.layouts.table import find_splits
from testing.coco_files import document, write_dataset, write_json

KEEP_SIZE = ResizedTo(min_size=0)


def checked(root, **kwargs):
    return check_dataset(find_splits(str(root)), **kwargs)


def kinds(result, split="train"):
    return [d.kind for d in result.defects[split]]


def test_a_sound_dataset_is_clean(tmp_path):
    result = checked(write_dataset(tmp_path, test=document(1)))
    assert result.exit_code == CLEAN and result.class_names == ["cat", "dog"]
    assert result.modes == {"train": {"RGB": 3}, "val": {"RGB": 2}, "test": {"RGB": 1}}
    assert not any(result.defects.values())


def test_real_sets_are_clean(shared_data):
    for name in ("bccd", "coco_tiny"):
        assert checked(shared_data / name, decode_images=False).exit_code == CLEAN


def test_broken_images_are_all_named(tmp_path):
    root = Path(write_dataset(tmp_path, document(6)))
    images = root / "images" / "train"
    raw = (images / "2.png").read_bytes()
    (images / "1.png").unlink()
    (images / "2.png").write_bytes(raw[: len(raw) // 2])
    (images / "3.png").write_text("")
    (images / "4.png").write_text("no image")
    Image.new("RGB", (32, 16)).save(images / "5.png")
    result = checked(root)
    assert result.exit_code == UNUSABLE
    assert [(d.image_id, d.kind) for d in result.defects["train"]] == [
        (1, "image_unreadable"),
        (2, "image_unreadable"),
        (3, "image_unreadable"),
        (4, "image_unreadable"),
        (5, "image_missized"),
    ]
    said = [d.message for d in result.defects["train"]]
    assert said[0] == "there is no such image file" and "truncated" in said[1]
    assert said[4] == "is 32 x 16 pixels, but 96 x 64 in the annotations"
    quick = checked(root, decode_images=False)
    assert quick.defects["train"] == result.defects["train"]


def test_the_quick_check_is_what_training_runs_first(tmp_path):
    root = Path(write_dataset(tmp_path))
    (root / "images" / "train" / "2.png").unlink()
    data = parse_coco(document(3), "train.json", [str(root / "images" / "train")])
    assert [str(d) for d in check_headers(data)] == [
        "image id 2, 2.png: there is no such image file"
    ]


def test_the_same_picture_in_two_splits_is_found_whatever_its_format(tmp_path):
    root = Path(write_dataset(tmp_path))
    Image.open(root / "images" / "train" / "3.png").save(root / "images" / "val" / "2.bmp")
    (root / "images" / "val" / "2.png").unlink()
    content = document()
    content["images"][1]["file_name"] = "2.bmp"
    write_json(root / "annotations" / "val.json", content)
    result = checked(root)
    assert result.exit_code == DEFECTS and kinds(result) == []
    (defect,) = result.defects["val"]
    assert (defect.kind, defect.image_id) == ("duplicate_across_splits", 2)
    assert "'3.png' of the train split" in defect.message


def test_the_same_picture_twice_in_one_split_is_found(tmp_path):
    root = Path(write_dataset(tmp_path))
    images = root / "images" / "train"
    (images / "2.png").write_bytes((images / "1.png").read_bytes())
    result = checked(root)
    assert kinds(result) == ["duplicate_in_split"] and result.exit_code == DEFECTS


def test_images_of_unusual_kinds_are_noted_and_clean(tmp_path):
    root = Path(write_dataset(tmp_path, document(4)))
    images = root / "images" / "train"
    Image.fromarray(np.full((64, 96), 4000, np.uint16)).save(images / "1.png")
    rotated = Image.Exif()
    rotated[274] = 6
    Image.new("RGB", (64, 96), "red").save(images / "2.png", exif=rotated)
    Image.new("RGB", (96, 64), "blue").save(images / "3.png", exif=rotated)
    Image.new("L", (96, 64)).save(images / "4.png")
    result = checked(root)
    assert result.exit_code == CLEAN
    assert result.modes["train"] == {"I;16": 1, "RGB": 2, "L": 1}
    said = {d.kind + str(d.image_id): d.message for d in result.defects["train"]}
    assert "values up to 4000" in said["image_16bit1"]
    assert "used as shown" in said["image_rotated2"]
    assert "used as stored" in said["image_rotated3"] and len(said) == 3


def test_annotation_defects_decide_between_defects_and_unusable(tmp_path):
    content = document(3)
    content["annotations"][0]["bbox"] = [math.nan, 0, 1, 1]
    root = write_dataset(tmp_path, content)
    assert checked(root).exit_code == DEFECTS
    content["annotations"][1]["category_id"] = 99
    write_json(Path(root) / "annotations" / "train.json", content)
    result = checked(root)
    assert result.exit_code == UNUSABLE and kinds(result) == ["bbox_nan", "category_id_undeclared"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"images": 3}'])
@pytest.mark.parametrize("split", ["train", "val"])
def test_an_unusable_file_does_not_end_the_check_of_the_others(tmp_path, content, split):
    root = write_dataset(tmp_path)
    write_json(Path(root) / "annotations" / f"{split}.json", content)
    result = checked(root)
    assert result.exit_code == UNUSABLE and result.defects[split]
    other = {"train": "val", "val": "train"}[split]
    assert not result.defects[other] and len(result.splits[other].images) > 0
    assert "unusable" in as_text(result, KEEP_SIZE) and as_json(result, KEEP_SIZE)


def test_classes_that_disagree_or_have_no_box_are_found(tmp_path):
    train, val = document(3), document()
    train["annotations"] = [a for a in train["annotations"] if a["category_id"] == 3]
    val["categories"][1]["name"] = "wolf"
    result = checked(write_dataset(tmp_path, train, val))
    assert kinds(result) == ["class_without_boxes"] and kinds(result, "val") == ["class_conflict"]


def test_a_set_without_objects_is_unusable(tmp_path):
    content = document()
    content["annotations"] = []
    result = checked(write_dataset(tmp_path, content))
    assert kinds(result) == ["no_objects"] and result.exit_code == UNUSABLE


@pytest.mark.parametrize("crowds", [False, True])
def test_a_validation_set_without_objects_is_noted(tmp_path, crowds):
    content = document()
    content["annotations"] = [{**a, "iscrowd": 1} for a in content["annotations"] if crowds]
    result = checked(write_dataset(tmp_path, document(3), content))
    assert "no_objects" in kinds(result, "val") and result.exit_code == CLEAN


def test_a_validation_set_whose_objects_are_all_unusable_is_unusable_itself(tmp_path):
    content = document()
    for annotation in content["annotations"]:
        annotation["bbox"] = [0, 0, 0, 0]
    result = checked(write_dataset(tmp_path, document(3), content))
    assert "no_objects" in kinds(result, "val") and result.exit_code == UNUSABLE


def test_counts_are_those_of_a_hand_made_set():
    content = document(2)
    sizes = (31.9, 32.0, 96.0)  # small, medium, large
    for annotation, size in zip(content["annotations"], sizes, strict=False):
        annotation.update(bbox=[0, 0, min(size, 64), min(size, 64)], area=size**2)
    content["annotations"][3].update(iscrowd=1)
    content["images"].append({"id": 9, "file_name": "9.png", "width": 10, "height": 20})
    data = parse_coco(content, "train.json", ["."])
    counts = describe_split(data, [3, 7], KEEP_SIZE)
    assert counts["boxes_per_area"] == {"small": 1, "medium": 1, "large": 1}
    assert counts["boxes_per_class"] == {"cat": 2, "dog": 1}
    assert counts["boxes_per_image"] == {"min": 0, "median": 1.0, "mean": 1.0, "max": 2}
    assert (counts["images"], counts["images_without_objects"]) == (3, 1)
    assert (counts["boxes"], counts["crowd_regions"]) == (3, 1)
    assert counts["image_sizes"] == {"smallest": (10, 20), "largest": (96, 64)}


def square(*sizes):
    return torch.tensor([[0.0, 0.0, size, size] for size in sizes])


def test_pooler_levels_are_fpns_rule():
    # k = floor(4 + log2(size / 224)), within 2..5
    levels = boxes_per_level(square(10, 111, 112, 223, 224, 447, 448, 2000))["rcnn_pooler"]
    assert levels == {"P2": 2, "P3": 2, "P4": 2, "P5": 2}
    boxes = torch.rand(200, 4) * 200
    boxes[:, 2:] += boxes[:, :2] + 1
    theirs = torch.bincount(assign_boxes_to_levels([Boxes(boxes)], 2, 5, 224, 4), minlength=4)
    assert list(boxes_per_level(boxes)["rcnn_pooler"].values()) == theirs.tolist()


def test_dense_levels_are_those_of_the_nearest_anchor():
    own_sizes = square(*(size for level in RETINANET_ANCHORS for size in level))
    assert nearest_anchor_level(own_sizes, RETINANET_ANCHORS).tolist() == sorted([*range(5)] * 3)
    # between 64 and 128 the border is their geometric mean, 90.5
    levels = nearest_anchor_level(square(1, 64, 90, 91, 128, 1024, 5000), ATSS_ANCHORS)
    assert levels.tolist() == [0, 0, 0, 1, 1, 4, 4]


def test_levels_of_no_boxes_are_zero():
    for counts in boxes_per_level(torch.zeros(0, 4)).values():
        assert set(counts.values()) == {0} and len(counts) in (4, 5)


def test_boxes_are_resized_as_the_images_are():
    data = parse_coco(document(1), "train.json", ["."])
    boxes = resized_boxes(data, ResizedTo(min_size=128, max_size=1000))  # 96 x 64 to 192 x 128
    assert boxes.tolist() == [[16.0, 16.0, 96.0, 76.0], [120.0, 40.0, 168.0, 96.0]]
    assert resized_boxes(data, KEEP_SIZE).tolist() == [[8, 8, 48, 38], [60, 20, 84, 48]]
    assert resized_boxes(data, ResizedTo(128, 96)).tolist() == [[8, 8, 48, 38], [60, 20, 84, 48]]


def test_text_lists_each_kind_at_most_so_often_and_json_all(tmp_path):
    content = document(8)
    for annotation in content["annotations"][::2]:
        annotation["bbox"] = [0, 0, 0, 9]
    result = checked(write_dataset(tmp_path, content), decode_images=False)
    text = as_text(result, KEEP_SIZE, max_listed=3)
    assert "train: 8 bbox_zero (left out of training and evaluation)" in text
    assert text.count("bbox is [0, 0, 0, 9]") == 3 and "... and 5 more" in text
    report = as_json(result, KEEP_SIZE)
    assert len([d for d in report["defects"] if d["kind"] == "bbox_zero"]) == 8
    assert report["defects"][0] == {
        "split": "train",
        "kind": "bbox_zero",
        "severity": "dropped",
        "image_id": 1,
        "annotation_id": 10,
        "message": "bbox is [0, 0, 0, 9]; width and height should be above 0",
    }


def test_progress_is_shown_image_by_image(tmp_path):
    calls = []

    def progress(items, total, desc):
        calls.append((desc, total, len(items := list(items))))
        return items

    checked(write_dataset(tmp_path), progress=progress)
    assert calls == [("train", 3, 3), ("val", 2, 2)]
