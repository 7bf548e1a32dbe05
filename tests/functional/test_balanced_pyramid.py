"""Oracles: hand arithmetic, the plain matrix form of the attention, gradcheck, watched tensors."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from libra_umop.functional.balanced_pyramid import (
    BalancedFeaturePyramid,
    NonLocalRefinement,
    gather_levels,
    scatter_levels,
)

SHAPES = [(32, 48), (16, 24), (8, 12), (4, 6), (2, 3)]
ODD_SHAPES = [(25, 42), (13, 21), (7, 11), (4, 6), (2, 3)]


def random_pyramid(shapes=SHAPES, channels=4, num_images=2, **kwargs):
    return [torch.randn(num_images, channels, h, w, **kwargs) for h, w in shapes]


def randomized(module):
    for p in module.parameters():
        nn.init.normal_(p, std=0.3)
    return module


def plain_non_local(refine, x):
    """The block with the N x N matrix written out."""
    theta, phi, g = (conv(x).flatten(2) for conv in (refine.theta, refine.phi, refine.g))
    attention = (theta.transpose(1, 2) @ phi).softmax(dim=-1)  # (N, HW, HW)
    return x + refine.out((g @ attention.transpose(1, 2)).reshape(x.shape))


def test_gather_pools_the_finer_and_repeats_the_coarser_levels():
    fine = torch.arange(16.0).reshape(1, 1, 4, 4)  # its 2 x 2 blocks have maxima 5, 7, 13, 15
    middle = torch.tensor([[[[0.0, 3.0], [6.0, 9.0]]]])
    coarse = torch.tensor([[[[30.0]]]])
    expected = torch.tensor([[[[35.0, 40.0], [49.0, 54.0]]]]) / 3
    torch.testing.assert_close(gather_levels([fine, middle, coarse], 1), expected)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shapes", [SHAPES, ODD_SHAPES])
def test_pooling_of_finer_levels_is_torchs_and_keeps_none_of_them(shapes, layout):
    """Bit for bit and in its layout; PyTorch's own keeps its whole input up to the backward."""
    x = torch.randn(2, 4, *shapes[0]).contiguous(memory_format=layout).requires_grad_()
    kept, results = {}, {}
    for name in ("ours", "torch"):
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, saved=saved: saved.append(t.nbytes) or t, lambda t: t
        ):
            if name == "ours":  # the average of one level and of itself, at a coarser size
                out = gather_levels([x, torch.zeros(2, 4, *shapes[2])], 1) * 2
            else:
                out = F.adaptive_max_pool2d(x, shapes[2])
        (grad,) = torch.autograd.grad(out, x, torch.ones_like(out))
        kept[name], results[name] = sum(saved), (out, grad, grad.stride())
    (out, grad, strides), expected = results["ours"], results["torch"]
    assert torch.equal(out, expected[0]) and torch.equal(grad, expected[1])
    assert strides == expected[2]
    assert kept["ours"] < x.nbytes <= kept["torch"]


