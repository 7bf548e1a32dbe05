"""tools/report.py --dataset reads what training reads, or says in one line why not."""

import json

import numpy as np
import pytest
from PIL import Image
from test_report import write_dataset, write_run

from libra_umop.imbalance import records
from testing.layout_writers import WRITERS


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


@pytest.mark.parametrize("layout", ["COCO's own folders", "VOC", "CVAT"])
def test_report_is_lent_data_in_their_own_layout(tool, tmp_path, capsys, layout):
    plain = write_dataset(tmp_path / "data")
    documents = {
        split: json.loads((plain / "annotations" / f"{split}.json").read_text())
        for split in ("train", "val")
    }
    for split, content in documents.items():
        for image in content["images"]:
            (plain / "images" / f"{split}_{image['id']}.jpg").write_bytes(
                (plain / "images" / image["file_name"]).read_bytes()
            )
            image["file_name"] = f"{split}_{image['id']}.jpg"
    (tmp_path / "own").mkdir()
    WRITERS[layout](tmp_path / "own", documents, plain / "images")
    run = write_run(tmp_path / "run", plain, knows_data=False)
    (run / records.FOLDER / records.STEPS_FILE).unlink()
    assert tool("report").main([str(run), "--dataset", str(tmp_path / "own")]) == 0
    assert "4 boxes in 4 training images" in capsys.readouterr().out
    page = (run / "report.html").read_text()
    assert "val_1.jpg" in page  # the pictures are found, with what was detected in them


def test_data_of_other_ids_than_the_runs_are_refused_in_one_line(tool, tmp_path, capsys):
    dataset = write_dataset(tmp_path / "data")
    run = write_run(tmp_path / "run", dataset, knows_data=False)
    for key, name in (("categories", "category_id"), ("images", "image_id")):
        file = dataset / "annotations" / "val.json"
        content = json.loads(file.read_text())
        before = dict(content)
        content[key] = [e for e in content[key] if e["id"] != 2]
        content["annotations"] = [a for a in content["annotations"] if a[name] != 2]
        file.write_text(json.dumps(content))
        assert tool("report").main([str(run), "--dataset", str(dataset)]) == 2
        err = capsys.readouterr().err
        assert f"has no {name} 2" in err and err.count("\n") == 1
        file.write_text(json.dumps(before))


def test_split_makes_the_validation_images_that_a_run_was_evaluated_on(tool, tmp_path, capsys):
    """A set of one split, of which training kept a part aside: the same part, from its record."""
    dataset = write_dataset(tmp_path / "data", num_images=10)
    (dataset / "annotations" / "val.json").unlink()
    for i, file in enumerate(sorted((dataset / "images").iterdir())):  # of equal ones none is apart
        noise = np.random.default_rng(i).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(file)
    run = write_run(tmp_path / "run", dataset, knows_data=False)
    (run / records.FOLDER / records.STEPS_FILE).unlink()
    (run / "inference" / "coco_instances_results.json").unlink()
    argv = [str(run), "--dataset", str(dataset)]
    assert tool("report").main(argv) == 0
    assert "10 boxes in 10 training images" in capsys.readouterr().out
    assert tool("report").main([*argv, "--split", "0.7"]) == 0
    assert "7 boxes in 7 training images" in capsys.readouterr().out


def test_split_without_a_dataset_is_one_line(tool, tmp_path, capsys):
    run = write_run(tmp_path / "run", write_dataset(tmp_path / "data"), knows_data=False)
    assert tool("report").main([str(run), "--split", "0.7"]) == 2
    err = capsys.readouterr().err
    assert (
        err.count("\n") == 1
        and "--split is for one's own data, and none are named; give --dataset DIR" in err
    )
