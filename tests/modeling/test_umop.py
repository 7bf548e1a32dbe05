"""UMOP's loss over levels: which gamma, alpha and normaliser each level gets."""

import pytest
import torch

from libra_umop.functional.focal_loss import focal_loss_sum
from libra_umop.functional.progressive_focal_loss import progressive_focus
from libra_umop.modeling.dense.losses.focal import LevelFocalLoss
from libra_umop.modeling.dense.losses.normalizers import RankTotals
from libra_umop.modeling.dense.losses.predictions import LabelledPredictions

K = 3


def make_levels():
    """Logits and labels of 2 images on 3 levels; the last level has no positive."""
    logits = [torch.randn(2, n, K) - 2 for n in (40, 20, 10)]
    labels = torch.randint(-1, K + 1, (2, 70))
    labels[:, 60:] = K
    return logits, labels


def seen(logits, labels):
    """What the loss sees; it asks for no boxes."""
    zeros = torch.zeros(*labels.shape, 4)
    boxes = {"anchors": zeros[0], "deltas": zeros, "gt_boxes": zeros, "transform": None}
    return LabelledPredictions(logits=logits, labels=labels, **boxes)


def totals_of(loss, *batches):
    """Over ranks that have a batch each."""
    views = [seen(*batch) for batch in batches]
    sums, positives = sum(map(loss.sums, views)), sum(view.num_positives() for view in views)
    num_images = torch.tensor(float(sum(len(labels) for _, labels in batches)))
    return RankTotals(sums, positives, num_images, len(batches))


def compute(loss, logits, labels, normalizer=7.0):
    totals = totals_of(loss, (logits, labels))
    return loss(seen(logits, labels), totals, torch.tensor(normalizer)), totals


def per_level(logits, labels):
    parts = labels.split([x.shape[1] for x in logits], dim=1)
    return [(x.flatten(0, 1), y.flatten()) for x, y in zip(logits, parts, strict=True)]


def test_off_it_is_the_focal_loss_over_the_normaliser():
    logits, labels = make_levels()
    result, totals = compute(LevelFocalLoss(gamma=1.5, alpha=0.3), logits, labels)
    everything = torch.cat(logits, dim=1).flatten(0, 1)
    expected = focal_loss_sum(everything, labels.flatten(), gamma=1.5, alpha=0.3) / 7
    torch.testing.assert_close(result.loss, expected)
    torch.testing.assert_close(result.scalars["loss_cls"].sum(), expected)
    assert totals.num_positives.sum() == ((labels >= 0) & (labels < K)).sum()


def test_progressive_focus_alone_has_one_gamma_for_all_levels():
    logits, labels = make_levels()
    result, _ = compute(LevelFocalLoss(progressive_focus=True), logits, labels)
    everything = torch.cat(logits, dim=1).flatten(0, 1)
    gamma, alpha = progressive_focus(everything, labels.flatten())
    torch.testing.assert_close(result.scalars["gamma"], gamma.expand(3))
    expected = focal_loss_sum(everything, labels.flatten(), gamma=gamma, alpha=alpha) / 7
    torch.testing.assert_close(result.loss, expected)


@pytest.mark.parametrize("focus", ["mean_prob", "mean_log"])
def test_level_wise_each_level_has_its_own_gamma_alpha_and_normaliser(focus):
    logits, labels = make_levels()
    loss = LevelFocalLoss(
        progressive_focus=True, level_wise=True, focus=focus, level_reduction="mean"
    )
    result, totals = compute(loss, logits, labels)
    expected = []
    for i, (x, y) in enumerate(per_level(logits, labels)):
        gamma, alpha = progressive_focus(x, y, focus=focus)
        found = result.scalars["gamma"][i], result.scalars["alpha"][i]
        torch.testing.assert_close(found, (gamma, alpha))
        positives = max(((y >= 0) & (y < K)).sum().item(), 2)  # of 2 images
        expected.append(focal_loss_sum(x, y, gamma=gamma, alpha=alpha) / positives)
    torch.testing.assert_close(result.loss, sum(expected) / 3)
    torch.testing.assert_close(result.scalars["loss_cls"], torch.stack(expected))
    assert totals.num_positives[2] == 0
    assert result.scalars["gamma"][2] == 2.0 and result.scalars["clipped"][2] == 0


def test_level_reduction_sum_divides_by_the_positives_of_all_levels():
    logits, labels = make_levels()
    loss = LevelFocalLoss(progressive_focus=True, level_wise=True, level_reduction="sum")
    result, _ = compute(loss, logits, labels)
    expected = 0
    for x, y in per_level(logits, labels):
        gamma, alpha = progressive_focus(x, y)
        expected = expected + focal_loss_sum(x, y, gamma=gamma, alpha=alpha) / 7
    torch.testing.assert_close(result.loss, expected)


def test_a_level_without_positives_counts_one_for_each_image():
    """By hand: at p = 1/2, gamma 0 and no alpha, each background anchor and class gives ln 2."""
    loss = LevelFocalLoss(gamma=0.0, alpha=-1.0, level_wise=True, level_reduction="mean")
    logits = [torch.zeros(4, 10, K), torch.zeros(4, 5, K)]
    labels = torch.full((4, 15), K)
    labels[:, :6] = 0  # 24 positives on the first level, none on the second
    result, _ = compute(loss, logits, labels)
    ln2 = torch.tensor(2.0).log()
    expected = torch.stack([4 * 10 * K * ln2 / 24, 4 * 5 * K * ln2 / 4])
    torch.testing.assert_close(result.scalars["loss_cls"], expected)
    torch.testing.assert_close(result.loss, expected.mean())


def test_clipped_says_where_gamma_was_clamped():
    logits, labels = make_levels()
    labels[:, 40:60] = 0
    logits[0].fill_(-9.0)
    logits[1].fill_(-1.9)  # p = 0.13, -ln p = 2.04
    labels[:, :40] = 1
    loss = LevelFocalLoss(progressive_focus=True, level_wise=True)
    assert compute(loss, logits, labels)[0].scalars["clipped"].tolist() == [1, 0, 0]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_mean_over_two_ranks_is_the_loss_of_the_joined_batch(reduction):
    logits, labels = make_levels()
    loss = LevelFocalLoss(progressive_focus=True, level_wise=True, level_reduction=reduction)
    joined, totals = compute(loss, logits, labels)
    parts = [([x[i : i + 1] for x in logits], labels[i : i + 1]) for i in range(2)]
    of_two = totals_of(loss, *parts)
    torch.testing.assert_close(of_two[:3], totals[:3])
    halves = [loss(seen(*part), of_two, torch.tensor(7.0 / 2)).loss for part in parts]
    torch.testing.assert_close(sum(halves) / 2, joined.loss)


@pytest.mark.parametrize(
    "arguments",
    [
        {"focus": "median"},
        {"level_reduction": "max"},
        {"gamma": -1.0},
        {"alpha": 1.5},
        {"progressive_focus": True, "delta": 2.0},
        {"progressive_focus": True, "delta": -0.1},
        {"progressive_focus": True, "w": 0.0},
        {"progressive_focus": True, "w": 1.6},
    ],
)
def test_numbers_out_of_range_are_refused(arguments):
    with pytest.raises(ValueError, match="MODEL.UMOP|FOCAL_LOSS"):
        LevelFocalLoss(**arguments)
