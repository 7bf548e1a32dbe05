"""The findings about the level imbalance: positives per level, and the focus of each."""

from typing import Any

from ..measures.level import LevelMeasure
from .finding import Finding, advise, graded, percent

# What UMOP did to AP in a study of five seeds, benchmarks/log/study_h100.md; of FCOS there is none.
IN_STUDY = {
    "RetinaNet": "On small data pfl_lrp cost a RetinaNet up to 0.8 AP in our study, and"
    " pfl_lrp_mean did nothing to see",
    "ATSS": "On small data neither pfl_lrp nor pfl_lrp_mean was shown to help an ATSS in our study",
}


def find(m: dict[str, Any]) -> list[Finding]:
    """Positives per level, and how often the focus is clipped.

    Levels without any positive are named and left out of the comparison: there is nothing on them
    to balance.
    """
    findings = []
    heads: dict[str, LevelMeasure] = m["level"]
    for head, entry in heads.items():
        rates, levels = entry["rate"], entry["levels"]
        if len(levels) < 2 or not max(rates):
            continue
        positive = [i for i, rate in enumerate(rates) if rate > 0]
        top, low = max(positive, key=rates.__getitem__), min(positive, key=rates.__getitem__)
        what = "anchors" if head == "dense" else "RPN anchors (sampled)"
        text = f"Level {levels[low].upper()} has {percent(rates[low])} positives among its {what}"
        if len(positive) > 1:
            times = f"{rates[top] / rates[low]:.0f} times fewer"
            text += f" against {percent(rates[top])} at {levels[top].upper()} ({times})"
        empty = [name.upper() for name, rate in zip(levels, rates, strict=True) if not rate]
        if empty:
            text += f"; {' and '.join(empty)} had none, so there is nothing to balance on"
            text += " it" if len(empty) == 1 else " them"
        numbers = {"levels": levels, "rate": rates, "clipped": entry["clipped_all"]}
        size = graded(rates[top] / rates[low], 10.0, 3.0)
        who = f"{levels[top].upper()} against {levels[low].upper()}"
        pair = (percent(rates[top]), percent(rates[low]), f"{who}: positives of all anchors")
        found = Finding("level", size, m["name"], f"{text}.", numbers=numbers, pair=pair)
        _advise_focus(found, m, head, entry)
        findings.append(found)
    return findings


def _advise_focus(found: Finding, m: dict[str, Any], head: str, entry: LevelMeasure) -> None:
    """Say what UMOP does for a level finding, or would do."""
    on = m["levers"]
    if head == "rpn":
        found.text += " UMOP's focus is for dense detectors; an RPN samples its anchors instead."
        found.size = "small" if found.size == "small" else ""
    elif "pfl" in on and ("lrp" in on or "lrp_mean" in on):
        found.text += f" UMOP gives each level its own focus; {_clipping(entry)}{_in_study(m)}"
        found.size = "small" if found.size == "small" else ""
    else:
        why = f"UMOP would give each level its own focus; {_clipping(entry)}{_in_study(m)}"
        advise(found, m, "lrp_mean" if "pfl" in on else "pfl_lrp_mean", why)


def _in_study(m: dict[str, Any]) -> str:
    """What is known of UMOP on the run's detector, and how to know it of one's own data."""
    known = (text for name, text in IN_STUDY.items() if name in (m["detector"] or ""))
    return "".join(f" {text}: measure it on yours, with libra-umop study." for text in known)


def _clipping(entry: LevelMeasure) -> str:
    """How often gamma_l is at a limit, in words."""
    if entry["clipped_all"] is None:
        return "no level had a positive."
    gamma, delta = entry["focus"]["gamma"], entry["focus"]["delta"]
    return (
        f"its gamma is at a limit ({gamma - delta:g} or {gamma + delta:g}) in"
        f" {percent(entry['clipped_all'])} of the measurements, so it does not move there."
    )
