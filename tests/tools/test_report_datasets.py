"""tools/report.py --dataset reads what training reads, or says in one line why not."""

import json

import pytest
from test_report import write_dataset, write_run

from libra_umop.imbalance import records


def nan_boxes(content):
    content["annotations"][0]["bbox"] = [float("nan"), 4, 20, 20]


def null_box(content):
    content["annotations"][0]["bbox"] = None


def no_objects(content):
    content["annotations"] = []


def texts_and_nulls(content):
    for a in content["annotations"]:
        a.update(bbox=[str(v) for v in a["bbox"]], area=None, iscrowd=None)


def backslashes(content):
    for image in content["images"]:
        image["file_name"] = f"..\\images\\{image['file_name']}".removeprefix("..\\")


def grouping_category(content):
    for category in content["categories"]:
        category["supercategory"] = "cat & co"
    content["categories"].insert(0, {"id": 0, "name": "cat & co", "supercategory": "none"})


def ids_as_texts(content):
    for image in content["images"]:
        image["id"] = str(image["id"])


def encoded(content):
    """Nothing but the byte order mark of the file."""


ODD = [
    *(nan_boxes, null_box, no_objects, texts_and_nulls, backslashes, grouping_category),
    *(ids_as_texts, encoded),
]


@pytest.mark.parametrize("change", ODD)
@pytest.mark.parametrize("split", ["train", "val"])
def test_report_reads_odd_files(tool, tmp_path, capsys, change, split):
    dataset = write_dataset(tmp_path / "data")
    file = dataset / "annotations" / f"{split}.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content), encoding="utf-8-sig")
    run = write_run(tmp_path / "run", dataset, knows_data=False)
    results = run / "inference" / "coco_instances_results.json"
    results.write_text(results.read_text(), encoding="utf-8-sig")
    (run / records.FOLDER / records.STEPS_FILE).unlink()
    assert tool("report").main([str(run), "--dataset", str(dataset)]) == 0
    boxes = len([a for a in content["annotations"] if a["bbox"] not in (None,)])
    boxes -= change is nan_boxes
    expected = 4 if split == "val" else boxes
    out = capsys.readouterr().out
    assert f"{expected} boxes in 4 training images" in out or not expected


@pytest.mark.parametrize(
    "text, said",
    [
        ("{", "is not JSON"),
        ("[]", "holds a list"),
        ("", "is empty"),
        ('{"images": []}', '"images" is empty'),
    ],
)
@pytest.mark.parametrize("split", ["train", "val"])
def test_report_names_a_file_that_cannot_be_read(tool, tmp_path, capsys, text, said, split):
    dataset = write_dataset(tmp_path / "data")
    (dataset / "annotations" / f"{split}.json").write_text(text)
    run = write_run(tmp_path / "run", dataset, knows_data=False)
    assert tool("report").main([str(run), "--dataset", str(dataset)]) == 2
    err = capsys.readouterr().err
    assert f"{split}.json: " in err and said in err and err.count("\n") == 1
