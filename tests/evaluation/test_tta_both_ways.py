"""Test-time augmentation in evaluating and in predicting: the same views, the same detections."""

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import build_model

from libra_umop.inference.predictor import LibraPredictor
from libra_umop.training.trainer import LibraTrainer
from testing.dense_models import DETECTORS, spread_scores, tiny_cfg  # noqa: E402
from testing.tiny_rcnn import tiny_config  # noqa: E402

NAME = "tta_both_ways_test"
# The loader's own size is none of the views', and smaller than the images.
SIZES = ["INPUT.MIN_SIZE_TEST", 48, "TEST.AUG.MIN_SIZES", (64, 96), "TEST.AUG.MAX_SIZES", (96, 150)]
SHAPES = [(90, 120), (128, 100)]
TWO_STAGE = ["faster_rcnn_R_50_FPN_1x", "libra_faster_rcnn_R_50_FPN_1x", "cascade_rcnn_R_50_FPN_1x"]


class Recorder(DatasetEvaluator):
    """Keeps what the model gave, by file name."""

    def __init__(self):
        self.detections = {}

    def reset(self):
        pass

    def process(self, inputs, outputs):
        for given, output in zip(inputs, outputs, strict=True):
            self.detections[given["file_name"]] = output["instances"]

    def evaluate(self):
        return {}


@pytest.fixture
def images(tmp_path):
    """Files of a registered dataset."""
    records = []
    for i, (height, width) in enumerate(SHAPES):
        path = str(tmp_path / f"{i}.png")
        noise = np.random.default_rng(i).integers(0, 256, (height, width, 3), dtype=np.uint8)
        cv2.imwrite(path, noise)
        records.append({"file_name": path, "image_id": i, "height": height, "width": width})
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
        ours = recorder.detections[path]
        assert len(ours) > 0 and ours.image_size == expected.image_size
        assert torch.equal(ours.pred_boxes.tensor, expected.pred_boxes.tensor)
        assert torch.equal(ours.scores, expected.scores)
        assert torch.equal(ours.pred_classes, expected.pred_classes)
