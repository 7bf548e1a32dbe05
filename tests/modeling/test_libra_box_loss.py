"""Oracles: the functional loss on deltas computed one by one, and the parent's whole loss."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.roi_heads import FastRCNNOutputLayers
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from libra_umop.functional.boxes.balanced_l1_loss import balanced_l1_loss
from libra_umop.modeling import BalancedL1OutputLayers, region_losses

NUMBERS = {"alpha": 0.2, "gamma": 1.0, "formula": "exact"}


def a_predictor(cls=BalancedL1OutputLayers, beta=0.5, **kwargs):
    if cls is BalancedL1OutputLayers:
        kwargs["balanced_l1"] = NUMBERS
    return cls(
        ShapeSpec(channels=6),
        box2box_transform=Box2BoxTransform(weights=(10.0, 10.0, 5.0, 5.0)),
        num_classes=3,
        smooth_l1_beta=beta,
        **kwargs,
    )


def regions(*classes, with_gt=True):
    xy, wh = 50 * torch.rand(2, len(classes), 2), 10 + 30 * torch.rand(2, len(classes), 2)
    proposals = Instances((100, 100), proposal_boxes=Boxes(torch.cat([xy[0], xy[0] + wh[0]], 1)))
    proposals.gt_classes = torch.tensor(classes)
    if with_gt:
        proposals.gt_boxes = Boxes(torch.cat([xy[1], xy[1] + wh[1]], 1))
    return proposals


def all_losses(predictor, predictions, proposals):
    with EventStorage():
        return predictor.losses(predictions, proposals)


@pytest.mark.parametrize("agnostic", [False, True])
def test_is_the_balanced_l1_of_each_foreground_region_for_its_own_class(agnostic):
    predictor = a_predictor(cls_agnostic_bbox_reg=agnostic, loss_weight={"loss_box_reg": 2.0})
    proposals = regions(2, 3, 0, 3, 1)  # 3 is the background
    scores, deltas = predictor(torch.randn(5, 6))
    deltas = deltas + torch.randn_like(deltas)
    expected = 0
    for i, c in enumerate(proposals.gt_classes.tolist()):
        if c == 3:
            continue
        pred = deltas[i] if agnostic else deltas[i, 4 * c : 4 * c + 4]
        gt = predictor.box2box_transform.get_deltas(
            proposals.proposal_boxes.tensor[i : i + 1], proposals.gt_boxes.tensor[i : i + 1]
        )
        expected += balanced_l1_loss(pred[None], gt, beta=0.5, reduction="sum", **NUMBERS)
    losses = all_losses(predictor, (scores, deltas), [proposals])
    torch.testing.assert_close(losses["loss_box_reg"], 2 * expected / 5)


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize("classes", [(3, 3), ()])
def test_no_positive_gives_zero_with_a_live_gradient(agnostic, classes):
    predictor = a_predictor(cls_agnostic_bbox_reg=agnostic)
    num = len(classes)
    _, deltas = predictor(torch.randn(num, 6))
    gt_classes = torch.tensor(classes, dtype=torch.int64)
    loss = predictor.box_reg_loss(torch.rand(num, 4), torch.rand(num, 4), deltas, gt_classes)
    assert loss == 0
    loss.backward()
    assert (predictor.bbox_pred.weight.grad == 0).all()


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize(
    "cls, kwargs",
    [
        (BalancedL1OutputLayers, {}),
        (FastRCNNOutputLayers, {}),
        (FastRCNNOutputLayers, {"beta": 0.0}),
        (FastRCNNOutputLayers, {"box_reg_loss_type": "giou"}),
        (FastRCNNOutputLayers, {"box_reg_loss_type": "ciou"}),
        (FastRCNNOutputLayers, {"use_sigmoid_ce": True}),
    ],
)
def test_mean_of_the_region_losses_is_the_sum_of_the_losses(cls, kwargs, agnostic):
    predictor = a_predictor(
        cls, cls_agnostic_bbox_reg=agnostic, loss_weight={"loss_box_reg": 2.0}, **kwargs
    )
    proposals = [regions(2, 3, 0, 3), regions(3, 3, with_gt=False)]
    predictions = predictor(torch.randn(6, 6))
    losses = region_losses(predictor, predictions, proposals)
    assert losses.shape == (6,)
    expected = sum(all_losses(predictor, predictions, proposals).values())
    torch.testing.assert_close(losses.mean(), expected)


def test_refuses_a_transition_point_of_zero_by_the_name_of_its_key():
    with pytest.raises(ValueError, match="MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA is 0"):
        a_predictor(beta=0.0)
