"""Data in people's own layouts: checked, converted, trained on, evaluated; COCO's numbers."""

import contextlib
import io
import json

import cv2
import numpy as np
import pytest

from libra_umop.cli.commands.check import main as check
from libra_umop.cli.commands.train import main as train
from libra_umop.data.datasets import dataset_dicts, load_dataset
from libra_umop.data.layouts.table import find_splits
from libra_umop.errors import DatasetError
from testing.coco_files import document, write_dataset, write_images, write_json
from testing.engine_runs import DETECTING, write_config
from testing.engine_runs import write_dataset as write_drawn
from testing.layout_writers import WRITERS


def ran(main, *argv):
    """Exit code and what was printed."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            code = main([str(arg) for arg in argv])
        except SystemExit as e:
            code = e.code
    return code, out.getvalue()


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Rectangles as COCO, whose classes are in the order of the alphabet, as some layouts'."""
    root = write_drawn(tmp_path_factory.mktemp("drawn") / "plain", empty=())
    for file in (root / "annotations").iterdir():
        file.write_text(file.read_text().replace('"red"', '"crimson"'))
    return root


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_config(tmp_path_factory.mktemp("config") / "c.yaml", DETECTING)


def in_layout(layout, drawn, root):
    documents = {
        split: json.loads((drawn / "annotations" / f"{split}.json").read_text())
        for split in ("train", "val")
    }
    root.mkdir()
    WRITERS[layout](root, documents, drawn / "images")
    return root


def metrics(folder):
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    losses = [line["total_loss"] for line in lines if "total_loss" in line]
    return losses, next(line["bbox/AP"] for line in lines[::-1] if "bbox/AP" in line)


@pytest.mark.parametrize("layout", ["YOLO of Roboflow", "VOC", "CVAT"])
def test_training_and_evaluation_give_the_numbers_of_the_same_data_as_coco(
    tmp_path, drawn, config, layout
):
    root = in_layout(layout, drawn, tmp_path / "own")
    found = []
    for name, data in (("own", root), ("plain", drawn)):
        args = ("--config-file", config, "--dataset", data, "OUTPUT_DIR", tmp_path / f"out_{name}")
        assert ran(train, *args, "SOLVER.MAX_ITER", "2", "SOLVER.STEPS", "()")[0] == 0
        found.append(metrics(tmp_path / f"out_{name}"))
    assert found[0] == found[1]


def test_a_validation_split_alone_is_checked_and_evaluated_and_not_trained_on(
    tmp_path, drawn, config, capsys
):
    root = in_layout("COCO's own folders", drawn, tmp_path / "own")
    out = tmp_path / "out"
    short = ("SOLVER.MAX_ITER", "2", "SOLVER.STEPS", "()")
    args = ("--config-file", config, "--dataset", root)
    assert ran(train, *args, *short, "OUTPUT_DIR", out)[0] == 0
    (root / "annotations" / "instances_train2017.json").unlink()
    assert ran(check, "--dataset", root)[0] == 0
    weights = ("MODEL.WEIGHTS", out / "model_final.pth", "OUTPUT_DIR", tmp_path / "eval")
    assert ran(train, *args, "--eval-only", *weights)[0] == 0
    assert (tmp_path / "eval" / "inference" / "coco_instances_results.json").is_file()
    assert ran(train, *args, "OUTPUT_DIR", tmp_path / "no")[0] == 2
    assert "has no training split" in capsys.readouterr().err


def test_a_split_is_made_for_training_and_kept(tmp_path, drawn, config, capsys):
    root = in_layout("YOLO", drawn, tmp_path / "own")
    data = (root / "data.yaml").read_text().replace("val: images/val", "")
    (root / "data.yaml").write_text(data)
    before = sorted(p for p in root.rglob("*"))
    out = tmp_path / "out"
    short = ("SOLVER.MAX_ITER", "2", "SOLVER.STEPS", "()")
    args = ("--config-file", config, "--dataset", root, "--split")
    assert ran(train, *args, "0.7", *short, "OUTPUT_DIR", out)[0] == 0
    record = json.loads((out / "split.json").read_text())
    assert (len(record["train"]), len(record["val"])) == (5, 2)
    assert isinstance(metrics(out)[1], float)
    assert sorted(p for p in root.rglob("*")) == before
    again = ("--split-seed", "5", "--resume", "SOLVER.MAX_ITER", "3", "SOLVER.STEPS", "()")
    assert ran(train, *args, "0.5", *again, "OUTPUT_DIR", out)[0] == 0
    assert json.loads((out / "split.json").read_text())["val"] == record["val"]
    other = ("--split-seed", "5", "--eval-only", "OUTPUT_DIR", out)
    assert ran(train, *args, "0.7", *other)[0] == 2
    assert "is of another division" in capsys.readouterr().err


