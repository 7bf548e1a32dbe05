"""What the README promises, end to end on a few drawn images: train, evaluate, predict."""

import json
import shutil
import subprocess
import sys

import cv2
import pytest
import torch
from detectron2.engine import DefaultPredictor

from libra_umop.data.shapes import CLASSES, write_shapes
from libra_umop.training.checkpoint.run_content import read_run

SMALL = ["SOLVER.MAX_ITER", "3", "SOLVER.STEPS", "()", "SOLVER.IMS_PER_BATCH", "2"]
SMALL += ["INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", "64", "MODEL.DEVICE", "cpu"]


def run(repo, *arguments, code=0):
    command = [sys.executable, *map(str, arguments)]
    done = subprocess.run(command, cwd=repo, capture_output=True, text=True, timeout=300)
    assert done.returncode == code, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "drawn"
    write_shapes(path, num_train=8, num_val=4, size=64)
    return path


@pytest.fixture(scope="module")
def trained(repo, dataset, tmp_path_factory):
    """OUTPUT_DIR of a run of three iterations, and what it printed."""
    output = tmp_path_factory.mktemp("output")
    config = "configs/quick/libra_faster_rcnn_R_18_FPN_shapes.yaml"
    arguments = ["--config-file", config, "--dataset", dataset, *SMALL, "OUTPUT_DIR", output]
    printed = run(repo, "train_net.py", *arguments)
    return output, printed


def test_training_leaves_weights_metrics_and_coco_results(trained):
    output, printed = trained
    assert (output / "model_final.pth").is_file()
    metrics = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    assert any("bbox/AP50" in line for line in metrics)
    assert "AP50" in printed and "eta" in printed


def test_checkpoint_names_its_config_and_classes(trained):
    cfg, class_names = read_run(str(trained[0] / "model_final.pth"))
    assert list(class_names) == list(CLASSES)
    assert len(CLASSES) == cfg.MODEL.ROI_HEADS.NUM_CLASSES
    assert cfg.MODEL.BACKBONE.NAME == "build_bfp_backbone"


def test_eval_only_gives_the_numbers_of_the_end_of_training(repo, trained, dataset, tmp_path):
    output, _ = trained
    printed = run(
        repo,
        "train_net.py",
        *("--config-file", "configs/quick/libra_faster_rcnn_R_18_FPN_shapes.yaml"),
        *("--dataset", dataset, "--eval-only", *SMALL),
        *("MODEL.WEIGHTS", output / "model_final.pth", "OUTPUT_DIR", tmp_path),
    )
    assert "AP50" in printed
    results = "inference/coco_instances_results.json"
    again, before = (json.loads((folder / results).read_text()) for folder in (tmp_path, output))
    assert again == before and len(before) > 0


def test_detectron2s_default_predictor_takes_the_run_as_it_is(trained, dataset):
    output, _ = trained
    cfg, _ = read_run(str(output / "model_final.pth"))
    cfg.defrost()
    cfg.MODEL.WEIGHTS = str(output / "model_final.pth")
    cfg.DATASETS.TEST = ()
    image = cv2.imread(str(dataset / "images" / "val_00000.png"))
    instances = DefaultPredictor(cfg)(image)["instances"]
    assert instances.image_size == (64, 64)
    assert torch.isfinite(instances.pred_boxes.tensor).all()


def test_contact_sheet_is_drawn_from_weights_alone(repo, trained, dataset, tmp_path):
    sheet = tmp_path / "sheet.png"
    weights = trained[0] / "model_final.pth"
    run(
        repo,
        "tools/contact_sheet.py",
        *("--weights", weights, "--dataset", dataset, "--output", sheet, "--num-images", "2"),
    )
    assert cv2.imread(str(sheet)).shape[1] > 1000  # two pairs of tiles in a row


def test_contact_sheet_of_other_classes_is_refused(repo, trained, dataset, tmp_path):
    """Their names would stand at the wrong boxes."""
    shutil.copytree(dataset, tmp_path / "other")
    for file in (tmp_path / "other" / "annotations").glob("*.json"):
        content = json.loads(file.read_text())
        names = [category["name"] for category in content["categories"]]
        for category, name in zip(content["categories"], names[::-1], strict=True):
            category["name"] = name
        file.write_text(json.dumps(content))
    weights = trained[0] / "model_final.pth"
    printed = run(
        repo,
        "tools/contact_sheet.py",
        *("--weights", weights, "--dataset", tmp_path / "other", "--output", tmp_path / "s.png"),
        code=2,
    )
    assert "ConfigError" in printed and "label 0 is" in printed


def test_no_argument_says_what_to_type(repo):
    printed = run(repo, "train_net.py", code=2)
    assert "--config-file" in printed and "--dataset" in printed
