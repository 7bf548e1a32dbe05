"""What a finding is, and how its numbers are written."""

from dataclasses import asdict, dataclass, field
from typing import Any, Dict, List, Optional

SIZES = ("large", "moderate", "small")


@dataclass
class Finding:
    """One sentence or two about one run.

    Attributes:
        imbalance: "sample", "feature", "objective", "level", "data" or "comparison".
        size: "large", "moderate", "small", or "" where size has no meaning.
        run: its name.
        text: the sentence, with the numbers.
        switch: config keys that address it, ("KEY", "value"); empty if none does.
        numbers: the numbers of the sentence, unrounded.
    """

    imbalance: str
    size: str
    run: str
    text: str
    switch: List[List[str]] = field(default_factory=list)
    numbers: Dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> Dict[str, Any]:
        """As the JSON has it."""
        return asdict(self)


def percent(value: Optional[float]) -> str:
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
