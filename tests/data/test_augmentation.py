"""Augmentation by key: off by default, seeded by sample alone, boxes where the objects are."""

import cv2
import numpy as np
import pytest
from detectron2.data import transforms as T
from detectron2.structures import BoxMode

from libra_umop.config.loading import get_config
from libra_umop.data.augmentation import training_augmentations
from libra_umop.data.mapper import OwnDatasetMapper
from libra_umop.training.loader import ResumableTrainLoader
from libra_umop.utils.rng import sample_rng

KEYS = {
    "colour": ["INPUT.COLOR_JITTER", 0.4],
    "scale": ["INPUT.SCALE_JITTER", [0.3, 2.0]],
    "crop": ["INPUT.CROP.ENABLED", True, "INPUT.CROP.SIZE", [0.6, 0.6]],
}
KEYS["all"] = sum(KEYS.values(), [])
RED, GREEN = (0, 0, 255), (0, 255, 0)  # BGR


def config(*opts):
    cfg = get_config("quick/faster_rcnn_R_18_FPN_shapes.yaml")
    sizes = ["INPUT.MIN_SIZE_TRAIN", [96], "INPUT.MAX_SIZE_TRAIN", 128, "INPUT.FORMAT", "BGR"]
    cfg.merge_from_list([*sizes, *opts])
    return cfg


@pytest.fixture
def record(tmp_path):
    image = np.full((90, 120, 3), 120, dtype=np.uint8)
    image[20:50, 30:70] = RED
    image[60:80, 90:110] = GREEN
    cv2.imwrite(str(tmp_path / "a.png"), image)
    boxes = [[30, 20, 70, 50], [90, 60, 110, 80]]
    annotations = [
        {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": c}
        for c, box in enumerate(boxes)
    ]
    size = {"width": 120, "height": 90}
    return {"file_name": str(tmp_path / "a.png"), **size, "annotations": annotations}


def sample(cfg, record, seed):
    with sample_rng(seed):
        return OwnDatasetMapper(cfg, is_train=True)(record)


def test_off_by_default_it_is_detectron2s():
    kinds = [type(t) for t in training_augmentations(config())]
    assert kinds == [T.ResizeShortestEdge, T.RandomFlip]


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("seed", range(5))
def test_boxes_are_where_the_objects_are(name, seed, record):
    out = sample(config(*KEYS[name]), record, seed)
    image = out["image"].numpy().astype(int)
    for box, c in zip(out["instances"].gt_boxes.tensor, out["instances"].gt_classes, strict=True):
        mine, others = image[[2, 1][c]], image[[0, 1 if c == 0 else 2]].max(axis=0)
        ys, xs = np.nonzero(mine - others > (mine - others).max() / 2)
        seen = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        assert np.abs(box.numpy() - seen).max() <= 2, (seen, box)


@pytest.mark.parametrize("name", KEYS)
def test_the_same_seed_draws_the_same_and_another_another(name, record):
    cfg = config(*KEYS[name])
    first, again, other = (sample(cfg, record, s)["image"].numpy() for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert first.shape != other.shape or not np.array_equal(first, other)


def test_scale_jitter_stays_in_its_square_at_other_scales(record):
    cfg = config(*KEYS["scale"])
    outs = [sample(cfg, record, seed) for seed in range(12)]
    assert max(max(out["image"].shape) for out in outs) == 128
    widths = [b[2] - b[0] for out in outs for b in out["instances"].gt_boxes.tensor.tolist()]
    assert max(widths) > 3 * min(widths)


def test_saturation_keeps_the_grey_value_of_bgr_images():
    cfg = config("INPUT.COLOR_JITTER", 0.9)
    saturation = training_augmentations(cfg)[2]
    image = np.full((2, 2, 3), RED, dtype=np.float32)
    np.random.seed(0)
    out = saturation.get_transform(image).apply_image(image)
    grey = 0.299 * 255  # of red; a blue pixel's is 0.114 * 255
    weight = (out[0, 0, 2] - out[0, 0, 0]) / 255
    assert out[0, 0, 0] == pytest.approx((1 - weight) * grey, abs=1)


def test_a_resumed_stream_augments_as_one_that_never_stopped(record):
    mapper = OwnDatasetMapper(config(*KEYS["all"]), is_train=True)

    def loader():
        return ResumableTrainLoader(
            [record] * 3, mapper, lambda: [0, 1, 2] * 4, batch_size=2, seed=5
        )

    whole = [[d["image"] for d in batch] for batch in loader()]
    resumed = loader()
    resumed.load_state_dict({**resumed.state_dict(), "batches_given": 3})
    rest = [[d["image"] for d in batch] for batch in resumed]
    assert len(rest) == len(whole) - 3
    for a, b in zip(whole[3:], rest, strict=True):
        assert all(x.equal(y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("opts", [["INPUT.COLOR_JITTER", 1.5], ["INPUT.SCALE_JITTER", [2.0, 0.5]]])
def test_numbers_out_of_range_are_refused(opts):
    from libra_umop.config.checks import check_config
    from libra_umop.errors import ConfigError

    with pytest.raises(ConfigError, match=opts[0]):
        check_config(config(*opts), "x.yaml")
