"""The methods give on a GPU what they give on the CPU, and do not wait for it on the way."""

import contextlib
import warnings

import pytest
import torch
from detectron2.utils.events import EventStorage

from libra_umop.functional.atss_matching import atss_match
from libra_umop.functional.balanced_pyramid import BalancedFeaturePyramid
from libra_umop.functional.boxes.balanced_l1_loss import balanced_l1_loss
from libra_umop.functional.focal_loss import focal_loss_sum
from libra_umop.functional.focal_loss.sums import _OWN_TERMS, _triton_function
from libra_umop.functional.hard_negative_mining import hard_negative_bce_sum
from libra_umop.functional.progressive_focal_loss import progressive_focus
from libra_umop.functional.quality_losses import (
    distribution_focal_loss,
    quality_focal_loss_sum,
    varifocal_loss_sum,
)
from libra_umop.modeling.dense.scalars import DeferredScalars

pytestmark = pytest.mark.gpu


@contextlib.contextmanager
def no_waiting(device):
    """CUDA raises where the host would wait for the device."""
    if device == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("default")


def value_and_grad(function, x, device):
    """``function(x)`` and the gradient of its sum, on the CPU in float64 and on ``device``."""
    results = []
    for place, dtype in (("cpu", torch.float64), (device, torch.float32)):
        x_i = x.detach().to(place, dtype, copy=True).requires_grad_()
        if place == device:
            function(x_i)  # kernels are loaded, which waits
        with no_waiting(place):
            value = function(x_i)
            value.sum().backward()
        results.append((value.detach().cpu().double(), x_i.grad.cpu().double()))
    return results


def logits_and_labels(num_classes=20):
    labels = torch.randint(0, num_classes + 1, (5000,))
    labels[::7] = -1
    return torch.randn(5000, num_classes) * 3, labels


@pytest.mark.parametrize("kind", _OWN_TERMS)
def test_loss_has_its_kernels(device, kind):
    if device == "cpu":
        pytest.skip("a rehearsal: Triton's kernels are for a GPU")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it says why, where Triton does not work
        assert _triton_function(kind, torch.device(device)) is not None


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss(device, gamma):
    x, labels = logits_and_labels()
    placed = {"cpu": labels, device: labels.to(device)}
    (a, grad_a), (b, grad_b) = value_and_grad(
        lambda x: focal_loss_sum(x, placed[x.device.type], gamma=gamma, alpha=0.25), x, device
    )
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(grad_a, grad_b, rtol=1e-4, atol=1e-6)


def test_focal_loss_on_another_gpu_than_the_current_one(device):
    if torch.cuda.device_count() < 2:
        pytest.skip("torch sees one GPU at most")
    x, labels = logits_and_labels()
    results = []
    for place in ("cuda:0", "cuda:1"):
        logits = x.to(place).requires_grad_()
        with torch.cuda.device(0):
            loss = focal_loss_sum(logits, labels.to(place), gamma=2.0, alpha=0.25)
            loss.backward()
        results.append((loss.detach().cpu(), logits.grad.cpu()))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("loss_sum", [quality_focal_loss_sum, varifocal_loss_sum])
def test_quality_losses(device, loss_sum):
    x, labels = logits_and_labels()
    placed = {"cpu": (labels, torch.rand(len(labels)))}
    placed[device] = tuple(value.to(device) for value in placed["cpu"])
    (a, grad_a), (b, grad_b) = value_and_grad(
        lambda x: loss_sum(x, *placed[x.device.type]), x, device
    )
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(grad_a, grad_b, rtol=1e-4, atol=1e-5)


def test_distribution_focal_loss(device):
    target = 16 * torch.rand(500)
    placed = {"cpu": target, device: target.to(device)}
    (a, grad_a), (b, grad_b) = value_and_grad(
        lambda x: distribution_focal_loss(x, placed[x.device.type]), torch.randn(500, 17), device
    )
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(grad_a, grad_b, rtol=1e-4, atol=1e-6)


def test_progressive_focus_and_hard_negatives(device):
    x, labels = logits_and_labels()
    placed = {"cpu": labels, device: labels.to(device)}

    def loss(x):
        gamma, alpha = progressive_focus(x, placed[x.device.type])
        return focal_loss_sum(x, placed[x.device.type], gamma=gamma, alpha=alpha)

    (a, grad_a), (b, grad_b) = value_and_grad(loss, x, device)
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(grad_a, grad_b, rtol=1e-3, atol=1e-5)
    (a, _), (b, _) = value_and_grad(
        lambda x: hard_negative_bce_sum(x, placed[x.device.type], neg_pos_ratio=3.0), x, device
    )
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("formula", ["exact", "reference"])
def test_balanced_l1(device, formula):
    target = torch.randn(1000, 4)
    placed = {"cpu": target, device: target.to(device)}
    (a, grad_a), (b, grad_b) = value_and_grad(
        lambda x: balanced_l1_loss(x, placed[x.device.type].to(x.dtype), beta=1.0, formula=formula),
        torch.randn(1000, 4),
        device,
    )
    torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(grad_a, grad_b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("refine_type", ["non_local", "conv", "none"])
def test_balanced_pyramid(device, refine_type, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    bfp = BalancedFeaturePyramid(64, 1, refine_type)
    torch.nn.init.normal_(getattr(bfp.refine, "out", torch.nn.Conv2d(1, 1, 1)).weight, std=0.1)
    features = [torch.randn(2, 64, 40 // 2**i, 56 // 2**i) for i in range(4)]
    expected = bfp.double()([x.double() for x in features])
    bfp.float().to(device)
    placed = [x.to(device).requires_grad_() for x in features]
    for _ in range(2):
        with no_waiting(device) if _ else contextlib.nullcontext():
            actual = bfp(placed)
            sum(x.sum() for x in actual).backward()
    for a, b in zip(expected, actual, strict=True):
        torch.testing.assert_close(b.cpu().double(), a, rtol=1e-4, atol=1e-4)
    assert all(x.grad.isfinite().all() for x in placed)


def test_atss_matching(device):
    centers = torch.rand(4000, 2) * 512
    anchors = torch.cat((centers - 16, centers + 16), dim=1)
    corners = torch.rand(30, 2) * 400
    boxes = torch.cat((corners, corners + 20 + torch.rand(30, 2) * 90), dim=1)
    per_level = [3000, 800, 200]
    expected = atss_match(anchors, per_level, boxes)
    placed = anchors.to(device), boxes.to(device)
    atss_match(placed[0], per_level, placed[1])
    with no_waiting(device):
        actual = atss_match(placed[0], per_level, placed[1])
    assert (actual.cpu() != expected).float().mean() < 1e-3  # equal but for ties in rounding
    assert (expected >= 0).sum() > 30


def test_scalars_of_validation_stay_out_of_trainings(device):
    scalars = DeferredScalars()
    with EventStorage() as training:
        for value in (1.0, 2.0):
            scalars.put(["x"], torch.tensor([value], device=device))
            training.step()
        with EventStorage() as validation:
            scalars.put(["x"], torch.tensor([9.0], device=device))
            scalars.put(["x"], torch.tensor([9.0], device=device))
        scalars.put(["x"], torch.tensor([3.0], device=device))
        scalars.put(["x"], torch.tensor([4.0], device=device))
    seen = [value for value, _ in training.history("x").values()]
    assert seen[:2] == [1.0, 2.0] and 9.0 not in seen
    assert {value for value, _ in validation.history("x").values()} == {9.0}
