"""The findings about the four imbalances of one run, from what ``measure_run`` gave for it."""

from typing import Any

from ..measures.objective import COORDINATE_LOSSES
from .finding import Finding, advise, graded, percent


def find_sample(m: dict[str, Any]) -> list[Finding]:
    """Hard negatives against those the head learns from."""
    sample = m["sample"]
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
    found = Finding("sample", size, m["name"], text, numbers=share)
    if is_random:
        advise(found, m, "iou_sampling", "IoU-balanced sampling draws more of those that overlap.")
    return [found]


def find_objective(m: dict[str, Any]) -> list[Finding]:
    """Inliers' share of the box gradient, of the head that says the boxes."""
    findings = []
    for head, entry in m["objective"].items():
        if head == "rpn" and len(m["objective"]) > 1:
            continue  # its boxes are refined later; the figure shows it
        kind = entry["loss"].get("type")
        inliers, gradient = entry["inliers"], entry["gradient_inliers"]
        limit = f"|x| < {entry['threshold']:g}"
        text = (
            f"{percent(inliers)} of the {_title(head)} box coordinates are inliers ({limit}); they"
            f" give {percent(gradient)} of the box gradient under {_loss_title(entry['loss'])}."
        )
        numbers = {"inliers": inliers, "gradient_inliers": gradient}
        if kind == "smooth_l1" and _beta(entry["loss"]) > 0:
            text += " The paper, on COCO: 30 %."
        size = graded(inliers - gradient, 0.3, 0.15)
        found = Finding("objective", size, m["name"], text, numbers=numbers)
        promise = (
            "With balanced L1 (alpha 0.5, gamma 1.5) the same errors would give them"
            f" {percent(entry['balanced_l1'])}."
        )
        advise(found, m, _box_loss_lever(head, entry["loss"]), promise)
        if found.lever:
            numbers["balanced_l1"] = entry["balanced_l1"]
        findings.append(found)
    return findings


def _box_loss_lever(head: str, loss: dict[str, Any]) -> str:
    """What balances a head's box loss; "" for one that counts all errors alike, or whole boxes."""
    if loss.get("type") not in COORDINATE_LOSSES or _beta(loss) <= 0:
        return ""
    return "rpn_balanced_l1" if head == "rpn" else "balanced_l1"


def find_feature(m: dict[str, Any]) -> list[Finding]:
    """The levels' parts in the integrated feature."""
    feature = m["feature"]
    if not feature or not feature["share"]:
        return []
    levels, share = feature["levels"], feature["share"]
    top, low = share.index(max(share)), share.index(min(share))
    text = (
        f"Of the feature integrated over the {len(levels)} levels, {levels[top].upper()} makes"
        f" {percent(share[top])} and {levels[low].upper()} {percent(max(share[low], 0.0))};"
        f" equal parts would be {percent(1 / len(levels))}."
    )
    gain, size = feature["gain"], graded(feature["ratio"], 4.0, 2.0)
    if gain:
        most = gain.index(max(gain))
        text += (
            f" BFP adds {percent(min(gain))} to {percent(max(gain))} of a level's own norm,"
            f" most to {levels[most].upper()}."
        )
    numbers = {"levels": levels, "share": share}
    found = Finding("feature", size, m["name"], text, numbers=numbers)
    return [advise(found, m, "bfp", "BFP gives every level what all of them know.")]


def find_level(m: dict[str, Any]) -> list[Finding]:
    """Positives per level, and how often the focus is clipped.

    Levels without any positive are named and left out of the comparison: there is nothing on them
    to balance.
    """
    findings = []
    for head, entry in m["level"].items():
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
        found = Finding("level", size, m["name"], f"{text}.", numbers=numbers)
        _advise_focus(found, m, head, entry)
        findings.append(found)
    return findings


def _advise_focus(found: Finding, m: dict[str, Any], head: str, entry: dict[str, Any]) -> None:
    """Say what UMOP does for a level finding, or would do."""
    on = m["levers"]
    if head == "rpn":
        found.text += " UMOP's focus is for dense detectors; an RPN samples its anchors instead."
        found.size = "small" if found.size == "small" else ""
    elif "pfl" in on and ("lrp" in on or "lrp_mean" in on):
        found.text += f" UMOP gives each level its own focus; {_clipping(entry)}"
        found.size = "small" if found.size == "small" else ""
    else:
        why = f"UMOP would give each level its own focus; {_clipping(entry)}"
        advise(found, m, "lrp" if "pfl" in on else "pfl_lrp", why)


def _clipping(entry: dict[str, Any]) -> str:
    """How often gamma_l is at a limit, in words."""
    if entry["clipped_all"] is None:
        return "no level had a positive."
    gamma, delta = entry["focus"]["gamma"], entry["focus"]["delta"]
    return (
        f"its gamma is at a limit ({gamma - delta:g} or {gamma + delta:g}) in"
        f" {percent(entry['clipped_all'])} of the measurements, so it does not move there."
    )


def _title(head: str) -> str:
    """A head as people call it."""
    if head.startswith("roi_heads_stage"):
        return f"cascade stage {int(head[len('roi_heads_stage') :]) + 1}'s"
    return {"roi_heads": "ROI head's", "rpn": "RPN's", "dense": "dense head's"}.get(head, head)


def _loss_title(loss: dict[str, Any]) -> str:
    """A box loss as people call it."""
    kind, beta = loss.get("type"), _beta(loss)
    if kind == "smooth_l1":
        return f"smooth L1 (beta {beta:.2g})" if beta > 0 else "L1"
    if kind == "balanced_l1":
        return f"balanced L1 (alpha {loss['alpha']:g}, gamma {loss['gamma']:g}, beta {beta:.2g})"
    return {"giou": "GIoU", "diou": "DIoU", "ciou": "CIoU"}.get(kind or "", "the run's loss")


def _beta(loss: dict[str, Any]) -> float:
    """The transition point of a box loss; 0 where it has none."""
    return loss.get("beta") or 0.0
