"""Losses against the imbalance between classes: identities, hand arithmetic, gradcheck."""

import doctest
import importlib
import math

import pytest
import torch
from fvcore.nn import sigmoid_focal_loss
from torch.nn import functional as F

from libra_umop.functional.focal_loss import focal_loss_sum
from libra_umop.functional.long_tail import (
    class_balance,
    class_balanced_focal_loss_sum,
    effective_number_weights,
    equalized_focal_loss_sum,
    seesaw_loss,
)

R, K = 40, 5
LABELS = torch.tensor([-1, 0, 1, 2, 3, 4, 5, 5] * 5)
WEIGHTS = torch.tensor([0.2, 3.0, 1.0, 0.5, 1.7], dtype=torch.float64)
BALANCE = torch.tensor([1.0, 0.0, 0.5, 0.25, 0.9], dtype=torch.float64)
COUNTS = torch.tensor([1000, 100, 10, 1, 0])


def logits(dtype=torch.float64, scale=2.0):
    generator = torch.Generator().manual_seed(0)
    return scale * torch.randn(R, K, generator=generator, dtype=dtype)


def scores(dtype=torch.float64, scale=2.0):
    generator = torch.Generator().manual_seed(1)
    return scale * torch.randn(R, K + 1, generator=generator, dtype=dtype)


def one_hot():
    return F.one_hot(LABELS.clamp(min=0), num_classes=K + 1)[:, :K].double()


def with_gradient(loss, x):
    x = x.clone().requires_grad_()
    value = loss(x)
    value.backward()
    return value.detach(), x.grad


def dense(x):
    """(R, K) terms of the focal loss by fvcore, of which only those of labels >= 0 count."""
    terms = sigmoid_focal_loss(x, one_hot().to(x), alpha=0.25, gamma=2.0)
    return terms * (LABELS >= 0)[:, None]


@pytest.mark.parametrize(
    "name", ["class_weights", "class_focal_loss", "equalized_focal_loss", "seesaw_loss"]
)
def test_examples_of_the_docstrings_are_true(name):
    module = importlib.import_module(f"libra_umop.functional.long_tail.{name}")
    result = doctest.testmod(module, extraglobs={"torch": torch})
    assert result.attempted and not result.failed


def test_effective_numbers_are_those_of_the_paper():
    n, beta = torch.tensor([5000, 500, 50]), 0.999
    expected = torch.tensor([(1 - beta) / (1 - beta**k) for k in n.tolist()])
    weights = effective_number_weights(n, beta=beta)
    torch.testing.assert_close(weights, 3 * expected / expected.sum())


def test_beta_0_weighs_all_alike_and_beta_near_1_by_the_inverse_frequency():
    n = torch.tensor([1000, 10, 1])
    assert effective_number_weights(n, beta=0.0).tolist() == [1, 1, 1]
    inverse = 1 / n.double()
    weights = effective_number_weights(n, beta=1 - 1e-9).double()
    torch.testing.assert_close(weights, 3 * inverse / inverse.sum(), rtol=1e-5, atol=0)


def test_class_without_samples_takes_nothing_from_the_others():
    with_empty = effective_number_weights(torch.tensor([1000, 0, 10]), beta=0.99)
    without = effective_number_weights(torch.tensor([1000, 10]), beta=0.99)
    assert with_empty[[0, 2]].tolist() == without.tolist() and with_empty[1] == 1
    assert effective_number_weights(torch.zeros(3), beta=0.99).tolist() == [1, 1, 1]


@pytest.mark.parametrize("beta", [-0.1, 1.0, math.nan])
def test_beta_out_of_its_range_is_refused(beta):
    with pytest.raises(ValueError, match=r"beta is .*, should be in \[0, 1\)"):
        effective_number_weights(torch.ones(2), beta=beta)


def test_class_balanced_focal_loss_is_the_focal_loss_of_weighted_anchors():
    row_weights = torch.cat((WEIGHTS, torch.ones(1, dtype=torch.float64)))[LABELS.clamp(min=0)]
    expected = with_gradient(lambda x: (dense(x) * row_weights[:, None]).sum(), logits())
    got = with_gradient(
        lambda x: class_balanced_focal_loss_sum(x, LABELS, WEIGHTS, gamma=2.0, alpha=0.25),
        logits(),
    )
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)  # fvcore's is in fp32


