"""The methods give on a GPU what they give on the CPU, and do not wait for it on the way."""

import contextlib
import warnings

import pytest
import torch
from detectron2.utils.events import EventStorage

from libra_umop.functional.atss_matching import atss_match
from libra_umop.functional.balanced_pyramid import BalancedFeaturePyramid
from libra_umop.functional.focal_loss import focal_loss_sum
from libra_umop.functional.focal_loss.sums import _OWN_TERMS, _triton_function
from libra_umop.functional.iou_balanced_sampling import (
    sample_instance_balanced_positives,
    sample_iou_balanced_negatives,
)
from libra_umop.modeling.scalars import DeferredScalars
from testing.losses import LOSSES, K, R, Targets
from testing.sync_counter import no_waiting

pytestmark = pytest.mark.gpu


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


@pytest.mark.parametrize("kind", _OWN_TERMS)
def test_loss_has_its_kernels(device, kind):
    if device == "cpu":
        pytest.skip("a rehearsal: Triton's kernels are for a GPU")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it says why, where Triton does not work
        assert _triton_function(kind, torch.device(device)) is not None


@pytest.mark.parametrize("name", LOSSES)
def test_loss_is_that_of_the_cpu(name, device):
    targets = {
        torch.float64: Targets(torch.float64),
        torch.float32: Targets(torch.float32, device),
    }
    (a, grad_a), (b, grad_b) = value_and_grad(
        lambda x: LOSSES[name](x, targets[x.dtype]), 3 * torch.randn(R, K), device
    )
    torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-5)
    assert (grad_b - grad_a).norm() < 1e-4 * grad_a.norm()


def test_focal_loss_on_another_gpu_than_the_current_one(device):
    if torch.cuda.device_count() < 2:
        pytest.skip("torch sees one GPU at most")
    x, labels = torch.randn(R, K), Targets(torch.float32).labels
    results = []
    for place in ("cuda:0", "cuda:1"):
        logits = x.to(place).requires_grad_()
        with torch.cuda.device(0):
            loss = focal_loss_sum(logits, labels.to(place), gamma=2.0, alpha=0.25)
            loss.backward()
        results.append((loss.detach().cpu(), logits.grad.cpu()))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize(
    "sample, groups",
    [
        # Two from each third of [0, 0.5); four of each box.
        (
            lambda x: sample_iou_balanced_negatives(x, 6),
            {0.0: (96, 2), 0.2: (2, 2), 0.4: (2, 2)},
        ),
        (lambda x: sample_instance_balanced_positives(x, 8), {0: (90, 4), 1: (10, 4)}),
    ],
    ids=["negatives by IoU", "positives by box"],
)
def test_sampler_draws_evenly(sample, groups, device):
    values = torch.cat([torch.full((size,), value) for value, (size, _) in groups.items()])
    values = values.to(device)
    sample(values)  # kernels are loaded, which waits
    with no_waiting(device):
        chosen = sample(values)
    drawn = values[chosen].cpu()
    assert len(set(chosen.tolist())) == len(chosen)
    for value, (_, share) in groups.items():
        assert int((drawn == value).sum()) == share


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
