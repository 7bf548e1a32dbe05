"""The losses and the matching go through torch.compile in one graph, and give the same numbers.

Whether a graph is whole is decided before a backend sees it, so none that needs a C++ compiler is
used.
"""

import pytest
import torch

from libra_umop.functional.atss_matching import atss_match, centerness_target
from testing.losses import LOSSES, K, R, Targets


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


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_compiles_in_one_graph(name):
    torch.manual_seed(0)
    targets = Targets(torch.float32)
    assert_same_with_gradient(lambda x: LOSSES[name](x, targets), 3 * torch.randn(R, K))


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