@pytest.mark.parametrize("alpha", [0.25, -1.0])
def test_with_weights_of_1_and_classes_in_balance_both_are_the_focal_loss(alpha):
    expected = with_gradient(lambda x: focal_loss_sum(x, LABELS, gamma=2.0, alpha=alpha), logits())
    ones = torch.ones(K)
    for loss in (
        lambda x: class_balanced_focal_loss_sum(x, LABELS, ones, gamma=2.0, alpha=alpha),
        lambda x: equalized_focal_loss_sum(x, LABELS, ones, alpha=alpha)[0],
        lambda x: equalized_focal_loss_sum(x, LABELS, 0 * ones, alpha=alpha, scale=0.0)[0],
    ):
        torch.testing.assert_close(with_gradient(loss, logits()), expected)


def equalized_by_the_formula(x):
    """Term by term: -alpha_t (gamma_j / gamma) (1 - p_t)^gamma_j ln p_t."""
    p, y = x.sigmoid(), one_hot()
    p_t = p * y + (1 - p) * (1 - y)
    gammas = 2.0 + 8.0 * (1 - BALANCE)
    alpha_t = 0.25 * y + 0.75 * (1 - y)
    terms = -alpha_t * gammas / 2.0 * (1 - p_t) ** gammas * p_t.log()
    return terms * (LABELS >= 0)[:, None]


def test_equalized_focal_loss_is_that_of_the_formula():
    expected = with_gradient(lambda x: equalized_by_the_formula(x).sum(), logits())
    got = with_gradient(lambda x: equalized_focal_loss_sum(x, LABELS, BALANCE)[0], logits())
    torch.testing.assert_close(got, expected)


def test_gradients_of_the_classes_are_those_that_autograd_finds():
    _, grad = with_gradient(lambda x: equalized_by_the_formula(x).sum(), logits())
    gradients = equalized_focal_loss_sum(logits(), LABELS, BALANCE)[1]
    is_own = one_hot().bool()
    positives = (grad.abs() * is_own).sum(dim=0)
    negatives = (grad.abs() * ~is_own).sum(dim=0)
    torch.testing.assert_close(gradients, torch.stack((positives, negatives)))
    torch.testing.assert_close(class_balance(gradients), (positives / negatives).clamp(max=1))
    assert not gradients.requires_grad


def test_class_that_nothing_was_seen_of_is_in_balance_and_one_without_positives_is_not():
    gradients = torch.tensor([[0.0, 0.0, 3.0, 1.0], [0.0, 2.0, 2.0, 4.0]])
    assert class_balance(gradients).tolist() == [1, 0, 1, 0.25]


def test_rows_in_chunks_give_the_sum_of_all(monkeypatch):
    from libra_umop.functional.long_tail import class_focal_loss

    def run(x):
        return equalized_focal_loss_sum(x, LABELS, BALANCE)[0]

    whole = with_gradient(run, logits())
    monkeypatch.setattr(class_focal_loss, "_CPU_CHUNK", 7 * K)
    torch.testing.assert_close(with_gradient(run, logits()), whole)


