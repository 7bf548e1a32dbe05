"""Classification losses over pyramid levels: focal, UMOP's two remedies, hard negative mining.

Letters: N images, R_l anchors of level l of L, K classes. Labels: -1 ignore, [0, K) foreground,
K background.
"""

from typing import Dict, List, NamedTuple, Optional, Tuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ...functional.focal_loss import focal_loss_sum
from ...functional.hard_negative_mining import hard_negative_bce_sum
from ...functional.progressive_focal_loss import FOCUS_TYPES, focus_from_sums, focus_sums
from .scalars import DeferredScalars

__all__ = ["HardNegativeLoss", "LevelFocalLoss", "LevelLoss", "log_levels", "umop_arguments"]

LEVEL_REDUCTIONS = ("mean", "sum")


class LevelLoss(NamedTuple):
    """A normalised classification loss and, per level (L,), what is worth logging of it."""

    loss: Tensor
    level_losses: Optional[Tensor] = None  # None: it is of all levels together
    gammas: Optional[Tensor] = None  # this and what follows: of the progressive focus only
    alphas: Optional[Tensor] = None
    clipped: Optional[Tensor] = None  # 1 where gamma was clamped


class LevelFocalLoss:
    """Focal loss of a pyramid, with progressive focus (PFL) and level-wise resampling (LRP).

    UMOP (https://arxiv.org/abs/2109.07217): PFL lets gamma follow how well the positives are
    predicted already, and alpha follow gamma. LRP gives each level a loss of its own, so that the
    levels with few positives are not outvoted: here its own gamma and alpha, and with
    ``level_reduction="mean"`` its own normaliser. With both off it is RetinaNet's focal loss.
    Identical images give the same loss and gradient, however many of them are in the batch.
    """

    def __init__(
        self,
        *,
        gamma: float = 2.0,
        alpha: float = 0.25,
        progressive_focus: bool = False,
        level_wise: bool = False,
        focus: str = "mean_prob",
        delta: float = 0.5,
        w: float = 0.5,
        level_reduction: str = "sum",
    ):
        """
        Args:
            gamma, alpha: of the focal loss; gamma is also the centre of the progressive one.
            progressive_focus: PFL.
            level_wise: LRP.
            focus, delta, w: see :func:`progressive_focus`.
            level_reduction: "sum": the sum of the levels' losses, divided by the positives of all
                levels (the released code); "mean": the mean over levels of the levels' losses, each
                divided by its level's positives (the paper's equation), but by one per image at
                least: a level without positives would otherwise be summed over all images, and
                outweigh the others. Of interest with ``level_wise`` only.

        Raises:
            ValueError: for a number out of its range or an unknown name.
        """
        if focus not in FOCUS_TYPES:
            raise ValueError(f"MODEL.UMOP.FOCUS must be one of {FOCUS_TYPES}, got {focus!r}")
        if level_reduction not in LEVEL_REDUCTIONS:
            raise ValueError(
                f"MODEL.UMOP.LEVEL_REDUCTION must be one of {LEVEL_REDUCTIONS}, "
                f"got {level_reduction!r}"
            )
        if gamma < 0:
            raise ValueError(f"FOCAL_LOSS_GAMMA must be >= 0, got {gamma}")
        if alpha > 1:
            raise ValueError(f"FOCAL_LOSS_ALPHA must be at most 1 (below 0: off), got {alpha}")
        if progressive_focus and not 0 <= delta < gamma:
            raise ValueError(
                f"MODEL.UMOP.DELTA must be in [0, FOCAL_LOSS_GAMMA = {gamma}), got {delta}"
            )
        if progressive_focus and not 0 < w <= gamma - delta:
            raise ValueError(
                "MODEL.UMOP.W must be in (0, FOCAL_LOSS_GAMMA - DELTA = "
                f"{gamma - delta}], so that alpha <= 1, got {w}"
            )
        self.gamma = gamma
        self.alpha = alpha
        self.progressive_focus = progressive_focus
        self.level_wise = level_wise
        self.level_reduction = level_reduction
        self.delta = delta
        self._focus = {"gamma": gamma, "delta": delta, "w": w, "focus": focus}

    def sums(self, pred_logits: List[Tensor], gt_labels: Tensor) -> Tensor:
        """What has to be added over ranks before the loss is known.

        Args:
            pred_logits: L of (N, R_l, K). gt_labels: (N, sum of R_l).

        Returns:
            (L, 3) fp32: each level's focus sum (see :func:`focus_sums`) and number of positives,
            and N.
        """
        focus = self._focus["focus"]
        sums = torch.stack(
            [
                torch.stack(focus_sums(logits, labels, focus=focus))
                for logits, labels in flat_levels(pred_logits, gt_labels)
            ]
        )
        return F.pad(sums, (0, 1), value=float(len(gt_labels)))

    def __call__(
        self,
        pred_logits: List[Tensor],
        gt_labels: Tensor,
        totals: Tensor,
        normalizer: Tensor,
        num_ranks: int,
    ) -> LevelLoss:
        """
        Args:
            pred_logits, gt_labels: as for :meth:`sums`.
            totals: (L, 3), :meth:`sums` over all ranks.
            normalizer: 0-dim, mean over ranks of all levels' positives, or what stands for it.
            num_ranks: how many ranks ``totals`` is the sum of; gradients are averaged over them.
        """
        gammas, alphas = [self.gamma] * len(pred_logits), [self.alpha] * len(pred_logits)
        if self.progressive_focus:
            gammas, alphas = self._progressive(totals)  # (L,)
        levels = zip(flat_levels(pred_logits, gt_labels), gammas, alphas)
        level_losses = torch.stack(
            [focal_loss_sum(x, y, gamma=gamma, alpha=alpha) for (x, y), gamma, alpha in levels]
        )
        if self.level_wise and self.level_reduction == "mean":
            positives = torch.maximum(totals[:, 1], totals[:, 2])  # one per image at least
            level_losses = level_losses / (positives / num_ranks)
            loss = level_losses.mean()
        else:
            loss = level_losses.sum() / normalizer
            level_losses = level_losses / normalizer
        if not self.progressive_focus:
            return LevelLoss(loss, level_losses.detach())
        clipped = (gammas - self.gamma).abs() >= self.delta * (1 - 1e-6)
        return LevelLoss(loss, level_losses.detach(), gammas, alphas, clipped.float())

    def plain_sum(self, pred_logits: List[Tensor], gt_labels: Tensor) -> Tensor:
        """The loss with neither PFL nor LRP, summed over all anchors (0-dim).

        A measure that stays the same while the model learns, and with every lever.
        """
        logits, labels = torch.cat(pred_logits, dim=1).flatten(0, 1), gt_labels.flatten()
        return focal_loss_sum(logits, labels, gamma=self.gamma, alpha=self.alpha)

    def _progressive(self, totals: Tensor) -> Tuple[Tensor, Tensor]:
        """Gamma and alpha of each level, both (L,)."""
        if not self.level_wise:
            totals = totals.sum(dim=0, keepdim=True).expand_as(totals)
        return focus_from_sums(totals[:, 0], totals[:, 1], **self._focus)


