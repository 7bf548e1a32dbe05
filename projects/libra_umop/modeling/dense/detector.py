"""What the losses of all dense detectors here go through: sums, one collective, losses, logging.

Letters: N images, R anchors of all L levels, K classes.
"""

from typing import Any, NamedTuple

import torch
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm
from torch import Tensor

from ...utils.ranks import sum_over_ranks
from ..balanced_l1 import balanced_l1_arguments
from ..ignore_regions import is_ignored
from ..scalars import DeferredScalars
from .losses.boxes.box_loss import DenseBoxLoss
from .losses.classification import CLS_LOSSES, ClassificationLoss, LevelLoss
from .losses.focal import LevelFocalLoss
from .losses.normalizers import LossNormalizer, LossSum, RankTotals
from .losses.predictions import LabelledPredictions

__all__ = ["BoxPart", "DenseLosses"]


class BoxPart(NamedTuple):
    """A loss of the boxes before it is divided by ``weight``, or by the normaliser if that is None.

    The weight is summed over ranks, and one where it is 0 on all of them.
    """

    total: Tensor  # 0-dim
    weight: Tensor | None = None  # 0-dim
    floored: bool = False  # whether the weight is one per image at least

    @classmethod
    def of_quality(cls, total: Tensor, weights: Tensor) -> "BoxPart":
        """A loss with (N, R) weights that are scores or overlaps, small in a new model.

        NaN is left out of their sum: its loss is NaN anyway, but through a sum over ranks it would
        be theirs, too.
        """
        return cls(total, weights.nan_to_num(nan=0.0).sum(), floored=True)


