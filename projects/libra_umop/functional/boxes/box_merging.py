"""Many detections of an object become one: suppression that fades scores, and boxes that vote.

Letters: R detections of one image, D of them kept. Boxes: XYXY pixels.
"""

import torch
from torch import Tensor

from .dense_box_loss import box_iou

__all__ = ["DECAYS", "soft_nms", "vote_boxes"]

DECAYS = ("linear", "gaussian")


@torch.no_grad()
def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    classes: Tensor,
    *,
    decay: str = "gaussian",
    iou_threshold: float = 0.5,
    sigma: float = 0.5,
    max_detections: int = 100,
    min_score: float = 1e-3,
) -> tuple[Tensor, Tensor]:
    """Soft-NMS (Bodla et al., ICCV 2017): what overlaps a better box loses score, not its life.

    Again and again the best detection is taken, and the scores of the others of its class are
    multiplied by a factor of their IoU with it: ``linear`` (equation of section 3) 1 - IoU from
    ``iou_threshold`` on, ``gaussian`` exp(-IoU^2 / sigma). Scores only fall, so the first
    ``max_detections`` that are taken are the best in the end, whatever their classes; there are no
    more steps than that, and one wait for the device.

    Args:
        boxes: (R, 4). scores: (R,) >= 0. classes: (R,) int64.
        decay: one of :data:`DECAYS`.
        iou_threshold: for ``linear``, in [0, 1].
        sigma: for ``gaussian``, > 0.
        max_detections: how many are taken at most, >= 0.
        min_score: those that fade below it are left out.

    Returns:
        Indices of the detections taken, (D,) int64, best first, and their scores, (D,).

    Raises:
        ValueError: ``decay`` is unknown, or ``sigma`` is not positive.

    Examples:
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8], [20, 20, 30, 30]])
        >>> scores, classes = torch.tensor([0.9, 0.8, 0.7]), torch.zeros(3, dtype=torch.int64)
        >>> soft_nms(boxes, scores, classes, decay="linear")  # 0.8 * (1 - 0.8)
        (tensor([0, 2, 1]), tensor([0.9000, 0.7000, 0.1600]))
    """
    if decay not in DECAYS:
        raise ValueError(f"decay is {decay!r}, should be one of {DECAYS}")
    if not sigma > 0:
        raise ValueError(f"sigma is {sigma}, should be > 0")
    taken: list[Tensor] = [classes.new_zeros(0)]
    faded: list[Tensor] = [scores.new_zeros(0)]
    for _ in range(min(max_detections, len(scores))):
        best = scores.argmax(dim=0, keepdim=True)  # (1,), so that indexing does not wait
        taken.append(best)
        faded.append(scores[best])
        iou = torch.where(classes == classes[best], box_iou(boxes[best], boxes), 0.0)  # (R,)
        if decay == "linear":
            factor = torch.where(iou >= iou_threshold, 1 - iou, 1.0)
        else:
            factor = torch.exp(-iou.square() / sigma)
        scores = (scores * factor).index_fill(0, best, -1.0)
    idxs, new_scores = torch.cat(taken), torch.cat(faded)
    is_kept = new_scores >= min_score
    return idxs[is_kept], new_scores[is_kept]


@torch.no_grad()
def vote_boxes(
    kept_boxes: Tensor,
    kept_classes: Tensor,
    boxes: Tensor,
    scores: Tensor,
    classes: Tensor,
    *,
    iou_threshold: float = 0.8,
) -> Tensor:
    """Box voting (Gidaris & Komodakis, ICCV 2015, section 5): a box becomes the mean of its like.

    Args:
        kept_boxes: (D, 4) after suppression. kept_classes: (D,) int64.
        boxes, scores, classes: (R, 4), (R,) >= 0 and (R,) int64, before it.
        iou_threshold: those of the same class that overlap a kept box by as much vote, in (0, 1].

    Returns:
        (D, 4): the mean of those boxes, weighted by score; a kept box for which none votes.

    Examples:
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 5]])
        >>> scores, classes = torch.tensor([0.6, 0.3, 0.1]), torch.zeros(3, dtype=torch.int64)
        >>> vote_boxes(boxes[:1], classes[:1], boxes, scores, classes)  # (6 * 10 + 3 * 9) / 9
        tensor([[ 0.0000,  0.0000, 10.0000,  9.6667]])
    """
    voted = [kept_boxes.new_zeros(0, 4)]
    # One by one: of all together the overlaps alone would be D times R.
    for box, label in zip(kept_boxes.unbind(), kept_classes.unbind(), strict=True):
        votes = (classes == label) & (box_iou(box, boxes) >= iou_threshold)
        weights = torch.where(votes, scores, 0.0).to(boxes.dtype)  # (R,)
        total = weights.sum()
        mean = weights @ boxes / torch.where(total > 0, total, 1.0)  # (4,)
        voted.append(torch.where(total > 0, mean, box)[None])
    return torch.cat(voted)
