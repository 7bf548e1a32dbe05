"""The finding about the sample level: hard negatives against those that are sampled."""

from typing import Any

from ..measures.sample import SampleMeasure
from .finding import Finding, advise, graded, percent


def find(m: dict[str, Any]) -> list[Finding]:
    """Hard negatives against those the head learns from."""
    sample: SampleMeasure | None = m["sample"]
    if not sample:
        return []
    share = {k: sample[k]["share_above"] for k in ("random", "picked", "hard")}
    if any(v != v for v in share.values()):
        return []
    sampler = m["settings"]["sampler"]
    among = "" if sample["hard_among"] == "all" else " (among those sampled)"
    text = (
        f"{percent(share['hard'])} of the hardest negatives{among} overlap an object by more than"
        f" IoU 0.05, against {percent(share['random'])} of random picks"
        " (the paper, on COCO: 60 % and 30 %)."
    )
    is_random = sampler in (None, "random")
    size = graded(share["hard"] - share["random" if is_random else "picked"], 0.2, 0.1)
    if not is_random:
        kind = {"iou_balanced": "IoU-balanced sampling", "ohem": "OHEM"}.get(sampler, sampler)
        text += f" This run's {kind} picks {percent(share['picked'])}."
    if share["hard"] - share["random"] < 0.1:
        text += " Random picks are no easier than the hard negatives here: little to balance."
        size = "small"
    elif not is_random and size != "small":
        size = ""  # a sampler is on already
    against = "hard negatives against random picks that overlap an object (IoU > 0.05)"
    pair = (percent(share["hard"]), percent(share["random"]), against)
    found = Finding("sample", size, m["name"], text, numbers=share, pair=pair)
    if is_random:
        advise(found, m, "iou_sampling", "IoU-balanced sampling draws more of those that overlap.")
    return [found]
