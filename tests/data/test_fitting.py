"""Image and anchor sizes that follow the boxes, against sizes that are plain to see."""

import numpy as np
import pytest
from detectron2.engine import default_argument_parser

from libra_umop.config.loading import load_layers
from libra_umop.data.arguments import configure_dataset
from libra_umop.data.check.checking import check_dataset
from libra_umop.data.check.fitting import BoxSizes, fitted_anchors, fitted_side
from libra_umop.data.check.report import as_json, as_text
from libra_umop.data.check.statistics import ResizedTo
from libra_umop.data.dataset_args import DataSource, RunOptions, add_dataset_args
from libra_umop.data.layouts.table import find_splits
from libra_umop.errors import ConfigError
from testing.coco_files import document, write_dataset

ATSS, RCNN = "atss_EffLite0_FPN_own.yaml", "faster_rcnn_EffLite0_FPN_own.yaml"


def boxes_of(size, image=(640, 480), count=20):
    """``count`` square boxes."""
    columns = (size, size, *image)
    return BoxSizes(*(np.full(count, float(value)) for value in columns))


@pytest.mark.parametrize(
    "size, image, side",
    [
        (30, (640, 480), 256),  # 16 / 30 * 480 = 256: the boxes become 16 pixels
        (8, (640, 480), 480),  # would need 960: no more than the images have
        (200, (640, 480), 192),  # 38 pixels would do: the smallest that a pyramid likes
        (30, (4000, 3000), 800),
    ],
)
def test_side_is_the_smallest_that_keeps_boxes_at_16_pixels(size, image, side):
    assert fitted_side(boxes_of(size, image)) == side


def test_sizes_are_those_of_the_resized_image():
    sizes = boxes_of(30).resized(ResizedTo(240, 1000))
    np.testing.assert_allclose(sizes, 15.0)
    sizes = boxes_of(30).resized(ResizedTo(480, 320))  # 640 x 480 at most 320 wide
    np.testing.assert_allclose(sizes, 15.0)


def test_anchors_keep_their_ratios_and_start_at_the_smallest_twentieth():
    sizes = np.arange(1, 102, dtype=float)  # its 5 % quantile is 6
    assert fitted_anchors([[32, 64], [128]], 4, sizes) == [[6, 12], [24]]
    assert fitted_anchors([[32, 64], [128]], 8, sizes) == [[8, 16], [32]]  # its limit


def configured(tmp_path, config, *argv):
    parser = default_argument_parser()
    add_dataset_args(parser)
    data = write_dataset(tmp_path / "pets")
    args = parser.parse_args(["--config-file", config, "--dataset", data, *argv])
    layers = load_layers(args.config_file, args.opts)
    layers.cfg.OUTPUT_DIR = str(tmp_path / "output")
    return layers.cfg, configure_dataset(layers, DataSource.by(args), RunOptions.by(args))


@pytest.mark.parametrize("name", [ATSS, RCNN])
def test_what_is_set_is_said_and_without_the_switch_nothing_is(repo, tmp_path, name):
    config = str(repo / "configs" / "quick" / name)
    before, lines = configured(tmp_path / "a", config)
    assert not any("--fit" in line for line in lines)
    cfg, lines = configured(tmp_path / "b", config, "--fit-anchors", "--fit-image-size")
    said = "\n".join(lines)
    # images of 96 x 64 are not enlarged; the boxes are 40 x 30 and 24 x 28
    assert cfg.INPUT.MIN_SIZE_TEST == 64 and list(cfg.INPUT.MIN_SIZE_TRAIN) == [64]
    assert cfg.INPUT.MAX_SIZE_TEST == cfg.INPUT.MAX_SIZE_TRAIN == 96
    sizes = cfg.MODEL.ANCHOR_GENERATOR.SIZES
    smallest_box, smallest_anchor = (24 * 28) ** 0.5, 32 if name == ATSS else 8
    assert sizes[0][0] == pytest.approx(max(smallest_box, smallest_anchor), abs=0.1)
    old = before.MODEL.ANCHOR_GENERATOR.SIZES
    assert np.allclose(np.array(sizes) / sizes[0][0], np.array(old) / old[0][0], rtol=0.01)
    assert "--fit-anchors: MODEL.ANCHOR_GENERATOR.SIZES" in said and str(sizes) in said
    assert "--fit-image-size: shorter side 64" in said


@pytest.mark.parametrize(
    "argv, words",
    [
        (("--fit-anchors", "MODEL.ANCHOR_GENERATOR.SIZES", "[[8]]"), "say the same thing twice"),
        (("--fit-image-size", "INPUT.MIN_SIZE_TEST", "64"), "INPUT.MIN_SIZE_TEST say the same"),
        (("--fit-anchors", "MODEL.META_ARCHITECTURE", "FCOS"), "FCOS, which has no anchors"),
    ],
)
def test_contradictions_are_refused(repo, tmp_path, argv, words):
    with pytest.raises(ConfigError, match=words):
        configured(tmp_path, str(repo / "configs" / "quick" / ATSS), *argv)


def test_check_proposes_both_in_words_and_numbers(tmp_path):
    checked = check_dataset(find_splits(write_dataset(tmp_path / "pets")))
    report = as_json(checked, ResizedTo())
    assert report["proposal"]["min_size"] == 64 and set(report["proposal"]["anchors"]) == {
        "Faster R-CNN",
        "RetinaNet",
        "ATSS",
    }
    text = as_text(checked, ResizedTo())
    assert "proposed image size: INPUT.MIN_SIZE_TRAIN" in text and "--fit-anchors" in text


def test_a_set_without_boxes_gets_no_proposal(tmp_path):
    empty = document()
    empty["annotations"] = []
    checked = check_dataset(find_splits(write_dataset(tmp_path / "pets", train=empty)))
    assert as_json(checked, ResizedTo())["proposal"] == {}


def test_one_list_of_anchors_for_all_levels_is_fitted_too(repo, tmp_path):
    config = tmp_path / "one_list.yaml"
    base = repo / "configs" / "quick" / RCNN
    config.write_text(f"_BASE_: {base}\nMODEL: {{ANCHOR_GENERATOR: {{SIZES: [32, 64]}}}}\n")
    cfg, _ = configured(tmp_path, str(config), "--fit-anchors")
    ((smallest, largest),) = cfg.MODEL.ANCHOR_GENERATOR.SIZES
    assert largest == pytest.approx(2 * smallest, rel=0.01)
