"""Losses, samplers and BFP by themselves on a GPU that is not there: nothing waits for it."""

import pytest
import torch
from pretend_cuda import CUDA, PretendCUDA, PretendTensor, to_cuda

from libra_umop.functional import (
    BalancedFeaturePyramid,
    sample_instance_balanced_positives,
    sample_iou_balanced_negatives,
)
from testing.losses import LOSSES, K, R, Targets


@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_its_gradient_stay_on_the_device_and_wait_for_nothing(name):
    x, targets = 3 * torch.randn(R, K), Targets(torch.float32)
    expected = LOSSES[name](x, targets)
    for key, value in vars(targets).items():
        setattr(targets, key, PretendTensor(value))
    placed = PretendTensor(x).requires_grad_()
    with PretendCUDA() as cuda:
        loss = LOSSES[name](placed, targets)
        loss.backward()
    assert (loss.device, placed.grad.device, dict(cuda.waits)) == (CUDA, CUDA, {})
    torch.testing.assert_close(loss.elem, expected)


@pytest.mark.parametrize(
    "sample, values",
    [
        (sample_iou_balanced_negatives, torch.linspace(0, 0.49, 100)),
        (sample_instance_balanced_positives, torch.arange(100) % 3),
    ],
)
def test_sampler_stays_on_the_device_and_waits_for_nothing(sample, values):
    with PretendCUDA() as cuda:
        chosen = sample(PretendTensor(values), 8)
    assert (chosen.device, dict(cuda.waits)) == (CUDA, {})
    assert len(set(chosen.elem.tolist())) == 8


@pytest.mark.parametrize("refine_type", ["non_local", "conv", "none"])
def test_balanced_pyramid_stays_on_the_device_and_waits_for_nothing(refine_type):
    bfp = to_cuda(BalancedFeaturePyramid(64, 1, refine_type))
    features = [
        PretendTensor(torch.randn(1, 64, 16 // 2**i, 24 // 2**i)).requires_grad_() for i in range(3)
    ]
    with PretendCUDA() as cuda:
        outputs = bfp(features)
        sum(x.sum() for x in outputs).backward()
    assert {x.grad.device for x in features} == {CUDA}
    assert {x.device for x in outputs} == {CUDA} and dict(cuda.waits) == {}
