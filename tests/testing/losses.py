"""Every loss as a function of logits or deltas (R, K) and of targets, for tests of precision and of
devices."""

import torch
from detectron2.modeling.box_regression import Box2BoxTransform

from libra_umop.functional.boxes.balanced_l1_loss import balanced_l1_loss
from libra_umop.functional.focal_loss import focal_loss_sum
from libra_umop.functional.hard_negative_mining import hard_negative_bce_sum
from libra_umop.functional.long_tail import (
    class_balanced_focal_loss_sum,
    equalized_focal_loss_sum,
    seesaw_loss,
)
from libra_umop.functional.progressive_focal_loss import progressive_focus
from libra_umop.functional.quality_losses import (
    distribution_focal_loss,
    quality_focal_loss_sum,
    varifocal_loss_sum,
)
from libra_umop.modeling.dense.losses.boxes.box_loss import DenseBoxLoss
from libra_umop.modeling.dense.losses.boxes.centerness import centerness_loss_sum

R, K = 400, 20


class Targets:
    """Of R anchors, in the dtype that they have beside predictions of another: fp32, or fp64."""

    def __init__(self, dtype, device="cpu"):
        generator = torch.Generator().manual_seed(1)
        corners = 600 * torch.rand(R, 2, generator=generator)
        sides = 8 + 400 * torch.rand(R, 2, generator=generator)
        self.anchors = torch.cat((corners, corners + sides), dim=1).to(dtype)
        self.boxes = self.anchors + 6 * torch.rand(R, 4, generator=generator).to(dtype) - 3
        self.labels = torch.randint(0, K + 1, (R,), generator=generator)
        self.labels[::7] = -1
        self.quality = torch.rand(R, generator=generator).to(dtype)
        self.is_pos = torch.rand(R, generator=generator) > 0.5
        self.deltas = torch.randn(R, K, generator=generator).to(dtype)
        for name, value in vars(self).items():
            setattr(self, name, value.to(device))

    def box_loss(self, deltas, **kwargs):
        transform = Box2BoxTransform((1.0, 1.0, 1.0, 1.0))
        loss = DenseBoxLoss(**kwargs)
        weights = self.is_pos.to(self.boxes.dtype)
        return loss(self.anchors, transform, deltas[None, :, :4], self.boxes[None], weights[None])


def progressive(focus):
    def loss(x, t):
        gamma, alpha = progressive_focus(x, t.labels, focus=focus)
        return focal_loss_sum(x, t.labels, gamma=gamma, alpha=alpha)

    return loss


def balanced_l1(formula, beta):
    return lambda x, t: balanced_l1_loss(x, t.deltas, beta=beta, formula=formula, reduction="sum")


LOSSES = {
    "focal": lambda x, t: focal_loss_sum(x, t.labels, gamma=2.0, alpha=0.25),
    "focal, gamma 0.5": lambda x, t: focal_loss_sum(x, t.labels, gamma=0.5, alpha=0.25),
    "progressive focal": progressive("mean_prob"),
    "progressive focal by logarithms": progressive("mean_log"),
    "hard negatives": lambda x, t: hard_negative_bce_sum(x, t.labels),
    "quality focal": lambda x, t: quality_focal_loss_sum(x, t.labels, t.quality),
    "varifocal": lambda x, t: varifocal_loss_sum(x, t.labels, t.quality),
    "distribution focal": lambda x, t: distribution_focal_loss(x, t.quality * (K - 1.2)).sum(),
    "class-balanced focal": lambda x, t: class_balanced_focal_loss_sum(
        x, t.labels, t.quality[:K], gamma=2.0, alpha=0.25
    ),
    "equalized focal": lambda x, t: equalized_focal_loss_sum(x, t.labels, t.quality[:K])[0],
    "seesaw": lambda x, t: seesaw_loss(
        x, t.labels.clamp(0, K - 1), 1000 ** t.quality[: K - 1]
    ).sum(),
    "balanced L1": balanced_l1("exact", 1.0),
    "balanced L1, beta 0.11": balanced_l1("exact", 0.11),
    "balanced L1 of the reference": balanced_l1("reference", 0.11),
    "smooth L1 of boxes": lambda x, t: t.box_loss(x, loss_type="smooth_l1", beta=0.11),
    "balanced L1 of boxes": lambda x, t: t.box_loss(x, loss_type="balanced_l1", beta=0.11),
    "GIoU": lambda x, t: t.box_loss(x, loss_type="giou"),
    "DIoU": lambda x, t: t.box_loss(x, loss_type="diou"),
    "CIoU": lambda x, t: t.box_loss(x, loss_type="ciou"),
    "centerness": lambda x, t: centerness_loss_sum(
        [x[None, :, :1]], t.quality[None], t.is_pos[None]
    ),
}
