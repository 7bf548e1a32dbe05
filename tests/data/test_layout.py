"""Where datasets keep their images and annotations."""

from functools import partial
from pathlib import Path

import pytest

from libra_umop.data.coco.parsing import load_split, parse_split
from libra_umop.data.defects import DROPPED, ERROR, NOTE, Defect
from libra_umop.data.layouts.coco import splits_from_files
from libra_umop.data.layouts.reading.layout import Content, Split
from libra_umop.data.layouts.table import dataset_name, find_splits
from libra_umop.errors import DatasetError
from testing.coco_files import document, write_dataset, write_images, write_json


def root_of(split):
    return load_split(split).image_root


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
    with pytest.raises(DatasetError, match=f"no training split .annotations/train.json.*{said}"):
        find_splits(str(root))


def test_files_can_be_named_one_by_one(tmp_path):
    splits = splits_from_files(("t.json", str(tmp_path)), ("v.json", str(tmp_path)))
    assert [splits[name].source for name in ("train", "val")] == ["t.json", "v.json"]
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


def test_a_defect_says_where_it_lies_in_the_users_files():
    """A layout's own: the ids are the document's, which the user has never seen."""
    content = document()
    content["annotations"][0]["bbox"] = [8, 8, -1, 30]
    content["images"][1]["width"] = 0
    places = {("annotation_id", 10): "labels/1.txt, line 1", ("image_id", 2): "images/2.png"}
    first = Defect("label", "is no label", DROPPED, place="labels/1.txt, line 7")
    split = Split("train", "data.yaml", lambda: Content(content, (".",), [first], places))
    data = parse_split(split)
    assert data.source == "data.yaml" and not data.exact
    assert [str(d).partition(":")[0] for d in data.defects] == [
        "labels/1.txt, line 7",
        "images/2.png",
        "labels/1.txt, line 1",
    ]
    with pytest.raises(DatasetError, match="^data.yaml: images/2.png: '2.png': \"width\" is 0"):
        load_split(split)
    assert data.defects[2].as_dict()["place"] == "labels/1.txt, line 1"


def test_what_a_layout_found_decides_as_what_the_document_shows():
    document_ = document()
    for severity, refused in ((ERROR, [False, True]), (DROPPED, [True]), (NOTE, [])):
        defects = [Defect("label", "is no label", severity, place="a.txt, line 7")]
        read = partial(Content, document_, (".",), defects)
        for strict in refused:
            with pytest.raises(DatasetError, match="^data.yaml: a.txt, line 7: is no label$"):
                load_split(Split("train", "data.yaml", read), strict=strict)
        assert refused or load_split(Split("train", "data.yaml", read), strict=True)
