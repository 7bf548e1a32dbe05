"""What a finding is, and how its numbers are written."""

from dataclasses import asdict, dataclass, field
from typing import Any

SIZES = ("large", "moderate", "small")


@dataclass
class Finding:
    """One sentence or two about one run.

    Attributes:
        imbalance: the name of a row of :data:`libra_umop.imbalance.report.imbalances.IMBALANCES`,
            or "comparison".
        size: "large" or "moderate" where a lever that is off addresses it, "small", or "" where
            size has no meaning or nothing here would change it.
        run: its name.
        text: the sentence, with the numbers.
        switch: config keys that address it, ("KEY", "value"); empty if none does.
        numbers: the numbers of the sentence, unrounded.
        lever: the row of :data:`libra_umop.levers.LEVERS` that ``switch`` switches on; "" if none.
        pair: the two numbers that show it, and what they are, in words; None for no such pair.
        of_run: whether it is about the run; what is not is said once of runs on the same data.
    """

    imbalance: str
    size: str
    run: str
    text: str
    switch: list[list[str]] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)
    lever: str = ""
    pair: tuple[str, str, str] | None = None
    of_run: bool = True

    def to_dict(self) -> dict[str, Any]:
        """As the JSON has it."""
        return asdict(self)


def advise(finding: Finding, m: dict[str, Any], lever: str, why: str) -> Finding:
    """Give a finding that is not small its remedy, and take the grade from one that has none.

    Args:
        finding: graded by what was measured; changed in place.
        m: its run, as :func:`libra_umop.imbalance.measures.measure.measure_run` gives it.
        lever: the row of :data:`libra_umop.levers.LEVERS` that addresses it; "" for none.
        why: the sentence that says what the lever does, for a run that does not have it.

    Returns:
        ``finding``.
    """
    if finding.size == "small":
        return finding
    if lever in m["switches"]:
        finding.lever, finding.switch = lever, m["switches"][lever]
        finding.text += f" {why}"
        return finding
    finding.size = ""
    if lever and not m["levers"] and not m["switches"]:
        finding.text += " Which levers this detector can have is not known."
    elif lever not in m["levers"]:
        finding.text += " No lever here changes that in this detector."
    return finding


def percent(value: float | None) -> str:
    """A share as people write it: 62 %, 1.4 %, 0.02 %."""
    if value is None or value != value:
        return "?"
    value *= 100
    if value >= 9.95 or value == 0:
        return f"{value:.0f} %"
    return f"{value:.1f} %" if value >= 0.095 else f"{value:.2g} %"


def graded(value: float, large: float, moderate: float) -> str:
    """One of :data:`SIZES`."""
    return "large" if value >= large else "moderate" if value >= moderate else "small"
