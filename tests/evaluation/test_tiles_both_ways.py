"""Tiles in evaluating and in predicting: the same detections, the same AP, what they are for."""

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances

from libra_umop.config.checks import check_config
from libra_umop.config.loading import get_config
from libra_umop.errors import ConfigError
from libra_umop.evaluation.sliced import TiledDetector
from libra_umop.inference.predictor import LibraPredictor
from libra_umop.inference.sliced import TiledPredictor, with_tiles
from libra_umop.training.trainer import LibraTrainer
from testing.coco_files import write_json
from testing.dense_models import DETECTORS, spread_scores, tiny_cfg
from testing.detections import TWO_STAGE, Recorder, assert_same_detections, noise_records
from testing.tiny_rcnn import tiny_config

NAME = "tiles_both_ways_test"
SIZES = ["INPUT.MIN_SIZE_TEST", 96, "INPUT.MAX_SIZE_TEST", 160, "INPUT.FORMAT", "BGR"]
TILES = ["TEST.TILES.SIZE", 64, "TEST.TILES.OVERLAP", 0.25]
AUG = ["TEST.AUG.MIN_SIZES", (64, 96), "TEST.AUG.MAX_SIZES", (96, 150)]
SHAPES = [(90, 120), (128, 100), (60, 64)]  # the last one fits into a tile


@pytest.fixture
def registered():
    names = []

    def register(records, **metadata):
        DatasetCatalog.register(NAME, lambda: records)
        MetadataCatalog.get(NAME).set(**metadata)
        names.append(NAME)

    yield register
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.fixture
def images(tmp_path, registered):
    records = noise_records(tmp_path, SHAPES)
    registered(records, thing_classes=["a", "b", "c", "d"])
    return [record["file_name"] for record in records]


def detected(cfg, model, monkeypatch, tta=False):
    recorder = Recorder()
    monkeypatch.setattr(LibraTrainer, "build_evaluator", classmethod(lambda *args: recorder))
    (LibraTrainer.test_with_augmentation if tta else LibraTrainer.test)(cfg, model)
    return recorder.detections


@pytest.mark.parametrize(
    "name, tta",
    [
        *((name, False) for name in (*DETECTORS, "RetinaNet", *TWO_STAGE)),
        *(("ATSS", True), (TWO_STAGE[0], True)),  # one of each kind of test-time augmentation
    ],
)
def test_evaluating_and_predicting_give_the_same_detections(
    name, tta, images, monkeypatch, tmp_path
):
    cfg = tiny_config(name) if name in TWO_STAGE else tiny_cfg(name)
    cfg.merge_from_list([*SIZES, *TILES, *AUG, "DATASETS.TEST", (NAME,), "MODEL.WEIGHTS", ""])
    cfg.merge_from_list(["DATALOADER.NUM_WORKERS", 0, "MODEL.DEVICE", "cpu"])
    torch.manual_seed(0)
    model = build_model(cfg).eval()
    if name not in TWO_STAGE:
        spread_scores(model)
    detections = detected(cfg, model, monkeypatch, tta)
    torch.save({"model": model.state_dict()}, tmp_path / "model.pth")
    cfg.MODEL.WEIGHTS = str(tmp_path / "model.pth")
    predictor = with_tiles(LibraPredictor(cfg, tta=tta))
    assert isinstance(predictor, TiledPredictor)
    whole = LibraPredictor(cfg, tta=tta)
    differs = []
    for path in images:
        image = cv2.imread(path)
        expected, ours = predictor(image)["instances"], detections[path]
        assert_same_detections(ours, expected)
        assert ours.image_size == image.shape[:2]
        alone = whole(image)["instances"].scores
        differs.append(not torch.equal(alone, ours.scores))
    assert differs == [True, True, False]


