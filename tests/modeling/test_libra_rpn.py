"""Oracles: the parent RPN with the same random numbers, and the functional loss by hand."""

import pytest
import torch
from detectron2.structures import Boxes
from detectron2.utils.events import EventStorage

from libra_umop.functional.boxes.balanced_l1_loss import balanced_l1_loss
from testing.batches import a_batch
from testing.tiny_rcnn import tiny_config, tiny_model

LIBRA = ["MODEL.PROPOSAL_GENERATOR.NAME", "LibraRPN"]
BALANCED_L1 = ["MODEL.RPN.BBOX_REG_LOSS_TYPE", "balanced_l1"]
RATIO = "MODEL.RPN.NEG_POS_RATIO"


def an_rpn(*options):
    return tiny_model(tiny_config(options=[*LIBRA, *options])).proposal_generator


def losses_and_gradients(model, batch):
    torch.manual_seed(1)
    with EventStorage() as storage:
        losses = model(batch)
        sum(losses.values()).backward()
    return losses, {n: p.grad for n, p in model.named_parameters()}, storage.latest()


def inputs_of_losses(num_images=2):
    """Two levels of 20 and 10 anchors, 4 positives and 5 ignored in each image."""
    anchors = [Boxes(a_boxes(20)), Boxes(a_boxes(10))]
    labels = torch.tensor([1] * 4 + [-1] * 5 + [0] * 21)
    labels = [labels[torch.randperm(30)] for _ in range(num_images)]
    logits = [torch.randn(num_images, n, requires_grad=True) for n in (20, 10)]
    deltas = [torch.randn(num_images, n, 4, requires_grad=True) for n in (20, 10)]
    return anchors, logits, labels, deltas, [a_boxes(30) for _ in range(num_images)]


def a_boxes(n):
    xy = 50 * torch.rand(n, 2)
    return torch.cat([xy, xy + 10 + 30 * torch.rand(n, 2)], dim=1)


@pytest.mark.parametrize("num_boxes", [(3, 0), (2,), (0,)])
def test_with_everything_off_it_is_its_parent(num_boxes):
    batch = a_batch(*num_boxes)
    models = [tiny_model(tiny_config(options=options)) for options in ((), LIBRA)]
    expected, actual = (losses_and_gradients(m, batch) for m in models)
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


@pytest.mark.parametrize("num_boxes", [(3, 0), (2,), (0,), (0, 0)])
def test_trains_with_everything_on_and_on_empty_images(num_boxes):
    model = tiny_model(tiny_config(options=[*LIBRA, *BALANCED_L1, RATIO, 5.0]))
    losses, _, _ = losses_and_gradients(model, a_batch(*num_boxes))
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_box_loss_is_balanced_l1_and_the_rest_is_the_parents():
    weights = ["MODEL.RPN.BBOX_REG_LOSS_WEIGHT", 3.0, "MODEL.RPN.LOSS_WEIGHT", 2.0]
    rpn, parent = an_rpn(*BALANCED_L1, *weights), an_rpn(*weights)
    anchors, logits, labels, deltas, gt_boxes = inputs_of_losses()
    results = []
    for module in (parent, rpn):
        with EventStorage() as storage:
            losses = module.losses(anchors, logits, labels, deltas, gt_boxes)
            results.append((losses, storage.latest()))
    (expected, scalars), (actual, our_scalars) = results
    torch.testing.assert_close(actual["loss_rpn_cls"], expected["loss_rpn_cls"])
    assert our_scalars == scalars

    loss = 0
    for i in range(2):
        gt_deltas = rpn.box2box_transform.get_deltas(Boxes.cat(anchors).tensor, gt_boxes[i])
        pred = torch.cat([d[i] for d in deltas])
        loss += balanced_l1_loss(pred, gt_deltas, beta=rpn.smooth_l1_beta)[labels[i] == 1].sum()
    normalizer = 2 * rpn.batch_size_per_image
    torch.testing.assert_close(actual["loss_rpn_loc"], loss * 3 * 2 / normalizer)


@pytest.mark.parametrize(
    "num_pos, ratio, expected",
    [
        (3, 5.0, (3, 15)),
        (3, 0.5, (3, 1)),
        (0, 5.0, (0, 5)),  # no positive counts as one
        (3, -1.0, (3, 253)),  # no limit: all 256 that are asked for
        (200, 5.0, (128, 128)),
    ],
)
def test_negatives_are_limited_by_the_positives(num_pos, ratio, expected):
    rpn = an_rpn(RATIO, ratio)
    label = torch.tensor([1] * num_pos + [0] * 1500 + [-1] * 100)[torch.randperm(1600 + num_pos)]
    sampled = rpn._subsample_labels(label.clone())
    assert ((sampled == 1).sum(), (sampled == 0).sum()) == expected
    assert (label[sampled >= 0] == sampled[sampled >= 0]).all()


@pytest.mark.parametrize("box_loss", ["smooth_l1", "balanced_l1"])
def test_under_a_limit_losses_are_divided_by_the_anchors_used(box_loss):
    """As in mmdetection: positives and negatives sampled from all images of the batch, summed."""
    key = "MODEL.RPN.BBOX_REG_LOSS_TYPE"
    rpn, unlimited = an_rpn(key, box_loss, RATIO, 5.0), an_rpn(key, box_loss)
    anchors, logits, labels, deltas, gt_boxes = inputs_of_losses()
    labels[1][labels[1] == 0] = -1  # 4 positives and 21 negatives, 4 positives and none
    with EventStorage():
        losses = rpn.losses(anchors, logits, labels, deltas, gt_boxes)
        sums = unlimited.losses(anchors, logits, labels, deltas, gt_boxes)  # over 2 x 256
    is_used = torch.stack(labels) >= 0
    loss_cls = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.cat(logits, dim=1)[is_used], torch.stack(labels)[is_used].float(), reduction="sum"
    )
    torch.testing.assert_close(losses["loss_rpn_cls"], loss_cls / (4 + 21 + 4))
    torch.testing.assert_close(losses["loss_rpn_loc"], sums["loss_rpn_loc"] * 512 / (4 + 21 + 4))


@pytest.mark.parametrize("ratio", [5.0, 1.0])
@pytest.mark.parametrize("num_boxes", [2, 0])
def test_under_a_limit_identical_images_have_the_loss_of_one(num_boxes, ratio):
    """The negatives are drawn, so that the labels are what is repeated."""
    rpn = an_rpn(RATIO, ratio)
    anchors, logits, labels, deltas, gt_boxes = inputs_of_losses(num_images=1)
    labels[0][labels[0] == 1] = 1 if num_boxes else -1
    with EventStorage():
        once = rpn.losses(anchors, logits, labels, deltas, gt_boxes)
        logits, deltas = ([x.repeat(16, *[1] * (x.dim() - 1)) for x in y] for y in (logits, deltas))
        often = rpn.losses(anchors, logits, labels * 16, deltas, gt_boxes * 16)
    torch.testing.assert_close(often, once)


def test_refuses_a_transition_point_of_zero_by_the_name_of_its_key():
    with pytest.raises(ValueError, match="MODEL.RPN.SMOOTH_L1_BETA is 0"):
        an_rpn(*BALANCED_L1, "MODEL.RPN.SMOOTH_L1_BETA", 0.0)
