"""tools/predict.py --dataset: a split of a set, with ids by which pycocotools scores it."""

import contextlib
import io
import json
from pathlib import Path

import pytest
import train_net
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from libra_umop.data.shapes import write_shapes
from libra_umop.training.checkpoint.run_content import read_run
from testing.coco_files import document, write_dataset, write_images, write_json
from testing.layout_writers import WRITERS

RETINANET = "configs/COCO-Detection/umop_retinanet_R_50_FPN_1x.yaml"
NAMES = {3: "circle", 7: "square", 8: "star"}


def of_our_classes(num_images):
    """Of the classes of the tiny checkpoint, ids 3, 7 and 8; image ids from 11."""
    content = document(num_images)
    for image in content["images"]:
        image["id"] += 10
    for annotation in content["annotations"]:
        annotation["image_id"] += 10
    content["categories"] = [{"id": i, "name": name} for i, name in NAMES.items()]
    return content


@pytest.fixture
def data(tmp_path):
    return write_dataset(tmp_path / "data", of_our_classes(4), of_our_classes(3))


def test_images_of_the_validation_split_have_their_ids(predict, data, tmp_path):
    out = tmp_path / "found.json"
    args = ("--dataset", data, "--threshold", 0.06, "--json", out)
    code, printed, err = predict(*args)
    assert code == 0 and not err
    assert "3 images of the val split" in printed
    results = json.loads(out.read_text())
    assert {r["image_id"] for r in results} == {11, 12, 13}
    assert all(r["category_name"] == NAMES[r["category_id"]] for r in results)
    by_files = tmp_path / "by_files.json"
    annotations = Path(data, "annotations", "val.json")
    code, _, err = predict(
        *(Path(data, "images", "val"), "--annotations", annotations),
        *("--threshold", 0.06, "--json", by_files),
    )
    assert code == 0 and json.loads(by_files.read_text()) == results


def test_other_layouts_have_the_ids_of_their_clean_coco(predict, tool, tmp_path):
    documents = {"train": of_our_classes(4), "val": of_our_classes(3)}
    write_images(tmp_path / "images", documents["train"])
    root = tmp_path / "yolo"
    WRITERS["YOLO"](root, documents, tmp_path / "images")
    out = tmp_path / "found.json"
    assert predict("--dataset", root, "--threshold", 0.06, "--json", out)[0] == 0
    clean = tmp_path / "clean"
    assert tool("check_dataset").main(["--dataset", str(root), "--convert", str(clean)]) in (0, 1)
    truth = json.loads((clean / "annotations" / "val.json").read_text())
    files = {image["id"]: image["file_name"] for image in truth["images"]}
    classes = {c["id"]: c["name"] for c in truth["categories"]}
    results = json.loads(out.read_text())
    assert results and {r["image_id"] for r in results} <= set(files)
    for r in results:
        assert Path(files[r["image_id"]]).name == Path(r["file_name"]).name
        assert classes[r["category_id"]] == r["category_name"]


def test_split_makes_the_validation_images_of_training(predict, tmp_path):
    root = tmp_path / "one"
    content = of_our_classes(10)
    write_json(root / "annotations" / "train.json", content)
    write_images(root / "images" / "train", content)
    out = tmp_path / "found.json"
    args = ("--dataset", root, "--split", "0.7", "--threshold", 0.06, "--json", out)
    code, printed, _ = predict(*args)
    assert code == 0 and "3 images of the val split" in printed
    shown = {r["image_id"] for r in json.loads(out.read_text())}
    code, _, _ = predict(*args, "--split-seed", 1)
    assert code == 0 and {r["image_id"] for r in json.loads(out.read_text())} != shown
    code, printed, _ = predict("--dataset", root, "--threshold", 0.06)
    assert code == 0 and "10 images of the train split" in printed


@pytest.mark.parametrize("split, number", [("train", 4), ("val", 3), ("test", 2)])
def test_the_images_of_a_named_split_are_taken(predict, data, split, number):
    test = of_our_classes(2)
    write_json(Path(data, "annotations", "test.json"), test)
    write_images(Path(data, "images", "test"), test)
    code, printed, _ = predict("--dataset", data, "--on", split, "--threshold", 0.06)
    assert code == 0 and f"{number} images of the {split} split" in printed


