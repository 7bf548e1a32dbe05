"""The ways in which people's COCO files are broken: refused in one line, or repaired and named."""

import copy
import json
import math

import pytest

from libra_umop.data.coco.document import read_json
from libra_umop.data.coco.parsing import parse_coco
from libra_umop.data.defects import CLIPPED, DROPPED, KEPT, NOTE, REPAIRED
from libra_umop.errors import DatasetError
from testing.coco_files import document, load_coco, write_images, write_json

NAN, INF, MISSING = math.nan, math.inf, object()
HUGE = 10**400


def image(**fields):
    """The document with these fields of image 1 changed, or removed if MISSING."""
    return changed("images", 0, fields)


def annotation(**fields):
    """The same for annotation 10 of image 1."""
    return changed("annotations", 0, fields)


def category(**fields):
    """The same for category 3."""
    return changed("categories", 0, fields)


def changed(section, index, fields):
    content = document()
    for key, value in fields.items():
        content[section][index][key] = value
        if value is MISSING:
            del content[section][index][key]
    return content


def section(**fields):
    """The document with whole sections replaced, or removed if MISSING."""
    content = {**document(), **fields}
    return {key: value for key, value in content.items() if value is not MISSING}


def twice(name, index=0):
    """The document with an entry of a section repeated."""
    content = document()
    content[name].append(copy.deepcopy(content[name][index]))
    return content


TEXT = json.dumps(document())

