"""LibraPredictor against DefaultPredictor, and what it does with images that are none."""

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import MetadataCatalog
from detectron2.engine import DefaultPredictor

from libra_umop.config import add_libra_umop_config
from libra_umop.errors import ConfigError
from libra_umop.inference.predictor import LibraPredictor, check_image
from testing.shrink import shrink


def tiny_config():
    cfg = get_cfg()
    add_libra_umop_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    cfg.MODEL.BACKBONE.NAME = "build_retinanet_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.FPN.IN_FEATURES = ["res3", "res4", "res5"]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32], [64], [128], [256], [512]]
    cfg.MODEL.RETINANET.NUM_CLASSES = 3
    cfg.MODEL.RETINANET.PRIOR_PROB = 0.3  # untrained, it then detects
    return shrink(cfg, image_size=64)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    from detectron2.modeling import build_model

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("predictor") / "model_final.pth"
    cfg = tiny_config()
    content = {"model": build_model(cfg).state_dict(), "config": cfg.dump()}
    torch.save({**content, "class_names": ["a", "b", "c"]}, path)
    return path


@pytest.fixture(scope="module")
def predictor(weights):
    return LibraPredictor.from_weights(str(weights), device="cpu")


def photo(height=50, width=70, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def assert_same(one, other):
    assert len(one) and one.image_size == other.image_size
    assert torch.equal(one.pred_boxes.tensor, other.pred_boxes.tensor)
    assert torch.equal(one.scores, other.scores)
    assert torch.equal(one.pred_classes, other.pred_classes)


def test_what_is_said_of_loading_is_of_the_weights_alone(weights, caplog):
    with caplog.at_level("INFO"):
        LibraPredictor.from_weights(str(weights), device="cpu")
    assert str(weights) in caplog.text and "from scratch" not in caplog.text


@pytest.mark.parametrize("input_format", ["BGR", "RGB"])
def test_gives_the_numbers_of_default_predictor(weights, input_format):
    cfg = tiny_config()
    cfg.MODEL.WEIGHTS = str(weights)
    cfg.INPUT.FORMAT = input_format
    image = photo()
    expected = DefaultPredictor(cfg)(image)["instances"]
    assert_same(LibraPredictor(cfg)(image)["instances"], expected)


def test_a_batch_gives_what_each_image_gives_alone(predictor):
    images = [photo(seed=i) for i in range(3)]
    for image, output in zip(images, predictor.predict_batch(images), strict=True):
        alone = predictor(image)["instances"]
        assert len(alone) == len(output["instances"])
        torch.testing.assert_close(output["instances"].scores, alone.scores)


def test_no_images_give_no_outputs(predictor):
    assert predictor.predict_batch([]) == []


def test_the_checkpoint_brings_its_class_names(predictor):
    assert predictor.class_names == ["a", "b", "c"]


def test_the_threshold_keeps_the_scores_at_or_above_it(weights, predictor):
    image = photo()
    scores = predictor(image)["instances"].scores
    threshold = float(scores.median())
    strict = LibraPredictor.from_weights(str(weights), device="cpu", threshold=threshold)
    assert torch.equal(strict(image)["instances"].scores, scores[scores >= threshold])


def test_a_threshold_below_the_config_s_gives_more(weights):
    image = photo()
    count = {}
    for threshold in (None, 0.0):
        predictor = LibraPredictor.from_weights(
            str(weights),
            device="cpu",
            threshold=threshold,
            opts=["MODEL.RETINANET.SCORE_THRESH_TEST", "0.9"],
        )
        count[threshold] = len(predictor(image)["instances"])
    assert count[None] == 0 < count[0.0]


def test_augmented_testing_sees_the_original_image(weights):
    predictor = LibraPredictor.from_weights(
        str(weights),
        device="cpu",
        tta=True,
        opts=["TEST.AUG.MIN_SIZES", "(64,)", "TEST.AUG.MAX_SIZE", "128", "TEST.AUG.FLIP", "False"],
    )
    instances = predictor(photo())["instances"]
    assert len(instances) and instances.image_size == (50, 70)
    assert (instances.pred_boxes.tensor[:, 2] <= 70).all()


def test_grey_and_four_channels_give_what_three_give(predictor):
    grey = photo()[:, :, 0]
    three = np.repeat(grey[:, :, None], 3, axis=2)
    four = np.concatenate([three, np.full_like(grey, 7)[:, :, None]], axis=2)
    expected = predictor(three)["instances"]
    for image in (grey, grey[:, :, None], four):
        assert_same(predictor(image)["instances"], expected)


@pytest.mark.parametrize(
    "image, words",
    [
        (None, "cv2.imread"),
        ("photo.jpg", "str"),
        (torch.zeros(3, 4, 4), "Tensor"),
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((4, 4), np.uint16), "uint16"),
        (np.zeros((3, 40, 40), np.uint8), r"\(3, 40, 40\)"),
        (np.zeros((4, 4, 2), np.uint8), r"\(4, 4, 2\)"),
        (np.zeros((0, 4, 3), np.uint8), r"\(0, 4, 3\)"),
        (np.zeros(4, np.uint8), r"\(4,\)"),
    ],
)
def test_what_is_no_image_is_refused_by_name(image, words):
    with pytest.raises(ValueError, match=words):
        check_image(image)


