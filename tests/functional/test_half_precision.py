"""Losses and BFP on half precision, under autocast, against float64 on the same rounded numbers.

u is half a unit in the last place of 1: 4.9e-4 in float16 and 3.9e-3 in bfloat16, the relative
error of one rounding.
"""

import copy

import pytest
import torch
from detectron2.modeling.box_regression import Box2BoxTransform

from libra_umop.functional.balanced_pyramid import BalancedFeaturePyramid
from libra_umop.functional.boxes.balanced_l1_loss import balanced_l1_loss
from libra_umop.functional.focal_loss import focal_loss_sum
from libra_umop.functional.hard_negative_mining import hard_negative_bce_sum
from libra_umop.functional.long_tail import (
    class_balanced_focal_loss_sum,
    equalized_focal_loss_sum,
    seesaw_loss,
)
from libra_umop.functional.progressive_focal_loss import progressive_focus
from libra_umop.functional.quality_losses import (
    distribution_focal_loss,
    quality_focal_loss_sum,
    varifocal_loss_sum,
)
from libra_umop.modeling.dense.losses.boxes.box_loss import DenseBoxLoss
from libra_umop.modeling.dense.losses.boxes.centerness import centerness_loss_sum

R, K = 400, 20
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


class Targets:
    """Of R anchors, in the dtype that they have beside predictions of another: fp32, or fp64."""

    def __init__(self, dtype):
        generator = torch.Generator().manual_seed(1)
        corners = 600 * torch.rand(R, 2, generator=generator)
        sides = 8 + 400 * torch.rand(R, 2, generator=generator)
        self.anchors = torch.cat((corners, corners + sides), dim=1).to(dtype)
        self.boxes = self.anchors + 6 * torch.rand(R, 4, generator=generator).to(dtype) - 3
        self.labels = torch.randint(0, K + 1, (R,), generator=generator)
        self.labels[::7] = -1
        self.quality = torch.rand(R, generator=generator).to(dtype)
        self.is_pos = torch.rand(R, generator=generator) > 0.5
        self.deltas = torch.randn(R, K, generator=generator).to(dtype)

    def box_loss(self, deltas, **kwargs):
        transform = Box2BoxTransform((1.0, 1.0, 1.0, 1.0))
        loss = DenseBoxLoss(**kwargs)
        weights = self.is_pos.to(self.boxes.dtype)
        return loss(self.anchors, transform, deltas[None, :, :4], self.boxes[None], weights[None])


def progressive(x, t):
    gamma, alpha = progressive_focus(x, t.labels)
    return focal_loss_sum(x, t.labels, gamma=gamma, alpha=alpha)


def balanced_l1(formula, beta):
    return lambda x, t: balanced_l1_loss(x, t.deltas, beta=beta, formula=formula, reduction="sum")


LOSSES = {
    "focal": lambda x, t: focal_loss_sum(x, t.labels, gamma=2.0, alpha=0.25),
    "focal, gamma 0.5": lambda x, t: focal_loss_sum(x, t.labels, gamma=0.5, alpha=0.25),
    "progressive focal": progressive,
    "hard negatives": lambda x, t: hard_negative_bce_sum(x, t.labels),
    "quality focal": lambda x, t: quality_focal_loss_sum(x, t.labels, t.quality),
    "varifocal": lambda x, t: varifocal_loss_sum(x, t.labels, t.quality),
    "distribution focal": lambda x, t: distribution_focal_loss(x, t.quality * (K - 1.2)).sum(),
    "class-balanced focal": lambda x, t: class_balanced_focal_loss_sum(
        x, t.labels, t.quality[:K], gamma=2.0, alpha=0.25
    ),
    "equalized focal": lambda x, t: equalized_focal_loss_sum(x, t.labels, t.quality[:K])[0],
    "seesaw": lambda x, t: seesaw_loss(
        x, t.labels.clamp(0, K - 1), 1000 ** t.quality[: K - 1]
    ).sum(),
    "balanced L1": balanced_l1("exact", 1.0),
    "balanced L1, beta 0.11": balanced_l1("exact", 0.11),
    "balanced L1 of the reference": balanced_l1("reference", 0.11),
    "smooth L1 of boxes": lambda x, t: t.box_loss(x, loss_type="smooth_l1", beta=0.11),
    "balanced L1 of boxes": lambda x, t: t.box_loss(x, loss_type="balanced_l1", beta=0.11),
    "GIoU": lambda x, t: t.box_loss(x, loss_type="giou"),
    "DIoU": lambda x, t: t.box_loss(x, loss_type="diou"),
    "CIoU": lambda x, t: t.box_loss(x, loss_type="ciou"),
    "centerness": lambda x, t: centerness_loss_sum(
        [x[None, :, :1]], t.quality[None], t.is_pos[None]
    ),
}


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("scale", [1.0, 10.0, 100.0])
@pytest.mark.parametrize("name", LOSSES)
def test_loss_is_that_of_float64_and_its_gradient_is_rounded_once(name, scale, dtype):
    """They compute in fp32 (measured: 1.1e-7 of the loss), so that all that half precision adds to
    the gradient is its own rounding, u at most (measured: 0.56 u)."""
    x = (scale * torch.randn(R, K)).to(dtype)
    exact = x.double().requires_grad_()
    expected = LOSSES[name](exact, Targets(torch.float64))
    expected.backward()
    x.requires_grad_()
    with torch.autocast("cpu", dtype=dtype):
        loss = LOSSES[name](x, Targets(torch.float32))
    loss.backward()
    assert loss.dtype == torch.float32 and x.grad.dtype == dtype
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert x.grad.isfinite().all()
    error = (x.grad.double() - exact.grad).norm() / exact.grad.norm()
    assert error < torch.finfo(dtype).eps / 2


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("scale", [1.0, 10.0, 100.0])
@pytest.mark.parametrize("refine", ["none", "conv", "non_local"])
@pytest.mark.parametrize("precision", ["float32", "autocast"])
def test_bfp_is_within_two_roundings_of_float64(refine, precision, scale, dtype):
    """A level is rounded as the average, as what refines it, and as the sum; one of u each is the
    worst, and the root mean square of a rounding is 0.58 u: measured: 0.5 to 1.3 u together."""
    bfp = BalancedFeaturePyramid(32, 1, refine, precision=precision)
    for parameter in bfp.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
        parameter.data = parameter.data.to(dtype).float()
    features = [
        (scale * torch.randn(2, 32, 24 // 2**i, 40 // 2**i)).to(dtype).requires_grad_()
        for i in range(4)
    ]
    expected = copy.deepcopy(bfp).double()([x.double() for x in features])
    with torch.autocast("cpu", dtype=dtype):
        actual = bfp(features)
    sum(x.float().square().mean() for x in actual).backward()
    for a, b, feature in zip(expected, actual, features, strict=True):
        assert b.dtype == dtype and b.isfinite().all() and feature.grad.isfinite().all()
        assert (b.double() - a).norm() < torch.finfo(dtype).eps * a.norm()  # 2 u
