"""Quality focal, varifocal and distribution focal loss against another implementation, cross
entropy, and autograd in float64 through the equations as they are printed."""

import re
from functools import partial

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from libra_umop.functional.focal_loss import sums
from libra_umop.functional.quality_losses import (
    distribution_focal_loss,
    quality_focal_loss_sum,
    varifocal_loss_sum,
)

K = 5
SUMS = {"quality_focal": quality_focal_loss_sum, "varifocal": varifocal_loss_sum}
of_both = pytest.mark.parametrize("loss_sum", SUMS.values(), ids=SUMS)


def make_inputs(num_rows=60, dtype=torch.float64):
    logits = (3 * torch.randn(num_rows, K)).to(dtype).requires_grad_()
    labels = torch.randint(-1, K + 1, (num_rows,))
    quality = torch.rand(num_rows, dtype=torch.float64)
    quality[::9], quality[1::9] = 0, 1
    return logits, labels, quality


def equation(kind, logits, labels, quality, exponent, alpha=1.0):
    """The equation on one-hot targets of anchors x classes, without a thought for precision."""
    valid = labels >= 0
    targets = F.one_hot(labels[valid], num_classes=K + 1)[:, :K] * quality[valid, None]
    p = logits[valid].sigmoid()
    bce = F.binary_cross_entropy(p, targets, reduction="none")
    if kind == "quality_focal":
        weight = (targets - p).abs() ** exponent
    else:
        weight = torch.where(targets > 0, targets, alpha * p**exponent)
    return (weight * bce).sum()


def assert_same_as_the_equation(loss, kind, logits, *args, **kwargs):
    expected = equation(kind, logits, *args, **kwargs)
    torch.testing.assert_close(loss, expected)
    grads = [torch.autograd.grad(x, logits)[0] for x in (loss, expected)]
    torch.testing.assert_close(*grads)


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.0, 2.5])
def test_quality_focal_loss_and_gradient_equal_equation_4(beta):
    inputs = make_inputs()
    loss = quality_focal_loss_sum(*inputs, beta=beta)
    assert_same_as_the_equation(loss, "quality_focal", *inputs, beta)


@pytest.mark.parametrize("gamma", [0.0, 1.5, 2.0])
@pytest.mark.parametrize("alpha", [0.0, 0.75, 1.0])
def test_varifocal_loss_and_gradient_equal_equation_2(alpha, gamma):
    inputs = make_inputs()
    loss = varifocal_loss_sum(*inputs, alpha=alpha, gamma=gamma)
    assert_same_as_the_equation(loss, "varifocal", *inputs, gamma, alpha=alpha)


@pytest.fixture
def stored(peer):
    return np.load(peer / "quality_losses.npz")


def test_sums_and_gradients_equal_the_peer(stored):
    numbers = {
        "qfl_b": lambda beta: partial(quality_focal_loss_sum, beta=beta),
        "vfl_a": lambda alpha, gamma: partial(varifocal_loss_sum, alpha=alpha, gamma=gamma),
    }
    names = [name for name in stored if name[:5] in numbers and not name.endswith("_grad")]
    assert len(names) == 5
    labels, quality = torch.from_numpy(stored["labels"]), torch.from_numpy(stored["quality"])
    for name in names:
        loss_sum = numbers[name[:5]](*map(float, re.findall(r"[\d.]+", name)))
        logits = torch.from_numpy(stored["logits"]).requires_grad_()
        loss = loss_sum(logits, labels, quality)
        loss.backward()
        assert loss.item() == pytest.approx(float(stored[name]), rel=1e-6), name
        # As a whole: the stored elements of 1e-6 and less are off by 1e-4 of themselves, as much
        # from our gradient in fp64, which meets the equations one by one.
        expected = torch.from_numpy(stored[f"{name}_grad"])
        assert (logits.grad - expected).norm() < 1e-6 * expected.norm(), name