def test_one_bad_image_of_a_batch_is_refused(predictor):
    with pytest.raises(ValueError, match="None"):
        predictor.predict_batch([photo(), None])


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan")])
def test_a_threshold_that_is_no_score_is_refused(threshold):
    with pytest.raises(ValueError, match="threshold"):
        LibraPredictor(tiny_config(), threshold=threshold)


def test_weights_of_another_config_are_refused(weights):
    with pytest.raises(ConfigError, match="bbox_pred|cls_score"):
        LibraPredictor.from_weights(
            str(weights), device="cpu", opts=["MODEL.RETINANET.NUM_CLASSES", "5"]
        )


def test_weights_of_a_backbone_alone_are_refused(weights, tmp_path):
    content = torch.load(weights, weights_only=True)
    content["model"] = {k: v for k, v in content["model"].items() if k.startswith("backbone")}
    torch.save(content, tmp_path / "backbone.pth")
    with pytest.raises(ConfigError, match="head.* is missing"):
        LibraPredictor.from_weights(str(tmp_path / "backbone.pth"), device="cpu")


def test_no_weights_at_all_are_refused():
    with pytest.raises(ConfigError, match="MODEL.WEIGHTS is ''"):
        LibraPredictor(tiny_config())


def test_weights_of_another_detector_are_refused(weights):
    with pytest.raises(ConfigError, match="cls_subnet.4.weight is in the file and not in"):
        LibraPredictor.from_weights(
            str(weights), device="cpu", opts=["MODEL.RETINANET.NUM_CONVS", "2"]
        )


def test_predictions_are_those_of_the_average(weights, predictor, tmp_path):
    """As an averaging run writes it: the weights that training goes on with stand beside it."""
    content = torch.load(weights, weights_only=True)
    content["training_model"] = {k: torch.zeros_like(v) for k, v in content["model"].items()}
    torch.save(content, tmp_path / "model_0000009.pth")
    averaging = LibraPredictor.from_weights(str(tmp_path / "model_0000009.pth"), device="cpu")
    assert_same(averaging(photo())["instances"], predictor(photo())["instances"])


def test_the_weights_name_the_classes_before_the_config_does(weights):
    MetadataCatalog.get("predictor_test_set").thing_classes = ["x", "y", "z"]
    cfg = tiny_config()
    cfg.MODEL.WEIGHTS, cfg.DATASETS.TEST = str(weights), ("predictor_test_set",)
    assert LibraPredictor(cfg).class_names == ["a", "b", "c"]


def test_weights_without_config_ask_for_one(weights, tmp_path):
    content = torch.load(weights, weights_only=True)
    torch.save({"model": content["model"]}, tmp_path / "bare.pth")
    with pytest.raises(ConfigError, match="--config-file"):
        LibraPredictor.from_weights(str(tmp_path / "bare.pth"), device="cpu")


def test_weights_that_are_not_there_are_named():
    with pytest.raises(ConfigError, match="nowhere.pth"):
        LibraPredictor.from_weights("nowhere.pth", device="cpu")


def test_drawing_leaves_the_image_alone(predictor):
    image = photo()
    before = image.copy()
    drawn = predictor.draw(image, predictor(image)["instances"])
    assert np.array_equal(image, before)
    assert drawn.shape == image.shape and drawn.dtype == np.uint8
    assert not np.array_equal(drawn, image)
