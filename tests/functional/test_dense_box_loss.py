"""Elementwise GIoU and deltas against fvcore and Detectron2."""

import torch
from detectron2.modeling.box_regression import Box2BoxTransform
from fvcore.nn import giou_loss as fvcore_giou_loss

from libra_umop.functional.dense_box_loss import box_deltas, giou_loss


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


def test_deltas_equal_detectron2():
    anchors, boxes, weights = make_boxes(50), make_boxes(50), (10.0, 10.0, 5.0, 5.0)
    expected = Box2BoxTransform(weights=weights).get_deltas(anchors, boxes)
    torch.testing.assert_close(box_deltas(anchors, boxes, weights=weights), expected)


def test_giou_compiles_without_graph_breaks():
    pred, gt = make_boxes(20), make_boxes(20)
    compiled = torch.compile(giou_loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(pred, gt), giou_loss(pred, gt))
