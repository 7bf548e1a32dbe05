"""Focal loss on class indices against fvcore, cross entropy and another implementation."""

import numpy as np
import pytest
import torch
from fvcore.nn import sigmoid_focal_loss
from torch._subclasses import FakeTensorMode

from libra_umop.functional.focal_loss import focal_loss_sum
from libra_umop.functional.focal_loss import sums as module
from libra_umop.functional.progressive_focal_loss import progressive_focus

K = 5


def make_logits_and_labels(num_rows=60, dtype=torch.float64):
    logits = (3 * torch.randn(num_rows, K)).to(dtype).requires_grad_()
    labels = torch.randint(-1, K + 1, (num_rows,))
    return logits, labels


def one_hot_loss(logits, labels, gamma, alpha):
    """The same sum by another road: one-hot labels and fvcore."""
    valid = labels >= 0
    targets = torch.nn.functional.one_hot(labels[valid], num_classes=K + 1)[:, :K]
    targets = targets.to(logits.dtype)
    return sigmoid_focal_loss(logits[valid], targets, alpha, gamma, reduction="sum")


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
@pytest.mark.parametrize("alpha", [-1, 0.0, 0.25, 1.0])
def test_loss_and_gradient_equal_fvcore_on_one_hot_labels(gamma, alpha):
    logits, labels = make_logits_and_labels(dtype=torch.float32)
    ours = focal_loss_sum(logits, labels, gamma=gamma, alpha=alpha)
    theirs = one_hot_loss(logits, labels, gamma, alpha)
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    grad_ours, grad_theirs = (torch.autograd.grad(x, logits)[0] for x in (ours, theirs))
    torch.testing.assert_close(grad_ours, grad_theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("alpha, gamma", [(0.25, 2.0), (0.3125, 1.6), (0.2, 2.5)])
def test_focal_loss_equals_the_peer(peer, alpha, gamma):
    values = np.load(peer / "losses.npz")
    logits, labels = torch.from_numpy(values["logits"]), torch.from_numpy(values["labels"])
    loss = focal_loss_sum(logits, labels, gamma=gamma, alpha=alpha)
    assert loss.item() == pytest.approx(float(values[f"focal_a{alpha}_g{gamma}"]), rel=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 1.5, torch.tensor(1.7)])
@pytest.mark.parametrize("alpha", [-1, 0.25, torch.tensor(0.3)])
def test_gradient_is_exact(gamma, alpha):
    logits, labels = make_logits_and_labels(12)
    assert torch.autograd.gradcheck(
        lambda x: 3 * focal_loss_sum(x, labels, gamma=gamma, alpha=alpha), (logits,)
    )


def test_focal_loss_equals_cross_entropy_at_gamma_0():
    logits, labels = make_logits_and_labels()
    labels = labels.clamp(min=0)
    targets = torch.nn.functional.one_hot(labels, num_classes=K + 1)[:, :K].double()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(
        logits, targets, reduction="sum"
    )
    torch.testing.assert_close(focal_loss_sum(logits, labels, gamma=0.0, alpha=-1), expected)


def test_gamma_and_alpha_may_be_tensors_of_one_element():
    logits, labels = make_logits_and_labels()
    as_floats = focal_loss_sum(logits, labels, gamma=1.6, alpha=0.3)
    as_tensors = focal_loss_sum(
        logits, labels, gamma=torch.tensor(1.6).double(), alpha=torch.tensor(0.3).double()
    )
    torch.testing.assert_close(as_floats, as_tensors)


def test_rows_in_chunks_give_the_same_as_at_once(monkeypatch):
    logits, labels = make_logits_and_labels()
    whole = focal_loss_sum(logits, labels, gamma=2.0, alpha=0.25)
    (whole_grad,) = torch.autograd.grad(whole, logits)
    monkeypatch.setattr(module, "_CPU_CHUNK", 7 * K)
    chunked = focal_loss_sum(logits, labels, gamma=2.0, alpha=0.25)
    torch.testing.assert_close(chunked, whole)
    torch.testing.assert_close(torch.autograd.grad(chunked, logits)[0], whole_grad)