def test_distribution_focal_loss_equals_the_peer(stored):
    pred, target = (torch.from_numpy(stored[f"dfl_{name}"]) for name in ("pred", "target"))
    expected = torch.from_numpy(stored["dfl"])
    torch.testing.assert_close(distribution_focal_loss(pred, target), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.parametrize("exponent", [1.5, 2.0])
@of_both
def test_gradient_of_sums_is_exact(loss_sum, exponent, as_tensor):
    logits, labels, quality = make_inputs(12)
    number = torch.tensor(exponent) if as_tensor else exponent
    name = "beta" if loss_sum is quality_focal_loss_sum else "gamma"
    assert torch.autograd.gradcheck(
        lambda x: 3 * loss_sum(x, labels, quality, **{name: number}), (logits,)
    )


@of_both
def test_quality_1_at_exponent_0_is_cross_entropy(loss_sum):
    logits, labels, quality = make_inputs()
    labels, ones = labels.clamp(min=0), torch.ones_like(quality)
    zeros = {"beta": 0.0} if loss_sum is quality_focal_loss_sum else {"alpha": 1.0, "gamma": 0.0}
    targets = F.one_hot(labels, num_classes=K + 1)[:, :K].double()
    expected = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
    torch.testing.assert_close(loss_sum(logits, labels, ones, **zeros), expected)


@of_both
def test_a_positive_without_overlap_is_background(loss_sum):
    logits, labels, quality = make_inputs()
    assert ((labels >= 0) & (labels < K)).any()
    none = torch.zeros_like(quality)
    background = torch.where(labels < 0, -1, K)
    results = [loss_sum(logits, labels, none), loss_sum(logits, background, none)]
    torch.testing.assert_close(*results)
    torch.testing.assert_close(*(torch.autograd.grad(x, logits)[0] for x in results))


@of_both
def test_quality_is_read_for_positives_only_and_gets_no_gradient(loss_sum):
    logits, labels, quality = make_inputs()
    is_pos = (labels >= 0) & (labels < K)
    expected = loss_sum(logits, labels, quality)
    other = torch.where(is_pos, quality, float("nan")).requires_grad_()
    loss = loss_sum(logits, labels, other)
    loss.backward()
    assert torch.equal(loss, expected) and logits.grad.isfinite().all() and other.grad is None


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 2.0])
def test_quality_focal_loss_is_flat_where_the_score_is_the_quality(beta):
    logits = torch.zeros(1, 1, requires_grad=True)
    loss = quality_focal_loss_sum(logits, torch.tensor([0]), torch.tensor([0.5]), beta=beta)
    loss.backward()
    assert loss.item() == pytest.approx(0.6931472 if beta == 0 else 0, abs=1e-6)
    assert logits.grad.item() == 0


@of_both
def test_rows_in_chunks_give_the_same_as_at_once(loss_sum, monkeypatch):
    logits, labels, quality = make_inputs()
    whole = loss_sum(logits, labels, quality)
    (whole_grad,) = torch.autograd.grad(whole, logits)
    monkeypatch.setattr(sums, "_CPU_CHUNK", 7 * K)
    chunked = loss_sum(logits, labels, quality)
    torch.testing.assert_close(chunked, whole)
    torch.testing.assert_close(torch.autograd.grad(chunked, logits)[0], whole_grad)


class LargeTensors(TorchDispatchMode):
    """Counts the tensors of ``numel`` elements or more that operators make."""

    def __init__(self, numel):
        super().__init__()
        self.numel, self.count = numel, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        output = func(*args, **(kwargs or {}))
        self.count += isinstance(output, torch.Tensor) and output.numel() >= self.numel
        return output


@of_both
def test_the_gradient_is_all_that_is_kept_of_anchors_times_classes(loss_sum, monkeypatch):
    monkeypatch.setattr(sums, "_CPU_CHUNK", 7 * K)
    inputs = make_inputs()
    with LargeTensors(inputs[0].numel()) as forward:
        loss = loss_sum(*inputs)
    with LargeTensors(inputs[0].numel()) as backward:
        loss.backward()
    assert forward.count == 1
    assert backward.count <= 3  # the gradient times the loss's own, detached as leaf's gradient


