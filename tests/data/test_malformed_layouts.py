"""The ways in which files of each layout are broken: the line of the user's own file is named."""

import json
import math
import shutil

import pytest
from PIL import Image

from libra_umop.data.check.checking import check_headers
from libra_umop.data.coco.parsing import load_split
from libra_umop.data.defects import CLIPPED, DROPPED, NOTE, REPAIRED
from libra_umop.data.layouts.table import find_splits
from libra_umop.errors import DatasetError
from testing.coco_files import document, write_images
from testing.layout_writers import WRITERS

# The first line of labels/train/1.txt: the box [8, 8, 40, 30] in an image of 96 x 64.
LINE = "0 0.2916666666666667 0.359375 0.4166666666666667 0.46875"
OTHER = "1 0.75 0.53125 0.25 0.4375"
CORNERS = "<xmin>8.0</xmin><ymin>8.0</ymin><xmax>48.0</xmax><ymax>38.0</ymax>"
YOLO, VOC, CVAT, STUDIO = "YOLO", "VOC of Roboflow", "CVAT", "Label Studio"
LABELS, XML, TASKS = "labels/train/1.txt", "train/1.xml", "project-1-at-2026-01-01.json"

# name: layout, file, text in it, its replacement (None removes the file), words of the message
REFUSED = {
    "class without a name": (
        YOLO,
        LABELS,
        LINE,
        f"7{LINE[1:]}",
        f"{LABELS}, line 1: class index is 7",
    ),
    "negative class": (
        YOLO,
        LABELS,
        OTHER,
        f"-1{OTHER[1:]}",
        f"{LABELS}, line 2: class index is -1",
    ),
    "class as a word": (
        YOLO,
        LABELS,
        LINE,
        f"cat{LINE[1:]}",
        "class index is 'cat', should be a whole",
    ),
    "half a class": (
        YOLO,
        LABELS,
        LINE,
        f"0.5{LINE[1:]}",
        "class index is '0.5', should be a whole",
    ),
    "four numbers": (
        YOLO,
        LABELS,
        LINE,
        "0 0.5 0.5 0.2",
        "line 1: has 4 numbers, should be class x y",
    ),
    "a score": (
        YOLO,
        LABELS,
        LINE,
        f"{LINE} 0.9",
        "line 1: has 6 numbers, like a detector's output",
    ),
    "half a point": (
        YOLO,
        LABELS,
        LINE,
        f"{LINE} 1 1 1",
        "line 1: has 8 numbers, should be class x y",
    ),
    "a word": (YOLO, LABELS, "0.359375", "O.359375", "line 1: 'O.359375' should be a number"),
    "commas": (YOLO, LABELS, LINE, LINE.replace(" ", ","), "line 1: class index is '0,0.2916"),
    "pixels": (
        YOLO,
        LABELS,
        f"{LINE}\n{OTHER}",
        "0 28 23 40 30\n1 72 34 24 28",
        "2 of 4 lines have numbers above 2, like pixels",
    ),
    "no labels at all": (
        YOLO,
        "labels",
        None,
        None,
        "none of its 2 images has a label file, as labels",
    ),
    "no such folder": (
        YOLO,
        "data.yaml",
        "images/train",
        "images/x",
        "train is 'images/x', which is not",
    ),
    "not YAML": (YOLO, "data.yaml", "train:", "train: [", "data.yaml: is not YAML: .* at line"),
    "YAML that runs code": (
        YOLO,
        "data.yaml",
        "train: images/train",
        "train: !!python/object/apply:os.getcwd []",
        "data.yaml: is not YAML: could not determine a constructor",
    ),
    "names missing": (
        YOLO,
        "data.yaml",
        "names:",
        "classes:",
        "names is None, should list the names",
    ),
    "names doubled": (YOLO, "data.yaml", "dog", "cat", "is named 'cat' like category id 0"),
    "other count": (
        YOLO,
        "data.yaml",
        "names:",
        "nc: 3\nnames:",
        "nc is 3, but names has 2 classes",
    ),
    "no picture": (YOLO, "images/train/1.png", None, "text", "images/train/1.png: is no image"),
    "empty picture": (YOLO, "images/train/1.png", None, "", "images/train/1.png: is empty"),
    "listed and missing": (
        "YOLO with lists",
        "train.txt",
        "1.png",
        "x.png",
        "train.txt, line 1: there is no image file './images/x.png'",
    ),
    "a word as corner": (
        VOC,
        XML,
        "<xmin>8.0",
        "<xmin>eight",
        "line 6: <xmin> is 'eight', should be",
    ),
    "no corner": (
        VOC,
        XML,
        "<ymin>8.0</ymin>",
        "",
        "1.xml, line 6: <ymin> is '', should be a number",
    ),
    "no box": (VOC, XML, f"<bndbox>{CORNERS}</bndbox>", "", "line 5: its object has no <bndbox>"),
    "a rotated box": (
        VOC,
        XML,
        f"<bndbox>{CORNERS}</bndbox>",
        "<robndbox><cx>1</cx></robndbox>",
        "no <bndbox> .a rotated one is not read",
    ),
    "no name": (VOC, XML, "<name>cat</name>", "", "train/1.xml, line 5: its object has no <name>"),
    "entities": (
        VOC,
        XML,
        "<annotation>",
        '<!DOCTYPE a [<!ENTITY b "cc">]><annotation>',
        "train/1.xml: line 1 declares the entity 'b'; refused",
    ),
    "external entity": (
        VOC,
        XML,
        "<annotation>",
        '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotation>',
        "declares the entity 'b'; refused",
    ),
    "XML cut off": (
        VOC,
        XML,
        "</annotation>",
        "",
        "train/1.xml: is not XML: no element found at line",
    ),
    "no picture of it": (
        VOC,
        "train/1.png",
        None,
        None,
        "train/1.xml: there is no picture of its name",
    ),
    "listed, no XML": (
        "VOC",
        "Annotations/1.xml",
        None,
        None,
        "ImageSets/Main/train.txt, line 1: there is no file 'Annotations/1.xml'",
    ),
    "path in a list": (
        "VOC",
        "ImageSets/Main/train.txt",
        "1\n",
        "../1\n",
        "train.txt, line 1: '../1' should be a name below Annotations/",
    ),
    "CVAT: no label": (
        CVAT,
        "annotations.xml",
        'label="cat"',
        "",
        "annotations.xml, line 3: its box has no",
    ),
    "CVAT: a word": (
        CVAT,
        "annotations.xml",
        'xtl="8.0"',
        'xtl="x"',
        "line 3: its box has xtl 'x', should",
    ),
    "CVAT: no picture": (
        CVAT,
        "annotations.xml",
        "1.png",
        "x.png",
        "line 2: there is no picture 'x.png'",
    ),
    "CVAT: no width": (
        CVAT,
        "annotations.xml",
        'width="96"',
        "",
        "line 2: width and height of '1.png'",
    ),
    "CVAT: video": (
        CVAT,
        "annotations.xml",
        "</annotations>",
        "<track/></annotations>",
        "is CVAT for video; export it as CVAT for images",
    ),
    "tasks: no label": (
        STUDIO,
        TASKS,
        '["cat"]',
        "[]",
        "task id 0, result 1: a result of type 'rectanglelabels' has no label",
    ),
    "tasks: a word": (
        STUDIO,
        TASKS,
        '"width": 41',
        '"width": "a", "b": 41',
        "task id 0, result 1: a result",
    ),
    "tasks: no picture": (STUDIO, TASKS, "-1.png", "-9.png", "task id 0: there is no picture"),
    "samples: box": (
        "FiftyOne",
        "samples.json",
        '"bounding_box": [',
        '"bounding_box": [1, ',
        "samples.json, sample number 1, detection 1: its bounding_box is",
    ),
    "samples: pixels": (
        "FiftyOne",
        "samples.json",
        '"bounding_box": [0.',
        '"bounding_box": [500.',
        "detection 1: its bounding_box is .500.*, like pixels; should be fractions",
    ),
    "counted from 1": (
        YOLO,
        "labels/train/*.txt",
        None,
        f"1{LINE[1:]}\n2{OTHER[1:]}\n",
        "class indices are 1 to 2, as if counted from 1; the names begin at 0",
    ),
    "corners": (
        YOLO,
        "labels/train/*.txt",
        None,
        "".join(f"0 0.{k} 0.1 0.{k + 3} 0.8\n" for k in range(1, 7)),
        "its 12 boxes look like class x1 y1 x2 y2; should be the class and x y width height",
    ),
    "labels: class": (
        "FiftyOne's detections",
        "labels.json",
        '"label": 0',
        '"label": 9',
        "labels.json, '1', detection 1: its label is 9, which is none",
    ),
    "LabelMe: point": (
        "LabelMe",
        "train/1.json",
        "[8.0, 8.0]",
        "[8.0]",
        "train/1.json, shape 1: a point is",
    ),
    "CreateML: a word": (
        "CreateML",
        "train/_annotations.createml.json",
        '"x": 28.0',
        '"x": "a"',
        "entry number 1, annotation 1: its coordinates: has x 'a'",
    ),
}
# The same with a severity before the words: what is read in spite of it, and how.
READ = {
    "beyond the edge": (YOLO, LABELS, "0.75 0.53", "0.95 0.53", CLIPPED, "bbox is"),
    "above 1": (
        YOLO,
        LABELS,
        OTHER,
        "1 0.75 0.5 0.25 1.2",
        CLIPPED,
        "line 2: 1.2 should be within [0, 1]",
    ),
    "far out": (
        YOLO,
        LABELS,
        OTHER,
        "1 1.75 0.5 0.25 0.2",
        DROPPED,
        "line 2: 1.75 should be within",
    ),
    "nan": (
        YOLO,
        LABELS,
        OTHER,
        "1 nan 0.5 0.25 0.2",
        DROPPED,
        "line 2: nan should be a finite number",
    ),
    "no width": (
        YOLO,
        LABELS,
        OTHER,
        "1 0.5 0.5 0 0.2",
        DROPPED,
        "line 2: width and height are 0 and 0.2",
    ),
    "oriented boxes": (
        YOLO,
        "labels/train/*.txt",
        None,
        "0 0.1 0.1 0.5 0.1 0.5 0.5 0.1 0.5\n",
        NOTE,
        "its 2 lines of 9 numbers look like oriented boxes (OBB)",
    ),
    "no label file": (YOLO, LABELS, None, None, NOTE, "1 images have no label file"),
    "empty label file": (YOLO, LABELS, None, "", None, ""),
    "corners swapped": (
        VOC,
        XML,
        "<xmax>48.0",
        "<xmax>4.0",
        DROPPED,
        "the second corner should be beyond",
    ),
    "difficult": (VOC, XML, "<difficult>0", "<difficult>1", NOTE, "1 objects are difficult"),
    "no XML": (VOC, XML, None, None, NOTE, "1 pictures have no XML file and are left out"),
    "turned": (
        CVAT,
        "annotations.xml",
        'label="cat"',
        'label="cat" rotation="90"',
        REPAIRED,
        "line 3: is rotated by 90 degrees; read as the upright box",
    ),
    "points": (
        CVAT,
        "annotations.xml",
        "</image>",
        '<points label="cat" points="1,2"/></image>',
        NOTE,
        "1 shapes of kind points are no boxes or areas",
    ),
    "turned task": (
        STUDIO,
        TASKS,
        '"rotation": 0',
        '"rotation": 30',
        REPAIRED,
        "is rotated by 30 degrees",
    ),
    "not submitted": (
        STUDIO,
        TASKS,
        '"was_cancelled": false',
        '"was_cancelled": true',
        NOTE,
        "1 tasks have no annotation that was submitted",
    ),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A dataset of each layout, by its name: images 1.png and 2.png for training."""
    root = tmp_path_factory.mktemp("sound")
    documents = {"train": document(2), "val": document(1)}
    for image in documents["val"]["images"]:
        image["file_name"] = "v.png"
    for content in documents.values():
        write_images(root / "images", content)
    for layout, writer in WRITERS.items():
        (root / layout).mkdir()
        writer(root / layout, documents, root / "images")
    return root


def changed(sound, target, layout, file, text, replacement):
    """A copy of a sound dataset with one thing changed; its training split, read."""
    shutil.copytree(sound / layout, target)
    for path in sorted(target.glob(file)):
        if replacement is None:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        elif text is None:
            path.write_text(replacement)
        else:
            before = path.read_text()
            assert text in before
            path.write_text(before.replace(text, replacement, 1))
    return load_split(find_splits(str(target))["train"])


@pytest.mark.parametrize("name", REFUSED)
def test_a_broken_file_is_refused_in_one_line_that_names_its_place(tmp_path, sound, name):
    *where, words = REFUSED[name]
    with pytest.raises(DatasetError, match=words.replace("[0, 1]", ".0, 1.")) as e:
        changed(sound, tmp_path / "x", *where)
    assert str(e.value).startswith(str(tmp_path)) and "\n" not in str(e.value)


@pytest.mark.parametrize(
    "layout, file, size, place",
    [
        (VOC, XML, "<width>96</width>", XML),
        (CVAT, "annotations.xml", 'width="96"', "annotations.xml"),
    ],
)
def test_a_size_that_is_not_the_pictures_is_named_where_it_is_said(
    tmp_path, sound, layout, file, size, place
):
    root = tmp_path / "set"
    data = changed(sound, root, layout, file, size, size.replace("96", "960"))
    text = next(root.glob(file)).read_text()
    line = text[: text.index("<size>" if layout == VOC else "960")].count("\n") + 1
    (found,) = check_headers(data)
    assert found.message.endswith(f"but 960 x 64 in {place}, line {line}")


@pytest.mark.parametrize("name", READ)
def test_what_can_be_read_is_named_and_counted(tmp_path, sound, name):
    *where, severity, words = READ[name]
    data = changed(sound, tmp_path / "x", *where)
    if severity is None:
        assert not [d for d in data.defects if d.kind != "path"]
        return
    defect = next(d for d in data.defects if words in str(d))
    assert defect.severity == severity and (defect.place or severity == NOTE)


def boxes(data):
    return [a["bbox"] for a in data.annotations]


def test_boxes_over_the_edge_are_cut_in_fractions_too(tmp_path, sound):
    data = changed(sound, tmp_path / "x", YOLO, LABELS, OTHER, "1 0.75 0.5 0.25 1.2")
    assert boxes(data)[1] == [60.0, 0.0, 24.0, 64.0]


def test_polygons_are_masks_with_their_box_and_area(tmp_path, sound):
    data = changed(sound, tmp_path / "x", YOLO, LABELS, LINE, "0 0.25 0.25 0.75 0.25 0.75 0.75")
    assert boxes(data)[0] == [24.0, 16.0, 48.0, 32.0] and data.annotations[0]["area"] == 48 * 32 / 2
    split = find_splits(str(tmp_path / "x"))["train"]
    masks = load_split(split, masks=True)
    assert masks.annotations[0]["segmentation"] == [[24.0, 16.0, 72.0, 16.0, 72.0, 48.0]]
    assert len(masks.lost) == 3  # the boxes have no mask


def test_keypoints_are_left_out_by_their_declared_number(tmp_path, sound):
    target = tmp_path / "x"
    shutil.copytree(sound / YOLO, target)
    path = target / "data.yaml"
    path.write_text(path.read_text() + "kpt_shape: [2, 3]\n")
    for file in (target / "labels" / "train").iterdir():
        lines = file.read_text().splitlines()
        file.write_text("\n".join(f"{line} .1 .1 2 .2 .2 2" for line in lines))
    data = load_split(find_splits(str(target))["train"])
    assert boxes(data)[0] == pytest.approx([8, 8, 40, 30])
    assert boxes(data)[1] == pytest.approx([60, 20, 24, 28])


def test_rotated_pictures_are_labelled_as_they_are_shown(tmp_path, sound):
    """YOLO's fractions are of the picture after its EXIF rotation, as Ultralytics takes them."""
    target = tmp_path / "x"
    shutil.copytree(sound / YOLO, target)
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (64, 96)).save(target / "images" / "train" / "1.png", exif=exif)
    data = load_split(find_splits(str(target))["train"])
    assert (data.images[0]["width"], data.images[0]["height"]) == (96, 64)
    assert boxes(data)[0] == pytest.approx([8, 8, 40, 30])


