"""Losses and BFP on half precision, under autocast, against float64 on the same rounded numbers.

u is half a unit in the last place of 1: 4.9e-4 in float16 and 3.9e-3 in bfloat16, the relative
error of one rounding.
"""

import copy

import pytest
import torch

from libra_umop.functional.balanced_pyramid import BalancedFeaturePyramid
from testing.losses import LOSSES, K, R, Targets

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


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
