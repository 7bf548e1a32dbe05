"""Oracles: answers that can be seen, chi-square against the paper's p_k, counted device syncs."""

import pytest
import torch

from libra_umop.functional.iou_balanced_sampling import (
    sample_instance_balanced_positives,
    sample_iou_balanced_negatives,
)
from testing.sync_counter import SyncCounter

# 0.999 quantiles of the chi-square distribution with these degrees of freedom.
CHI_SQUARE = {2: 13.82, 3: 16.27, 59: 98.32}


def ious_with(*counts, end=0.5):
    """``counts[k]`` IoUs, at random, in the k-th of len(counts) equal bins of [0, end)."""
    width = end / len(counts)
    parts = [(k + 0.01 + 0.98 * torch.rand(n)) * width for k, n in enumerate(counts)]
    return torch.cat(parts)


def count_in_bins(ious, idxs, num_bins=3, end=0.5):
    return torch.histc(ious[idxs], num_bins, 0, end).long().tolist()


@pytest.mark.parametrize(
    "counts, num_samples, expected",
    [
        ((1000, 1000, 1000), 9, [3, 3, 3]),
        ((1000, 1000, 1000), 10, [3, 3, 4]),  # the remainder goes to the highest bins
        ((1000, 1000, 1000), 11, [3, 4, 4]),
        ((1000, 1000, 1), 11, [5, 5, 1]),  # what is missing is shared out evenly
        ((1000, 0, 1), 11, [10, 0, 1]),
        ((1000, 2, 3), 384, [379, 2, 3]),
        ((1, 4, 1000), 12, [1, 4, 7]),  # and again, after the second one is empty too
        ((5, 0, 0), 384, [5, 0, 0]),  # all that there are
        ((3, 3, 3), 9, [3, 3, 3]),
        ((1000, 1000, 1000), 2, [0, 1, 1]),
        ((1000, 1000, 1000), 0, [0, 0, 0]),
    ],
)
def test_bins_give_what_the_paper_says(counts, num_samples, expected):
    ious = ious_with(*counts)
    for _ in range(2):  # no state: the second call follows the same rule
        idxs = sample_iou_balanced_negatives(ious, num_samples)
        assert idxs.dtype == torch.int64
        assert len(idxs.unique()) == len(idxs) == min(num_samples, len(ious))
        assert count_in_bins(ious, idxs) == expected


@pytest.mark.parametrize("num_bins", [1, 2, 5])
def test_any_number_of_bins(num_bins):
    ious = ious_with(*[200] * num_bins)
    idxs = sample_iou_balanced_negatives(ious, 20 * num_bins, num_bins=num_bins)
    assert count_in_bins(ious, idxs, num_bins) == [20] * num_bins


def test_no_candidate_gives_none():
    assert sample_iou_balanced_negatives(torch.empty(0), 5).shape == (0,)
    assert sample_instance_balanced_positives(torch.empty(0, dtype=torch.int64), 5).shape == (0,)


def test_each_candidate_of_a_bin_is_drawn_with_p_k():
    # 60 candidates: 40, 15 and 5 of them in the bins; N = 12, so p_k = 12 / 3 / M_k.
    counts, num_samples, draws = (40, 15, 5), 12, 4000
    ious = ious_with(*counts)
    drawn = torch.zeros(60)
    for _ in range(draws):
        drawn[sample_iou_balanced_negatives(ious, num_samples)] += 1
    p = torch.cat([torch.full((m,), num_samples / 3 / m) for m in counts])
    assert drawn.sum() == draws * num_samples
    # Counts of draws without replacement scatter less than a multinomial's: divided by n p (1 - p),
    # each term has a mean of 1 within 1 / M_k.
    chi_square = ((drawn - draws * p) ** 2 / (draws * p * (1 - p))).sum().item()
    assert 25 < chi_square < CHI_SQUARE[59]


def test_one_bin_is_random_sampling():
    # which is also the control: the statistic of the test above can tell the two apart
    counts, draws = torch.tensor([500, 60, 20]), 3000
    ious = ious_with(*counts.tolist())
    drawn = torch.zeros(3)
    for _ in range(draws):
        idxs = sample_iou_balanced_negatives(ious, 3, num_bins=1)
        drawn += torch.tensor(count_in_bins(ious, idxs))
    expected = 3 * draws * counts / counts.sum()
    assert ((drawn - expected) ** 2 / expected).sum() < CHI_SQUARE[2]
    assert ((drawn - draws) ** 2 / draws).sum() > 100 * CHI_SQUARE[2]


def test_negatives_beyond_the_threshold_are_in_the_last_bin():
    ious = torch.cat([torch.full((50,), 0.1), torch.full((50,), 0.5)])
    idxs = sample_iou_balanced_negatives(ious, 10, num_bins=2)
    assert (ious[idxs] == 0.5).sum() == 5


def test_floor_gives_its_fraction_at_random_and_the_bins_span_the_rest():
    below = 0.1 * torch.rand(500)
    ious = torch.cat([below, 0.1 + ious_with(300, 300, end=0.4)])
    options = {"num_bins": 2, "floor_iou": 0.1, "floor_fraction": 0.25}
    picked = ious[sample_iou_balanced_negatives(ious, 40, **options)]
    assert (picked < 0.1).sum() == 10
    assert ((picked >= 0.1) & (picked < 0.3)).sum() == 15
    assert (picked >= 0.3).sum() == 15


