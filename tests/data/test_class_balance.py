"""Repeat-factor sampling with a threshold of the data, against Detectron2's, and class counts."""

import itertools
import logging
from collections import Counter

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.samplers import RepeatFactorTrainingSampler

from libra_umop.config import add_libra_umop_config
from libra_umop.data.check.class_balance import (
    count_boxes,
    with_class_counts,
    with_repeat_threshold,
)
from libra_umop.data.check.repeat_factors import chosen_threshold, repeat_factors
from libra_umop.training.loader import build_train_loader

# 20 images: class 0 in 16, class 1 in 5, class 2 in 1 together with class 0; two show nothing.
CLASSES = [[0]] * 12 + [[0, 1]] * 3 + [[0, 2, 2]] + [[1]] * 2 + [[]] * 2
NAME = "class_balance_of_tests"


def dataset_dicts():
    return [
        {
            "file_name": f"{i}.jpg",
            "image_id": i,
            "width": 9,
            "height": 8,
            "annotations": [{"category_id": c, "iscrowd": 0} for c in classes],
        }
        for i, classes in enumerate(CLASSES)
    ]


@pytest.fixture
def registered():
    DatasetCatalog.register(NAME, dataset_dicts)
    MetadataCatalog.get(NAME).thing_classes = ["common", "less", "rare", "absent"]
    yield
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def config(*options):
    cfg = get_cfg()
    add_libra_umop_config(cfg)
    cfg.DATASETS.TRAIN = (NAME,)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = False
    cfg.SOLVER.IMS_PER_BATCH = 1
    cfg.merge_from_list(list(options))
    return cfg


REPEAT = ("DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler")


def test_threshold_is_that_of_the_class_in_the_middle():
    assert chosen_threshold([0.5, 0.01, 0.1]) == 0.1
    assert chosen_threshold([0.5, 0.0, 0.1]) == pytest.approx(0.3)  # one without images is none
    assert chosen_threshold([]) == 0


@pytest.mark.parametrize("threshold", [None, 0.001, 0.5, 1.0])
def test_factors_are_those_of_detectron2(threshold):
    used, factors = repeat_factors(CLASSES, threshold)
    assert used == (5 / 20 if threshold is None else threshold)
    theirs = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(
        dataset_dicts(), used
    )
    torch.testing.assert_close(torch.tensor(factors), theirs)


def test_classes_in_equally_many_images_leave_every_image_as_often_as_it_is():
    assert repeat_factors([[0], [1], [2], [0, 1, 2]])[1] == [1, 1, 1, 1]


def test_image_of_the_rare_class_is_shown_as_often_as_its_factor_says(registered, caplog):
    caplog.set_level(logging.INFO, logger="libra_umop")
    # The median class is in 5 of 20 images, the rare one in 1: sqrt(5) times.
    loader = build_train_loader(config(*REPEAT), mapper=lambda d: d)
    shown = Counter(d["image_id"] for (d,) in itertools.islice(loader, 3000))
    common = sum(shown[i] for i in range(12)) / 12
    assert shown[15] / common == pytest.approx(5**0.5, rel=0.1)
    assert shown[13] / common == pytest.approx(1, rel=0.1)
    (line,) = [r.getMessage() for r in caplog.records if "REPEAT_THRESHOLD" in r.getMessage()]
    assert line == (
        "DATALOADER.REPEAT_THRESHOLD 0.25, the median class's part of the images: 1 of 20 images"
        " are repeated, 2.24 times at most; an epoch has 21"
    )


def test_given_threshold_stays_and_other_samplers_have_none(registered):
    cfg, line = with_repeat_threshold(config(*REPEAT, "DATALOADER.REPEAT_THRESHOLD", 0.1), [])
    assert cfg.DATALOADER.REPEAT_THRESHOLD == 0.1 and "median" not in line
    plain = config()
    assert with_repeat_threshold(plain, dataset_dicts()) == (plain, "")


def test_order_of_repeated_images_goes_on_where_it_was_stopped(registered):
    def take(loader, count):
        return [d["image_id"] for (d,) in itertools.islice(loader, count)]

    torch.manual_seed(0)
    first = build_train_loader(config(*REPEAT), mapper=lambda d: d)
    second = build_train_loader(config(*REPEAT), mapper=lambda d: d)
    take(first, 30)
    assert second.load_state_dict(first.state_dict())
    third = build_train_loader(config(*REPEAT), mapper=lambda d: d)
    third.load_state_dict({**first.state_dict(), "batches_given": 0})
    assert take(second, 30) == take(third, 60)[30:]


def test_boxes_are_counted_without_crowd_regions():
    dicts = dataset_dicts()
    dicts[15]["annotations"][1]["iscrowd"] = 1
    assert count_boxes(dicts, 4) == [16, 5, 1, 0]


def test_counts_are_taken_from_the_data_where_they_are_used_and_not_given(registered):
    cfg, lines = with_class_counts(config("MODEL.CLASS_WEIGHTS.BETA", 0.9))
    assert cfg.MODEL.CLASS_WEIGHTS.COUNTS == [16, 5, 2, 0]
    assert lines == [f"MODEL.CLASS_WEIGHTS.COUNTS 0 to 16 boxes a class, from {NAME}"]
    given = config("MODEL.CLASS_WEIGHTS.BETA", 0.9, "MODEL.CLASS_WEIGHTS.COUNTS", [1, 2, 3, 4])
    for other in (given, config()):
        assert with_class_counts(other) == (other, [])
