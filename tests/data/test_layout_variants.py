"""Layouts as tools and people really leave them are read like the plain ones."""

import json

import pytest

from libra_umop.data.coco.parsing import load_split
from libra_umop.data.datasets import dataset_dicts, load_dataset
from libra_umop.data.layouts.table import find_splits
from libra_umop.errors import DatasetError
from testing.coco_files import document, write_images, write_json
from testing.layout_variants import ONLY_TRAIN, VARIANTS
from testing.layout_writers import WRITERS


def distinct_documents():
    """No two images have a box in common, and no two pictures a name."""
    documents = {"train": document(3), "val": document(2)}
    for shift, (split, content) in enumerate(documents.items()):
        for image in content["images"]:
            image["file_name"] = f"{split}-{image['file_name']}"
        for a in content["annotations"]:
            a["bbox"][0] -= a["image_id"] + 3.5 * shift
    return documents


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for seed, content in enumerate(distinct_documents().values()):
        write_images(folder, content, seed)
    return folder


def boxes_by_image(document_or_split, names):
    """The objects of each image, in an order of their own: names differ between the variants."""
    found = []
    for record in document_or_split:
        own = [(names[a["category_id"]], *(round(v, 6) for v in a["bbox"])) for a in record]
        found.append(sorted(own))
    return sorted(found)


def expected(content):
    names = {c["id"]: c["name"] for c in content["categories"]}
    ids = [image["id"] for image in content["images"]]
    return boxes_by_image(
        [[a for a in content["annotations"] if a["image_id"] == i] for i in ids], names
    )


def read(root):
    dataset = load_dataset("x", find_splits(str(root)))
    ids = {c["id"]: i for i, c in enumerate(dataset.categories)}
    return {
        name: boxes_by_image(
            [r["annotations"] for r in dataset_dicts(data, ids)], dataset.class_names
        )
        for name, data in dataset.splits.items()
    }


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_gives_the_boxes_of_each_split(tmp_path, images, variant):
    documents = distinct_documents()
    VARIANTS[variant](tmp_path, documents, images)
    found = read(tmp_path)
    splits = ["train"] if variant in ONLY_TRAIN else ["train", "val"]
    assert found == {split: expected(documents[split]) for split in splits}


def test_yolos_names_are_taken_as_they_are_written(tmp_path, images):
    WRITERS["YOLO"](tmp_path, distinct_documents(), images)
    text = "train: images/train\nval: images/val\nnames:\n  0: no\n  1: 007\n"
    (tmp_path / "data.yaml").write_text(text)
    assert load_dataset("x", find_splits(str(tmp_path))).class_names == ["no", "007"]


@pytest.mark.parametrize(
    "text, words",
    [
        ("names: {0: cat, 0: dog}", "data.yaml, line 3: 0 stands in line 3 already"),
        ("names: [cat, dog]\ntrain: images/val", "data.yaml, line 4: train stands in line 1"),
        ("names: [cat, [dog]]", "names has ..dog.. as the name of class 1"),
    ],
)
def test_what_stands_twice_in_yolos_yaml_is_refused(tmp_path, images, text, words):
    WRITERS["YOLO"](tmp_path, distinct_documents(), images)
    (tmp_path / "data.yaml").write_text(f"train: images/train\nval: images/val\n{text}\n")
    with pytest.raises(DatasetError, match=words):
        load_dataset("x", find_splits(str(tmp_path)))


def test_a_foreign_path_does_not_lose_the_folder_that_tells_the_splits_apart(tmp_path, images):
    """``images`` alone is the end of both /x/train/images and /x/val/images."""
    documents = distinct_documents()
    WRITERS["YOLO with lists"](tmp_path, documents, images)
    text = "train: /x/train/images\nval: /x/val/images\nnames: [cat, dog]\n"
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(DatasetError, match="train is '/x/train/images', which is not there"):
        load_split(find_splits(str(tmp_path))["train"])


def test_lists_of_classes_have_to_agree(tmp_path, images):
    VARIANTS["YOLO of LabelImg"](tmp_path, distinct_documents(), images)
    (tmp_path / "val" / "classes.txt").write_text("dog\ncat\n")
    with pytest.raises(DatasetError, match="val/classes.txt: names other classes than .*train/"):
        find_splits(str(tmp_path))
    (tmp_path / "val" / "classes.txt").write_text("cat\n\ndog\n")
    with pytest.raises(DatasetError, match="classes.txt: line 2 should be the name of a class"):
        find_splits(str(tmp_path))


def test_label_files_without_a_picture_are_counted(tmp_path, images):
    WRITERS["YOLO"](tmp_path, distinct_documents(), images)
    (tmp_path / "images" / "train" / "train-2.png").unlink()
    (tmp_path / "labels" / "train" / "notes.txt").write_text("see the wiki")
    data = load_split(find_splits(str(tmp_path))["train"])
    said = "1 label files have no picture: left out; first: labels/train/train-2.txt"
    assert said in [d.message for d in data.defects]


