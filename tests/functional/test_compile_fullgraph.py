"""The losses and the matching go through torch.compile in one graph, and give the same numbers.

Whether a graph is whole is decided before a backend sees it, so none that needs a C++ compiler is
used.
"""

import pytest
import torch
from torch.nn import functional as F

from libra_umop.functional.atss_matching import atss_match, centerness_target
from libra_umop.functional.boxes.balanced_l1_loss import balanced_l1_loss
from libra_umop.functional.long_tail import (
    class_balanced_focal_loss_sum,
    equalized_focal_loss_sum,
    seesaw_loss,
)
from libra_umop.functional.progressive_focal_loss import focal_loss_sum, progressive_focus
from libra_umop.functional.quality_losses import (
    distribution_focal_loss,
    quality_focal_loss_sum,
    varifocal_loss_sum,
)


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()


def compiled(function):
    return torch.compile(function, fullgraph=True, backend="aot_eager")


def assert_same_with_gradient(function, x):
    outputs, grads = [], []
    for f in (function, compiled(function)):
        leaf = x.clone().requires_grad_()
        output = f(leaf)
        output.backward()
        outputs.append(output.detach())
        grads.append(leaf.grad)
    torch.testing.assert_close(outputs[1], outputs[0])
    torch.testing.assert_close(grads[1], grads[0])


@pytest.mark.parametrize("formula", ["exact", "reference"])
def test_balanced_l1_loss_compiles_in_one_graph(formula):
    target = torch.randn(50, 4)
    assert_same_with_gradient(
        lambda x: balanced_l1_loss(x, target, beta=0.11, formula=formula, reduction="sum"),
        3 * torch.randn(50, 4),
    )


def test_focal_loss_compiles_in_one_graph():
    labels = torch.randint(-1, 6, (64,))
    assert_same_with_gradient(
        lambda x: focal_loss_sum(x, labels, gamma=2.0, alpha=0.25), torch.randn(64, 5)
    )


@pytest.mark.parametrize("loss_sum", [quality_focal_loss_sum, varifocal_loss_sum])
def test_quality_losses_compile_in_one_graph(loss_sum):
    labels, quality = torch.randint(-1, 6, (64,)), torch.rand(64)
    assert_same_with_gradient(lambda x: loss_sum(x, labels, quality), torch.randn(64, 5))


def test_distribution_focal_loss_compiles_in_one_graph():
    target = 16 * torch.rand(64)
    assert_same_with_gradient(
        lambda x: distribution_focal_loss(x, target).sum(), torch.randn(64, 17)
    )


def test_losses_against_the_imbalance_between_classes_compile_in_one_graph():
    labels, weights, counts = torch.randint(-1, 6, (64,)), torch.rand(5), torch.randint(1, 99, (5,))
    numbers = {"gamma": 2.0, "alpha": 0.25}
    for loss_sum in (
        lambda x: class_balanced_focal_loss_sum(x, labels, weights, **numbers),
        lambda x: equalized_focal_loss_sum(x, labels, weights)[0],
        lambda x: seesaw_loss(F.pad(x, (0, 1)), labels.clamp(min=0), counts).sum(),
    ):
        assert_same_with_gradient(loss_sum, torch.randn(64, 5))


@pytest.mark.parametrize("focus", ["mean_prob", "mean_log"])
def test_progressive_focal_loss_compiles_in_one_graph(focus):
    labels = torch.randint(-1, 6, (64,))

    def loss(x):
        gamma, alpha = progressive_focus(x, labels, focus=focus)
        return focal_loss_sum(x, labels, gamma=gamma, alpha=alpha)

    assert_same_with_gradient(loss, torch.randn(64, 5))


def level_anchors(stride, size):
    centers = (torch.arange(size) + 0.5) * stride
    y, x = torch.meshgrid(centers, centers, indexing="ij")
    corner = torch.stack((x, y), dim=-1).reshape(-1, 2)
    return torch.cat((corner - 4 * stride, corner + 4 * stride), dim=1)


def test_atss_matching_compiles_in_one_graph():
    sizes = [(8, 16), (16, 8), (32, 4), (64, 2), (128, 1)]
    anchors = torch.cat([level_anchors(stride, size) for stride, size in sizes])
    num_anchors = [size * size for _, size in sizes]
    corners = 80 * torch.rand(6, 2)
    gt_boxes = torch.cat((corners, corners + 8 + 40 * torch.rand(6, 2)), dim=1)
    matched = atss_match(anchors, num_anchors, gt_boxes)
    assert (matched >= 0).any()
    assert torch.equal(compiled(atss_match)(anchors, num_anchors, gt_boxes), matched)
    boxes = gt_boxes[matched.clamp(min=0)]
    torch.testing.assert_close(
        compiled(centerness_target)(anchors, boxes), centerness_target(anchors, boxes)
    )