def test_scatter_adds_the_inverse_rescaling():
    refined = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    features = [torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 2, 2), torch.ones(1, 1, 1, 1)]
    fine, middle, coarse = scatter_levels(refined, features)
    assert fine[0, 0].tolist() == [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    torch.testing.assert_close(middle, refined + 1)
    assert coarse.item() == 5
    assert features[0].sum() == 0  # arguments stay as they are


@pytest.mark.parametrize("kinds", [(torch.half, torch.float), (torch.float, torch.half)])
def test_scatter_keeps_its_arguments_and_the_wider_of_two_dtypes(kinds):
    refined = torch.ones(1, 1, 2, 2, dtype=kinds[0])
    value = 1 + 2**-12 if kinds[1] == torch.float else 1.0  # half precision has no such number
    features = [torch.full((1, 1, n, n), value, dtype=kinds[1]) for n in (4, 2, 1)]
    for out in scatter_levels(refined, features):
        assert out.dtype == torch.float
        assert (out == 1 + value).all()
    assert (refined == 1).all()
    assert all((x == value).all() for x in features)


@pytest.mark.parametrize("refine_type", ["non_local", "conv", "none"])
@pytest.mark.parametrize("level", [0, 2, 4])
@pytest.mark.parametrize("shapes", [SHAPES, ODD_SHAPES])
def test_new_bfp_is_the_identity_plus_the_averaged_pyramid(shapes, level, refine_type):
    features = random_pyramid(shapes)
    bfp = BalancedFeaturePyramid(4, level, refine_type)
    average = gather_levels(features, level)
    assert average.shape[-2:] == shapes[level]
    for out, expected in zip(bfp(features), scatter_levels(average, features), strict=True):
        torch.testing.assert_close(out, expected)


@pytest.mark.parametrize("refine_type", ["non_local", "conv"])
def test_refinement_learns_from_its_first_step_on(refine_type):
    bfp = BalancedFeaturePyramid(4, 2, refine_type)
    optimizer = torch.optim.SGD(bfp.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        sum(x.square().sum() for x in bfp(random_pyramid())).backward()
        optimizer.step()
    # a bias of phi shifts all logits of a position alike, which a softmax does not see
    learning = {n: p for n, p in bfp.named_parameters() if n != "refine.phi.bias"}
    assert all(p.grad.abs().sum() > 0 for p in learning.values())


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_attention_equals_its_plain_matrix_form(layout):
    refine = randomized(NonLocalRefinement(8)).double()
    x = torch.randn(2, 8, 5, 7, dtype=torch.float64).contiguous(memory_format=layout)
    x.requires_grad_()
    actual, expected = refine(x), plain_non_local(refine, x)
    torch.testing.assert_close(actual, expected)
    inputs = [x, *refine.parameters()]
    weight = torch.randn_like(expected)
    for actual_i, expected_i in zip(
        torch.autograd.grad((actual * weight).sum(), inputs),
        torch.autograd.grad((expected * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(actual_i, expected_i)


def test_gradcheck():
    bfp = randomized(BalancedFeaturePyramid(2, 1)).double()
    features = random_pyramid([(4, 6), (2, 3), (1, 2)], 2, 1, dtype=torch.float64)
    features = [x.requires_grad_() for x in features]
    torch.autograd.gradcheck(lambda *levels: tuple(bfp(list(levels))), features)


class LargestTensor(TorchDispatchMode):
    """Remembers the largest number of elements that any operator gave out."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, (list, tuple)) else [out]:
            if isinstance(x, torch.Tensor):
                self.numel = max(self.numel, x.numel())
        return out


@pytest.mark.parametrize("form, holds_it", [("fused", False), ("plain", True)])
def test_attention_matrix_is_never_held(form, holds_it):
    refine = randomized(NonLocalRefinement(8))
    x = torch.randn(1, 8, 24, 32, requires_grad=True)
    with LargestTensor() as largest:
        out = refine(x) if form == "fused" else plain_non_local(refine, x)
        out.sum().backward()
    assert (largest.numel >= (24 * 32) ** 2) == holds_it


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_attention_stays_finite_under_autocast_and_large_inputs(dtype, scale):
    # 1e4 squared, times 8 channels: beyond float16, and softmax of a difference of 1e9
    bfp = randomized(BalancedFeaturePyramid(8, 2))
    features = [(x * scale).to(dtype).requires_grad_() for x in random_pyramid(channels=8)]
    with torch.autocast("cpu", dtype=dtype):
        out = bfp(features)
    assert all(x.dtype == dtype and torch.isfinite(x).all() for x in out)
    sum(x.float().mean() for x in out).backward()
    assert all(torch.isfinite(x.grad).all() for x in [*features, *bfp.parameters()])


def test_average_of_large_half_precision_levels_does_not_overflow():
    features = [torch.full((1, 1, h, w), 3e4, dtype=torch.float16) for h, w in SHAPES]
    assert (gather_levels(features, 2) == 3e4).all()


def test_autocast_changes_the_refinement_by_no_more_than_the_rounding_of_its_input():
    refine = randomized(NonLocalRefinement(8))
    x = torch.randn(2, 8, 5, 7).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = refine(x)
    torch.testing.assert_close(actual, refine(x.float()).bfloat16(), rtol=1e-2, atol=1e-2)


def relative_error(module, x, dtype):
    """Of the output and the input's gradient under autocast, to those in float64."""
    results = []
    for exact in (True, False):
        module_i = copy.deepcopy(module).double() if exact else module
        x_i = x.double() if exact else x.clone()
        x_i.requires_grad_()
        with torch.autocast("cpu", dtype=dtype, enabled=not exact):
            out = module_i(x_i)
        out.backward(torch.ones_like(out))
        results.append((out.detach().double(), x_i.grad.double()))
    return [(b - a).norm().item() / a.norm().item() for a, b in zip(*results, strict=True)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "precision, scale", [("float32", 1.0), ("float32", 100.0), ("autocast", 1.0)]
)
def test_attention_under_autocast_errs_as_little_as_the_convolutions_beside_it(
    precision, scale, dtype
):
    refine = NonLocalRefinement(64, precision=precision)
    for parameter in refine.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.05)
    conv = torch.nn.Conv2d(64, 64, 3, padding=1)  # of the pyramid
    x = (scale * torch.randn(1, 64, 12, 16)).to(dtype)
    errors, beside = relative_error(refine, x, dtype), relative_error(conv, x, dtype)
    assert all(a < 1.2 * b for a, b in zip(errors, beside, strict=True)), (errors, beside)
    with pytest.raises(ValueError, match="precision"):
        NonLocalRefinement(4, precision="bfloat16")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_model_in_half_precision_runs(dtype):
    bfp = randomized(BalancedFeaturePyramid(4, 2)).to(dtype)
    out = bfp([x.to(dtype) for x in random_pyramid()])
    assert all(x.dtype == dtype and torch.isfinite(x).all() for x in out)


def test_images_of_a_batch_do_not_see_each_other():
    bfp = randomized(BalancedFeaturePyramid(4, 2))
    features = random_pyramid()
    together = bfp(features)
    alone = bfp([x[1:] for x in features])
    for x, y in zip(together, alone, strict=True):
        torch.testing.assert_close(x[1:], y)


def test_refuses_an_unknown_refinement():
    with pytest.raises(ValueError, match="'gaussian'"):
        BalancedFeaturePyramid(4, 2, "gaussian")
