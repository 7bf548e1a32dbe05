"""ATSS: its labels, losses and detections against hand arithmetic and a peer's rules."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, pairwise_iou
from detectron2.utils.events import EventStorage
from fvcore.nn import giou_loss, sigmoid_focal_loss
from torch.nn import functional as F

from libra_umop.functional.atss_matching import centerness_target
from testing.batches import make_batch, make_input
from testing.dense_models import spread_scores, tiny_cfg, tiny_model


def forward_parts(model, batch):
    """Anchors, transposed predictions, labels and boxes of a batch."""
    features = list(model.backbone(model.preprocess_image(batch).tensor).values())
    predictions = model._transpose_dense_predictions(
        model.head(features), [model.num_classes, 4, 1]
    )
    anchors = model.anchor_generator(features)
    labels, boxes = model.label_anchors(anchors, [x["instances"] for x in batch])
    return anchors, predictions, labels, boxes


def test_labels_are_the_classes_of_the_matched_boxes():
    batch = make_batch()
    anchors, _, labels, boxes = forward_parts(tiny_model("ATSS"), batch)
    for x, labels_i, boxes_i in zip(batch, labels, boxes, strict=True):
        gt = x["instances"]
        is_pos = labels_i < 4
        assert is_pos.sum() >= len(gt)
        overlap = pairwise_iou(Boxes(boxes_i[is_pos]), gt.gt_boxes)
        assert torch.equal(gt.gt_classes[overlap.argmax(dim=1)], labels_i[is_pos])
        assert (overlap.max(dim=1).values > 0.999).all()


def test_losses_by_another_road():
    """Indexing and fvcore instead of weights and closed forms."""
    model, batch = tiny_model("ATSS"), make_batch()
    with torch.no_grad():
        anchors, (logits, deltas, centerness), labels, boxes = forward_parts(model, batch)
        with EventStorage():
            losses = model.losses(anchors, logits, labels, deltas, boxes, centerness)
        labels, boxes, anchors = torch.stack(labels), torch.stack(boxes), Boxes.cat(anchors).tensor
        is_pos = labels < 4
        num_pos = is_pos.sum()
        one_hot = F.one_hot(labels, num_classes=5)[..., :4].float()
        loss_cls = sigmoid_focal_loss(torch.cat(logits, dim=1), one_hot, 0.25, 2.0, reduction="sum")
        torch.testing.assert_close(losses["loss_cls"], loss_cls / num_pos)

        anchors = anchors.expand_as(boxes)[is_pos]
        target = centerness_target(anchors, boxes[is_pos])
        pred = model.box2box_transform.apply_deltas(torch.cat(deltas, dim=1)[is_pos], anchors)
        loss_box = (giou_loss(pred, boxes[is_pos]) * target).sum() / target.sum()
        torch.testing.assert_close(losses["loss_box_reg"], 2 * loss_box)

        logits = torch.cat(centerness, dim=1)[..., 0][is_pos]
        expected = F.binary_cross_entropy_with_logits(logits, target, reduction="mean")
        torch.testing.assert_close(losses["loss_centerness"], expected)


def test_class_score_passes_the_threshold_and_score_times_centerness_ranks():
    model = tiny_model("ATSS").eval()
    spread_scores(model)
    model.test_nms_thresh, model.max_detections_per_image = 1.0, 10**6
    inputs = make_batch()[:1]
    with torch.no_grad():
        features = list(model.backbone(model.preprocess_image(inputs).tensor).values())
        logits, _, centerness = model._transpose_dense_predictions(
            model.head(features), [model.num_classes, 4, 1]
        )
        detections = model(inputs)[0]["instances"]
    scores = torch.cat(logits, dim=1)[0].sigmoid()
    product = scores * torch.cat(centerness, dim=1)[0].sigmoid()
    expected = product[scores > 0.05].sort(descending=True).values
    assert (expected < 0.05).any()  # the threshold is not for the product
    # Boxes that clipping leaves empty are gone; here the noise keeps nearly all of them.
    assert 0.5 * len(expected) < len(detections) <= len(expected)
    assert torch.isin(detections.scores.round(decimals=5), expected.round(decimals=5)).all()
    assert (detections.scores.diff() <= 0).all()


def test_levels_have_a_factor_each():
    model = tiny_model("ATSS")
    features = [torch.ones(1, 64, 2, 2)] * 5
    model.head.scales[3].data.fill_(3.0)
    with torch.no_grad():
        deltas = model.head(features)[1]
    torch.testing.assert_close(deltas[3], 3 * deltas[0])
    torch.testing.assert_close(deltas[4], deltas[0])


@pytest.mark.parametrize("norm", ["GN", "BN", ""])
def test_convolutions_of_the_towers_have_a_bias_only_where_no_norm_follows(norm):
    head = build_model(tiny_cfg("ATSS", "MODEL.ATSS.NORM", norm)).head
    convs = [x for x in (*head.cls_subnet, *head.bbox_subnet) if isinstance(x, torch.nn.Conv2d)]
    assert len(convs) >= 2
    assert all((conv.bias is None) == bool(norm) for conv in convs)
    outputs = (head.cls_score, head.bbox_pred, head.ctrness)
    assert all(conv.bias is not None for conv in outputs)


def test_batch_without_objects_has_no_box_loss_but_a_live_gradient():
    model = tiny_model("ATSS")
    with EventStorage():
        losses = model([make_input([], [])])
    assert losses["loss_box_reg"] == 0 and losses["loss_centerness"] == 0
    sum(losses.values()).backward()
    assert model.head.bbox_pred.weight.grad is not None


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("MODEL.ATSS.MATCH_TOPK", 0, "MATCH_TOPK"),
        ("MODEL.ATSS.BBOX_REG_LOSS_WEIGHT", -1.0, "BBOX_REG_LOSS_WEIGHT"),
        ("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", [[0.5, 1.0]], "should be 1 on each level"),
    ],
)
def test_values_out_of_range_are_refused(key, value, message):
    with pytest.raises(ValueError, match=message):
        build_model(tiny_cfg("ATSS", key, value))