def test_a_split_beside_a_validation_split_is_refused(tmp_path, capsys):
    root = write_dataset(tmp_path)
    assert ran(check, "--dataset", root, "--split", "0.8")[0] == 2
    assert "val.json: is a validation split already" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0", "1", "1.5", "nan", "no_such_file"])
def test_a_part_that_is_none_is_refused(tmp_path, text, capsys):
    assert ran(check, "--dataset", tmp_path, "--split", text)[0] == 2
    assert "--split" in capsys.readouterr().err


@pytest.mark.parametrize("layout", WRITERS)
def test_converting_gives_clean_coco_of_the_same_content(tmp_path, layout):
    documents = {"train": document(3), "val": document(2)}
    for seed, (split, content) in enumerate(documents.items()):
        for image in content["images"]:
            image["file_name"] = f"{split}-{image['file_name']}"
        write_images(tmp_path / "images", content, seed)
    (tmp_path / "own").mkdir()
    WRITERS[layout](tmp_path / "own", documents, tmp_path / "images")
    assert ran(check, "--dataset", tmp_path / "own", "--convert", tmp_path / "clean")[0] == 0
    own, clean = (load_dataset("x", find_splits(str(tmp_path / n))) for n in ("own", "clean"))
    assert own.class_names == clean.class_names and all(d.exact for d in clean.splits.values())
    ids = {c["id"]: i for i, c in enumerate(own.categories)}
    for split, data in own.splits.items():
        pairs = zip(dataset_dicts(data, ids), dataset_dicts(clean.splits[split], ids), strict=True)
        for before, after in pairs:
            same = np.array_equal(cv2.imread(before["file_name"]), cv2.imread(after["file_name"]))
            assert same and before["annotations"] == after["annotations"]
    assert ran(check, "--dataset", tmp_path / "clean")[0] == 0


def test_converting_keeps_masks_drops_what_training_drops_and_touches_nothing_used(
    tmp_path, capsys
):
    content = document(2)
    content["annotations"][0]["segmentation"] = [[8, 8, 48, 8, 48, 38]]
    content["annotations"][1]["bbox"] = [0, 0, 0, 9]
    root = write_dataset(tmp_path / "own", content)
    assert ran(check, "--dataset", root, "--convert", tmp_path / "clean")[0] == 1
    written = json.loads((tmp_path / "clean" / "annotations" / "train.json").read_text())
    assert [a["id"] for a in written["annotations"]] == [10, 20, 21]
    assert written["annotations"][0]["segmentation"] == [[8, 8, 48, 8, 48, 38]]
    capsys.readouterr()
    assert ran(check, "--dataset", root, "--convert", tmp_path / "clean")[0] == 2
    assert "is there and not empty" in capsys.readouterr().err
    write_json(tmp_path / "own" / "annotations" / "val.json", "{")
    assert ran(check, "--dataset", root, "--convert", tmp_path / "other")[0] == 2
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("num_classes", [2, 80])
def test_the_gallery_is_drawn(tmp_path, num_classes):
    content = document(5)
    content["categories"] = [{"id": i, "name": f"class number {i}"} for i in range(num_classes)]
    for k, a in enumerate(content["annotations"]):
        a["category_id"] = k % num_classes
    file = tmp_path / "g.png"
    root = write_dataset(tmp_path / "own", content, content)
    assert ran(check, "--dataset", root, "--gallery", file)[0] in (0, 1)
    sheet = cv2.imread(str(file))
    assert sheet.shape[0] > 300 and sheet.shape[1] > 600
    colours = {tuple(c) for c in sheet.reshape(-1, 3)[::7].tolist()}
    assert (255, 255, 255) in colours and len(colours) > 100


def test_no_gallery_of_what_cannot_be_used(tmp_path, capsys):
    root = write_dataset(tmp_path / "own")
    write_json(tmp_path / "own" / "annotations" / "train.json", "{")
    assert ran(check, "--dataset", root, "--gallery", tmp_path / "g.png")[0] == 2
    assert ran(check, "--dataset", root, "--gallery", tmp_path / "g.txt")[0] == 2
    assert "should end in .png" in capsys.readouterr().err


def test_a_layout_that_is_not_read_is_named(tmp_path):
    for i, (names, said) in enumerate(
        [
            (["cells.zip"], "a packed dataset.*unpack it"),
            (["images/a.jpg", "labels/a.txt"], "YOLO without its data.yaml"),
            (["training/label_2/000000.txt"], "KITTI"),
            (["train/cells.tfrecord"], "TFRecord"),
            (["VOCdevkit/VOC2012/x"], "VOC's devkit"),
            (["meta.json", "ds0/ann/a.jpg.json"], "Supervisely"),
        ]
    ):
        for name in names:
            path = tmp_path / str(i) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}")
        with pytest.raises(DatasetError, match=f"looks like {said}"):
            find_splits(str(tmp_path / str(i)))