@pytest.mark.parametrize("quality", [0.0, 1e-6, 0.5, 1.0])
@pytest.mark.parametrize("value", [100.0, -100.0, 0.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@of_both
def test_extreme_logits_are_finite(loss_sum, dtype, value, quality):
    logits = torch.full((8, K), value, dtype=dtype, requires_grad=True)
    loss = loss_sum(logits, torch.arange(8) % (K + 1), torch.full((8,), quality, dtype=dtype))
    loss.backward()
    assert loss.dtype == torch.float32 and logits.grad.dtype == dtype
    assert loss.isfinite() and logits.grad.isfinite().all()


@of_both
def test_gradient_keeps_its_digits_at_large_logits(loss_sum):
    """1 - p of a logit of 20 is 2e-9, which 1 - sigmoid(20.0) in fp32 is not."""
    results = []
    for dtype in (torch.float32, torch.float64):
        x = torch.tensor([[20.0], [-20.0]], dtype=dtype, requires_grad=True)
        loss = loss_sum(x, torch.tensor([0, 1]), torch.ones(2))
        loss.backward()
        results.append((loss.detach().double(), x.grad.double()))
    torch.testing.assert_close(results[0], results[1], rtol=1e-5, atol=0)
    assert results[1][0] > 0 and (results[1][1] != 0).all()


@of_both
def test_half_precision_logits_are_computed_in_fp32_under_autocast(loss_sum):
    logits, labels, quality = make_inputs(dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loss_sum(logits, labels, quality)
    torch.testing.assert_close(loss.detach(), loss_sum(logits.detach().float(), labels, quality))


@pytest.mark.parametrize("labels", [torch.zeros(0, dtype=torch.int64), torch.full((4,), -1)])
@of_both
def test_nothing_to_learn_is_zero_with_a_live_gradient(loss_sum, labels):
    logits = torch.randn(len(labels), K, requires_grad=True)
    loss = loss_sum(logits, labels, torch.rand(len(labels)))
    loss.backward()
    assert loss == 0 and torch.equal(logits.grad, torch.zeros_like(logits))


@of_both
def test_arguments_of_sums_stay_unchanged(loss_sum):
    inputs = make_inputs()
    before = [x.detach().clone() for x in inputs]
    loss_sum(*inputs).backward()
    assert all(torch.equal(x.detach(), y) for x, y in zip(inputs, before, strict=True))


@of_both
def test_shapes_that_do_not_fit_are_refused(loss_sum):
    labels = torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match="logits and (labels|target) are"):
        loss_sum(torch.zeros(4, K), labels, torch.zeros(3))
    for shape in ((4,), (3, 1), ()):
        with pytest.raises(ValueError, match="quality is .*, should be as labels are"):
            loss_sum(torch.zeros(3, K), labels, torch.zeros(shape))


def test_distribution_focal_loss_at_a_bin_is_cross_entropy():
    logits, bins = torch.randn(17, 17), torch.arange(17)
    expected = F.cross_entropy(logits, bins, reduction="none")
    torch.testing.assert_close(distribution_focal_loss(logits, bins.float()), expected)


def test_distribution_focal_loss_between_bins_by_hand():
    """S = (1, 2, 5) / 8 and y = 1.25: -(3/4 ln 2/8 + 1/4 ln 5/8)."""
    logits = torch.tensor([[1.0, 2.0, 5.0]]).log()
    loss = distribution_focal_loss(logits, torch.tensor([1.25]))
    assert loss.tolist() == pytest.approx([0.75 * 1.3862944 + 0.25 * 0.4700036])


def test_distribution_focal_loss_takes_targets_outside_as_the_nearer_end():
    logits = torch.randn(2, 4)
    ends, outside = torch.tensor([0.0, 3.0]), torch.tensor([-0.5, 7.2])
    expected = distribution_focal_loss(logits, ends)
    assert torch.equal(distribution_focal_loss(logits, outside), expected)


def test_gradient_of_distribution_focal_loss_is_exact():
    logits = torch.randn(9, 5, dtype=torch.float64, requires_grad=True)
    target = torch.cat((4 * torch.rand(7), torch.tensor([0.0, 4.0]))).double()
    assert torch.autograd.gradcheck(lambda x: distribution_focal_loss(x, target), (logits,))


@pytest.mark.parametrize("value", [100.0, -100.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_distribution_focal_loss_of_extreme_logits_is_finite_in_fp32(dtype, value):
    logits = torch.zeros(4, 17, dtype=dtype)
    logits[:, 3] = value
    logits.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = distribution_focal_loss(logits, torch.tensor([0.0, 2.9, 3.0, 16.0]))
    loss.sum().backward()
    assert loss.dtype == torch.float32 and logits.grad.dtype == dtype
    assert loss.isfinite().all() and logits.grad.isfinite().all()


def test_distribution_focal_loss_of_no_edge_is_zero_with_a_live_gradient():
    logits = torch.zeros(0, 17, requires_grad=True)
    loss = distribution_focal_loss(logits, torch.zeros(0)).sum()
    loss.backward()
    assert loss == 0 and logits.grad is not None


def test_distribution_focal_loss_refuses_shapes_that_do_not_fit():
    for logits, target in (((3, 17), (4,)), ((3, 1), (3,)), ((17,), (17,))):
        with pytest.raises(ValueError, match="target"):
            distribution_focal_loss(torch.zeros(logits), torch.zeros(target))
