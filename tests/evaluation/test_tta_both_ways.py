"""Test-time augmentation in evaluating and in predicting: the same views, the same detections."""

import cv2
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model

from libra_umop.inference.predictor import LibraPredictor
from libra_umop.training.trainer import LibraTrainer
from testing.dense_models import DETECTORS, spread_scores, tiny_cfg
from testing.detections import TWO_STAGE, Recorder, assert_same_detections, noise_records
from testing.tiny_rcnn import tiny_config

NAME = "tta_both_ways_test"
# The loader's own size is none of the views', and smaller than the images.
SIZES = ["INPUT.MIN_SIZE_TEST", 48, "TEST.AUG.MIN_SIZES", (64, 96), "TEST.AUG.MAX_SIZES", (96, 150)]
SHAPES = [(90, 120), (128, 100)]


@pytest.fixture
def images(tmp_path):
    """Files of a registered dataset."""
    records = noise_records(tmp_path, SHAPES)
    DatasetCatalog.register(NAME, lambda: records)
    MetadataCatalog.get(NAME).thing_classes = ["a", "b", "c", "d"]
    yield [record["file_name"] for record in records]
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def config_of(name):
    cfg = tiny_config(name) if name in TWO_STAGE else tiny_cfg(name)
    cfg.merge_from_list([*SIZES, "DATASETS.TEST", (NAME,), "DATALOADER.NUM_WORKERS", 0])
    cfg.merge_from_list(["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", ""])
    return cfg


@pytest.mark.parametrize("name", [*DETECTORS, "RetinaNet", *TWO_STAGE])
def test_evaluating_and_predicting_give_the_same_detections(name, images, monkeypatch, tmp_path):
    cfg, recorder = config_of(name), Recorder()
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    if name not in TWO_STAGE:
        spread_scores(model)
    monkeypatch.setattr(LibraTrainer, "build_evaluator", classmethod(lambda *args: recorder))
    LibraTrainer.test_with_augmentation(cfg, model)
    torch.save({"model": model.state_dict()}, tmp_path / "model.pth")
    cfg.MODEL.WEIGHTS = str(tmp_path / "model.pth")
    predictor = LibraPredictor(cfg, tta=True)
    for path in images:
        expected = predictor(cv2.imread(path))["instances"]
        assert_same_detections(recorder.detections[path], expected)
