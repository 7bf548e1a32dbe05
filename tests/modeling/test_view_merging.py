"""Merging of views in both wrappers, on detections made by hand in the views' own frames."""

import math

import pytest
import torch
from detectron2.modeling import GeneralizedRCNNWithTTA
from detectron2.structures import Boxes, Instances

from libra_umop.evaluation.tta import build_tta_model
from libra_umop.modeling.tta.dense import DenseDetectorWithTTA, MultiScaleViews
from libra_umop.modeling.tta.rcnn import RCNNWithTTA
from libra_umop.modeling.tta.view_merging import ViewMerging, in_scale_range
from testing.batches import make_input
from testing.dense_models import spread_scores, tiny_cfg
from testing.dense_models import tiny_model as tiny_dense_model
from testing.tiny_rcnn import tiny_config, tiny_model

SCALES = ["TEST.AUG.MIN_SIZES", (96, 192), "TEST.AUG.MAX_SIZES", (128, 256), "TEST.AUG.FLIP", False]
LINEAR = ["TEST.AUG.NMS_TYPE", "linear"]
GAUSSIAN = ["TEST.AUG.NMS_TYPE", "gaussian", "TEST.AUG.SOFT_NMS_SIGMA", 0.25]
VOTING = ["TEST.AUG.VOTE_THRESH", 0.7]
# In the original's frame (96, 128): of the small view, and of the one of twice the size.
SMALL_VIEW = ([[0.0, 0.0, 100.0, 80.0], [10.0, 10.0, 20.0, 20.0]], [0.9, 0.6], [1, 2])
LARGE_VIEW = ([[0.0, 0.0, 100.0, 64.0]], [0.8], [1])  # IoU with the first 0.8


def detections(view, found):
    """What a view has found, in its own pixels."""
    boxes, scores, classes = found
    height, width = view["image"].shape[1:]
    return Instances(
        (height, width),
        pred_boxes=Boxes(torch.tensor(boxes) * (height / 96)),
        scores=torch.tensor(scores),
        pred_classes=torch.tensor(classes),
    )


def both_views(views):
    return [
        detections(view, SMALL_VIEW if view["image"].shape[1] == 96 else LARGE_VIEW)
        for view in views
    ]


def merged_by_a_dense_detector(options, monkeypatch):
    cfg = tiny_cfg("ATSS", *SCALES, "MODEL.ATSS.NMS_THRESH_TEST", 0.5, *options)
    monkeypatch.setattr(DenseDetectorWithTTA, "_candidates", lambda self, views: both_views(views))
    return build_tta_model(cfg, tiny_dense_model("ATSS", *options).eval()), cfg


def merged_by_an_rcnn(options, monkeypatch):
    cfg = tiny_config("libra_faster_rcnn_R_50_FPN_1x", [*SCALES, *options])
    monkeypatch.setattr(
        GeneralizedRCNNWithTTA,
        "_batch_inference",
        lambda self, views, given=None: both_views(views),
    )
    return build_tta_model(cfg, tiny_model(cfg).eval()), cfg


@pytest.fixture(params=[merged_by_a_dense_detector, merged_by_an_rcnn], ids=["dense", "rcnn"])
def merge(request, monkeypatch):
    """Boxes, scores and classes of the image for some options."""

    def run(*options):
        detector, _ = request.param(options, monkeypatch)
        (result,) = detector([make_input([], [])])
        pred = result["instances"]
        return pred.pred_boxes.tensor, pred.scores.tolist(), pred.pred_classes.tolist()

    return run


def test_at_the_defaults_the_second_box_is_suppressed(merge):
    boxes, scores, classes = merge()
    assert scores == pytest.approx([0.9, 0.6]) and classes == [1, 2]
    torch.testing.assert_close(boxes, torch.tensor(SMALL_VIEW[0]))


@pytest.mark.parametrize(
    "options, factor", [(LINEAR, 1 - 0.8), (GAUSSIAN, math.exp(-(0.8**2) / 0.25))]
)
def test_soft_suppression_fades_the_second_box_instead(merge, options, factor):
    boxes, scores, classes = merge(*options)
    assert scores == pytest.approx([0.9, 0.6, 0.8 * factor]) and classes == [1, 2, 1]
    torch.testing.assert_close(boxes[2], torch.tensor(LARGE_VIEW[0][0]))


@pytest.mark.parametrize("options", [[], LINEAR, GAUSSIAN])
def test_boxes_of_all_views_vote_whatever_suppresses_them(merge, options):
    boxes, scores, _ = merge(*options, *VOTING)
    height = (0.9 * 80 + 0.8 * 64) / 1.7
    torch.testing.assert_close(boxes[0], torch.tensor([0.0, 0.0, 100.0, height]))
    torch.testing.assert_close(boxes[1], torch.tensor(SMALL_VIEW[0][1]))
    assert scores[:2] == pytest.approx([0.9, 0.6])