# name: content of the file, and words that its one line must have, in this order
REFUSED = {
    "empty file": ("", ["is empty"]),
    "only spaces": ("  \n", ["is empty"]),
    "not JSON": ("id,file\n1,a.jpg", ["is not JSON", "line 1"]),
    "cut off": (TEXT[: len(TEXT) // 2], ["is not JSON", "cut off"]),
    "cut off in a text": (TEXT[: TEXT.index("cat") + 1], ["is not JSON"]),
    "two documents": (TEXT + TEXT, ["is not JSON", "Extra data"]),
    "not UTF-8": (b'{"images": "\xff\xfe\xfa"}', ["is not JSON"]),
    "a picture": (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", ["is not JSON"]),
    "gzip": (b"\x1f\x8b\x08\x00" + TEXT.encode(), ["compressed by gzip; should be unpacked"]),
    "a ZIP archive": (b"PK\x03\x04" + TEXT.encode(), ["is a ZIP archive"]),
    "a pointer of Git LFS": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n",
        ["is a pointer of Git LFS", "`git lfs pull`"],
    ),
    "a web page": ("\n<!DOCTYPE html><html>Log in</html>", ["is a web page"]),
    "annotations twice": (TEXT[:-1] + ', "annotations": []}', ["the key 'annotations' twice"]),
    "a box twice": (
        TEXT.replace('"iscrowd": 0', '"bbox": [1, 1, 2, 2]', 1),
        ["(with id 10) has the key 'bbox' twice; should have it once"],
    ),
    "an integer of 5000 digits": ('{"images": ' + "9" * 5000 + "}", ["is not JSON"]),
    "nested 100000 deep": ("[" * 100000, ["is not", "JSON"]),
    "a list": ([document()], ["holds a list", "should be an object"]),
    "null": (None, ["holds null"]),
    "a number": (3, ["holds a number"]),
    "no images": (section(images=MISSING), ['no "images"', "should be a list"]),
    "no annotations": (section(annotations=MISSING), ['no "annotations"']),
    "no categories": (section(categories=MISSING), ['no "categories"']),
    "images an object": (section(images={"1": {}}), ['"images" is an object']),
    "annotations null": (section(annotations=None), ['"annotations" is null']),
    "images empty": (section(images=[]), ['"images" is empty']),
    "categories empty": (section(categories=[]), ['"categories" is empty']),
    "annotations empty": (section(annotations=[]), ["none of its 2 images has an object"]),
    "only crowds": (
        section(annotations=[{**document()["annotations"][0], "iscrowd": 1}]),
        ["none of its 2 images has an object", "1 are crowd"],
    ),
    "only unusable boxes": (
        section(annotations=[{**document()["annotations"][0], "bbox": [0, 0, 0, 0]}]),
        ["none of its 2 images has an object", "1 are unusable"],
    ),
    "image a text": (section(images=["1.png"]), ["image number 0 is a text", "an object"]),
    "image id missing": (image(id=MISSING), ['image number 0: "id" is missing', "integer"]),
    "image id a text": (image(id="one"), ["image number 0: \"id\" is 'one'", "integer"]),
    "image id a list": (image(id=[1]), ['image number 0: "id" is [1]']),
    "image id NaN": (image(id=NAN), ['image number 0: "id" is nan']),
    "image id twice": (twice("images"), ["image id 1: is declared twice"]),
    "width missing": (image(width=MISSING), ["image id 1:", "1.png", '"width" is missing']),
    "height a text": (image(height="64px"), ["image id 1:", "\"height\" is '64px'"]),
    "width zero": (image(width=0), ["image id 1:", '"width" is 0', "1 or more"]),
    "height fractional": (image(height=63.5), ["image id 1:", '"height" is 63.5']),
    "file_name missing": (image(file_name=MISSING), ["image id 1:", '"file_name" is None']),
    "file_name a number": (image(file_name=7), ["image id 1:", '"file_name" is 7']),
    "file_name empty": (image(file_name=""), ["image id 1:", "\"file_name\" is ''"]),
    "file_name above": (image(file_name="../1.png"), ["image id 1:", "'../1.png' leaves"]),
    "file_name above, inside": (image(file_name="a/../../b/1.png"), ["image id 1:", "leaves"]),
    "file_name above, Windows": (image(file_name="..\\1.png"), ["image id 1:", "leaves"]),
    "file_name absolute": (image(file_name="/etc/passwd"), ["image id 1:", "leaves"]),
    "file_name with drive": (image(file_name="C:\\1.png"), ["image id 1:", "leaves"]),
    "file_name a URL": (image(file_name="http://a.b/1.png"), ["image id 1:", "leaves"]),
    "file_name with NUL": (image(file_name="1.png\0"), ["image id 1:", "cannot be the name"]),
    "file_name half a pair": (image(file_name="\ud800.png"), ["image id 1:", "cannot be the name"]),
    "category id missing": (category(id=MISSING), ['category number 0: "id" is missing']),
    "category id a text": (category(id="c3"), ["category number 0: \"id\" is 'c3'"]),
    "category id twice": (category(id=7), ["category id 7: is declared twice"]),
    "category name missing": (category(name=MISSING), ['category id 3: "name" is None']),
    "category name a number": (category(name=5), ['category id 3: "name" is 5']),
    "category name blank": (category(name=" "), ["category id 3: \"name\" is ' '"]),
    "category name twice": (category(name="dog"), ["category id 7:", "'dog' like category id 3"]),
    "category a text": (section(categories=["cat"]), ["category number 0 is a text"]),
    "annotation a list": (section(annotations=[[1]]), ["annotation number 0 is a list"]),
    "annotation id missing": (
        annotation(id=MISSING),
        ["image id 1: annotation number 0", '"id" is missing'],
    ),
    "annotation id a text": (annotation(id="a10"), ["annotation number 0: \"id\" is 'a10'"]),
    "annotation id twice": (twice("annotations"), ["image id 1, annotation id 10", "used twice"]),
    "image_id missing": (annotation(image_id=MISSING), ["annotation id 10", 'no "image_id"']),
    "image_id a text": (annotation(image_id="1.png"), ["annotation id 10", '"image_id" is \'1.p']),
    "image_id undeclared": (annotation(image_id=9), ["annotation id 10", "9 is not declared"]),
    "category_id missing": (
        annotation(category_id=MISSING),
        ["image id 1, annotation id 10", 'no "category_id"'],
    ),
    "category_id undeclared": (
        annotation(category_id=4),
        ["image id 1, annotation id 10", '"category_id" 4 is not declared'],
    ),
    "category_id true": (annotation(category_id=True), ["annotation id 10", "is True"]),
    "bbox missing": (annotation(bbox=MISSING), ["image id 1, annotation id 10", 'no "bbox"']),
    "bbox null": (annotation(bbox=None), ["annotation id 10", '"bbox" is None']),
    "bbox an object": (annotation(bbox={"x": 1}), ["annotation id 10", "[x, y, width, height]"]),
    "bbox empty": (annotation(bbox=[]), ["annotation id 10", "has 0 values"]),
    "bbox of 3": (annotation(bbox=[1, 2, 3]), ["annotation id 10", "has 3 values, [1, 2, 3]"]),
    "bbox of 5": (annotation(bbox=[1, 2, 3, 4, 5]), ["annotation id 10", "has 5 values"]),
    "bbox of texts": (annotation(bbox=["1", "2", "3", ""]), ["annotation id 10", "four numbers"]),
    "bbox with null": (annotation(bbox=[1, 2, None, 4]), ["annotation id 10", "four numbers"]),
    "bbox with true": (annotation(bbox=[1, 2, True, 4]), ["annotation id 10", "four numbers"]),
    "iscrowd 2": (annotation(iscrowd=2), ["annotation id 10", '"iscrowd" is 2', "0 or 1"]),
    "iscrowd a text": (annotation(iscrowd="no"), ["annotation id 10", "\"iscrowd\" is 'no'"]),
    "images null": (section(images=None), ['"images" is null']),
    "categories a text": (section(categories="cat"), ['"categories" is a text']),
    "image null": (section(images=[None]), ["image number 0 is null"]),
    "annotation a number": (section(annotations=[5]), ["annotation number 0 is a number"]),
    "image id true": (image(id=True), ['image number 0: "id" is True']),
    "image id beyond 64 bits": (image(id=2**63), ['image number 0: "id" is 9223372036854775808']),
    "width NaN": (image(width=NAN), ["image id 1:", '"width" is nan']),
    "height negative": (image(height=-64), ["image id 1:", '"height" is -64', "1 or more"]),
    "width beyond any file": (image(width=2**31), ["image id 1:", '"width" is 2147483648']),
    "category_id a text": (annotation(category_id="cat"), ["id 10", "\"category_id\" is 'cat'"]),
    "bbox a text": (annotation(bbox="8 8 40 30"), ["annotation id 10", "is '8 8 40 30'"]),
    "bbox nested": (annotation(bbox=[[8, 8], [40, 30]]), ["annotation id 10", "has 2 values"]),
    "ignore 2": (annotation(ignore=2), ["annotation id 10", '"ignore" is 2', '"iscrowd"']),
    "ignore a text": (annotation(ignore="yes"), ["annotation id 10", "\"ignore\" is 'yes'"]),
    "width the text nan": (image(width="nan"), ["image id 1:", "\"width\" is 'nan'"]),
    "width with underscore": (image(width="9_6"), ["image id 1:", "\"width\" is '9_6'"]),
    "id null": (annotation(id=None), ["annotation number 0", '"id" is None']),
    "width null": (image(width=None), ["image id 1:", '"width" is None']),
    "category_id null": (annotation(category_id=None), ["annotation id 10", "is None"]),
    "bbox a text of three": (annotation(bbox="[8, 8, 40]"), ["annotation id 10", "has 3 values"]),
    "file_name above, quoted": (image(file_name="%2e%2e/1.png"), ["image id 1:", "leaves"]),
    "file_name absolute, quoted": (image(file_name="%2Fetc/passwd"), ["image id 1:", "leaves"]),
    "ids of one number": (
        section(images=[*document()["images"], {**document()["images"][0], "id": "1"}]),
        ["image id 1: is declared twice"],
    ),
}

# name: the document, kind and words of the defect, and what annotation 10 is read as
READ = {
    "image id a text": (image(id="1"), "number_text", "\"id\" is '1'", {"image_id": 1}),
    "size as texts": (image(width="96", height="64.0"), "number_text", '"height"', {}),
    "category id a text": (category(id="3"), "number_text", "\"id\" is '3'", {"category_id": 3}),
    "annotation id a text": (annotation(id=" 10 "), "number_text", "' 10 '", {"id": 10}),
    "image_id a text": (annotation(image_id="1"), "number_text", "image_id", {"image_id": 1}),
    "category_id text": (annotation(category_id="3"), "number_text", "is '3'", {"category_id": 3}),
    "bbox of texts": (
        annotation(bbox=["8", "8.0", "4e1", "30"]),
        "number_text",
        "'4e1'",
        {"bbox": [8, 8, 40, 30]},
    ),
    "bbox as one text": (
        annotation(bbox="[8, 8, 40.5, 30]"),
        "number_text",
        "40.5",
        {"bbox": [8, 8, 40.5, 30]},
    ),
    "area a text": (annotation(area="12.5"), "number_text", "'12.5'", {"area": 12.5}),
    "iscrowd a text": (annotation(iscrowd="0"), "number_text", "'0'", {"iscrowd": 0}),
    "iscrowd null": (annotation(iscrowd=None), "null_value", '"iscrowd" null', {"iscrowd": 0}),
    "area null": (annotation(area=None), "null_value", '"area" null', {"area": 1200}),
    "all null": (
        annotation(iscrowd=None, area=None, segmentation=None, ignore=None),
        "null_value",
        '"iscrowd", "ignore", "area", "segmentation" null',
        {"iscrowd": 0, "area": 1200},
    ),
    "ignore": (annotation(ignore=1), "ignore", '"iscrowd": 1', {"iscrowd": 1}),
    "ignore true": (annotation(ignore=True), "ignore", '"iscrowd": 1', {"iscrowd": 1}),
    "ignore a text": (annotation(ignore="1"), "ignore", '"iscrowd": 1', {"iscrowd": 1}),
}

# name: the document, how it is repaired, the kind of defect and words of its line
LOST = {
    "x NaN": (annotation(bbox=[NAN, 8, 40, 30]), DROPPED, "bbox_nan", "[nan, 8, 40, 30]"),
    "width NaN": (annotation(bbox=[8, 8, NAN, 30]), DROPPED, "bbox_nan", "finite"),
    "y infinite": (annotation(bbox=[8, INF, 40, 30]), DROPPED, "bbox_inf", "inf"),
    "height infinite": (annotation(bbox=[8, 8, 40, INF]), DROPPED, "bbox_inf", "inf"),
    "beyond floats": (annotation(bbox=[8, 8, HUGE, 30]), DROPPED, "bbox_inf", "finite"),
    "negative width": (annotation(bbox=[48, 8, -40, 30]), DROPPED, "bbox_negative", "-40"),
    "XYXY, reversed": (annotation(bbox=[48, 38, -40, -30]), DROPPED, "bbox_negative", "-30"),
    "zero width": (annotation(bbox=[8, 8, 0, 30]), DROPPED, "bbox_zero", "[8, 8, 0, 30]"),
    "zero height": (annotation(bbox=[8, 8, 40, 0.0]), DROPPED, "bbox_zero", "above 0"),
    "right of it": (annotation(bbox=[200, 8, 40, 30]), DROPPED, "bbox_outside", "96 x 64"),
    "above it": (annotation(bbox=[8, -90, 40, 30]), DROPPED, "bbox_outside", "96 x 64"),
    "over the right edge": (annotation(bbox=[80, 8, 40, 30]), CLIPPED, "bbox_clipped", "24 px"),
    "over the top edge": (annotation(bbox=[8, -9, 40, 30]), CLIPPED, "bbox_clipped", "9 px"),
    "box twice": (
        annotation(bbox=[60.0, 20.0, 24.0, 28.0], category_id=7),
        KEPT,
        "box_twice",
        "annotation id 10",
    ),
    "file twice": (image(file_name="2.png"), KEPT, "file_name_twice", "'2.png'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_malformed_file_is_refused_in_one_line_that_says_where_and_what(tmp_path, name):
    content, words = REFUSED[name]
    path = write_json(tmp_path / "train.json", json.dumps(content) if content is None else content)
    with pytest.raises(DatasetError) as e:
        load_coco(path, [str(tmp_path)])
    message = str(e.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    position = 0
    for word in words:
        assert word in message[position:], message
        position = message.index(word, position)


@pytest.mark.parametrize("name", LOST)
def test_unusable_box_is_dropped_counted_and_named_and_refused_if_strict(tmp_path, name):
    content, severity, kind, words = LOST[name]
    path = write_json(tmp_path / "train.json", content)
    data = load_coco(path, [str(tmp_path)])
    defect = next(d for d in data.defects if d.kind == kind)
    assert defect.severity == severity and words in str(defect) and "image id " in str(defect)
    assert len(data.annotations) == 4 - (severity == DROPPED)
    assert data.exact == (severity == KEPT)
    if severity == KEPT:
        load_coco(path, [str(tmp_path)], strict=True)
    else:
        assert defect.image_id == 1 and defect.annotation_id == 10
        with pytest.raises(DatasetError, match="image id 1, annotation id 10"):
            load_coco(path, [str(tmp_path)], strict=True)


@pytest.mark.parametrize("name", READ)
def test_what_has_one_meaning_is_read_so_counted_and_named_and_refused_if_strict(tmp_path, name):
    content, kind, words, meant = READ[name]
    path = write_json(tmp_path / "train.json", content)
    write_images(tmp_path, document())
    data = load_coco(path, [str(tmp_path)])
    defect = next(d for d in data.defects if d.kind == kind)
    assert defect.severity == REPAIRED and words in defect.message
    assert len(data.annotations) == 4 and not data.exact
    assert meant.items() <= data.annotations[0].items()
    assert data.images[0] == document()["images"][0]
    with pytest.raises(DatasetError, match=f"^{path}: .*; read as|^{path}: .* null"):
        load_coco(path, [str(tmp_path)], strict=True)


@pytest.mark.parametrize("flags", [{"ignore": 0}, {"ignore": False}, {"iscrowd": 1, "ignore": 1}])
def test_flags_that_change_nothing_are_no_defect(flags):
    data = parse_coco(annotation(**flags), "train.json", ["."])
    assert not [d for d in data.defects if d.severity != NOTE]
    assert data.annotations[0]["iscrowd"] == flags.get("iscrowd", 0)


@pytest.mark.parametrize("num_crowds, noted", [(3, False), (4, True)])
def test_many_crowd_regions_get_a_note(num_crowds, noted):
    content = document(50)  # of 100 annotations
    for a in content["annotations"][:num_crowds]:
        a["iscrowd"] = 1
    data = parse_coco(content, "train.json", ["."])
    assert [d.kind for d in data.defects] == ["many_crowds"] * noted
    assert not noted or "4 of 100 annotations (4 per cent)" in data.defects[0].message
    assert data.exact


def test_there_are_at_least_100_kinds_of_malformed_files():
    assert len(REFUSED) + len(LOST) + len(READ) >= 100


def test_all_defects_are_found_not_only_the_first():
    content = document()
    content["images"][0]["width"] = 0
    content["images"][1]["file_name"] = "../2.png"
    content["categories"][0]["name"] = ""
    content["annotations"][0]["bbox"] = [1]
    content["annotations"][1]["category_id"] = 99
    content["annotations"][2]["image_id"] = None
    kinds = [d.kind for d in parse_coco(content, "train.json", ["."]).defects]
    assert kinds == [
        "category_name",
        "image_size",
        "file_name",
        "bbox_length",
        "category_id_undeclared",
        "image_id_type",
    ]


def test_what_belongs_to_a_refused_image_or_class_is_not_reported_again():
    content = changed("images", 0, {"width": 0})
    content["categories"][0]["name"] = None
    kinds = [d.kind for d in parse_coco(content, "train.json", ["."]).defects]
    assert kinds == ["category_name", "image_size"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_unicode_encodings_are_read(tmp_path, encoding):
    content = category(name="猫")
    path = write_json(tmp_path / "a.json", json.dumps(content, ensure_ascii=False).encode(encoding))
    assert read_json(path) == content


@pytest.mark.parametrize("what", ["missing", "folder"])
def test_unreadable_file_is_named(tmp_path, what):
    path = tmp_path / "train.json"
    if what == "folder":
        path.mkdir()
    with pytest.raises(DatasetError, match="train.json: cannot be read"):
        read_json(str(path))


def test_whole_floats_serve_as_integers_and_missing_flags_as_none():
    content = document()
    content["images"][0].update(id=1.0, width=96.0)
    content["annotations"][0].update(id=10.0, category_id=3.0)
    del content["annotations"][0]["iscrowd"], content["annotations"][0]["area"]
    data = parse_coco(content, "train.json", ["."])
    assert not data.defects and not data.exact
    assert data.images[0]["width"] == 96 and type(data.images[0]["width"]) is int
    assert data.annotations[0]["iscrowd"] == 0 and data.annotations[0]["area"] == 1200


def test_box_within_the_edge_tolerance_is_kept_as_it_is():
    data = parse_coco(annotation(bbox=[-0.9, 8, 97.8, 30]), "train.json", ["."])
    assert not data.defects and data.annotations[0]["bbox"] == [-0.9, 8, 97.8, 30]


def test_clipped_box_ends_at_the_edge():
    data = parse_coco(annotation(bbox=[80, -9, 40, 30]), "train.json", ["."])
    assert data.annotations[0]["bbox"] == [80, 0, 16, 21]
    content = document()
    assert data.annotations[1:] == content["annotations"][1:]


def test_masks_are_checked_when_asked_for():
    good = [[8, 8, 48, 8, 48, 38]]
    content = document()
    for a, mask in zip(
        content["annotations"],
        [
            good,
            [[1, 2, 3]],
            {"size": [64, 96], "counts": [6000, 144]},
            [*good, [1, 2, 3, NAN, 5, 6]],
        ],
        strict=True,
    ):
        a["segmentation"] = mask
    assert not parse_coco(content, "train.json", ["."]).defects
    data = parse_coco(content, "train.json", ["."], masks=True)
    assert [d.kind for d in data.defects] == ["mask"] and data.defects[0].annotation_id == 11
    assert [a["segmentation"] for a in data.annotations] == [
        good,
        {"size": [64, 96], "counts": [6000, 144]},
        good,
    ]


def test_images_whose_truth_is_kept_elsewhere_need_no_annotations():
    data = parse_coco(section(annotations=MISSING), "test.json", ["."], annotated=False)
    assert not data.defects and len(data.images) == 2