def test_voc_counts_from_1_only_where_it_says_so_and_no_box_begins_at_0(tmp_path, sound):
    base = ("VOC", "Annotations/1.xml")
    assert boxes(changed(sound, tmp_path / "1", *base, "x", "x"))[0] == [8, 8, 40, 30]
    zero = changed(sound, tmp_path / "2", *base, "<xmin>9.0", "<xmin>0")
    assert boxes(zero)[0] == [0, 9, 48, 29]
    other = changed(
        sound, tmp_path / "3", "VOC", "Annotations/*.xml", "The VOC2007 Database", "mine"
    )
    assert boxes(other)[0] == [9, 9, 39, 29]


def test_difficult_objects_are_crowd_regions(tmp_path, sound):
    data = changed(sound, tmp_path / "x", VOC, XML, "<difficult>0", "<difficult>1")
    assert [a["iscrowd"] for a in data.annotations] == [1, 0, 0, 0]
    assert not [d for d in data.defects if "CVAT" in d.message]  # where COCO's crowds may be from


def test_a_box_turned_by_90_degrees_stands_upright_about_its_centre(tmp_path, sound):
    data = changed(
        sound, tmp_path / "x", CVAT, "annotations.xml", 'label="cat"', 'label="cat" rotation="90"'
    )
    assert boxes(data)[0] == pytest.approx([13, 3, 30, 40])


