"""Focal loss over pyramid levels, and UMOP's two remedies.

Letters: N images, R_l anchors of level l of L, R of all levels, K classes. Labels: -1 ignore,
[0, K) foreground, K background.
"""

from typing import Any

import torch
from torch import Tensor

from ....functional.focal_loss import focal_loss_sum
from ....functional.progressive_focal_loss import FOCUS_TYPES, focus_from_sums, focus_sums
from ....key import Key, declare
from ....ranges import BOOL, NOT_NEGATIVE, POSITIVE, OneOf
from .classification import ClassificationLoss, LevelLoss, register_cls_loss
from .normalizers import RankTotals
from .predictions import LabelledPredictions

__all__ = ["LEVEL_REDUCTIONS", "LevelFocalLoss"]

LEVEL_REDUCTIONS = ("mean", "sum")

declare(
    "MODEL.UMOP",
    PROGRESSIVE_FOCUS=Key(
        True,
        BOOL,
        '`CLS_LOSS_TYPE` "progressive_focal" (UMOPRetinaNet, UMOPATSS, UMOPFCOS): PFL, gamma'
        " follows the positives' mean probability, alpha = w / gamma.",
    ),
    LEVEL_WISE=Key(
        True,
        BOOL,
        "LRP: each pyramid level has a classification loss, and with PFL a gamma and alpha, of its"
        ' own; without PFL, and with `LEVEL_REDUCTION` "sum", that changes nothing.',
    ),
    FOCUS=Key(
        "mean_prob",
        OneOf(FOCUS_TYPES),
        '"mean_prob": gamma = -ln(mean p) (the paper); "mean_log": mean(-ln p) (the released'
        " code).",
    ),
    DELTA=Key(
        0.5,
        NOT_NEGATIVE,
        "delta, how far gamma may move from that detector's `FOCAL_LOSS_GAMMA`; in"
        " [0, `FOCAL_LOSS_GAMMA`).",
    ),
    W=Key(
        0.5,
        POSITIVE,
        "w, the product of gamma and alpha; in (0, `FOCAL_LOSS_GAMMA` - `DELTA`].",
    ),
    LEVEL_REDUCTION=Key(
        "sum",
        OneOf(LEVEL_REDUCTIONS),
        'LRP\'s loss: "sum" of levels, divided by all positives (the released code, and so what'
        ' every published AP was trained with), or "mean" over levels, each divided by its own'
        " positives, but by one per image at least (the paper's equation).",
    ),
)