def test_each_scale_may_be_for_some_sizes_of_objects(merge):
    """sqrt(100 * 80) = 89.4, sqrt(10 * 10) = 10 and sqrt(100 * 64) = 80 pixels of the original."""
    ranges = "TEST.AUG.SCALE_RANGES"
    assert merge(ranges, ((50, 10000), (0, 10000)))[1] == pytest.approx([0.9])
    assert merge(ranges, ((0, 50), (0, 10000)))[1] == pytest.approx([0.8, 0.6])
    assert merge(ranges, ((0, 10000), (0, 79)), *LINEAR)[1] == pytest.approx([0.9, 0.6])
    assert merge(ranges, ((90, 10000), (0, 79)))[1] == []


@pytest.mark.parametrize("options", [[], LINEAR, [*GAUSSIAN, *VOTING]])
def test_an_rcnn_without_any_detection_gives_none(options, monkeypatch):
    cfg = tiny_config("libra_faster_rcnn_R_50_FPN_1x", [*SCALES, *options])
    nothing = ([], [], [])
    monkeypatch.setattr(
        GeneralizedRCNNWithTTA,
        "_batch_inference",
        lambda self, views, given=None: [
            Instances(
                tuple(view["image"].shape[1:]),
                pred_boxes=Boxes(torch.zeros(0, 4)),
                scores=torch.zeros(0),
                pred_classes=torch.zeros(0, dtype=torch.int64),
            )
            for view in views
        ],
    )
    (result,) = build_tta_model(cfg, tiny_model(cfg).eval())([make_input(*nothing[:2])])
    assert len(result["instances"]) == 0


def both_wrappers(*options):
    """What the wrapper here and Detectron2's make of the same detector and image."""
    cfg = tiny_config("libra_faster_rcnn_R_50_FPN_1x", [*SCALES, *options])
    model = tiny_model(cfg).eval()
    image = make_input([], [])
    image["image"] = image["image"].to(torch.uint8)
    results = []
    for wrapper in (RCNNWithTTA, GeneralizedRCNNWithTTA):
        with torch.no_grad():
            (result,) = wrapper(cfg, model, MultiScaleViews.from_cfg(cfg))([image])
        results.append(result["instances"])
    return results


@pytest.mark.parametrize("masks", [False, True])
def test_an_rcnn_is_detectron2s_at_the_defaults(masks):
    ours, parents = both_wrappers("MODEL.MASK_ON", masks)
    assert len(ours) > 0 and ours.get_fields().keys() == parents.get_fields().keys()
    assert ours.scores.equal(parents.scores) and ours.pred_classes.equal(parents.pred_classes)
    assert ours.pred_boxes.tensor.equal(parents.pred_boxes.tensor)


@pytest.mark.parametrize("options", [LINEAR, [*GAUSSIAN, *VOTING]])
def test_an_rcnn_has_masks_of_the_boxes_that_it_merged(options):
    ours, _ = both_wrappers("MODEL.MASK_ON", True, *options)
    assert len(ours) > 0 and ours.pred_masks.shape == (len(ours), 96, 128)


def test_hard_suppression_beside_voting_is_detectron2s():
    """With a threshold at which nobody else votes, boxes, scores and classes are the parent's."""
    ours, parents = both_wrappers("TEST.AUG.VOTE_THRESH", 0.999999)
    assert len(ours) > 0 and ours.pred_classes.equal(parents.pred_classes)
    torch.testing.assert_close(ours.scores, parents.scores)
    torch.testing.assert_close(ours.pred_boxes.tensor, parents.pred_boxes.tensor)


@pytest.mark.parametrize("name", ["RetinaNet", "UMOPATSS", "UMOPFCOS"])
@pytest.mark.parametrize("options", [LINEAR, [*GAUSSIAN, *VOTING]])
def test_dense_detectors_give_at_most_as_many_detections_best_first(name, options):
    model = tiny_dense_model(name).eval()
    spread_scores(model)
    detector = build_tta_model(tiny_cfg(name, *SCALES, *options), model)
    with torch.no_grad():
        (result,) = detector([make_input([], [])])
    scores = result["instances"].scores
    assert 0 < len(scores) <= model.max_detections_per_image
    assert scores.equal(scores.sort(descending=True).values)


def test_a_view_without_a_range_is_for_all_sizes():
    view = {"image": torch.zeros(3, 96, 128), "height": 96, "width": 128}
    found = detections(view, SMALL_VIEW)
    assert in_scale_range(found, view) is found


@pytest.mark.parametrize(
    "numbers, key",
    [
        ({"nms_type": "soft"}, "NMS_TYPE"),
        ({"sigma": 0.0}, "SOFT_NMS_SIGMA"),
        ({"vote_thresh": 0.0}, "VOTE_THRESH"),
    ],
)
def test_what_is_out_of_range_is_refused(numbers, key):
    with pytest.raises(ValueError, match=f"TEST.AUG.{key}"):
        ViewMerging(**numbers)


def test_ranges_that_do_not_fit_the_scales_are_refused():
    cfg = tiny_cfg("ATSS", *SCALES, "TEST.AUG.SCALE_RANGES", ((0, 100),))
    with pytest.raises(ValueError, match="SCALE_RANGES"):
        MultiScaleViews.from_cfg(cfg)
