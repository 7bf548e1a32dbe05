"""The findings about the objective level: what inliers give to the box gradient."""

from typing import Any

from ..measures.objective import COORDINATE_LOSSES, ObjectiveMeasure
from .finding import Finding, advise, graded, percent


def find(m: dict[str, Any]) -> list[Finding]:
    """Inliers' share of the box gradient, of the head that says the boxes."""
    findings = []
    heads: dict[str, ObjectiveMeasure] = m["objective"]
    for head, entry in heads.items():
        if head == "rpn" and len(heads) > 1:
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
        against = "inliers among the box coordinates against their part of the box gradient"
        pair = (percent(inliers), percent(gradient), against)
        found = Finding("objective", size, m["name"], text, numbers=numbers, pair=pair)
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
