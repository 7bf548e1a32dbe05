"""Names of images in another spelling than their files' are taken, counted, or named."""

import unicodedata
from pathlib import Path

import pytest

from libra_umop.data.check.checking import UNUSABLE, check_dataset
from libra_umop.data.coco.parsing import parse_coco
from libra_umop.data.datasets import dataset_dicts, load_dataset
from libra_umop.data.defects import REPAIRED
from libra_umop.data.file_names import ImageFolder, find_files
from libra_umop.data.layouts.table import find_splits
from libra_umop.errors import DatasetError
from testing.coco_files import document, write_dataset, write_json

NFC, NFD = (unicodedata.normalize(form, "Zürich é.png") for form in ("NFC", "NFD"))
# name in the JSON file: name of the file
SPELT = {
    "a\\1.png": "a/1.png",
    "a\\b\\1.png": "a/b/1.png",
    "./a/1.png": "a/1.png",
    "a b.png": "a%20b.png",
    "a%20b.png": "a b.png",
    "a b+c.png": "a+b+c.png",
    "a+b.png": "a b.png",
    "My+Photos/Day+1%2B2.JPG": "my photos/day 1+2.jpg",
    "a%2Bb.png": "a+b.png",
    "a%2Fb.png": "a/b.png",
    "50%25.png": "50%.png",
    " a b.png\r\n": "a b.png",
    NFC: NFD,
    NFD: NFC,
    "IMG_1.PNG": "img_1.png",
    "img_1.JPG": "img_1.jpg",
    "Straße.png": "STRASSE.png",
    "Images\\Été%201.JPG": "images/" + unicodedata.normalize("NFD", "été 1.jpg"),
    "a/1.png": "a\\1.png",  # unpacked without its folders
    "a/b/1.png": "a/b\\1.png",
}


@pytest.mark.parametrize("name", SPELT)
def test_a_name_of_another_spelling_is_taken_and_counted(tmp_path, name):
    content = document()
    content["images"][0]["file_name"] = SPELT[name]
    root = write_dataset(tmp_path, content)
    content["images"][0]["file_name"] = name
    write_json(tmp_path / "annotations" / "train.json", content)
    splits = find_splits(root)
    dataset = load_dataset("mine", splits)
    data = dataset.splits["train"]
    assert Path(dataset_dicts(data, {3: 0, 7: 1})[0]["file_name"]).is_file()
    if name == "./a/1.png":  # the file system itself understands it
        assert not data.defects
        return
    (defect,) = data.defects
    assert (defect.kind, defect.severity, defect.image_id) == ("file_name_spelling", REPAIRED, 1)
    assert any("1 repaired file_name_spelling" in line for line in dataset.lines)
    assert check_dataset(splits).defects["train"] == data.defects
    with pytest.raises(DatasetError, match="image id 1: there is no image file"):
        load_dataset("mine", splits, strict=True)


def test_two_files_of_nearly_that_name_are_named_and_none_is_taken(tmp_path):
    content = document()
    root = write_dataset(tmp_path, content)
    folder = tmp_path / "images" / "train"
    (folder / "IMG.png").write_bytes((folder / "1.png").read_bytes())
    (folder / "Img.png").write_bytes((folder / "1.png").read_bytes())
    content["images"][0]["file_name"] = "img.png"
    write_json(tmp_path / "annotations" / "train.json", content)
    with pytest.raises(DatasetError, match="image id 1: .*'IMG.png', 'Img.png'; should be one of"):
        load_dataset("mine", find_splits(root))
    assert check_dataset(find_splits(root)).exit_code == UNUSABLE


def test_the_nearest_spelling_is_taken(tmp_path):
    for name in ("A.png", "a.png", "b c.png", "B%20C.png"):
        (tmp_path / name).touch()
    folder = ImageFolder(str(tmp_path))
    assert folder.spelt_otherwise("a.PNG") == ["a.png"]
    assert folder.spelt_otherwise("b%20c.png") == ["b c.png"]
    assert folder.spelt_otherwise("B c.PNG") == ["B%20C.png", "b c.png"]
    assert folder.spelt_otherwise("d.png") == folder.spelt_otherwise("") == []


def test_the_folder_is_found_though_every_name_is_spelt_otherwise(tmp_path):
    content = document()
    write_dataset(tmp_path, content)
    for image in content["images"]:
        image["file_name"] = f"TRAIN\\{image['id']}.png"
    data = parse_coco(content, "train.json", [str(tmp_path / "none"), str(tmp_path / "images")])
    assert data.image_root == str(tmp_path / "images")
    assert [image["file_name"] for image in data.images] == ["train/1.png", "train/2.png"]


def test_a_name_of_two_lines_is_named_on_one(tmp_path):
    content = document()
    root = write_dataset(tmp_path, content)
    content["images"][0]["file_name"] = "a\nb.png"
    write_json(tmp_path / "annotations" / "train.json", content)
    (defect,) = check_dataset(find_splits(root)).defects["train"]
    assert str(defect) == "image id 1, 'a\\nb.png': there is no such image file"


def test_names_that_no_file_has_stay(tmp_path):
    data = parse_coco(document(), "train.json", [str(tmp_path)])
    find_files(data, [str(tmp_path), str(tmp_path / "none")])
    assert data.images == document()["images"] and not data.defects
    assert data.image_root == str(tmp_path)