class DenseLosses:
    """Mixin of a :class:`DenseDetector`: its classification loss, and all losses put together.

    It stands before Detectron2's class among the bases. The detector has a ``box2box_transform``,
    and says in :meth:`box_losses` what it learns beside the classes.

    Args:
        cls_loss: the classification loss; by default focal loss of the parent's
            ``focal_loss_gamma`` and ``focal_loss_alpha``, in the UMOP classes with PFL and LRP.
        box_loss: the box loss; by default GIoU.
        box_reg_loss_weight: factor of the box loss, >= 0.
        kwargs: those of Detectron2's detector.

    Raises:
        ValueError: for a number out of its range.
    """

    returns_sums = False  # see LossSum
    keys: str  # the group of config keys below MODEL
    own_cls_loss = "focal"  # what CLS_LOSS_TYPE "focal" means to this class
    has_other_cls_losses = True
    cls_loss_name = "loss_cls"  # among the losses

    loss_normalizer: LossNormalizer
    head_in_features: list[str]

    def __init__(
        self,
        *,
        cls_loss: ClassificationLoss | None = None,
        box_loss: DenseBoxLoss | None = None,
        box_reg_loss_weight: float = 1.0,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not box_reg_loss_weight >= 0:
            raise ValueError(
                f"MODEL.{self.keys}.BBOX_REG_LOSS_WEIGHT is {box_reg_loss_weight}, should be >= 0"
            )
        is_progressive = self.own_cls_loss == "progressive_focal"
        self.cls_loss = cls_loss or LevelFocalLoss(
            gamma=self.focal_loss_gamma,  # type: ignore[attr-defined]
            alpha=self.focal_loss_alpha,  # type: ignore[attr-defined]
            progressive_focus=is_progressive,
            level_wise=is_progressive,
        )
        self.box_loss = box_loss or DenseBoxLoss(loss_type="giou", beta=1.0)
        self.box_reg_loss_weight = box_reg_loss_weight
        self._scalars = DeferredScalars()

    @classmethod
    def build_cls_loss(cls, cfg) -> ClassificationLoss:
        """The loss that ``CLS_LOSS_TYPE`` of the detector's keys names.

        Raises:
            ValueError: for an unknown name, one that this class does not have, or a number out of
                range.
        """
        key, keys = f"MODEL.{cls.keys}.CLS_LOSS_TYPE", cfg.MODEL[cls.keys]
        loss_type = keys.CLS_LOSS_TYPE
        if loss_type not in CLS_LOSSES:
            raise ValueError(f"{key} is {loss_type!r}, should be one of {tuple(CLS_LOSSES)}")
        if not cls.has_other_cls_losses and loss_type not in ("focal", cls.own_cls_loss):
            raise ValueError(
                f"{key} is {loss_type!r}, which {cls.__name__} does not have;"
                f" {cls.__bases__[0].__name__} does"
            )
        name = cls.own_cls_loss if loss_type == "focal" else loss_type
        loss, beta = CLS_LOSSES[name](cfg, keys), cfg.MODEL.CLASS_WEIGHTS.BETA
        if beta and not hasattr(loss, "class_weights"):
            raise ValueError(
                f"MODEL.CLASS_WEIGHTS.BETA is {beta}, should be 0 where {key} is {name!r}, which"
                " does not weigh classes"
            )
        return loss

    @classmethod
    def build_box_loss(cls, cfg) -> DenseBoxLoss:
        """The loss that ``BBOX_REG_LOSS_TYPE`` of the detector's keys names.

        Raises:
            ValueError: for an unknown name, or a number out of range.
        """
        keys = cfg.MODEL[cls.keys]
        return DenseBoxLoss(
            loss_type=keys.BBOX_REG_LOSS_TYPE,
            beta=keys.SMOOTH_L1_LOSS_BETA,
            **balanced_l1_arguments(cfg),
        )

    @torch.no_grad()
    def label_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Same interface as :meth:`RetinaNet.label_anchors`; -1 for anchors in ignore regions."""
        gt_labels, gt_boxes = self.match_anchors(anchors, gt_instances)
        for labels_i, targets_i in zip(gt_labels, gt_instances, strict=True):
            ignored = is_ignored(Boxes.cat(anchors), targets_i)
            if ignored is not None:
                labels_i.masked_fill_(ignored, -1)
        return gt_labels, gt_boxes

    def match_anchors(
        self, anchors: list[Boxes], gt_instances: list[Instances]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Same interface as :meth:`RetinaNet.label_anchors`, by the objects alone."""
        return super().label_anchors(anchors, gt_instances)  # type: ignore[misc]

    def losses(
        self,
        anchors: list[Boxes],
        pred_logits: list[Tensor],
        gt_labels: list[Tensor],
        pred_anchor_deltas: list[Tensor],
        gt_boxes: list[Tensor],
        *others: list[Tensor],
    ) -> dict[str, Tensor] | dict[str, LossSum]:
        """Same interface as :meth:`RetinaNet.losses`, and as :meth:`FCOS.losses`.

        Args:
            anchors, pred_logits, gt_labels, pred_anchor_deltas, gt_boxes: as there.
            others: what else the head predicts, for :meth:`box_losses`: L of (N, R_l, ...) each.
        """
        predictions = LabelledPredictions(
            logits=pred_logits,
            labels=torch.stack(gt_labels),
            anchors=Boxes.cat(anchors).tensor,
            deltas=torch.cat(pred_anchor_deltas, dim=1),
            gt_boxes=torch.stack(gt_boxes),
            transform=self.box2box_transform,  # type: ignore[attr-defined]
        )
        return self._finish_losses(predictions, self.box_losses(predictions, *others))

    def box_losses(self, predictions: LabelledPredictions, *others: Any) -> dict[str, BoxPart]:
        """Name -> loss of what is learnt beside the classes; ``others`` as in :meth:`losses`."""
        raise NotImplementedError

    def classification_loss(
        self, predictions: LabelledPredictions, totals: RankTotals, normalizer: Tensor
    ) -> LevelLoss:
        """The classification loss of this rank; see :class:`ClassificationLoss`."""
        return self.cls_loss(predictions, totals, normalizer)

    def box_loss_sum(
        self, predictions: LabelledPredictions, weights: Tensor, factor: float | None = None
    ) -> Tensor:
        """The box loss, summed over anchors weighted by (N, R) ``weights``, times a factor.

        Args:
            factor: by default ``box_reg_loss_weight``.
        """
        loss = self.box_loss(
            predictions.anchors,
            predictions.transform,
            predictions.deltas,
            predictions.gt_boxes,
            weights,
        )
        return (self.box_reg_loss_weight if factor is None else factor) * loss

    def box_weights(self, predictions: LabelledPredictions) -> Tensor:
        """(N, R) fp32 >= 0: how much a box counts where the class score is its quality.

        Of a positive its largest class score (GFL); a target, without a gradient.
        """
        best = torch.cat([x.detach().amax(dim=2) for x in predictions.logits], dim=1)
        return torch.where(predictions.is_pos, best.float().sigmoid(), 0.0)

    def quality_weighted(
        self, predictions: LabelledPredictions, factor: float | None = None
    ) -> BoxPart:
        """:meth:`box_loss_sum` of boxes with :meth:`box_weights`."""
        weights = self.box_weights(predictions)
        return BoxPart.of_quality(self.box_loss_sum(predictions, weights, factor), weights)

    def _finish_losses(
        self, predictions: LabelledPredictions, parts: dict[str, BoxPart]
    ) -> dict[str, Tensor] | dict[str, LossSum]:
        """All losses, normalised and logged, or :class:`LossSum` while ``returns_sums`` is True."""
        if self.returns_sums:
            num_pos = predictions.is_pos.sum()
            sums = {self.cls_loss_name: LossSum(self.cls_loss.plain_sum(predictions), num_pos)}
            for name, part in parts.items():
                sums[name] = LossSum(part.total, num_pos if part.weight is None else part.weight)
            return sums
        weights = {name: x.weight for name, x in parts.items() if x.weight is not None}
        num_positives = predictions.num_positives()
        totals, sums_of_weights = self._total(predictions, num_positives, list(weights.values()))
        normalizer = self._normalizer(totals)
        divisors = dict.fromkeys(parts, normalizer)
        for name, weight in zip(weights, sums_of_weights, strict=True):
            least = totals.num_images if parts[name].floored else torch.where(weight > 0, 0.0, 1.0)
            divisors[name] = torch.maximum(weight, least) / totals.num_ranks
        cls = self.classification_loss(predictions, totals, normalizer)
        self._log(cls, num_positives, len(predictions.labels))
        boxes = {name: part.total / divisors[name] for name, part in parts.items()}
        return {self.cls_loss_name: cls.loss, **boxes}

    def _total(
        self, predictions: LabelledPredictions, num_positives: Tensor, weights: list[Tensor]
    ) -> tuple[RankTotals, list[Tensor]]:
        """What this step needs of all ranks, in one collective."""
        sums = self.cls_loss.sums(predictions)
        num_images = num_positives.new_full((), float(len(predictions.labels)))
        scalars = torch.stack([num_images, *weights])
        parts = [sums.flatten(), num_positives, scalars]
        total = sum_over_ranks(torch.cat(parts)).split([x.numel() for x in parts])
        num_images, *weights = total[2].unbind()
        num_ranks = comm.get_world_size()
        return RankTotals(total[0].view_as(sums), total[1], num_images, num_ranks), weights

    def _normalizer(self, totals: RankTotals) -> Tensor:
        """What the losses are divided by (0-dim)."""
        return self.loss_normalizer.update(totals)

    def _log(self, cls: LevelLoss, num_positives: Tensor, num_images: int) -> None:
        """Write "num_pos_anchors", per image, and "<group>/<level>/..." of each level."""
        columns = {"num_positives": num_positives, **cls.scalars}
        names = [f"{cls.group}/{level}/{x}" for x in columns for level in self.head_in_features]
        per_image = num_positives.sum()[None] / num_images
        values = torch.cat([per_image, *(column.float() for column in columns.values())])
        self._scalars.put(["num_pos_anchors", *names], values)