def test_a_split_that_is_not_there_is_one_line(predict, data):
    code, _, err = predict("--dataset", data, "--on", "test")
    assert code == 2 and err.count("\n") == 1
    assert f"{data}: has no test split, but train, val" in err
    code, _, err = predict("photo.png", "--on", "test")
    assert code == 2 and "--on is for --dataset" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "args, said",
    [
        (["photo.png"], "--dataset and photo.png are given; should be one of them"),
        (["--annotations", "val.json"], "--dataset and --annotations are given"),
    ],
)
def test_two_ways_of_naming_images_are_refused(predict, data, args, said):
    code, _, err = predict("--dataset", data, *args)
    assert code == 2 and said in err and err.count("\n") == 1


def test_nothing_named_is_one_line(predict):
    code, _, err = predict()
    assert code == 2 and err == "nothing to predict on; name images or --dataset DIR\n"
    code, _, err = predict("--split", "0.5")
    assert code == 2 and err.count("\n") == 1 and "give --dataset DIR\n" in err


def test_a_dataset_of_other_classes_is_refused(predict, tmp_path):
    root = write_dataset(tmp_path / "pets")
    code, _, err = predict("--dataset", root)
    assert code == 2 and "is of other classes than" in err and err.count("\n") == 1


def test_the_ground_truth_is_not_written_over(predict, data):
    file = Path(data, "annotations", "val.json")
    before = file.read_bytes()
    code, _, err = predict("--dataset", data, "--json", file)
    assert code == 2 and err.count("\n") == 1 and file.read_bytes() == before


@pytest.mark.parametrize("tiles", [[], ["TEST.TILES.SIZE", "48", "TEST.TILES.OVERLAP", "0.25"]])
def test_scored_by_pycocotools_it_is_what_eval_only_says(
    predict, checkpoint, repo, tmp_path, tiles
):
    """On drawn shapes, of which random weights find some at a threshold of 0."""
    root = tmp_path / "shapes"
    write_shapes(root, num_train=2, num_val=6, size=64)
    for file in (root / "annotations").glob("*.json"):
        file.write_text(json.dumps(with_three_classes(json.loads(file.read_text()))))
    weights = checkpoint(RETINANET)
    keys = ["MODEL.RETINANET.SCORE_THRESH_TEST", "0.02", "MODEL.DEVICE", "cpu", *tiles]
    config = tmp_path / "config.yaml"
    config.write_text(read_run(str(weights))[0].dump())
    out = tmp_path / "out"
    arguments = ["--config-file", config, "--dataset", root, "--eval-only", *keys]
    arguments += ["MODEL.WEIGHTS", weights, "OUTPUT_DIR", out]
    with contextlib.redirect_stdout(io.StringIO()):
        assert train_net.run([str(a) for a in arguments]) == 0
    by_evaluation = out / "inference" / "coco_instances_results.json"
    found = tmp_path / "found.json"
    code, _, err = predict(
        *("--dataset", root, "--threshold", 0.02, "--json", found),
        *("--opts", *keys),
    )
    assert code == 0 and not err
    truth = str(root / "annotations" / "val.json")
    assert scored(truth, str(found)) == scored(truth, str(by_evaluation)) > 0
    wanted = json.loads(by_evaluation.read_text())
    got = [{k: r[k] for k in wanted[0]} for r in json.loads(found.read_text())]
    assert got == wanted and len(got) > 20


def with_three_classes(content):
    """Drawn shapes under the names of the checkpoint's classes."""
    classes = zip(content["categories"], NAMES.values(), strict=False)
    content["categories"] = [{**c, "name": name} for c, name in classes]
    ids = {c["id"] for c in content["categories"]}
    content["annotations"] = [a for a in content["annotations"] if a["category_id"] in ids]
    return content


def scored(truth, results):
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(truth)
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[1]