LOSSES = {
    "class-balanced focal": lambda x: class_balanced_focal_loss_sum(
        x, LABELS[: len(x)], WEIGHTS, gamma=2.0, alpha=0.25
    ),
    "class-balanced focal, gamma 0.5": lambda x: class_balanced_focal_loss_sum(
        x, LABELS[: len(x)], WEIGHTS, gamma=0.5, alpha=0.25
    ),
    "equalized focal": lambda x: equalized_focal_loss_sum(x, LABELS[: len(x)], BALANCE)[0],
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_of_the_dense_losses_is_that_of_finite_differences(name):
    assert torch.autograd.gradcheck(LOSSES[name], logits().requires_grad_())


@pytest.mark.parametrize("name", LOSSES)
def test_no_anchor_gives_zero_with_a_live_gradient(name):
    value, grad = with_gradient(LOSSES[name], logits()[:0])
    assert value == 0 and grad.shape == (0, K)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("scale", [100.0, 1e4])
def test_dense_losses_are_finite_at_any_logit(name, scale):
    value, grad = with_gradient(LOSSES[name], logits(torch.float32, scale))
    assert value.isfinite() and grad.isfinite().all()


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(
        ValueError, match=r"logits and labels are .*, should be \(R, K\) and \(R,\)"
    ):
        equalized_focal_loss_sum(logits(), LABELS[:3], BALANCE)
    with pytest.raises(ValueError, match=r"balance is \(4,\), should be \(5,\)"):
        equalized_focal_loss_sum(logits(), LABELS, BALANCE[:4])
    with pytest.raises(ValueError, match=r"row_weight is .*, should be one number or \(6,\)"):
        class_balanced_focal_loss_sum(logits(), LABELS, WEIGHTS[:4], gamma=2.0, alpha=0.25)
    with pytest.raises(ValueError, match="logits, labels, counts are"):
        seesaw_loss(scores(), LABELS.clamp(min=0), COUNTS[:3])


# Seesaw.

REGIONS = LABELS.clamp(min=0)


def seesaw_by_the_formula(x, p, q, eps=0.01):
    """Region by region, class by class, as the paper writes it; background has no factor."""
    probs, n = x.detach().softmax(dim=1), COUNTS.clamp(min=1).double()
    losses = []
    for z, prob, i in zip(x, probs, REGIONS.tolist(), strict=True):
        below = z[i].exp()
        for j in range(K + 1):
            if j == i:
                continue
            factor = 1.0
            if i < K and j < K:
                if n[j] < n[i]:
                    factor *= float(n[j] / n[i]) ** p
                if prob[j] > prob[i].clamp(min=eps):
                    factor *= float(prob[j] / prob[i].clamp(min=eps)) ** q
            below = below + factor * z[j].exp()
        losses.append(-(z[i].exp() / below).log())
    return torch.stack(losses)


@pytest.mark.parametrize("p, q", [(0.8, 2.0), (0.8, 0.0), (0.0, 2.0)])
def test_seesaw_loss_is_that_of_the_formula(p, q):
    expected = with_gradient(lambda x: seesaw_by_the_formula(x, p, q).sum(), scores())
    got = with_gradient(lambda x: seesaw_loss(x, REGIONS, COUNTS, p=p, q=q).sum(), scores())
    torch.testing.assert_close(got, expected)


def test_seesaw_loss_without_both_factors_is_the_cross_entropy():
    expected = with_gradient(lambda x: F.cross_entropy(x, REGIONS, reduction="sum"), scores())
    got = with_gradient(lambda x: seesaw_loss(x, REGIONS, COUNTS, p=0, q=0).sum(), scores())
    torch.testing.assert_close(got, expected)
    same = torch.full((K,), 7)
    torch.testing.assert_close(
        seesaw_loss(scores(), REGIONS, same, q=0), seesaw_loss(scores(), REGIONS, COUNTS, p=0, q=0)
    )


def test_gradient_of_seesaw_is_that_of_finite_differences():
    """Of its mitigation; the compensation is by the paper a factor without a gradient."""
    x = scores().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: seesaw_loss(x, REGIONS, COUNTS, q=0.0), x)


def test_frequent_class_presses_less_on_a_rare_one_and_not_the_other_way_round():
    x = torch.zeros(2, K + 1, requires_grad=True)
    frequent, rare = 0, 2
    seesaw_loss(x, torch.tensor([frequent, rare]), COUNTS).sum().backward()
    on_rare, on_frequent = x.grad[0, rare], x.grad[1, frequent]
    # S is (10 / 1000)^0.8, and all of the softmax's other terms are 1 or below.
    assert on_rare == pytest.approx(0.01**0.8 * float(x.grad[0, K]), rel=1e-5)
    assert on_frequent == pytest.approx(float(x.grad[1, K]), rel=1e-5)


def test_no_region_gives_zero_with_a_live_gradient():
    value, grad = with_gradient(lambda x: seesaw_loss(x, REGIONS[:0], COUNTS).sum(), scores()[:0])
    assert value == 0 and grad.shape == (0, K + 1)


@pytest.mark.parametrize("scale", [100.0, 1e4])
def test_seesaw_is_finite_at_any_logit(scale):
    value, grad = with_gradient(
        lambda x: seesaw_loss(x, REGIONS, COUNTS).sum(), scores(torch.float32, scale)
    )
    assert value.isfinite() and grad.isfinite().all()
