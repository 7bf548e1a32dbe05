"""FCOS by config: the parent's losses, gradients and detections."""

import pytest
from detectron2.modeling import build_model
from detectron2.modeling.meta_arch import fcos as d2_fcos

from libra_umop.modeling import FCOS
from testing.batches import make_batch
from testing.dense_models import (
    assert_same_detections,
    assert_same_step,
    spread_scores,
    tiny_cfg,
    tiny_model,
    train_step,
)

OFF = ("MODEL.UMOP.PROGRESSIVE_FOCUS", False, "MODEL.UMOP.LEVEL_WISE", False)


def make_parent(model):
    """Detectron2's class around the same modules."""
    return d2_fcos.FCOS(
        backbone=model.backbone,
        head=model.head,
        head_in_features=model.head_in_features,
        num_classes=model.num_classes,
        pixel_mean=model.pixel_mean.flatten().tolist(),
        pixel_std=model.pixel_std.flatten().tolist(),
    )


@pytest.mark.parametrize("name", ["FCOS", "UMOPFCOS"])
def test_losses_and_gradients_are_the_parents_with_the_methods_off(name):
    model = tiny_model(name, *OFF)
    parent = make_parent(model)
    batch = make_batch()
    for inputs in (batch, batch[:1]):
        assert_same_step(model, parent, inputs)


def test_detections_are_the_parents():
    model = tiny_model("FCOS").eval()
    spread_scores(model)
    parent = make_parent(model).eval()
    assert_same_detections(model, parent)


def test_box_loss_weight_scales_the_box_loss_alone():
    plain = train_step(tiny_model("FCOS"), make_batch())[0]
    half = train_step(tiny_model("FCOS", "MODEL.FCOS.BBOX_REG_LOSS_WEIGHT", 0.5), make_batch())[0]
    assert half["loss_fcos_loc"].item() == pytest.approx(plain["loss_fcos_loc"].item() / 2)
    assert half["loss_fcos_cls"] == plain["loss_fcos_cls"]
    with pytest.raises(ValueError, match="BBOX_REG_LOSS_WEIGHT"):
        build_model(tiny_cfg("FCOS", "MODEL.FCOS.BBOX_REG_LOSS_WEIGHT", -1.0))


def test_constructor_needs_no_config():
    model = tiny_model("FCOS")
    direct = FCOS(
        backbone=model.backbone,
        head=model.head,
        num_classes=model.num_classes,
        pixel_mean=[0.0] * 3,
        pixel_std=[1.0] * 3,
    )
    assert direct.head_in_features == ["p3", "p4", "p5", "p6", "p7"]