def test_cvats_masks_are_read(tmp_path, sound):
    mask = '<mask label="dog" left="10" top="20" width="3" height="2" rle="1,2,3"/></image>'
    file = ("annotations.xml", "</image>", mask)
    changed(sound, tmp_path / "x", CVAT, *file)
    data = load_split(find_splits(str(tmp_path / "x"))["train"], masks=False)
    assert boxes(data)[2] == [10, 20, 3, 2] and data.annotations[2]["area"] == 2


ELLIPSE = '<ellipse label="dog" cx="40" cy="30" rx="10" ry="5" rotation="90"/></image>'
OVAL = (
    '"result": [{"type": "ellipselabels", "value": {"x": 50, "y": 50, "radiusX": 10, "radiusY": 25,'
    ' "ellipselabels": ["cat"]}}, '
)


def test_ellipses_are_objects_with_the_box_around_them(tmp_path, sound):
    """CVAT's in pixels and turned; Label Studio's in per cent of 96 x 64 pixels."""
    data = changed(sound, tmp_path / "1", CVAT, "annotations.xml", "</image>", ELLIPSE)
    assert boxes(data)[2] == pytest.approx([35, 20, 10, 20])
    assert data.annotations[2]["area"] == pytest.approx(math.pi * 50)
    data = changed(sound, tmp_path / "2", STUDIO, TASKS, '"result": [', OVAL)
    assert boxes(data)[0] == pytest.approx([48 - 9.6, 16, 19.2, 32])