class SharpEyed(torch.nn.Module):
    """Finds coloured rectangles, but none whose shorter side is below 12 pixels of its input."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, inputs):
        return [{"instances": self.find(x)} for x in inputs]

    def find(self, x):
        image, size = x["image"].numpy().astype(int), (x["height"], x["width"])
        scale = size[0] / image.shape[1]
        found, classes = [], []
        for c in (0, 1):
            mask = (image[c] - image[1 - c] > 100).astype(np.uint8)
            _, _, stats, _ = cv2.connectedComponentsWithStats(mask)
            for left, top, width, height, _ in stats[1:]:
                if min(width, height) >= 12:
                    found.append([left, top, left + width, top + height])
                    classes.append(c)
        boxes = torch.tensor(found, dtype=torch.float32).reshape(-1, 4) * scale
        scores, classes = torch.full((len(found),), 0.9), torch.tensor(classes, dtype=torch.int64)
        return Instances(size, pred_boxes=Boxes(boxes), scores=scores, pred_classes=classes)


@pytest.fixture
def large(tmp_path, registered):
    """A large image with small objects, in COCO form."""
    image = np.zeros((600, 800, 3), dtype=np.uint8)
    annotations, rng = [], np.random.default_rng(0)
    for i in range(24):  # a place of a grid each
        x, y = 120 * (i % 6) + int(rng.integers(20, 80)), 140 * (i // 6) + int(rng.integers(20, 90))
        image[y : y + 20, x : x + 24] = (255, 0, 0) if i % 2 else (0, 255, 0)
        box = [x, y, 24, 20]
        annotation = {"id": i + 1, "image_id": 5, "category_id": 7 if i % 2 else 9, "bbox": box}
        annotations.append({**annotation, "area": 480, "iscrowd": 0})
    cv2.imwrite(str(tmp_path / "large.png"), image)
    size = {"height": 600, "width": 800}
    content = {
        "images": [{"id": 5, "file_name": "large.png", **size}],
        "annotations": annotations,
        "categories": [{"id": 7, "name": "blue"}, {"id": 9, "name": "green"}],
    }
    json_file = write_json(tmp_path / "val.json", content)
    record = {"file_name": str(tmp_path / "large.png"), "image_id": 5, **size}
    registered(
        [record],
        json_file=json_file,
        image_root=str(tmp_path),
        thing_classes=["blue", "green"],
        thing_dataset_id_to_contiguous_id={7: 0, 9: 1},
    )
    return tmp_path


def test_objects_that_only_tiles_show_count_in_the_evaluation(large):
    """At 300 pixels they are 10 high, which the model does not see; in tiles of 200, 30."""
    cfg = tiny_cfg("ATSS", "DATASETS.TEST", (NAME,), "DATALOADER.NUM_WORKERS", 0)
    cfg.merge_from_list([*SIZES, "INPUT.MIN_SIZE_TEST", 300, "INPUT.MAX_SIZE_TEST", 400])
    cfg.OUTPUT_DIR = str(large / "out")
    model = SharpEyed().train()
    whole = LibraTrainer.test(cfg, model)["bbox"]
    assert not whole or not whole["AP"] > 0  # nothing found at all is no number
    cfg.merge_from_list(["TEST.TILES.SIZE", 200, "TEST.TILES.OVERLAP", 0.2])
    tiles = LibraTrainer.test(cfg, model)["bbox"]
    assert tiles["AP"] > 90 and tiles["AP50"] == pytest.approx(100)
    assert model.training


def test_a_tiled_detector_leaves_the_mode_of_the_model():
    for training in (True, False):
        model = SharpEyed().train(training)
        assert TiledDetector(tiny_cfg("ATSS", *TILES), model).training == training


@pytest.mark.parametrize(
    "opts, said",
    [
        (["TEST.TILES.SIZE", 16], "TEST.TILES.SIZE is 16, should be 0, or 32 pixels or more"),
        (["TEST.TILES.OVERLAP", 0.95], r"TEST.TILES.OVERLAP is 0.95, should be in \[0, 0.9\]"),
        ([*TILES, "MODEL.MASK_ON", True], "is 64, should be 0 where MODEL.MASK_ON is True"),
        ([*TILES, "MODEL.KEYPOINT_ON", True], "should be 0 where MODEL.KEYPOINT_ON is True"),
    ],
)
def test_what_cannot_be_is_refused(opts, said):
    cfg = get_config("quick/faster_rcnn_R_18_FPN_shapes.yaml")
    cfg.merge_from_list(opts)
    with pytest.raises(ConfigError, match=said):
        check_config(cfg, "x.yaml")


def test_prediction_takes_the_tiles_of_the_config_unless_told_otherwise():
    predictor = torch.nn.Module()
    predictor.cfg = tiny_cfg("ATSS", *TILES)
    assert with_tiles(predictor, size=0) is predictor
    found, told = with_tiles(predictor), with_tiles(predictor, size=100, overlap=0.5)
    assert (found._size, found._overlap) == (64, 0.25)
    assert (told._size, told._overlap) == (100, 0.5)
    predictor.cfg.TEST.TILES.SIZE = 0
    assert with_tiles(predictor) is predictor
    with pytest.raises(ConfigError, match="--tile-overlap is 0.5, but there are no tiles"):
        with_tiles(predictor, overlap=0.5)
