"""Paired differences, against scipy's paired t-test and arithmetic by hand."""

import math

import pytest

from libra_umop.study.answer.statistics import holm, paired_difference

REASON = "scipy, of the extra 'study', is not installed"
BASE = {1: 30.0, 2: 32.5, 3: 29.0, 4: 31.0, 5: 30.5}


def shifted(by):
    return {seed: value + change for (seed, value), change in zip(BASE.items(), by, strict=True)}


@pytest.mark.parametrize("count", [2, 3, 5])
def test_interval_is_that_of_scipys_paired_t_test(count):
    stats = pytest.importorskip("scipy.stats", reason=REASON)
    variant = dict(list(shifted([1.0, -0.5, 2.0, 0.3, 0.9]).items())[:count])
    found = paired_difference(variant, BASE)
    seeds = sorted(variant)
    test = stats.ttest_rel([variant[s] for s in seeds], [BASE[s] for s in seeds])
    expected = test.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.p == pytest.approx(test.pvalue)
    assert (found.verdict == "not shown") == (test.pvalue > 0.05)


def test_two_seeds_by_hand():
    pytest.importorskip("scipy", reason=REASON)
    found = paired_difference({1: 31.0, 2: 34.5}, BASE)  # +1 and +2: s = sqrt(1/2), t = 12.706
    half = 12.7062 * math.sqrt(0.5) / math.sqrt(2)
    assert found.mean == pytest.approx(1.5)
    assert (found.low, found.high) == pytest.approx((1.5 - half, 1.5 + half), abs=1e-3)
    # t(2) / sqrt(3) = 2.48 is less than half of t(1) / sqrt(2) = 8.98
    assert found.seeds_to_halve == 1
    assert (found.verdict, found.reason) == ("not shown", "the interval holds 0")


@pytest.mark.parametrize(
    "by, verdict",
    [
        ([1.0, 1.1, 0.9, 1.05, 0.95], "helps"),
        ([-1.0, -1.1, -0.9, -1.05, -0.95], "hurts"),
        ([1.0, -1.1, 0.9, -1.05, 0.95], "not shown"),
    ],
)
def test_word_follows_the_interval(by, verdict):
    pytest.importorskip("scipy", reason=REASON)
    found = paired_difference(shifted(by), BASE)
    assert found.verdict == verdict
    assert (found.low > 0, found.high < 0) == (verdict == "helps", verdict == "hurts")


def test_one_seed_shows_nothing_however_large_the_difference():
    found = paired_difference({1: 99.0}, BASE)
    assert (found.mean, found.low, found.high) == (69.0, None, None)
    assert (found.verdict, found.reason) == ("not shown", "one seed")


def test_only_seeds_that_both_have_count():
    found = paired_difference({1: 31.0, 9: 0.0}, BASE)
    assert found.by_seed == {1: 1.0}
    nothing = paired_difference({9: 0.0}, BASE)
    assert nothing.mean is None
    assert (nothing.verdict, nothing.reason) == ("not shown", "no seed has both")


def test_equal_runs_and_equal_differences_show_nothing():
    equal = paired_difference(BASE, BASE)
    assert equal.reason == "equal in every seed"
    assert (equal.mean, equal.low, equal.high) == (0, None, None)  # nothing says how sure it is
    constant = paired_difference(shifted([1.0] * 5), BASE)
    assert (constant.verdict, constant.reason) == ("not shown", "no spread to judge by")


def test_holm_by_hand():
    """3 x 0.01 first, then 2 x 0.02, then 1 x 0.03, which may not fall below 0.04."""
    assert holm([0.03, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02] and holm([]) == []