@pytest.mark.parametrize("kind, points", [("mask", 2), ("rotation", 4)])
def test_labelmes_masks_and_turned_boxes_are_read_as_upright_boxes(tmp_path, sound, kind, points):
    shutil.copytree(sound / "LabelMe", tmp_path / "x")
    path = tmp_path / "x" / "train" / "1.json"
    content = json.loads(path.read_text())
    corners = [[10, 20], [30, 50]] if points == 2 else [[20, 20], [30, 35], [20, 50], [10, 35]]
    content["shapes"][0] |= {"shape_type": kind, "points": corners, "mask": "iVBORw0KGgo="}
    path.write_text(json.dumps(content))
    data = load_split(find_splits(str(tmp_path / "x"))["train"])
    assert boxes(data)[0] == [10, 20, 20, 30] and len(data.annotations) == 4
    said = (
        f"1 shapes of type {kind} are read as the boxes around them; first: train/1.json, shape 1"
    )
    assert said in [d.message for d in data.defects]


def test_an_uploaded_picture_is_found_with_and_without_its_prefix(tmp_path, sound):
    target = tmp_path / "x"
    shutil.copytree(sound / STUDIO, target)
    picture = target / "images" / "1.png"
    picture.rename(picture.with_name("00000000-1.png"))
    assert len(load_split(find_splits(str(target))["train"]).images) == 2


