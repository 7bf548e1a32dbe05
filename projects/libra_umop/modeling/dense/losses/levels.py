"""Classification losses that are sums over levels with a focusing exponent, which UMOP may move.

Letters: N images, R_l anchors of level l of L, R of all levels, K classes. Labels: -1 ignore,
[0, K) foreground, K background.
"""

import copy
from typing import Any

import torch
from torch import Tensor

from ....functional.progressive_focal_loss import FOCUS_TYPES, focus_from_sums, focus_sums
from ....key import Key, declare
from ....ranges import BOOL, NOT_NEGATIVE, POSITIVE, OneOf
from .classification import ClassificationLoss, LevelLoss
from .normalizers import RankTotals
from .predictions import LabelledPredictions

__all__ = ["LEVEL_REDUCTIONS", "LevelWiseLoss", "umop_arguments"]

LEVEL_REDUCTIONS = ("mean", "sum")


declare(
    "MODEL.UMOP",
    PROGRESSIVE_FOCUS=Key(
        True,
        BOOL,
        '`CLS_LOSS_TYPE` "progressive_..." (UMOPRetinaNet, UMOPATSS and UMOPFCOS have it): PFL,'
        " gamma follows the positives' mean probability; of the focal loss alpha = w / gamma.",
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
        "w, the product of gamma and alpha of the focal loss; in (0, `FOCAL_LOSS_GAMMA` -"
        " `DELTA`].",
    ),
    LEVEL_REDUCTION=Key(
        "sum",
        OneOf(LEVEL_REDUCTIONS),
        'LRP\'s loss: "sum" of levels, divided by all positives (the released code, and so what'
        ' every published AP was trained with), or "mean" over levels, each divided by its own'
        " positives, but by one per image at least (the paper's equation).",
    ),
)


class LevelWiseLoss(ClassificationLoss):
    """A sum over each level with an exponent gamma: progressive focus (PFL), resampling (LRP).

    UMOP (https://arxiv.org/abs/2109.07217): PFL lets gamma follow how well the positives are
    predicted already. LRP gives each level a loss of its own, so that the levels with few positives
    are not outvoted: here its own gamma, and with ``level_reduction="mean"`` its own normaliser. A
    subclass says in :meth:`level_sum` what is summed. Identical images give the same loss and
    gradient, however many of them are in the batch.

    Args:
        gamma: focusing exponent, and the centre of the progressive one.
        progressive_focus: PFL.
        level_wise: LRP.
        focus, delta: see :func:`progressive_focus`.
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
        progressive_focus: bool = False,
        level_wise: bool = False,
        focus: str = "mean_prob",
        delta: float = 0.5,
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
        if progressive_focus and not 0 <= delta < gamma:
            raise ValueError(
                f"MODEL.UMOP.DELTA is {delta}, should be in [0, FOCAL_LOSS_GAMMA = {gamma})"
            )
        self.gamma = gamma
        self.progressive_focus = progressive_focus
        self.level_wise = level_wise
        self.level_reduction = level_reduction
        self.focus, self.delta = focus, delta

    def level_sum(
        self, logits: Tensor, labels: Tensor, quality: Tensor | None, gamma: float | Tensor
    ) -> Tensor:
        """The loss of anchors of any level, summed (0-dim).

        Args:
            logits: (R, K). labels: (R,) int64.
            quality: (R,), see :meth:`LabelledPredictions.quality`; None unless the loss
                ``scores_quality``.
            gamma: a 0-dim tensor where PFL moves it, else a float.
        """
        raise NotImplementedError

    def sums(self, predictions: LabelledPredictions) -> Tensor:
        """(L, 1) fp32: each level's focus sum, see :func:`focus_sums`; (L, 0) without PFL."""
        if not self.progressive_focus:
            return super().sums(predictions)
        sums = [focus_sums(x, y, focus=self.focus)[0] for x, y in predictions.levels()]
        return torch.stack(sums)[:, None]

    def __call__(
        self, predictions: LabelledPredictions, totals: RankTotals, normalizer: Tensor
    ) -> LevelLoss:
        """Same interface as :meth:`ClassificationLoss.__call__`."""
        gammas = self._gammas(totals) if self.progressive_focus else None  # (L,)
        level_losses = self._level_sums(predictions, gammas)
        if self.level_wise and self.level_reduction == "mean":
            # One per image at least.
            positives = torch.maximum(totals.num_positives, totals.num_images)
            level_losses = level_losses / (positives / totals.num_ranks)
            loss = level_losses.mean()
        else:
            loss = level_losses.sum() / normalizer
            level_losses = level_losses / normalizer
        scalars = {"loss_cls": level_losses.detach()}
        if gammas is None:
            return LevelLoss(loss, scalars)
        return LevelLoss(loss, {**self._focus_scalars(gammas), **scalars}, group="umop")

    def plain_sum(self, predictions: LabelledPredictions) -> Tensor:
        """The loss with neither PFL nor LRP, summed over all anchors (0-dim).

        A measure that stays the same while the model learns, and with every lever.
        """
        logits = torch.cat(predictions.logits, dim=1).flatten(0, 1)
        quality = predictions.quality().flatten() if self.scores_quality else None
        return self.plain().level_sum(logits, predictions.labels.flatten(), quality, self.gamma)

    def plain(self) -> "LevelWiseLoss":
        """This loss without PFL and LRP."""
        plain = copy.copy(self)
        plain.progressive_focus = plain.level_wise = False
        return plain

    def _level_sums(self, predictions: LabelledPredictions, gammas: Tensor | None) -> Tensor:
        """(L,): :meth:`level_sum` of each level."""
        levels = predictions.levels()
        exponents: Any = [self.gamma] * len(levels) if gammas is None else gammas
        quality: Any = [None] * len(levels)
        if self.scores_quality:
            quality = predictions.split(predictions.quality())
        return torch.stack(
            [
                self.level_sum(x, y, q, gamma)
                for (x, y), q, gamma in zip(levels, quality, exponents, strict=True)
            ]
        )

    def _focus_scalars(self, gammas: Tensor) -> dict[str, Tensor]:
        """What of the levels' focus is worth logging, each (L,)."""
        clipped = (gammas - self.gamma).abs() >= self.delta * (1 - 1e-6)
        return {"gamma": gammas, "clipped": clipped}

    def _gammas(self, totals: RankTotals) -> Tensor:
        """Gamma of each level, (L,)."""
        sums, positives = totals.sums[:, 0], totals.num_positives
        if not self.level_wise:
            sums, positives = sums.sum().expand_as(sums), positives.sum().expand_as(positives)
        return focus_from_sums(
            sums, positives, gamma=self.gamma, delta=self.delta, focus=self.focus
        )[0]


def umop_arguments(cfg) -> dict[str, Any]:
    """Arguments of :class:`LevelWiseLoss` that ``MODEL.UMOP`` says."""
    umop = cfg.MODEL.UMOP
    return {
        "progressive_focus": umop.PROGRESSIVE_FOCUS,
        "level_wise": umop.LEVEL_WISE,
        "focus": umop.FOCUS,
        "delta": umop.DELTA,
        "level_reduction": umop.LEVEL_REDUCTION,
    }
