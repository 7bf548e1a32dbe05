"""Multi-scale and flip testing: views, frames, and the one suppression at the end."""

import pytest
import torch
from detectron2.layers import batched_nms
from detectron2.modeling import GeneralizedRCNNWithTTA, build_model
from detectron2.structures import Boxes, Instances

from libra_umop.config.loading import load_config
from libra_umop.evaluation.tta import build_tta_model
from libra_umop.modeling.tta.dense import DenseDetectorWithTTA, MultiScaleViews
from testing.batches import make_input
from testing.dense_models import DETECTORS, spread_scores, tiny_cfg, tiny_model
from testing.shrink import shrink

SCALES = ("TEST.AUG.MIN_SIZES", (96, 128), "TEST.AUG.MAX_SIZES", (128, 150))
# These clip boxes before suppression, as the merging of views has to.
CLIPPING_BEFORE = [name for name in DETECTORS if "FCOS" not in name]
ONE_VIEW = ("TEST.AUG.MIN_SIZES", (96,), "TEST.AUG.MAX_SIZES", (128,), "TEST.AUG.FLIP", False)


def tta_model(name, *opts):
    """A detector with telling scores, its config, and an image of (96, 128)."""
    model = tiny_model(name, *opts).eval()
    spread_scores(model)
    inputs = make_input([], [])
    inputs["image"] = inputs["image"].to(torch.uint8)  # exact under resizing
    return model, tiny_cfg(name, *opts), inputs


def test_each_scale_has_its_own_longest_side_and_is_flipped():
    cfg = tiny_cfg("ATSS", *SCALES)
    views = MultiScaleViews.from_cfg(cfg)(make_input([], []))
    sizes = [tuple(view["image"].shape[1:]) for view in views]
    # 128 is what 96 x 128 would need on the longest side; 128 x 171 is limited to 150.
    assert sizes == [(96, 128)] * 2 + [(113, 150)] * 2
    assert torch.equal(views[0]["image"].flip(2), views[1]["image"])


def test_without_max_sizes_there_is_one_longest_side():
    cfg = tiny_cfg("ATSS", "TEST.AUG.MIN_SIZES", (96, 192), "TEST.AUG.MAX_SIZE", 160)
    views = MultiScaleViews.from_cfg(cfg)(make_input([], []))
    assert [tuple(view["image"].shape[1:]) for view in views[::2]] == [(96, 128), (120, 160)]


def test_a_shrunk_config_has_as_many_longest_sides_as_scales(repo):
    config = repo / "configs" / "COCO-Detection" / "umop_atss_Swin_L_FPN_2x_ms480-960_tta.yaml"
    cfg = shrink(load_config(str(config)))
    assert len(cfg.TEST.AUG.MAX_SIZES) == len(cfg.TEST.AUG.MIN_SIZES)
    assert MultiScaleViews.from_cfg(cfg)(make_input([], []))


@pytest.mark.parametrize("min_sizes, max_sizes", [((), ()), ((96, 128), (128,))])
def test_sizes_that_do_not_fit_each_other_are_refused(min_sizes, max_sizes):
    opts = ("TEST.AUG.MIN_SIZES", min_sizes, "TEST.AUG.MAX_SIZES", max_sizes)
    with pytest.raises(ValueError, match="TEST.AUG"):
        MultiScaleViews.from_cfg(tiny_cfg("ATSS", *opts))


@pytest.mark.parametrize("name", CLIPPING_BEFORE)
def test_a_single_view_at_the_same_size_changes_nothing(name):
    model, cfg, inputs = tta_model(name, *ONE_VIEW)
    with torch.no_grad():
        (expected,) = model([inputs])
    (ours,) = DenseDetectorWithTTA(cfg, model)([inputs])
    expected, ours = expected["instances"], ours["instances"]
    torch.testing.assert_close(ours.scores, expected.scores)
    torch.testing.assert_close(ours.pred_boxes.tensor, expected.pred_boxes.tensor)
    assert torch.equal(ours.pred_classes, expected.pred_classes)
    assert ours.image_size == (96, 128)