@pytest.mark.parametrize("value", [100.0, -100.0, 0.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_extreme_logits_are_finite(value, dtype):
    logits = torch.full((8, K), value, dtype=dtype, requires_grad=True)
    loss = focal_loss_sum(logits, torch.arange(8) % (K + 1), gamma=2.0, alpha=0.25)
    loss.backward()
    assert loss.dtype == torch.float32 and logits.grad.dtype == dtype
    assert loss.isfinite() and logits.grad.isfinite().all()


def test_half_precision_logits_are_computed_in_fp32_under_autocast():
    logits, labels = make_logits_and_labels(dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = focal_loss_sum(logits, labels, gamma=2.0, alpha=0.25)
    expected = focal_loss_sum(logits.detach().float(), labels, gamma=2.0, alpha=0.25)
    torch.testing.assert_close(loss.detach(), expected)


@pytest.mark.parametrize("labels", [torch.zeros(0, dtype=torch.int64), torch.full((4,), -1)])
def test_nothing_to_learn_is_zero_with_a_live_gradient(labels):
    logits = torch.randn(len(labels), K, requires_grad=True)
    loss = focal_loss_sum(logits, labels, gamma=2.0, alpha=0.25)
    loss.backward()
    assert loss == 0 and torch.equal(logits.grad, torch.zeros_like(logits))


def test_arguments_stay_unchanged():
    logits, labels = make_logits_and_labels()
    before = logits.detach().clone(), labels.clone()
    focal_loss_sum(logits, labels, gamma=2.0, alpha=0.25).backward()
    assert torch.equal(logits.detach(), before[0]) and torch.equal(labels, before[1])


def test_second_derivatives_are_refused_and_not_wrong():
    logits, labels = make_logits_and_labels()
    loss = focal_loss_sum(logits, labels, gamma=2.0, alpha=0.25)
    (grad,) = torch.autograd.grad(loss, logits, create_graph=True)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(grad.sum(), logits)


def test_softplus_is_accurate_to_a_few_roundings():
    x = torch.cat((torch.linspace(-100, 100, 100_001), torch.randn(1000) * 1e-3))
    exact = torch.nn.functional.softplus(x.double(), threshold=1e3)
    error = (module._softplus(x).double() - exact).abs() / exact
    assert error[x > -80].max() < 5e-7
    assert module._softplus(torch.tensor([0.0])).item() == pytest.approx(0.6931472, rel=1e-7)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="labels"):
        focal_loss_sum(torch.zeros(3, K), torch.zeros(4, dtype=torch.int64), gamma=2.0, alpha=0.25)


def test_loss_compiles_without_graph_breaks():
    logits, labels = make_logits_and_labels(dtype=torch.float32)

    def step(logits, labels):
        gamma, alpha = progressive_focus(logits, labels)
        return focal_loss_sum(logits, labels, gamma=gamma, alpha=alpha)

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    eager, ours = step(logits, labels), compiled(logits, labels)
    torch.testing.assert_close(ours, eager)
    grads = [torch.autograd.grad(x, logits)[0] for x in (eager, ours)]
    torch.testing.assert_close(grads[1], grads[0])


def test_tensors_without_memory_take_the_eager_path_on_any_device(monkeypatch):
    monkeypatch.setattr(module, "_triton_function", lambda *_: pytest.fail("kernels"))
    with FakeTensorMode():
        logits = torch.randn(6, K, device="cuda", dtype=torch.float16)
        labels = torch.zeros(6, dtype=torch.int64, device="cuda")
        loss = focal_loss_sum(logits, labels, gamma=2.0, alpha=0.25)
    assert (loss.shape, loss.dtype, loss.device.type) == ((), torch.float32, "cuda")
