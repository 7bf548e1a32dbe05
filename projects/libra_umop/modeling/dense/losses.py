"""What the losses of all dense detectors share: normalisers, box and centerness losses, logging.

Letters: N images, R anchors of all L levels, K classes. Labels: -1 ignore, [0, K) foreground,
K background. Nothing here waits for the device.
"""

from typing import List, MutableMapping, NamedTuple, Tuple
from weakref import WeakKeyDictionary

import torch
from detectron2.layers import nonzero_tuple
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage, get_event_storage
from fvcore.nn import smooth_l1_loss
from torch import Tensor, nn
from torch.nn import functional as F

from ...functional.balanced_l1_loss import balanced_l1_loss
from ...functional.dense_box_loss import IOU_LOSSES, box_deltas

__all__ = [
    "BOX_LOSS_TYPES",
    "DeferredScalars",
    "DenseBoxLoss",
    "LossNormalizer",
    "LossSum",
    "centerness_loss_sum",
    "clip_to_image",
    "count_positives",
]

BOX_LOSS_TYPES = ("smooth_l1", "balanced_l1", *IOU_LOSSES)
LOSS_NORMALIZERS = ("moving_average", "num_positives")


class LossSum(NamedTuple):
    """A loss that is not divided yet: over a set, both parts are summed before the division.

    What the losses of a dense detector here are while its ``returns_sums`` is True. Then no other
    rank takes part and no running average moves, so that images may be given one by one and in
    any number to a rank. The focus of PFL and LRP, which would depend on the batch, stays at its
    centre.
    """

    total: Tensor  # 0-dim
    count: Tensor  # 0-dim: positives, or the sum of what weighs them


def count_positives(totals: Tensor, num_ranks: int) -> Tensor:
    """Positives of all levels, mean over ranks, but one per image at least (0-dim).

    Images without any positive thus give the mean of their losses and not the sum.

    Args:
        totals: (L, 3), see :meth:`LevelFocalLoss.sums`, summed over ``num_ranks`` ranks.
    """
    return torch.maximum(totals[:, 1].sum(), totals[0, 2]) / num_ranks


class LossNormalizer(nn.Module):
    """Number of positives, by which RetinaNet and FCOS divide their losses, or its moving average.

    Detectron2 keeps the average as a Python number of one rank that a resumed run starts anew; here
    it is a buffer, in the checkpoint and the same on all ranks. A checkpoint without it loads
    silently.
    """

    def __init__(
        self, *, initial: float, momentum: float = 0.9, loss_normalizer: str = "moving_average"
    ):
        """
        Args:
            initial: what the average starts from.
            momentum: weight of the average so far, in [0, 1).
            loss_normalizer: "moving_average" (Detectron2) or "num_positives", those of this step
                (:func:`count_positives`; the released UMOP); the average then stays as it is.

        Raises:
            ValueError: for another name.
        """
        super().__init__()
        if loss_normalizer not in LOSS_NORMALIZERS:
            raise ValueError(
                f"LOSS_NORMALIZER must be one of {LOSS_NORMALIZERS}, got {loss_normalizer!r}"
            )
        self.momentum = momentum
        self.loss_normalizer = loss_normalizer
        self.register_buffer("average", torch.tensor(float(initial)))

    def update(self, totals: Tensor, num_ranks: int) -> Tensor:
        """What to divide by in this step (0-dim); arguments as for :func:`count_positives`."""
        if self.loss_normalizer == "num_positives":
            return count_positives(totals, num_ranks)
        value = totals[:, 1].sum().clamp(min=1) / num_ranks
        average = self.average * self.momentum + value * (1 - self.momentum)
        self.average.copy_(average)
        return average

    def _load_from_state_dict(self, state_dict, prefix, metadata, strict, missing, *args):
        """Same interface as :meth:`nn.Module._load_from_state_dict`; the buffer may be missing."""
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, missing, *args)
        if prefix + "average" in missing:
            missing.remove(prefix + "average")


class DeferredScalars:
    """Writes scalars that live on the device into the event storage without waiting for them.

    From a GPU they are copied in the background and written at the next call under the same
    storage, under the iteration that they belong to: the last step of a run stays unwritten.
    """

    def __init__(self):
        # Per storage, as each has iterations of its own; those of one that is gone go with it.
        self._pending: MutableMapping[EventStorage, _Pending] = WeakKeyDictionary()

    @torch.compiler.disable  # reads numbers, which would recompile at each step
    def put(self, names: List[str], values: Tensor) -> None:
        """Write ``values`` (len(names),) to the current :class:`EventStorage`."""
        storage = get_event_storage()
        values = values.detach()
        if not values.is_cuda:
            self._write(names, values, storage.iter)
            return
        before = self._pending.pop(storage, None)
        if before is not None:
            before.copied.synchronize()  # one step old: long over
            self._write(before.names, before.host, before.iteration)
        self._pending[storage] = _Pending(names, *_start_copy(values), storage.iter)

    @staticmethod
    def _write(names: List[str], host: Tensor, iteration: int) -> None:
        storage = get_event_storage()
        for name, value in zip(names, host.tolist()):
            storage.put_scalar(name, value, cur_iter=iteration)

    def __getstate__(self):
        """A copy of the model starts with nothing pending."""
        return {"_pending": WeakKeyDictionary()}


