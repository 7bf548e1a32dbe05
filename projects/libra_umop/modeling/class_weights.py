"""Weights of the classes in a classification loss: keys, and what is built of them."""

import torch
from torch import Tensor

from ..functional.long_tail import effective_number_weights
from ..key import Key, declare
from ..ranges import BELOW_1, COUNTS

__all__ = ["build_class_weights"]

declare(
    "MODEL.CLASS_WEIGHTS",
    BETA=Key(
        0.0,
        BELOW_1,
        "Class weights by the effective number of samples (Cui et al., CVPR 2019): beta; 0 is off,"
        " 0.9 to 0.9999 the paper's, the nearer to 1 the larger the rare classes' weights. Read by"
        " LibraROIHeads, LibraCascadeROIHeads and OHEMROIHeads, and by LibraRetinaNet, ATSS, FCOS"
        ' and their UMOP forms under `CLS_LOSS_TYPE` "focal" and "progressive_focal". A region or'
        " anchor is weighted by its class, background by 1.",
    ),
    COUNTS=Key(
        [],
        COUNTS,
        "Boxes of each class, by label; [] has training count those of `DATASETS.TRAIN`, and"
        " checkpoints hold what was counted.",
    ),
)


def build_class_weights(cfg, num_classes: int) -> Tensor | None:
    """Weights of the classes, (K,) fp32; None where they are off.

    Without counts, in a model that is not trained, they are empty, (0,).

    Raises:
        ValueError: there are counts, but not one of each class.
    """
    node = cfg.MODEL.CLASS_WEIGHTS
    if node.BETA == 0:
        return None
    if len(node.COUNTS) not in (0, num_classes):
        raise ValueError(
            f"MODEL.CLASS_WEIGHTS.COUNTS has {len(node.COUNTS)} numbers, should have one for each"
            f" of the {num_classes} classes, or be []"
        )
    return effective_number_weights(torch.tensor(node.COUNTS, dtype=torch.float64), beta=node.BETA)


def require_counted(class_weights: Tensor) -> None:
    """Refuse to train with the weights of a config that has no counts."""
    if not len(class_weights):
        raise ValueError(
            "MODEL.CLASS_WEIGHTS.COUNTS is [], should be the boxes of each class, to train with"
            " MODEL.CLASS_WEIGHTS.BETA above 0; LibraTrainer counts them"
        )
