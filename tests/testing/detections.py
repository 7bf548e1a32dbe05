"""What an evaluation detects beside what the predictor does: images, a recorder, a comparison."""

import cv2
import numpy as np
import torch
from detectron2.evaluation import DatasetEvaluator

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


def noise_records(folder, shapes):
    """Dataset dicts of images of noise, (height, width) each, which are written to a folder."""
    records = []
    for i, (height, width) in enumerate(shapes):
        path = str(folder / f"{i}.png")
        noise = np.random.default_rng(i).integers(0, 256, (height, width, 3), dtype=np.uint8)
        cv2.imwrite(path, noise)
        records.append({"file_name": path, "image_id": i, "height": height, "width": width})
    return records


def assert_same_detections(ours, expected):
    """Some, and the same to the last bit."""
    assert len(ours) > 0 and ours.image_size == expected.image_size
    assert torch.equal(ours.pred_boxes.tensor, expected.pred_boxes.tensor)
    assert torch.equal(ours.scores, expected.scores)
    assert torch.equal(ours.pred_classes, expected.pred_classes)