def test_floor_and_bins_fill_in_for_each_other():
    options = {"num_bins": 2, "floor_iou": 0.1, "floor_fraction": 0.25}
    values = torch.tensor([0.05, 0.2, 0.4])  # below the floor, and in the two bins
    for counts, num_samples, expected in (
        ([3, 100, 100], 41, [3, 19, 19]),
        ([100, 2, 9], 40, [29, 2, 9]),
    ):
        ious = values.repeat_interleave(torch.tensor(counts))
        picked = ious[sample_iou_balanced_negatives(ious, num_samples, **options)]
        assert [(picked == x).sum() for x in values] == expected


def test_nothing_is_drawn_below_a_floor_of_fraction_0():
    ious = torch.cat([torch.full((500,), 0.05), ious_with(0, 300, 300, 300, 300)])
    picked = ious[sample_iou_balanced_negatives(ious, 100, floor_iou=0.1)]
    assert (picked >= 0.1).all()


def test_observed_bins_leave_the_top_one_empty_and_fill_up_uniformly():
    # bins [0, 1/3), [1/3, 2/3), [2/3, 1]: 128 each of 384, and 128 that the last one cannot give
    low, high = 9000, 1000
    ious = torch.cat([torch.rand(low) / 3.01, 0.34 + 0.15 * torch.rand(high)])
    num_high = []
    for _ in range(50):
        picked = ious[sample_iou_balanced_negatives(ious, 384, bin_range="observed")]
        num_high.append((picked >= 1 / 3).sum().item())
    # 128 and then hypergeometric: 128 of the 9744 left, of which 872 are high
    assert min(num_high) >= 128
    assert sum(num_high) / 50 == pytest.approx(128 + 128 * 872 / 9744, abs=2.0)


def test_observed_bins_take_a_scarce_bin_whole():
    ious = torch.cat([torch.full((1000,), 0.1), torch.full((7,), 0.4)])
    picked = ious[sample_iou_balanced_negatives(ious, 30, bin_range="observed")]
    assert (picked == torch.tensor(0.4)).sum() == 7


@pytest.mark.parametrize(
    "matched, num_samples, expected",
    [
        ([0] * 100 + [1] * 100, 10, [5, 5]),
        ([0] * 100 + [1] * 3, 10, [7, 3]),
        ([0] * 100 + [1] * 1 + [2] * 4 + [3] * 100, 15, [5, 1, 4, 5]),
        ([0] * 2 + [1] * 2, 128, [2, 2]),
        ([5] * 9, 4, [0, 0, 0, 0, 0, 4]),
    ],
)
def test_ground_truth_boxes_get_equal_shares(matched, num_samples, expected):
    matched_idxs = torch.tensor(matched)[torch.randperm(len(matched))]
    for _ in range(2):
        idxs = sample_instance_balanced_positives(matched_idxs, num_samples)
        assert len(idxs.unique()) == len(idxs)
        assert matched_idxs[idxs].bincount().tolist() == expected


def test_remainder_of_positives_goes_to_a_random_box_however_many_candidates_it_has():
    matched_idxs = torch.arange(4).repeat_interleave(torch.tensor([5, 25, 25, 100]))
    drawn = sum(
        matched_idxs[sample_instance_balanced_positives(matched_idxs, 5)].bincount(minlength=4) - 1
        for _ in range(2000)
    )
    assert ((drawn - 500.0) ** 2 / 500).sum() < CHI_SQUARE[3]


def test_same_generator_state_gives_the_same_draw_and_leaves_torch_alone():
    ious, matched_idxs = ious_with(300, 300, 300), torch.randint(0, 7, (300,))
    state = torch.get_rng_state()
    for sample, values in (
        (sample_iou_balanced_negatives, ious),
        (sample_instance_balanced_positives, matched_idxs),
    ):
        first, again, other = (
            sample(values, 50, generator=torch.Generator().manual_seed(i)) for i in (3, 3, 4)
        )
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_samplers_never_wait_for_the_device():
    ious, matched_idxs = ious_with(300, 300, 3), torch.randint(0, 7, (300,))
    for bin_range in ("threshold", "observed"):
        with SyncCounter() as counter:
            sample_iou_balanced_negatives(
                ious, 100, bin_range=bin_range, floor_iou=0.1, floor_fraction=0.2
            )
            sample_instance_balanced_positives(matched_idxs, 100)
        assert counter.count == 0
    with SyncCounter() as counter:  # the counter counts
        assert ious[ious > 0.2].sum().item() > 0
    assert counter.count == 2


@pytest.mark.gpu
def test_samplers_run_on_a_gpu_without_waiting_for_it():
    ious, matched_idxs = ious_with(300, 300, 3).cuda(), torch.randint(0, 7, (300,)).cuda()
    generator = torch.Generator("cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        negatives = sample_iou_balanced_negatives(ious, 100, generator=generator)
        positives = sample_instance_balanced_positives(matched_idxs, 100, generator=generator)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert count_in_bins(ious, negatives) == [48, 49, 3]
    assert positives.device == matched_idxs.device and len(positives.unique()) == 100


@pytest.mark.parametrize(
    "kwargs, word",
    [
        ({"num_bins": 0}, "num_bins"),
        ({"floor_iou": 0.6}, "floor_iou"),
        ({"floor_iou": -0.1}, "floor_iou"),
        ({"floor_fraction": 1.5}, "floor_fraction"),
        ({"max_iou": 1.5}, "end"),
        ({"bin_range": "mmdet"}, "bin_range"),
        ({"num_samples": -1}, "num_samples"),
        ({"ious": torch.zeros(2, 2)}, "vector"),
    ],
)
def test_refuses_what_is_out_of_range(kwargs, word):
    with pytest.raises(ValueError, match=word):
        sample_iou_balanced_negatives(**{"ious": torch.zeros(3), "num_samples": 2, **kwargs})
