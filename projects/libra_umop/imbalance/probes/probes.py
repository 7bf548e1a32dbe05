"""Probes that listen to one training step of a Detectron2 model without changing it.

A probe replaces methods of instances, or adds hooks, for one step and takes them away again; the
losses, the gradients and the random state of the step stay what they are. Nothing is sent to the
CPU before :meth:`Probe.sections` is asked. Sections are those of
:mod:`libra_umop.imbalance.records`.

R: anchors or proposals of an image, P: positives, L: levels, K: classes.
"""

import functools
import inspect
import logging
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from libra_umop.imbalance.records import MAX_ERROR, NUM_ERROR_BINS, NUM_IOU_BINS

logger = logging.getLogger(__name__)


class Probe:
    """Base: replaces, hooks, times itself and restores.

    Args:
        model: the detector, not wrapped.
    """

    def __init__(self, model: nn.Module):
        self.model: Any = model
        self.seconds = 0.0
        self.failed = False
        self._undo: list[Callable[[], None]] = []

    def attach(self) -> None:
        """Start to listen. A subclass says to what."""
        raise NotImplementedError

    def detach(self) -> None:
        """Restore everything that :meth:`attach` touched."""
        while self._undo:
            self._undo.pop()()

    def sections(self) -> dict[str, Any]:
        """What was heard; empty if the step never came by."""
        raise NotImplementedError

    def wrap(self, owner: Any, name: str, listen: Callable[..., None]) -> None:
        """Call ``listen(result, **arguments)`` after each call of ``owner.name``."""
        original = getattr(owner, name)
        signature = inspect.signature(original)

        @functools.wraps(original)  # so that a second probe of the method finds its arguments, too
        def wrapper(*args, **kwargs):
            result = original(*args, **kwargs)
            if torch.is_grad_enabled():  # neither evaluation, nor PreciseBN, nor OHEM's ranking
                self.guard(lambda: listen(result, **signature.bind(*args, **kwargs).arguments))
            return result

        had = name in vars(owner)
        setattr(owner, name, wrapper)
        self._undo.append(lambda: setattr(owner, name, original) if had else delattr(owner, name))

    def hook(self, module: nn.Module, listen: Callable[..., None]) -> None:
        """Call ``listen(module, args, output)`` after each training forward pass of ``module``."""

        def after_forward(module, args, output):
            if module.training and torch.is_grad_enabled():
                self.guard(lambda: listen(module, args, output))

        self._undo.append(module.register_forward_hook(after_forward).remove)

    def on_gradient(self, tensor: torch.Tensor, listen: Callable[[torch.Tensor], None]) -> None:
        """Call ``listen(gradient)`` when the backward pass reaches ``tensor``."""
        if tensor.requires_grad:

            def on_backward(gradient):
                self.guard(lambda: listen(gradient.detach()))

            handle = tensor.register_hook(on_backward)
            self._undo.append(handle.remove)

    def guard(self, measure: Callable[[], None]) -> None:
        """Measure, timed and without gradient; a model that cannot be measured still trains."""
        if self.failed:
            return
        start = time.perf_counter()
        try:
            with torch.no_grad():
                measure()
        except Exception:  # measuring must never stop a training
            self.failed = True
            logger.warning("%s does not fit this model", type(self).__name__, exc_info=True)
        self.seconds += time.perf_counter() - start


class BoxErrors:
    """Histograms of box errors, and of the gradient over them, of one head."""

    def __init__(self) -> None:
        self.count: Any = 0
        self.gradient: Any = 0

    def add(self, errors: torch.Tensor) -> torch.Tensor:
        """Count errors.

        Args:
            errors: prediction - target of positives, (P, B).

        Returns:
            The bin of each, (P * B,), int64.
        """
        bins = (errors.float().abs() * (NUM_ERROR_BINS / MAX_ERROR)).long()
        bins = bins.clamp_(max=NUM_ERROR_BINS).flatten()  # the last bin holds the rest
        self.count = self.count + torch.bincount(bins, minlength=NUM_ERROR_BINS + 1)
        return bins

    def add_gradient(self, bins: torch.Tensor, gradient: torch.Tensor) -> None:
        """Add abs(gradient), (P, B), to the bins that :meth:`add` gave."""
        weights = gradient.float().abs().flatten()
        self.gradient = self.gradient + torch.bincount(bins, weights, NUM_ERROR_BINS + 1)

    def section(self) -> dict[str, list[float]] | None:
        """As in the records; None without positives or without gradient."""
        if not torch.is_tensor(self.gradient) or not self.count.sum():
            return None
        return {"count": self.count.tolist(), "gradient": normalised(self.gradient).tolist()}


