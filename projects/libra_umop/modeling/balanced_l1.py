"""The numbers of the balanced L1 loss: keys that every head with it reads, in one place."""

from typing import Any

from ..functional.boxes.balanced_l1_loss import FORMULAS
from ..key import Key, declare
from ..ranges import POSITIVE, OneOf

__all__ = ["balanced_l1_arguments"]

declare(
    "MODEL.BALANCED_L1",
    ALPHA=Key(
        0.5,
        POSITIVE,
        "Balanced L1, on where a head's `BBOX_REG_LOSS_TYPE` is \"balanced_l1\", with that head's"
        " smooth L1 beta as its transition point: alpha, the gradient of inliers; smaller promotes"
        " them more.",
    ),
    GAMMA=Key(1.5, POSITIVE, "gamma, the gradient of outliers."),
    FORMULA=Key(
        "exact",
        OneOf(FORMULAS),
        '"exact" (the equations) or "reference" (the released code; differs unless beta is 1).',
    ),
)


def balanced_l1_arguments(cfg) -> dict[str, Any]:
    """alpha, gamma and formula of :func:`balanced_l1_loss`, of ``MODEL.BALANCED_L1``."""
    keys = cfg.MODEL.BALANCED_L1
    return {"alpha": keys.ALPHA, "gamma": keys.GAMMA, "formula": keys.FORMULA}
