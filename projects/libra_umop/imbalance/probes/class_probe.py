"""The probe of the classes: what each gets of the classification loss and of its gradient.

N: images, R: anchors or regions, K: classes.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ...functional.long_tail import focal_loss_by_class
from .probes import Probe

__all__ = ["ClassProbe"]


class ClassProbe(Probe):
    """Loss and gradient of each class, of its own anchors or regions and of all others apart.

    A dense detector's loss is the focal loss at its gamma and alpha, whatever it trains with, so
    that runs compare; of ROI heads it is the loss of each region, which is that of its label.
    Gradients are the run's own, as they reached the scores.

    Args:
        model: as in :class:`Probe`; a dense detector, or one with ``roi_heads``.
    """

    def __init__(self, model: nn.Module):
        super().__init__(model)
        predictor: Any = getattr(getattr(model, "roi_heads", None), "box_predictor", None)
        # Of a cascade the first stage: it sees the regions as they are sampled.
        is_cascade = isinstance(predictor, nn.ModuleList)
        self.predictor: Any = predictor[0] if is_cascade else predictor
        self._sums: dict[str, torch.Tensor] = {}

    def attach(self) -> None:
        """Same interface as the parent's; the loss of the dense head, or of the ROI heads."""
        if self.predictor is None:
            self.wrap(self.model, "losses", self._listen_dense)
        else:
            self.wrap(self.predictor, "losses", self._listen_regions)

    def _listen_dense(self, result, *, pred_logits, gt_labels, **others) -> None:
        sizes = [x.shape[1] for x in pred_logits]
        numbers = {"gamma": self.model.focal_loss_gamma, "alpha": self.model.focal_loss_alpha}
        self._sums = {}
        for logits, labels in zip(
            pred_logits, torch.stack(list(gt_labels)).split(sizes, dim=1), strict=True
        ):
            flat, labels = logits.detach().flatten(0, 1), labels.flatten()  # (N R_l, K), (N R_l,)
            own, other = focal_loss_by_class(flat, labels, **numbers)
            self._add("loss_positives", own)
            self._add("loss_negatives", other)
            self._listen_gradient(logits, labels, flat.shape[1])

    def _listen_regions(self, result, *, predictions, proposals) -> None:
        scores = predictions[0]
        labels = torch.cat([p.gt_classes for p in proposals])
        num_classes: int = self.predictor.num_classes
        if getattr(self.predictor, "use_sigmoid_ce", False):
            # Each column is a loss of its own, as the focal loss's at gamma 0.
            own, other = focal_loss_by_class(
                scores.detach()[:, :num_classes], labels, gamma=0.0, alpha=-1.0
            )
            self._sums = {"loss_positives": own, "loss_negatives": other}
        else:
            losses = F.cross_entropy(scores.detach().float(), labels, reduction="none")
            per_label = losses.new_zeros(num_classes + 1).index_add_(0, labels, losses)
            self._sums = {
                "loss_positives": per_label[:-1],
                "loss_background": per_label[-1],
            }
        self._listen_gradient(scores, labels, num_classes)

    def _listen_gradient(self, scores: torch.Tensor, labels: torch.Tensor, num_classes: int):
        """Add abs(gradient) of scores (..., K) or (..., K + 1), by the labels of their rows."""

        def listen(gradient):
            size = gradient.abs().flatten(0, -2)[:, :num_classes].float()
            is_pos = (labels >= 0) & (labels < num_classes)
            own = size.gather(1, labels.clamp(0, num_classes - 1)[:, None])[:, 0] * is_pos
            positives = own.new_zeros(num_classes)
            positives.index_add_(0, labels.clamp(0, num_classes - 1), own)
            self._add("gradient_positives", positives)
            self._add("gradient_negatives", (size.sum(dim=0) - positives).clamp(min=0))

        self.on_gradient(scores, listen)

    def _add(self, name: str, values: torch.Tensor) -> None:
        self._sums[name] = self._sums[name] + values if name in self._sums else values

    def sections(self) -> dict[str, Any]:
        """Same interface as the parent's; parts of the loss, and parts of the gradient."""
        found: dict[str, Any] = {}
        for kind in ("loss", "gradient"):
            parts = {k: v for k, v in self._sums.items() if k.startswith(kind)}
            total = sum(v.sum() for v in parts.values())
            if parts and float(total) > 0:
                found.update({k: (v / total).tolist() for k, v in parts.items()})
        head = "dense" if self.predictor is None else "roi_heads"
        return {"class": {head: found}} if found else {}
