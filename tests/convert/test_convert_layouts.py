"""Reorderings against arithmetic by eye, and against the layers they are for."""

import pytest
import torch
from torch.nn import functional as F

from libra_umop.convert.layouts import PATCH_MERGING, anchor_layout


def test_anchors_go_from_ratio_major_to_size_major():
    layout = anchor_layout(num_sizes=2, num_ratios=3, num_channels=1)
    theirs = torch.tensor([[10], [11], [20], [21], [30], [31]])  # ratio, size
    ours = torch.tensor([[10], [20], [30], [11], [21], [31]])  # size, ratio
    assert torch.equal(layout.to_ours(theirs), ours)
    assert torch.equal(layout.to_theirs(ours), theirs)


def test_channels_of_an_anchor_stay_together():
    layout = anchor_layout(num_sizes=3, num_ratios=2, num_channels=4)
    theirs = torch.arange(24).view(2, 3, 4).flatten()
    ours = torch.arange(24).view(2, 3, 4).transpose(0, 1).flatten()
    assert torch.equal(layout.to_ours(theirs), ours)
    assert torch.equal(layout.to_theirs(ours), theirs)


def test_tensor_of_another_architecture_is_left_to_the_shape_check():
    layout = anchor_layout(num_sizes=3, num_ratios=3, num_channels=4)
    tensor = torch.arange(10)
    assert layout.to_ours(tensor) is tensor


def test_patch_merging_computes_the_same_as_unfolding():
    """mmdetection unfolds 2x2 patches channel by channel; timm reshapes neighbour by neighbour."""
    swin = pytest.importorskip("timm.models.swin_transformer", reason="timm is not installed")
    merging = swin.PatchMerging(dim=5).requires_grad_(False)
    norm_weight, reduction = torch.rand(20), torch.rand(10, 20)  # in mmdetection's order
    merging.norm.weight.copy_(PATCH_MERGING.to_ours(norm_weight))
    merging.reduction.weight.copy_(PATCH_MERGING.to_ours(reduction))
    x = torch.rand(2, 6, 8, 5)
    unfolded = F.unfold(x.permute(0, 3, 1, 2), kernel_size=2, stride=2).transpose(1, 2)
    expected = F.layer_norm(unfolded, (20,), norm_weight) @ reduction.t()  # (2, 12, 10)
    torch.testing.assert_close(merging(x).flatten(1, 2), expected)
    assert torch.equal(PATCH_MERGING.to_theirs(merging.reduction.weight), reduction)
