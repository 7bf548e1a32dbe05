"""UMOP's gamma and alpha by hand arithmetic."""

import math

import pytest
import torch

from libra_umop.functional.progressive_focal_loss import (
    FOCUS_TYPES,
    focus_from_sums,
    focus_sums,
    progressive_focus,
)

K = 5


def logits_of(probabilities):
    """Logits (R, K) whose class 0 has these probabilities, and labels that say so."""
    logits = torch.zeros(len(probabilities), K)
    logits[:, 0] = torch.tensor(probabilities).logit()
    return logits, torch.zeros(len(probabilities), dtype=torch.int64)


def test_gamma_by_hand():
    logits, labels = logits_of([0.3, 0.02])
    gamma, alpha = progressive_focus(logits, labels, delta=1.0)
    assert gamma.item() == pytest.approx(-math.log(0.16), rel=1e-5)  # 1.83
    assert alpha.item() == pytest.approx(0.5 / -math.log(0.16), rel=1e-5)
    gamma, _ = progressive_focus(logits, labels, delta=1.0, focus="mean_log")
    assert gamma.item() == pytest.approx((-math.log(0.3) - math.log(0.02)) / 2, rel=1e-5)  # 2.56


@pytest.mark.parametrize("p, expected", [(0.001, 2.5), (0.9, 1.5), (math.exp(-2.1), 2.1)])
def test_gamma_stays_within_delta(p, expected):
    logits, labels = logits_of([p])
    for focus in FOCUS_TYPES:
        gamma, alpha = progressive_focus(logits, labels, focus=focus)
        assert gamma.item() == pytest.approx(expected, rel=1e-5)
        assert alpha.item() == pytest.approx(0.5 / expected, rel=1e-5)


def test_gamma_of_a_level_without_positives_is_the_given_one():
    for labels in (torch.tensor([K, -1, K]), torch.zeros(0, dtype=torch.int64)):
        gamma, alpha = progressive_focus(torch.zeros(len(labels), K), labels, gamma=1.8, w=0.45)
        assert gamma.item() == pytest.approx(1.8) and alpha.item() == pytest.approx(0.25)


def test_positives_that_cannot_be_predicted_worse_are_finite():
    logits, labels = torch.full((3, K), -200.0), torch.zeros(3, dtype=torch.int64)
    for focus in FOCUS_TYPES:
        assert progressive_focus(logits, labels, focus=focus)[0].item() == 2.5


def test_only_positives_count():
    logits, labels = logits_of([0.15, 0.9, 0.9])
    labels[1:] = torch.tensor([-1, K])
    assert progressive_focus(logits, labels)[0].item() == pytest.approx(-math.log(0.15), rel=1e-5)


@pytest.mark.parametrize("focus", FOCUS_TYPES)
def test_sums_of_parts_give_the_gamma_of_the_whole(focus):
    logits, labels = 3 * torch.randn(60, K), torch.randint(-1, K + 1, (60,))
    parts = [focus_sums(logits[i::3], labels[i::3], focus=focus) for i in range(3)]
    total, num_pos = sum(p[0] for p in parts), sum(p[1] for p in parts)
    ours = focus_from_sums(total, num_pos, delta=1.9, w=0.1, focus=focus)
    whole = progressive_focus(logits, labels, delta=1.9, w=0.1, focus=focus)
    torch.testing.assert_close(ours, whole)


def test_gamma_and_alpha_carry_no_gradient():
    logits, labels = torch.randn(60, K, requires_grad=True), torch.randint(-1, K + 1, (60,))
    assert not any(x.requires_grad for x in progressive_focus(logits, labels))


def test_unknown_focus_is_refused():
    with pytest.raises(ValueError, match="mean_prob"):
        progressive_focus(torch.zeros(1, K), torch.zeros(1, dtype=torch.int64), focus="median")
