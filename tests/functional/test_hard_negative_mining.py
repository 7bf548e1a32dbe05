"""OHEM: which examples count is visible, the rest is cross entropy."""

import pytest
import torch
from torch.nn import functional as F

from libra_umop.functional.hard_negative_mining import hard_negative_bce_sum, hardest

K = 3


def bce_by_anchor(logits, labels):
    targets = F.one_hot(labels.clamp(min=0), num_classes=K + 1)[:, :K].to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(dim=1)


def test_positives_and_the_three_hardest_negatives_of_each_count():
    logits = torch.arange(12.0)[:, None].expand(12, K) / 4 - 2
    labels = torch.full((12,), K)
    labels[4], labels[11] = 1, -1  # one positive; the hardest of all is ignored
    per_anchor = bce_by_anchor(logits, labels)
    expected = per_anchor[[4, 8, 9, 10]].sum()
    torch.testing.assert_close(hard_negative_bce_sum(logits, labels), expected)


def test_without_positives_the_negatives_of_one_count():
    logits, labels = torch.randn(10, K), torch.full((10,), K)
    expected = bce_by_anchor(logits, labels).topk(3).values.sum()
    torch.testing.assert_close(hard_negative_bce_sum(logits, labels), expected)


def test_all_anchors_count_if_the_ratio_is_large():
    logits, labels = torch.randn(20, K), torch.arange(20) % (K + 1)
    expected = bce_by_anchor(logits, labels).sum()
    torch.testing.assert_close(hard_negative_bce_sum(logits, labels, neg_pos_ratio=1e6), expected)


def test_hard_negative_gradient_is_exact():
    logits = torch.randn(12, K, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(-1, K + 1, (12,))
    assert torch.autograd.gradcheck(lambda x: hard_negative_bce_sum(x, labels), (logits,))


def test_no_anchor_is_zero_with_a_live_gradient():
    logits = torch.zeros(0, K, requires_grad=True)
    loss = hard_negative_bce_sum(logits, torch.zeros(0, dtype=torch.int64))
    loss.backward()
    assert loss == 0 and logits.grad is not None


def test_hard_negatives_compile_without_graph_breaks():
    logits, labels = torch.randn(20, K), torch.randint(-1, K + 1, (20,))
    compiled = torch.compile(hard_negative_bce_sum, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(logits, labels), hard_negative_bce_sum(logits, labels))


def test_ratio_must_be_positive():
    with pytest.raises(ValueError, match="neg_pos_ratio"):
        hard_negative_bce_sum(torch.zeros(1, K), torch.zeros(1).long(), neg_pos_ratio=0.0)


def test_hardest_takes_the_largest_losses_first():
    assert hardest(torch.tensor([0.1, 5.0, 2.0, 3.0]), 3).tolist() == [1, 3, 2]


def test_hardest_takes_all_when_there_are_fewer():
    assert sorted(hardest(torch.tensor([1.0, 2.0]), 128).tolist()) == [0, 1]
    assert hardest(torch.empty(0), 128).tolist() == []
    assert hardest(torch.tensor([1.0, 2.0]), 0).tolist() == []


def test_no_gradient_passes_through_the_ranking():
    losses = torch.randn(5, requires_grad=True)
    idxs = hardest(losses, 2)
    assert idxs.dtype == torch.int64 and not idxs.requires_grad
    losses[idxs].sum().backward()
    assert losses.grad.sum() == 2  # the chosen ones still learn


def test_a_loss_that_is_not_a_number_is_the_hardest():
    assert hardest(torch.tensor([1.0, float("nan"), 9.0]), 1).tolist() == [1]


def test_hardest_refuses_what_is_out_of_range():
    with pytest.raises(ValueError, match="vector"):
        hardest(torch.zeros(2, 2), 1)
    with pytest.raises(ValueError, match="num_samples"):
        hardest(torch.zeros(2), -1)
