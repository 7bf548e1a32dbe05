"""Where datasets keep their images and annotations."""

from pathlib import Path

import pytest

from coco_files import document, write_dataset, write_images, write_json
from libra_umop.data.coco.parsing import load_coco
from libra_umop.data.layouts.layout import dataset_name, find_splits, splits_from_files
from libra_umop.errors import DatasetError


def root_of(split):
    return load_coco(split.json_file, split.image_roots).image_root


def with_images_in(root, folder, **fields):
    """A dataset with a single split, whose images lie in ``root/folder``."""
    content = document()
    write_images(root / folder, content)
    for image in content["images"]:
        image["file_name"] = fields.get("prefix", "") + image["file_name"]
    write_json(root / "annotations" / "train.json", content)
    return find_splits(str(root))["train"]


def test_images_lie_in_a_folder_of_their_split_or_in_one_for_all(tmp_path):
    for folder in ("images/train", "images"):
        root = tmp_path / folder.replace("/", "_")
        assert root_of(with_images_in(root, folder)) == str(root / folder)


def test_file_names_may_start_at_the_dataset(tmp_path):
    split = with_images_in(tmp_path, "images", prefix="images/")
    assert root_of(split) == str(tmp_path)


def test_an_empty_folder_of_the_split_does_not_hide_the_images(tmp_path):
    (tmp_path / "images" / "train").mkdir(parents=True)
    assert root_of(with_images_in(tmp_path, "images")) == str(tmp_path / "images")


def test_three_splits_are_found_and_valid_means_val(tmp_path):
    root = write_dataset(tmp_path, test=document())
    assert list(find_splits(root)) == ["train", "val", "test"]
    (tmp_path / "annotations" / "val.json").rename(tmp_path / "annotations" / "valid.json")
    (tmp_path / "images" / "val").rename(tmp_path / "images" / "valid")
    assert root_of(find_splits(root)["val"]) == str(tmp_path / "images" / "valid")


def test_roboflows_layout_is_found(tmp_path):
    for folder in ("train", "valid", "test"):
        write_json(tmp_path / folder / "_annotations.coco.json", document())
        write_images(tmp_path / folder, document())
    splits = find_splits(str(tmp_path))
    assert {name: Path(root_of(split)).name for name, split in splits.items()} == {
        "train": "train",
        "val": "valid",
        "test": "test",
    }


def test_a_split_found_twice_is_refused(tmp_path):
    root = write_dataset(tmp_path)
    write_json(tmp_path / "valid" / "_annotations.coco.json", document())
    with pytest.raises(DatasetError, match="are both the val split"):
        find_splits(root)


@pytest.mark.parametrize("there", ["nothing", "no folder", "val only"])
def test_a_folder_that_is_no_dataset_is_refused_with_what_it_has(tmp_path, there):
    root = tmp_path / "data"
    if there == "no folder":
        with pytest.raises(DatasetError, match="is not a folder"):
            find_splits(str(root))
        return
    root.mkdir()
    if there == "val only":
        write_json(root / "annotations" / "val.json", document())
    said = "it has annotations" if there == "val only" else "it has nothing"
    with pytest.raises(DatasetError, match=f"neither annotations/train.json nor train/.*{said}"):
        find_splits(str(root))


def test_files_can_be_named_one_by_one(tmp_path):
    splits = splits_from_files(("t.json", str(tmp_path)), ("v.json", str(tmp_path)))
    assert [splits[name].json_file for name in ("train", "val")] == ["t.json", "v.json"]
    assert list(splits_from_files(("t.json", str(tmp_path)), (None, None))) == ["train"]
    assert splits_from_files((None, None), (None, None)) == {}


@pytest.mark.parametrize(
    "train, val, said",
    [
        (("t.json", None), (None, None), "--train-images is missing"),
        (("t.json", "."), (None, "."), "--val-json is missing"),
        ((None, None), ("v.json", "."), "needs --train-json"),
        (("t.json", "/nowhere"), (None, None), "/nowhere: --train-images is not a folder"),
    ],
)
def test_half_a_split_is_refused(train, val, said):
    with pytest.raises(DatasetError, match=said):
        splits_from_files(train, val)


@pytest.mark.parametrize(
    "root, name",
    [("/a/bccd/", "bccd"), ("My cells (v2).coco", "My_cells_v2_coco"), ("/", "dataset")],
)
def test_the_catalog_name_comes_from_the_folder(root, name):
    assert dataset_name(root) == name
