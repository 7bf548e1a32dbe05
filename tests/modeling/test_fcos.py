"""FCOS by config: the parent's losses, gradients and detections."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.modeling.meta_arch import fcos as d2_fcos
from detectron2.utils.events import EventStorage

from dense_models import make_batch, spread_scores, tiny_cfg, tiny_model
from libra_umop.modeling import FCOS

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


def train_step(model, batch):
    model.zero_grad()
    with EventStorage():
        losses = model(batch)
    sum(losses.values()).backward()
    return losses, {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("name", ["FCOS", "UMOPFCOS"])
def test_losses_and_gradients_are_the_parents_with_the_methods_off(name):
    model = tiny_model(name, *OFF)
    parent = make_parent(model)
    batch = make_batch()
    for inputs in (batch, batch[:1]):
        expected, expected_grads = train_step(parent, inputs)
        losses, grads = train_step(model, inputs)
        assert losses.keys() == expected.keys()
        for key in losses:
            torch.testing.assert_close(losses[key], expected[key], rtol=1e-5, atol=1e-8)
        for key in grads:
            torch.testing.assert_close(grads[key], expected_grads[key], rtol=1e-4, atol=1e-7)


def test_detections_are_the_parents():
    model = tiny_model("FCOS").eval()
    spread_scores(model)
    parent = make_parent(model).eval()
    with torch.no_grad():
        expected, ours = (m(make_batch())[0]["instances"] for m in (parent, model))
    assert len(ours) > 0
    assert torch.equal(ours.pred_boxes.tensor, expected.pred_boxes.tensor)
    assert torch.equal(ours.scores, expected.scores)


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
