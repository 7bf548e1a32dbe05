"""The finding about the feature level: the levels' parts in the integrated feature."""

from typing import Any

from ..measures.feature import FeatureMeasure
from .finding import Finding, advise, graded, percent


def find(m: dict[str, Any]) -> list[Finding]:
    """The levels' parts in the integrated feature."""
    feature: FeatureMeasure | None = m["feature"]
    if not feature or not feature["share"]:
        return []
    levels, share = feature["levels"], feature["share"]
    top, low = share.index(max(share)), share.index(min(share))
    most, least = percent(share[top]), percent(max(share[low], 0.0))
    text = (
        f"Of the feature integrated over the {len(levels)} levels, {levels[top].upper()} makes"
        f" {most} and {levels[low].upper()} {least};"
        f" equal parts would be {percent(1 / len(levels))}."
    )
    gain, size = feature["gain"], graded(feature["ratio"], 4.0, 2.0)
    if gain:
        text += (
            f" BFP adds {percent(min(gain))} to {percent(max(gain))} of a level's own norm,"
            f" most to {levels[gain.index(max(gain))].upper()}."
        )
    numbers = {"levels": levels, "share": share}
    who = f"{levels[top].upper()} against {levels[low].upper()}"
    pair = (most, least, f"{who}: part of the integrated feature")
    found = Finding("feature", size, m["name"], text, numbers=numbers, pair=pair)
    return [advise(found, m, "bfp", "BFP gives every level what all of them know.")]