class DenseProbe(Probe):
    """Levels and box errors of a head with anchors: a dense detector, or the RPN.

    Args:
        model: as in :class:`Probe`.
        owner: the module whose ``losses`` is called with anchors, logits, labels, deltas and boxes.
        head: "dense" or "rpn", the name in the records.
    """

    def __init__(self, model: nn.Module, owner: nn.Module, head: str):
        super().__init__(model)
        self.owner: Any = owner
        self.head = head
        self.anchor_sizes: torch.Tensor | None = None
        self._level: dict[str, list[torch.Tensor]] = {}
        self._errors = BoxErrors()

    def attach(self) -> None:
        """Listen to the losses of the head."""
        self.wrap(self.owner, "losses", self._listen)

    def _listen(
        self, result, *, anchors, gt_labels, pred_anchor_deltas, gt_boxes, **others
    ) -> None:
        name = "pred_logits" if "pred_logits" in others else "pred_objectness_logits"
        logits = others[name]  # L x (N, R_l[, K])
        sizes = [x.shape[1] for x in logits]
        labels = torch.stack(list(gt_labels)) if not torch.is_tensor(gt_labels) else gt_labels
        self.anchor_sizes = torch.stack([a.area().float().sqrt().median() for a in anchors])
        self._errors = BoxErrors()  # of a batch computed in parts, the last part counts
        self._level = {k: [] for k in ("anchors", "positives", "p_sum", "neg_log_p_sum")}
        for name in ("gradient_positives", "gradient_negatives"):
            self._level[name] = [x.new_zeros((), dtype=torch.float32) for x in logits]
        boxes = torch.stack(list(gt_boxes)).split(sizes, dim=1)
        for i, labels_i in enumerate(labels.split(sizes, dim=1)):
            if self.head == "rpn":
                mask, classes = labels_i == 1, torch.zeros_like(labels_i)
            else:
                mask, classes = (labels_i >= 0) & (labels_i < logits[i].shape[-1]), labels_i
            self._add_level(i, logits[i], mask, classes)
            self._add_errors(anchors[i].tensor, pred_anchor_deltas[i], boxes[i], mask)

    def _add_level(self, i, logits, mask, classes) -> None:
        """Counts, probabilities and classification gradient of level ``i``."""
        chosen = logits.reshape(*mask.shape, -1)[mask]  # (P, K)
        own = chosen.gather(1, classes[mask].long()[:, None]).float()  # (P, 1)
        self._level["anchors"].append(torch.tensor(mask.numel(), device=mask.device))
        self._level["positives"].append(mask.sum())
        self._level["p_sum"].append(own.sigmoid().sum())
        self._level["neg_log_p_sum"].append(F.softplus(-own).sum())

        def listen(gradient):
            gradient = gradient.reshape(*mask.shape, -1)
            per_anchor = gradient.abs().sum(dim=2, dtype=torch.float32)  # (N, R_l)
            positives = per_anchor[mask].sum()
            self._level["gradient_positives"][i] = positives
            self._level["gradient_negatives"][i] = per_anchor.sum() - positives

        self.on_gradient(logits, listen)

    def _add_errors(self, anchors, deltas, boxes, mask) -> None:
        """Errors of one level: anchors (R_l, 4), deltas and boxes (N, R_l, 4), mask (N, R_l)."""
        anchors = anchors.expand(len(mask), -1, -1)[mask]  # (P, 4)
        targets = self.owner.box2box_transform.get_deltas(anchors, boxes[mask])
        errors = self._errors
        bins = errors.add(deltas[mask] - targets)
        self.on_gradient(deltas, lambda g: errors.add_gradient(bins, g[mask]))

    def sections(self) -> dict[str, Any]:
        """What was counted of the head: "level" and "objective", each where there was something."""
        if not self._level:
            return {}
        level = {name: torch.stack(values).float() for name, values in self._level.items()}
        total = (level["gradient_positives"].sum() + level["gradient_negatives"].sum()).clamp(
            min=1e-30
        )
        for name in ("gradient_positives", "gradient_negatives"):
            level[name] = level[name] / total
        result = {"level": {self.head: {k: v.tolist() for k, v in level.items()}}}
        errors = self._errors.section()
        return {**result, **({"objective": {self.head: errors}} if errors else {})}