def test_xml_files_of_no_split_are_counted(tmp_path, images):
    VARIANTS["VOC apart by split"](tmp_path, distinct_documents(), images)
    file = tmp_path / "annotations" / "old" / "9.xml"
    file.parent.mkdir()
    file.write_text((tmp_path / "annotations" / "train" / "0.xml").read_text())
    data = load_split(find_splits(str(tmp_path))["train"])
    said = "1 XML files lie in no folder of a split and are left out; first: annotations/old/9.xml"
    assert said in [d.message for d in data.defects]


def test_labelmes_picture_that_is_only_inside_the_file_is_named(tmp_path, images):
    WRITERS["LabelMe"](tmp_path, distinct_documents(), images)
    file = tmp_path / "train" / "train-1.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"imageData": "iVBORw0KGgo="}))
    (tmp_path / "train" / "train-1.png").unlink()
    with pytest.raises(DatasetError, match="train-1.json: there is no picture .* in its imageData"):
        load_split(find_splits(str(tmp_path))["train"])


DATUMARO = {"info": {}, "categories": {"label": {"labels": []}}, "items": []}
NAMED = {
    "a packed dataset": {"cells.zip": ""},
    "VOC's devkit": {"VOC2007/x": "", "VOC2012/x": ""},
    "Pascal VOC with masks only": {"JPEGImages/a.jpg": "", "SegmentationClass/a.png": ""},
    "TFRecord": {"train/cells.tfrecord": ""},
    "TFRecord ": {"tf.records-00000-of-00001": ""},
    "KITTI": {"training/label_2/000000.txt": "", "training/image_2/000000.png": ""},
    "KITTI, which": {"data/a.png": "", "labels/a.txt": "Car 0.0 0 -1.5" + " 1.0" * 11},
    "Supervisely": {"meta.json": {}, "ds0/ann/a.jpg.json": {}, "ds0/img/a.jpg": ""},
    "Supervisely ": {
        "img/a.jpg": "",
        "ann/a.json": {"objects": [{"classTitle": "", "points": {}}]},
    },
    "VGG Image Annotator": {"train/via_region_data.json": {}},
    "VGG Image Annotator ": {"a.jpg": "", "project.json": {"_via_settings": {}}},
    "Darwin of V7": {"images/a.jpg": "", "annotations/a.json": {"schema_ref": "x"}},
    "COCO panoptic": {"train2017/a.jpg": "", "annotations/panoptic_train2017.json": {}},
    "COCO's keypoints": {
        "annotations/person_keypoints_train2017.json": {
            "images": [],
            "annotations": [{"num_keypoints": 1}],
        }
    },
    "COCO's captions": {
        "annotations/captions_val2017.json": {"images": [], "annotations": [{"caption": ""}]}
    },
    "Open Images": {"data/a.jpg": "", "labels/detections.csv": ""},
    "Open Images,": {"train/a.jpg": "", "train-annotations-bbox.csv": ""},
    "a table of boxes": {"train/a.jpg": "", "train/_annotations.csv": ""},
    "Datumaro": {"images/train/a.jpg": "", "annotations/train.json": DATUMARO},
    "DOTA": {"images/a.png": "", "labelTxt/a.txt": ""},
    "VisDrone": {"images/a.png": "", "annotations/a.txt": "684,8,273,116,0,0,0,0"},
    "WIDER FACE": {"WIDER_train/images/0/a.jpg": "", "wider_face_split/train_bbx_gt.txt": ""},
    "MOT": {"img1/a.jpg": "", "gt/gt.txt": "", "seqinfo.ini": ""},
    "BDD100K": {"images/a.jpg": "", "labels/train.json": [{"labels": [{"box2d": {}}]}]},
    "YOLO without its data.yaml": {"a.jpg": "", "a.txt": "0 0.5 0.5 0.1 0.1"},
    "pictures sorted into folders by class": {
        **{f"train/cat/{i}.jpg": "" for i in range(9)},
        **{f"train/dog/{i}.jpg": "" for i in range(9)},
    },
    "pictures without annotations": {"images/a.jpg": ""},
    "COCO in several files": {
        "a.json": {"images": [], "annotations": [], "categories": []},
        "b.json": {"images": [], "annotations": [], "categories": []},
    },
}


@pytest.mark.parametrize("what", NAMED)
def test_what_is_not_read_is_named(tmp_path, what):
    for name, content in NAMED[what].items():
        write_json(tmp_path / "x" / name, content)
    for root in (tmp_path / "x", tmp_path):
        with pytest.raises(DatasetError, match=f"looks like {what.strip()}"):
            find_splits(str(root))


def test_cvats_video_is_named(tmp_path):
    (tmp_path / "annotations.xml").write_text("<annotations><track id='0'/></annotations>")
    with pytest.raises(DatasetError, match="annotations.xml: is CVAT for video; export it as"):
        find_splits(str(tmp_path))


def test_a_folder_that_links_to_itself_ends(tmp_path):
    (tmp_path / "x").symlink_to(tmp_path)
    with pytest.raises(DatasetError, match="has no training split"):
        find_splits(str(tmp_path))
