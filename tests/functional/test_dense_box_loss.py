"""Elementwise IoU losses and deltas against fvcore and Detectron2."""

import detectron2.layers
import pytest
import torch
from detectron2.modeling.box_regression import Box2BoxTransform
from fvcore.nn import giou_loss as fvcore_giou_loss

from libra_umop.functional.boxes.dense_box_loss import (
    IOU_LOSSES,
    box_deltas,
    ciou_loss,
    diou_loss,
    giou_loss,
)


def make_boxes(num, dtype=torch.float32):
    x1y1 = torch.rand(num, 2, dtype=dtype) * 20
    return torch.cat((x1y1, x1y1 + torch.rand(num, 2, dtype=dtype) * 20 + 1), dim=1)


def test_giou_equals_fvcore():
    pred, gt = make_boxes(200), make_boxes(200)
    torch.testing.assert_close(giou_loss(pred, gt), fvcore_giou_loss(pred, gt))


def test_giou_gradient_is_exact():
    pred, gt = make_boxes(20, torch.float64).requires_grad_(), make_boxes(20, torch.float64)
    assert torch.autograd.gradcheck(lambda x: giou_loss(x, gt), (pred,))


def test_giou_of_equal_boxes_is_0_of_far_ones_nearly_2_and_of_empty_ones_finite():
    box = torch.tensor([0.0, 0.0, 4.0, 4.0])
    far = box + 1e4
    assert giou_loss(box, box).item() < 1e-6
    assert 1.99 < giou_loss(box, far).item() <= 2
    empty = torch.zeros(4, requires_grad=True)
    loss = giou_loss(empty, torch.zeros(4))
    loss.backward()
    assert loss.isfinite() and empty.grad.isfinite().all()


@pytest.mark.parametrize("name", ["diou", "ciou"])
def test_diou_and_ciou_have_the_values_and_gradients_of_detectron2(name):
    pred, gt = make_boxes(400), make_boxes(400)
    pred[:40] = gt[:40]
    pred[40:80] += 100  # apart
    gt[80:120, :2] -= 30  # one inside the other
    weights = torch.rand(400)
    results = []
    for function in (IOU_LOSSES[name], getattr(detectron2.layers, f"{name}_loss")):
        x = pred.clone().requires_grad_()
        loss = function(x, gt)
        (loss * weights).sum().backward()
        results.append((loss.detach(), x.grad))
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)
    assert (results[0][0] > 1).any()


@pytest.mark.parametrize("function", [diou_loss, ciou_loss])
def test_diou_and_ciou_of_equal_boxes_are_0_and_of_bad_ones_no_stop(function):
    box = torch.tensor([0.0, 0.0, 4.0, 2.0])
    assert abs(function(box, box).item()) < 1e-6
    for gt in (torch.zeros(4), box):
        empty = torch.zeros(4, requires_grad=True)
        loss = function(empty, gt)
        loss.backward()
        assert loss.isfinite() and empty.grad.isfinite().all()
    assert function(torch.full((4,), float("nan")), box).isnan()


def test_diou_and_ciou_by_hand():
    """A 2x1 box at the corner of a 2x2 box: IoU 1/2, d^2 = 1/4, c^2 = 8, angles 45 and 63.435."""
    pred, gt = torch.tensor([0.0, 0.0, 2.0, 1.0]), torch.tensor([0.0, 0.0, 2.0, 2.0])
    assert diou_loss(pred, gt).item() == pytest.approx(0.5 + 0.25 / 8)
    v = 4 / torch.pi**2 * ((63.434949 - 45) * torch.pi / 180) ** 2
    assert ciou_loss(pred, gt).item() == pytest.approx(0.53125 + v * v / (0.5 + v), rel=1e-5)


def test_diou_gradient_is_exact():
    pred, gt = make_boxes(20, torch.float64).requires_grad_(), make_boxes(20, torch.float64)
    assert torch.autograd.gradcheck(lambda x: diou_loss(x, gt), (pred,))


def test_deltas_equal_detectron2():
    anchors, boxes, weights = make_boxes(50), make_boxes(50), (10.0, 10.0, 5.0, 5.0)
    expected = Box2BoxTransform(weights=weights).get_deltas(anchors, boxes)
    torch.testing.assert_close(box_deltas(anchors, boxes, weights=weights), expected)


@pytest.mark.parametrize("name", IOU_LOSSES)
def test_iou_losses_compile_without_graph_breaks(name):
    pred, gt = make_boxes(20), make_boxes(20)
    compiled = torch.compile(IOU_LOSSES[name], fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(pred, gt), IOU_LOSSES[name](pred, gt))
