"""Oracles: torchvision's operator, a plane that bilinear sampling keeps, gradcheck."""

import pytest
import torch
from torchvision.ops import roi_align

from libra_umop.functional.roi_align import sparse_roi_align


def some_rois(num_rois, size, dtype=torch.float64):
    """Regions of two images, some partly or wholly outside, some upside down."""
    centers = (torch.rand(num_rois, 2, dtype=dtype) * 1.4 - 0.2) * torch.tensor(size)
    half = (torch.rand(num_rois, 2, dtype=dtype) ** 3 - 0.02) * torch.tensor(size)
    image_idxs = torch.randint(0, 2, (num_rois, 1)).to(dtype)
    return torch.cat([image_idxs, centers - half, centers + half], dim=1)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [-1, 0, 1, 2, 3])
@pytest.mark.parametrize("output_size", [(7, 7), (1, 1), (3, 5)])
def test_equals_torchvisions_operator_and_its_gradient(aligned, sampling_ratio, output_size):
    torch.manual_seed(0)
    features = torch.randn(2, 5, 9, 13, dtype=torch.float64, requires_grad=True)
    rois = some_rois(200, (52.0, 36.0))
    arguments = (rois, output_size, 0.25, sampling_ratio, aligned)
    expected, actual = roi_align(features, *arguments), sparse_roi_align(features, *arguments)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-13)

    weights = torch.randn_like(expected)
    expected, actual = (torch.autograd.grad(y, features, weights) for y in (expected, actual))
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def test_equals_torchvisions_operator_in_float32_and_with_channels_last():
    torch.manual_seed(0)
    features = torch.randn(2, 16, 80, 136)
    rois = some_rois(300, (544.0, 320.0), torch.float32)
    expected = roi_align(features, rois, 7, 0.25, 0, True)
    for x in (features, features.to(memory_format=torch.channels_last)):
        actual = sparse_roi_align(x, rois, (7, 7), 0.25)
        assert actual.dtype == torch.float32
        torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)


def test_a_plane_is_read_at_the_centers_of_the_bins():
    y, x = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    plane = 3 * (y + 0.5) - 2 * (x + 0.5)  # at the centers of the pixels
    region = torch.tensor([[0, 4.0, 5.0, 22.0, 12.0]])  # bins of 9 x 3.5 pixels
    pooled = sparse_roi_align(plane[None, None], region, (2, 2))[0, 0]
    y, x = torch.tensor([[6.75], [10.25]]), torch.tensor([[8.5, 17.5]])
    torch.testing.assert_close(pooled, 3 * y - 2 * x)


def test_gradcheck():
    torch.manual_seed(0)
    features = torch.randn(2, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    rois = some_rois(6, (5.0, 4.0))
    assert torch.autograd.gradcheck(lambda x: sparse_roi_align(x, rois, (2, 3)), features)
    assert torch.autograd.gradgradcheck(lambda x: sparse_roi_align(x, rois, (2, 3)), features)


@pytest.mark.parametrize("rois", [torch.empty(0, 5), torch.tensor([[0.0, 90, 90, 95, 95]])])
def test_no_region_or_one_outside_gives_zeros_with_a_live_gradient(rois):
    features = torch.randn(1, 3, 8, 8, requires_grad=True)
    pooled = sparse_roi_align(features, rois, (7, 7))
    assert pooled.shape == (len(rois), 3, 7, 7) and not pooled.any()
    pooled.sum().backward()
    assert features.grad.shape == features.shape and not features.grad.any()


@pytest.mark.parametrize(
    "features, rois, message",
    [
        (torch.zeros(3, 8, 8), torch.zeros(2, 5), r"\(3, 8, 8\)"),
        (torch.zeros(1, 3, 8, 8), torch.zeros(2, 4), r"\(2, 4\)"),
        (
            torch.zeros(1, 3, 8, 8, device="meta"),
            torch.zeros(2, 5),
            "device is meta, should be cpu",
        ),
    ],
)
def test_refuses_other_shapes_and_devices(features, rois, message):
    with pytest.raises(ValueError, match=message):
        sparse_roi_align(features, rois, (7, 7))
