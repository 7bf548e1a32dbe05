"""Oracles: the paper's gradient, hand arithmetic, gradcheck, another implementation's numbers."""

import math
import re

import numpy as np
import pytest
import torch

from libra_umop.functional.boxes.balanced_l1_loss import balanced_l1_loss

SETTINGS = [(0.2, 1.0), (0.3, 1.0), (0.5, 1.0), (0.5, 1.5), (0.5, 2.0)]


def gradient(x, **kwargs):
    x = x.clone().requires_grad_()
    balanced_l1_loss(x, torch.zeros_like(x), reduction="sum", **kwargs).backward()
    return x.grad


@pytest.mark.parametrize("formula", ["exact", "reference"])
def test_agrees_with_the_other_implementation(peer, formula):
    stored = np.load(peer / "losses.npz")
    pred, target = torch.tensor(stored["pred"]), torch.tensor(stored["target"])
    names = [name for name in stored if name.startswith("balanced_l1")]
    assert len(names) == 4
    for name in names:
        alpha, gamma = (float(x) for x in re.match(r".*_a(.*)_g(.*)", name).groups())
        loss = balanced_l1_loss(pred, target, alpha=alpha, gamma=gamma, formula=formula)
        np.testing.assert_allclose(loss.numpy(), stored[name], rtol=1e-6, atol=0)


@pytest.mark.parametrize("beta", [1.0, 0.11, 3.0])
@pytest.mark.parametrize("alpha, gamma", SETTINGS)
def test_gradient_is_equation_6_of_the_paper(alpha, gamma, beta):
    x = torch.linspace(-4 * beta, 4 * beta, 81, dtype=torch.float64)
    b = math.exp(gamma / alpha) - 1
    inlier = alpha * torch.log(b * x.abs() / beta + 1)
    expected = torch.where(x.abs() < beta, inlier, gamma) * x.sign()
    actual = gradient(x, alpha=alpha, gamma=gamma, beta=beta)
    torch.testing.assert_close(actual, expected)


def test_values_by_hand():
    # alpha 0.5, gamma 1.5: b = e^3 - 1; at the transition gamma + gamma/b - alpha
    b = math.exp(3) - 1
    at_one = 1.5 + 1.5 / b - 0.5
    loss = balanced_l1_loss(torch.tensor([0.0, 1.0, -3.0]), torch.zeros(3))
    torch.testing.assert_close(loss, torch.tensor([0.0, at_one, at_one + 3.0]))


@pytest.mark.parametrize("beta", [1.0, 0.11, 3.0])
def test_exact_formula_is_continuous_with_slope_gamma_at_the_transition(beta):
    x = torch.tensor([beta * (1 - 1e-9), beta, beta * (1 + 1e-9)], dtype=torch.float64)
    loss = balanced_l1_loss(x, torch.zeros_like(x), beta=beta)
    torch.testing.assert_close(loss, loss[1].expand(3))
    torch.testing.assert_close(gradient(x, beta=beta), torch.full_like(x, 1.5))


def test_transition_point_only_rescales():
    x = torch.linspace(-1, 1, 41, dtype=torch.float64)
    zero = torch.zeros_like(x)
    torch.testing.assert_close(
        balanced_l1_loss(x, zero, beta=0.11), 0.11 * balanced_l1_loss(x / 0.11, zero)
    )


def test_formulas_agree_at_beta_1_only():
    x = torch.linspace(-3, 3, 61, dtype=torch.float64)
    zero = torch.zeros_like(x)
    exact, reference = (balanced_l1_loss(x, zero, formula=f) for f in ("exact", "reference"))
    torch.testing.assert_close(exact, reference)
    # the slope at 0 that the reference formula has at the released RetinaNet's beta: 4.04
    near_0 = torch.tensor([1e-9], dtype=torch.float64)
    assert gradient(near_0, beta=0.11, formula="reference").item() == pytest.approx(4.04, abs=0.01)
    assert gradient(near_0, beta=0.11).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("formula", ["exact", "reference"])
@pytest.mark.parametrize("beta", [1.0, 0.11])
def test_gradcheck(formula, beta):
    pred = torch.randn(4, 4, dtype=torch.float64, requires_grad=True)
    target = torch.randn(4, 4, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(
        lambda p, t: balanced_l1_loss(p, t, beta=beta, formula=formula), (pred, target)
    )


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_no_box_gives_zero_with_a_live_gradient(reduction):
    pred = torch.empty(0, 4, requires_grad=True)
    loss = balanced_l1_loss(pred, torch.empty(0, 4), reduction=reduction)
    assert loss.item() == 0
    loss.backward()
    assert pred.grad.shape == (0, 4)


def test_reductions():
    pred, target = torch.randn(5, 4), torch.randn(5, 4)
    loss = balanced_l1_loss(pred, target)
    torch.testing.assert_close(balanced_l1_loss(pred, target, reduction="sum"), loss.sum())
    torch.testing.assert_close(balanced_l1_loss(pred, target, reduction="mean"), loss.mean())


@pytest.mark.parametrize("formula", ["exact", "reference"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_its_dtype_and_stays_finite(dtype, formula):
    x = torch.tensor([0.0, 1e-3, 1.0, 500.0, 30000.0], dtype=dtype)
    assert balanced_l1_loss(x, torch.zeros_like(x), alpha=0.2, formula=formula).dtype == dtype
    assert torch.isfinite(gradient(x, alpha=0.2, formula=formula)).all()


@pytest.mark.parametrize(
    "kwargs",
    [
        {"alpha": 0.0},
        {"gamma": -1.0},
        {"beta": 0.0},
        {"beta": math.nan},
        {"alpha": 0.01, "gamma": 1.0},
        {"formula": "papers"},
        {"reduction": "avg"},
    ],
)
def test_refuses_what_is_out_of_range(kwargs):
    with pytest.raises(ValueError, match=next(iter(kwargs)) if len(kwargs) == 1 else "gamma"):
        balanced_l1_loss(torch.zeros(1), torch.zeros(1), **kwargs)