class LevelFocalLoss(ClassificationLoss):
    """Focal loss of a pyramid, with progressive focus (PFL) and level-wise resampling (LRP).

    UMOP (https://arxiv.org/abs/2109.07217): PFL lets gamma follow how well the positives are
    predicted already, and alpha follow gamma. LRP gives each level a loss of its own, so that the
    levels with few positives are not outvoted: here its own gamma and alpha, and with
    ``level_reduction="mean"`` its own normaliser. With both off it is RetinaNet's focal loss.
    Identical images give the same loss and gradient, however many of them are in the batch.

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
        if focus not in FOCUS_TYPES:
            raise ValueError(f"MODEL.UMOP.FOCUS is {focus!r}, should be one of {FOCUS_TYPES}")
        if level_reduction not in LEVEL_REDUCTIONS:
            raise ValueError(
                f"MODEL.UMOP.LEVEL_REDUCTION is {level_reduction!r}, should be one of"
                f" {LEVEL_REDUCTIONS}"
            )
        if gamma < 0:
            raise ValueError(f"FOCAL_LOSS_GAMMA is {gamma}, should be >= 0")
        if alpha > 1:
            raise ValueError(f"FOCAL_LOSS_ALPHA is {alpha}, should be at most 1 (below 0: off)")
        if progressive_focus and not 0 <= delta < gamma:
            raise ValueError(
                f"MODEL.UMOP.DELTA is {delta}, should be in [0, FOCAL_LOSS_GAMMA = {gamma})"
            )
        if progressive_focus and not 0 < w <= gamma - delta:
            raise ValueError(
                f"MODEL.UMOP.W is {w}, should be in (0, FOCAL_LOSS_GAMMA - DELTA ="
                f" {gamma - delta}], so that alpha <= 1"
            )
        self.gamma = gamma
        self.alpha = alpha
        self.progressive_focus = progressive_focus
        self.level_wise = level_wise
        self.level_reduction = level_reduction
        self.delta = delta
        self.w = w
        self.focus = focus

    def sums(self, predictions: LabelledPredictions) -> Tensor:
        """(L, 1) fp32: each level's focus sum, see :func:`focus_sums`; (L, 0) without PFL."""
        if not self.progressive_focus:
            return super().sums(predictions)
        sums = [focus_sums(x, y, focus=self.focus)[0] for x, y in predictions.levels()]
        return torch.stack(sums)[:, None]

    def __call__(
        self, predictions: LabelledPredictions, totals: RankTotals, normalizer: Tensor
    ) -> LevelLoss:
        """Same interface as :meth:`ClassificationLoss.__call__`; logs loss and focus by level."""
        num_levels = len(predictions.logits)
        gammas: Any = [self.gamma] * num_levels
        alphas: Any = [self.alpha] * num_levels
        if self.progressive_focus:
            gammas, alphas = self._progressive(totals)  # (L,)
        levels = zip(predictions.levels(), gammas, alphas, strict=True)
        level_losses = torch.stack(
            [focal_loss_sum(x, y, gamma=gamma, alpha=alpha) for (x, y), gamma, alpha in levels]
        )
        if self.level_wise and self.level_reduction == "mean":
            # One per image at least.
            positives = torch.maximum(totals.num_positives, totals.num_images)
            level_losses = level_losses / (positives / totals.num_ranks)
            loss = level_losses.mean()
        else:
            loss = level_losses.sum() / normalizer
            level_losses = level_losses / normalizer
        scalars = {"loss_cls": level_losses.detach()}
        if not self.progressive_focus:
            return LevelLoss(loss, scalars)
        clipped = (gammas - self.gamma).abs() >= self.delta * (1 - 1e-6)
        focus = {"gamma": gammas, "alpha": alphas, "clipped": clipped}
        return LevelLoss(loss, {**focus, **scalars}, group="umop")

    def plain_sum(self, predictions: LabelledPredictions) -> Tensor:
        """The loss with neither PFL nor LRP, summed over all anchors (0-dim).

        A measure that stays the same while the model learns, and with every lever.
        """
        logits = torch.cat(predictions.logits, dim=1).flatten(0, 1)
        labels = predictions.labels.flatten()
        return focal_loss_sum(logits, labels, gamma=self.gamma, alpha=self.alpha)

    def _progressive(self, totals: RankTotals) -> tuple[Tensor, Tensor]:
        """Gamma and alpha of each level, both (L,)."""
        focus, positives = totals.sums[:, 0], totals.num_positives
        if not self.level_wise:
            focus, positives = focus.sum().expand_as(focus), positives.sum().expand_as(positives)
        numbers = {"gamma": self.gamma, "delta": self.delta, "w": self.w}
        return focus_from_sums(focus, positives, focus=self.focus, **numbers)


@register_cls_loss("focal")
def build_focal_loss(cfg, keys) -> LevelFocalLoss:
    """RetinaNet's focal loss."""
    return LevelFocalLoss(gamma=keys.FOCAL_LOSS_GAMMA, alpha=keys.FOCAL_LOSS_ALPHA)


@register_cls_loss("progressive_focal")
def build_progressive_focal_loss(cfg, keys) -> LevelFocalLoss:
    """UMOP's: the focal loss with what of ``MODEL.UMOP`` is on."""
    umop = cfg.MODEL.UMOP
    return LevelFocalLoss(
        gamma=keys.FOCAL_LOSS_GAMMA,
        alpha=keys.FOCAL_LOSS_ALPHA,
        progressive_focus=umop.PROGRESSIVE_FOCUS,
        level_wise=umop.LEVEL_WISE,
        focus=umop.FOCUS,
        delta=umop.DELTA,
        w=umop.W,
        level_reduction=umop.LEVEL_REDUCTION,
    )
