"""Differences paired by seed, and what they show: Student's t, and nothing beyond its interval."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from ...errors import ConfigError

__all__ = ["CONFIDENCE", "Difference", "holm", "mean", "paired_difference", "spread"]

CONFIDENCE = 0.95
HELPS, HURTS, NOT_SHOWN = "helps", "hurts", "not shown"
MOST_SEEDS = 1000  # where the search for a half as wide interval ends


class Difference(NamedTuple):
    """A variant against the baseline over the N seeds that both have.

    Attributes:
        by_seed: the difference of each seed.
        mean: over the seeds; None without any.
        low, high: ends of the 95 % interval of the mean, mean +- t(0.975, N - 1) s / sqrt(N), where
            s is the standard deviation of the differences; None below two seeds, and where s is 0,
            as runs that all fail alike say nothing of how sure that is.
        p: of the two-sided paired t-test, below 0.05 where the interval leaves out 0; None where
            there is no interval, or no spread.
        seeds_to_halve: how many more seeds would make that interval half as wide, if s stays.
        verdict: "helps" (the whole interval above 0), "hurts" (below) or "not shown".
        reason: of "not shown".
    """

    by_seed: dict[int, float]
    mean: float | None
    low: float | None
    high: float | None
    p: float | None
    seeds_to_halve: int | None
    verdict: str
    reason: str


def mean(values: list[float]) -> float | None:
    """The mean; None of nothing."""
    return sum(values) / len(values) if values else None


def spread(values: list[float]) -> float | None:
    """Standard deviation with N - 1; None below two values."""
    if len(values) < 2:
        return None
    centre = sum(values) / len(values)
    return math.sqrt(sum((v - centre) ** 2 for v in values) / (len(values) - 1))


def paired_difference(variant: dict[int, float], baseline: dict[int, float]) -> Difference:
    """Variant minus baseline over the seeds that both have.

    Args:
        variant, baseline: a metric by seed; higher is better.

    Raises:
        ConfigError: two seeds or more, and scipy is not installed.
    """
    by_seed = {seed: variant[seed] - baseline[seed] for seed in sorted(variant.keys() & baseline)}
    values = list(by_seed.values())
    centre, deviation = mean(values), spread(values)
    if centre is None:
        return Difference(by_seed, None, None, None, None, None, NOT_SHOWN, "no seed has both")
    if deviation is None:
        return Difference(by_seed, centre, None, None, None, None, NOT_SHOWN, "one seed")
    if deviation == 0:
        reason = "equal in every seed" if centre == 0 else "no spread to judge by"
        return Difference(by_seed, centre, None, None, None, None, NOT_SHOWN, reason)
    half = deviation * _factor(len(values))
    low, high = centre - half, centre + half
    verdict = HELPS if low > 0 else HURTS if high < 0 else NOT_SHOWN
    reason = "the interval holds 0" if verdict == NOT_SHOWN else ""
    p = _p_value(centre / deviation * math.sqrt(len(values)), len(values))
    more = _seeds_to_halve(len(values))
    return Difference(by_seed, centre, low, high, p, more, verdict, reason)


def holm(p_values: Sequence[float]) -> list[float]:
    """Each p as it counts among all of them, by Holm's step-down method (1979).

    Those below a level are the ones that stand if none of all the comparisons may be wrong with a
    higher probability than that level.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, largest = [0.0] * len(order), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def _factor(count: int) -> float:
    """t(0.975, N - 1) / sqrt(N): half the interval's width, in standard deviations."""
    try:
        from scipy.stats import t
    except ModuleNotFoundError as e:
        raise ConfigError(
            "the intervals of a study need scipy: pip install scipy (the extra 'study')"
        ) from e
    return float(t.ppf((1 + CONFIDENCE) / 2, count - 1)) / math.sqrt(count)


def _p_value(statistic: float, count: int) -> float:
    """Of the two-sided t-test; scipy is there, as the interval needed it."""
    from scipy.stats import t

    return float(2 * t.sf(abs(statistic), count - 1))


def _seeds_to_halve(count: int) -> int | None:
    """How many more seeds make the interval half as wide, at the same standard deviation."""
    wanted = _factor(count) / 2
    for larger in range(count + 1, MOST_SEEDS):
        if _factor(larger) <= wanted:
            return larger - count
    return None