class FeatureProbe(Probe):
    """What each pyramid level gives to and gets from the integrated feature.

    Args:
        model: as in :class:`Probe`; its ``backbone`` gives a dict of levels.
        refine_level: name of the level at whose size they are averaged; the middle one if absent.
    """

    def __init__(self, model: nn.Module, refine_level: str = "p4"):
        super().__init__(model)
        self.refine_level = refine_level
        self._before: dict[str, torch.Tensor] | None = None
        self._feature: dict[str, Any] = {}

    def attach(self) -> None:
        """Listen to the pyramid, inside and outside of BFP where there is one."""
        inner = getattr(self.model.backbone, "pyramid", None)
        self.has_bfp = isinstance(inner, nn.Module)
        if isinstance(inner, nn.Module):
            self.hook(inner, self._listen_before)
        self.hook(self.model.backbone, self._listen)

    def _listen_before(self, module, args, output) -> None:
        self._before = output

    def _listen(self, backbone, args, output) -> None:
        shapes = backbone.output_shape()
        names = sorted(output, key=lambda name: shapes[name].stride)
        if len(names) < 2 or len({shapes[n].channels for n in names}) > 1:
            return
        after = [output[n].detach().float() for n in names]
        source = self._before if self.has_bfp and self._before is not None else output
        before = [source[n].detach().float() for n in names]
        middle = names.index(self.refine_level) if self.refine_level in names else len(names) // 2
        resized = [rescale(x, before[middle].shape[-2:]) for x in before]
        integrated = functools.reduce(torch.add, resized) / len(resized)
        norm = integrated.norm().clamp(min=1e-12)
        dots = torch.stack([(x * integrated).sum() for x in resized])
        norms = torch.stack([x.norm() for x in resized]).clamp(min=1e-12)
        self._feature = {
            "levels": names,
            "before": torch.stack([rms(x) for x in before]),
            "share": dots / (len(names) * norm**2),
            "cosine": dots / (norms * norm),
            "after": None,
            "gain": None,
        }
        if self.has_bfp:
            added = torch.stack([rms(y - x) for x, y in zip(before, after, strict=True)])
            self._feature["after"] = torch.stack([rms(x) for x in after])
            self._feature["gain"] = added / self._feature["before"].clamp(min=1e-12)
        self._before = None

    def sections(self) -> dict[str, Any]:
        """What was measured of the pyramid, "feature"; nothing if it did not come by."""
        if not self._feature:
            return {}
        to_list = {k: v.tolist() if torch.is_tensor(v) else v for k, v in self._feature.items()}
        return {"feature": to_list}


def rescale(x: torch.Tensor, size) -> torch.Tensor:
    """A level at another size, as BFP does it: max pooling if finer, nearest if coarser."""
    if x.shape[-1] >= size[-1]:
        return F.adaptive_max_pool2d(x, size)
    return F.interpolate(x, size=size, mode="nearest")


def rms(x: torch.Tensor) -> torch.Tensor:
    """Root mean square, 0-dim."""
    return x.square().mean().sqrt()


def normalised(x: torch.Tensor) -> torch.Tensor:
    """``x`` over its sum; zeros stay zeros."""
    return x / x.sum().clamp(min=1e-30)


def iou_histogram(ious: torch.Tensor) -> torch.Tensor:
    """Counts of (R,) overlaps in [0, 1] over the bins of the records, (40,), float."""
    bins = (ious.float() * NUM_IOU_BINS).long().clamp_(0, NUM_IOU_BINS - 1)
    return torch.bincount(bins, minlength=NUM_IOU_BINS).float()
