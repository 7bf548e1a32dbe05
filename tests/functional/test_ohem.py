"""Oracles: answers that can be seen."""

import pytest
import torch

from libra_umop.functional.ohem import hardest


def test_takes_the_largest_losses_first():
    assert hardest(torch.tensor([0.1, 5.0, 2.0, 3.0]), 3).tolist() == [1, 3, 2]


def test_takes_all_when_there_are_fewer():
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


def test_refuses_what_is_out_of_range():
    with pytest.raises(ValueError, match="vector"):
        hardest(torch.zeros(2, 2), 1)
    with pytest.raises(ValueError, match="num_samples"):
        hardest(torch.zeros(2), -1)
