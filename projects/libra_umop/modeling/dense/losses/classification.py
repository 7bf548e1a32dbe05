"""What a detector asks of its classification loss, and the losses that a config can name.

Letters: N images, R_l anchors of level l of L, R of all levels, K classes. Labels: -1 ignore,
[0, K) foreground, K background.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from ....key import Key, declare
from ....ranges import OneOf
from .normalizers import RankTotals
from .predictions import LabelledPredictions

__all__ = ["CLS_LOSSES", "ClassificationLoss", "LevelLoss", "declare_numbers", "register_cls_loss"]

CLS_LOSSES: dict[str, Callable[..., "ClassificationLoss"]] = {}  # value of CLS_LOSS_TYPE -> builder
DETECTORS = ("RETINANET", "ATSS", "FCOS")  # groups below MODEL that have the key CLS_LOSS_TYPE


def declare_numbers(**keys: Key) -> None:
    """Give every group of :data:`DETECTORS` these keys, of which a loss is built."""
    for detector in DETECTORS:
        declare(f"MODEL.{detector}", **keys)


declare_numbers(
    CLS_LOSS_TYPE=Key(
        "focal",
        OneOf(CLS_LOSSES),
        'The classification loss: "focal"; "ohem" (all positives, hardest negatives; RetinaNet,'
        ' table 1d); "equalized_focal" (Li et al., CVPR 2022); "quality_focal"'
        ' (GFL); "varifocal" (VFNet); "progressive_focal",'
        ' "progressive_quality_focal", "progressive_varifocal" (with what of MODEL.UMOP is on); or'
        " a name given to register_cls_loss. Of those with a quality the class score learns the IoU"
        " of the box: centerness is neither learnt nor multiplied with, so that ATSS and FCOS have"
        " no such layer, and a box weighs in the box loss as much as its largest class score (of"
        " VFNet: its IoU). UMOPRetinaNet, UMOPATSS and UMOPFCOS have"
        ' "progressive_focal" only, which "focal" means there, too; GFL and VFNet have those with a'
        ' quality, "focal" means "quality_focal" or "varifocal" there; Detectron2\'s RetinaNet has'
        " none.",
    )
)


class LevelLoss(NamedTuple):
    """A normalised classification loss, and what is worth logging of each level."""

    loss: Tensor  # 0-dim
    scalars: Mapping[str, Tensor] = {}  # name -> (L,), written as "<group>/<level>/<name>"
    group: str = "level"


class ClassificationLoss:
    """What a detector asks of its classification loss.

    A step calls :meth:`sums`, adds the result over ranks together with all else that they share,
    and then calls the loss. Neither waits for the device.
    """

    # Whether the class score learns the quality of the box: then no centerness is learnt, nor
    # multiplied with in inference, and the boxes of the box loss have weights.
    scores_quality = False

    def sums(self, predictions: LabelledPredictions) -> Tensor:
        """(L, S) fp32: the S statistics of each level that have to be added over ranks first."""
        return predictions.labels.new_zeros((len(predictions.logits), 0), dtype=torch.float32)

    def __call__(
        self, predictions: LabelledPredictions, totals: RankTotals, normalizer: Tensor
    ) -> LevelLoss:
        """The loss, and what is worth logging.

        Args:
            predictions: of this rank; gradients flow through the logits.
            totals: :meth:`sums` and the positives over all ranks.
            normalizer: 0-dim, mean over ranks of all levels' positives, or what stands for it.
        """
        raise NotImplementedError

    def plain_sum(self, predictions: LabelledPredictions) -> Tensor:
        """The loss as it is summed over images one by one, not divided (0-dim).

        A measure that stays the same while the model learns: nothing in it depends on the batch.
        """
        raise NotImplementedError


def register_cls_loss(name: str):
    """Make ``build(cfg, keys)``, keys such as ``cfg.MODEL.ATSS``, the CLS_LOSS_TYPE ``name``."""

    def register(build):
        CLS_LOSSES[name] = build
        return build

    return register