class _Pending(NamedTuple):
    names: List[str]
    host: Tensor
    copied: torch.cuda.Event
    iteration: int


def _start_copy(values: Tensor) -> Tuple[Tensor, torch.cuda.Event]:
    """A tensor on the host, and the event after which it has the values."""
    host = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    host.copy_(values, non_blocking=True)
    copied = torch.cuda.Event()
    copied.record()
    return host, copied


class DenseBoxLoss:
    """Box regression loss, summed over weighted anchors of any level.

    Every anchor is computed and the weights choose, so that neither an index nor the number of
    positives is needed on the host.
    """

    def __init__(
        self,
        *,
        loss_type: str,
        beta: float = 0.0,
        alpha: float = 0.5,
        gamma: float = 1.5,
        formula: str = "exact",
    ):
        """
        Args:
            loss_type: one of ``BOX_LOSS_TYPES``; the IoU losses compare decoded boxes, not clipped.
            beta: transition point of "smooth_l1" and "balanced_l1".
            alpha, gamma, formula: of "balanced_l1", see :func:`balanced_l1_loss`.

        Raises:
            ValueError: for an unknown type, or "balanced_l1" with a beta that is not positive.
        """
        if loss_type not in BOX_LOSS_TYPES:
            raise ValueError(f"box loss type must be one of {BOX_LOSS_TYPES}, got {loss_type!r}")
        if loss_type == "balanced_l1" and not beta > 0:
            raise ValueError(
                f"balanced_l1 needs MODEL.RETINANET.SMOOTH_L1_LOSS_BETA > 0, got {beta}"
            )
        self.loss_type = loss_type
        self.beta = beta
        self.balanced = {"alpha": alpha, "gamma": gamma, "formula": formula}

    def __call__(
        self, anchors: Tensor, transform, pred_deltas: Tensor, gt_boxes: Tensor, weights: Tensor
    ) -> Tensor:
        """
        Args:
            anchors: (R, 4) XYXY pixels.
            transform: the Box2BoxTransform that decodes the predictions.
            pred_deltas: (N, R, 4).
            gt_boxes: (N, R, 4) XYXY pixels, of any value where the weight is 0.
            weights: (N, R), >= 0; 0 for anchors without a box.

        Returns:
            0-dim fp32, with a live gradient even if all weights are 0.
        """
        anchors = anchors.expand_as(pred_deltas)
        chosen = (weights > 0)[..., None]  # (N, R, 1)
        # An anchor without a box predicts itself and gets itself as target, whatever was predicted:
        # an inf that is only left out of the sum would still make its gradient NaN.
        pred_deltas = torch.where(chosen, pred_deltas.float(), 0.0)
        targets = torch.where(chosen, gt_boxes, anchors)
        if self.loss_type in IOU_LOSSES:
            pred_boxes = decode_boxes(transform, pred_deltas, anchors)
            loss = IOU_LOSSES[self.loss_type](pred_boxes, targets)  # (N, R)
        else:
            loss = self._delta_loss(transform, pred_deltas, anchors, targets)
        return (loss * weights).sum()

    def _delta_loss(self, transform, pred_deltas, anchors, targets) -> Tensor:
        """(N, R): loss between deltas, summed over the four."""
        target_deltas = box_deltas(anchors, targets, weights=transform.weights)
        if self.loss_type == "smooth_l1":
            return smooth_l1_loss(pred_deltas, target_deltas, beta=self.beta).sum(dim=-1)
        return balanced_l1_loss(pred_deltas, target_deltas, beta=self.beta, **self.balanced).sum(-1)


def decode_boxes(transform, deltas: Tensor, anchors: Tensor) -> Tensor:
    """``transform.apply_deltas`` for (..., 4) deltas and anchors."""
    return transform.apply_deltas(deltas.reshape(-1, 4), anchors.reshape(-1, 4)).view(deltas.shape)


def centerness_loss_sum(pred_centerness: List[Tensor], targets: Tensor, is_pos: Tensor) -> Tensor:
    """Binary cross entropy of the centerness, summed over the positives (0-dim fp32).

    Args:
        pred_centerness: L of (N, R_l, 1) logits.
        targets: (N, R) in [0, 1].
        is_pos: (N, R) bool.
    """
    logits = torch.cat(pred_centerness, dim=1).squeeze(dim=2).float()  # (N, R)
    logits = torch.where(is_pos, logits, 0.0)  # see DenseBoxLoss
    return F.binary_cross_entropy_with_logits(
        logits, targets, weight=is_pos.float(), reduction="sum"
    )


def clip_to_image(instances: Instances) -> Instances:
    """Detections with boxes clipped to the image, without those that lie outside.

    What the reference implementations do before non-maximum suppression; Detectron2 clips after.
    """
    boxes = Boxes(instances.pred_boxes.tensor)
    boxes.clip(instances.image_size)
    instances.pred_boxes = boxes
    return instances[nonzero_tuple(boxes.nonempty())[0]]  # one wait: a mask has one for each field