def test_letter_case_of_a_picture_counts_only_where_it_tells_pictures_apart(tmp_path, sound):
    file = ("annotations.xml", 'name="1.png"', 'name="1.PNG"')
    assert len(changed(sound, tmp_path / "x", CVAT, *file).images) == 2
    picture = tmp_path / "x" / "images" / "train" / "1.png"
    shutil.copyfile(picture, picture.with_name("1.PNG"))
    data = load_split(find_splits(str(tmp_path / "x"))["train"])
    assert [image["file_name"] for image in data.images] == ["1.PNG", "2.png"]


def test_shapes_of_one_group_are_one_object(tmp_path, sound):
    file = ("LabelMe", "train/1.json")
    target = tmp_path / "x"
    shutil.copytree(sound / file[0], target)
    path = target / file[1]
    path.write_text(
        path.read_text().replace('"group_id": null', '"group_id": 4').replace("dog", "cat")
    )
    data = load_split(find_splits(str(target))["train"])
    assert boxes(data)[0] == [8, 8, 76, 40] and len(data.annotations) == 3


def test_two_layouts_in_one_folder_are_refused_and_a_file_names_one(tmp_path, sound):
    shutil.copytree(sound / YOLO, tmp_path / "x")
    shutil.copytree(sound / CVAT, tmp_path / "x", dirs_exist_ok=True)
    with pytest.raises(DatasetError, match="data.yaml .train. and .*annotations.xml .* are both"):
        find_splits(str(tmp_path / "x"))
    for file in ("data.yaml", "annotations.xml"):
        split = find_splits(str(tmp_path / "x" / file))["train"]
        assert split.source.startswith(str(tmp_path / "x" / file))