class KnownDetector(DenseDetectorWithTTA):
    """Sees the same object in each view, where that view has it, with rising scores."""

    def _candidates(self, views):
        found = []
        for view in views:
            height, width = view["image"].shape[1:]
            x1, y1, x2, y2 = 0.1 * width, 0.2 * height, 0.5 * width, 0.6 * height
            if isinstance(view["transforms"].transforms[-1], type(self.flip)):
                x1, x2 = width - x2, width - x1
            self.num_views += 1
            found.append(
                Instances(
                    (height, width),
                    pred_boxes=Boxes(torch.tensor([[x1, y1, x2, y2], [0.0, 0.0, 1e4, 1e4]])),
                    scores=torch.tensor([0.1 * self.num_views, 0.05]),
                    pred_classes=torch.tensor([2, self.num_views % 4]),
                )
            )
        return found


def test_boxes_of_all_views_meet_in_the_original_frame_and_are_suppressed_once():
    from fvcore.transforms import HFlipTransform

    model, cfg, inputs = tta_model("ATSS", *SCALES)
    inputs["height"], inputs["width"] = 480, 640  # the original is five times the given image
    detector = KnownDetector(cfg, model)
    detector.flip, detector.num_views = HFlipTransform(1), 0
    (result,) = detector([inputs])
    instances = result["instances"]
    assert detector.num_views == 4
    # One object from four views, with the highest score; one of the whole image for each class.
    assert instances.pred_classes.tolist() == [2, *instances.pred_classes[1:].tolist()]
    assert instances.scores[0].item() == pytest.approx(0.4)
    expected = torch.tensor([64.0, 96.0, 320.0, 288.0])
    torch.testing.assert_close(instances.pred_boxes.tensor[0], expected, rtol=0, atol=1.0)
    assert len(instances) == 5
    assert instances.pred_boxes.tensor[1:].tolist() == [[0, 0, 640, 480]] * 4


@pytest.mark.parametrize("name", ["RetinaNet", "UMOPRetinaNet", "UMOPATSS", "UMOPFCOS"])
def test_several_views_give_suppressed_detections_inside_the_image(name):
    model, cfg, inputs = tta_model(name, *SCALES)
    before = model.test_nms_thresh, model.max_detections_per_image
    (result,) = build_tta_model(cfg, model)([inputs])
    assert (model.test_nms_thresh, model.max_detections_per_image) == before
    pred = result["instances"]
    assert 0 < len(pred) <= 100
    boxes = pred.pred_boxes.tensor
    assert (boxes >= 0).all() and (boxes[:, 2] <= 128).all() and (boxes[:, 3] <= 96).all()
    keep = batched_nms(boxes, pred.scores, pred.pred_classes, model.test_nms_thresh)
    assert len(keep) == len(pred)


def test_an_image_may_be_named_by_its_file(tmp_path):
    import cv2

    model, cfg, inputs = tta_model("ATSS", *SCALES)
    path = str(tmp_path / "image.png")
    cv2.imwrite(path, inputs["image"].permute(1, 2, 0).numpy())
    detector = build_tta_model(cfg, model)
    (from_file,), (given,) = detector([{"file_name": path}]), detector([inputs])
    torch.testing.assert_close(from_file["instances"].scores, given["instances"].scores)


def test_an_image_without_detections_gives_none():
    model, cfg, inputs = tta_model("ATSS", *SCALES)
    model.test_score_thresh = 1.0
    (result,) = build_tta_model(cfg, model)([inputs])
    assert len(result["instances"]) == 0


def test_two_stage_detectors_get_detectron2s_wrapper_with_the_same_views(monkeypatch):
    cfg = tiny_cfg("GeneralizedRCNN", *SCALES)
    cfg.MODEL.BACKBONE.NAME = "build_tiny_pyramid"
    cfg.MODEL.RPN.IN_FEATURES = cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p3"]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[32]]
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC, cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 1, 16
    detector = build_tta_model(cfg, build_model(cfg).eval())
    assert isinstance(detector, GeneralizedRCNNWithTTA)
    assert isinstance(detector.tta_mapper, MultiScaleViews)
    with torch.no_grad():
        (result,) = detector([make_input([], [])])
    assert result["instances"].image_size == (96, 128)


def test_other_models_are_refused():
    with pytest.raises(ValueError, match="DenseDetector"):
        DenseDetectorWithTTA(tiny_cfg("ATSS", *SCALES), torch.nn.Linear(1, 1))