class HardNegativeLoss(LevelFocalLoss):
    """One-stage OHEM in the place of the focal loss: all positives, the hardest negatives.

    The negatives are ranked over all levels and images of a rank together; fewer positives than
    images count as one per image.
    """

    def __init__(self, *, neg_pos_ratio: float = 3.0):
        super().__init__(gamma=0.0, alpha=-1.0)
        if not neg_pos_ratio > 0:
            raise ValueError(f"MODEL.RETINANET.OHEM_NEG_POS_RATIO must be > 0, got {neg_pos_ratio}")
        self.neg_pos_ratio = neg_pos_ratio

    def __call__(self, pred_logits, gt_labels, totals, normalizer, num_ranks) -> LevelLoss:
        """Same interface as :meth:`LevelFocalLoss.__call__`."""
        return LevelLoss(self.plain_sum(pred_logits, gt_labels) / normalizer)

    def plain_sum(self, pred_logits: List[Tensor], gt_labels: Tensor) -> Tensor:
        """Same interface as :meth:`LevelFocalLoss.plain_sum`; ranked over the images given."""
        logits, labels = torch.cat(pred_logits, dim=1).flatten(0, 1), gt_labels.flatten()
        return hard_negative_bce_sum(
            logits, labels, neg_pos_ratio=self.neg_pos_ratio, min_positives=len(gt_labels)
        )


def flat_levels(pred_logits: List[Tensor], gt_labels: Tensor):
    """Pairs of (N R_l, K) logits and (N R_l,) labels, level by level."""
    labels = gt_labels.split([x.shape[1] for x in pred_logits], dim=1)
    return [(x.flatten(0, 1), y.flatten()) for x, y in zip(pred_logits, labels)]


def log_levels(
    scalars: DeferredScalars,
    level_names: List[str],
    result: LevelLoss,
    num_positives: Tensor,
    num_images: int,
) -> None:
    """Write "num_pos_anchors", per image, and a few scalars of each level.

    They are "umop/<level>/..." of the progressive focal loss, "level/<level>/..." of others, which
    have no gamma that could move.

    Args:
        scalars: where to.
        level_names: L names such as "p3".
        result: what the loss returned.
        num_positives: (L,) positives of this rank's images.
        num_images: how many they are.
    """
    columns: Dict[str, Optional[Tensor]] = {
        "num_positives": num_positives,
        "gamma": result.gammas,
        "alpha": result.alphas,
        "clipped": result.clipped,
        "loss_cls": result.level_losses,
    }
    known = {name: column for name, column in columns.items() if column is not None}
    group = "level" if result.gammas is None else "umop"
    names = [f"{group}/{level}/{column}" for column in known for level in level_names]
    per_image = num_positives.sum()[None] / num_images
    values = torch.cat([per_image, *(column.float() for column in known.values())])
    scalars.put(["num_pos_anchors", *names], values)


def umop_arguments(cfg) -> Dict[str, object]:
    """The arguments of :class:`LevelFocalLoss` that ``MODEL.UMOP`` holds."""
    return {
        "progressive_focus": cfg.MODEL.UMOP.PROGRESSIVE_FOCUS,
        "level_wise": cfg.MODEL.UMOP.LEVEL_WISE,
        "focus": cfg.MODEL.UMOP.FOCUS,
        "delta": cfg.MODEL.UMOP.DELTA,
        "w": cfg.MODEL.UMOP.W,
        "level_reduction": cfg.MODEL.UMOP.LEVEL_REDUCTION,
    }