@pytest.mark.parametrize(
    "layout, folder", [("VOC with XML apart", "images"), (YOLO, "images/train")]
)
def test_folders_that_are_links_are_followed_and_circles_end(tmp_path, sound, layout, folder):
    shutil.copytree(sound / layout, tmp_path / "x")
    shutil.move(tmp_path / "x" / folder, tmp_path / "elsewhere")
    (tmp_path / "x" / folder).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "circle").symlink_to(tmp_path / "elsewhere")
    data = load_split(find_splits(str(tmp_path / "x"))["train"])
    assert len(data.images) == 2 and boxes(data)[0] == pytest.approx([8, 8, 40, 30])


def test_yolo_takes_lists_of_folders_relative_paths_and_names_by_index(tmp_path, sound):
    shutil.copytree(sound / YOLO, tmp_path / "x" / "data")
    (tmp_path / "x" / "data" / "data.yaml").unlink()
    config = "path: data\ntrain: [images/train, ./images/val]\nnames: {'1': dog, 0: cat}\n"
    (tmp_path / "x" / "pets.yaml").write_text(config)
    (split,) = find_splits(str(tmp_path / "x")).values()
    data = load_split(split)
    names = [image["file_name"] for image in data.images]
    assert names == ["train/1.png", "train/2.png", "val/v.png"]
    assert [(c["id"], c["name"]) for c in data.categories] == [(0, "cat"), (1, "dog")]
    assert boxes(data)[0] == pytest.approx([8, 8, 40, 30]) and not data.defects


def test_text_files_of_powershell_are_read(tmp_path, sound):
    shutil.copytree(sound / "YOLO with lists", tmp_path / "x")
    for file in [*(tmp_path / "x").rglob("*.txt"), tmp_path / "x" / "data.yaml"]:
        file.write_bytes(file.read_text().replace("\n", "\r\n").encode("utf-16"))
    data = load_split(find_splits(str(tmp_path / "x"))["train"])
    assert boxes(data)[0] == pytest.approx([8, 8, 40, 30]) and len(data.images) == 2


def test_large_objects_in_the_middle_are_no_corners(tmp_path, sound):
    shutil.copytree(sound / YOLO, tmp_path / "x")
    lines = "".join(f"0 0.5 0.5 0.{k} 0.9\n" for k in range(60, 90, 5))
    for file in (tmp_path / "x" / "labels" / "train").iterdir():
        file.write_text(lines)
    assert len(load_split(find_splits(str(tmp_path / "x"))["train"]).annotations) == 12
