"""Detectors whose class score is the quality of the box: losses, weights, scores, GFL and VFNet."""

import pytest
import torch
from detectron2.layers import diou_loss
from detectron2.structures import Boxes
from detectron2.structures.boxes import matched_pairwise_iou
from detectron2.utils.events import EventStorage
from fvcore.nn import giou_loss

from libra_umop.config.checks import check_config
from libra_umop.errors import ConfigError
from libra_umop.functional.boxes.balanced_l1_loss import balanced_l1_loss
from libra_umop.functional.progressive_focal_loss import progressive_focus
from libra_umop.functional.quality_losses import quality_focal_loss_sum, varifocal_loss_sum
from libra_umop.modeling.backbones.deformable import DeformConv2d
from libra_umop.modeling.dense.gfl import GFLHead, expected_bin
from libra_umop.modeling.dense.losses.focal import LevelFocalLoss
from libra_umop.modeling.dense.losses.normalizers import RankTotals
from libra_umop.modeling.dense.losses.predictions import LabelledPredictions
from libra_umop.modeling.dense.losses.quality import LevelQualityFocalLoss, LevelVarifocalLoss
from libra_umop.modeling.dense.vfnet import star_offsets
from testing.batches import make_batch, make_input
from testing.dense_models import keys_of, spread_scores, tiny_cfg, tiny_model

FAMILIES = ("LibraRetinaNet", "ATSS", "FCOS")
LOSSES = ("quality_focal", "varifocal")
of_families = pytest.mark.parametrize("name", FAMILIES)
of_losses = pytest.mark.parametrize("loss", LOSSES)
K, SIZES = 3, (40, 20, 10)


def build(name, loss, *opts):
    model = tiny_model(name, f"MODEL.{keys_of(name)}.CLS_LOSS_TYPE", loss, *opts)
    spread_scores(model)
    return model


def seen_by(model, batch):
    """The labelled predictions of a training step, and its losses."""
    seen = []
    original = model.box_losses
    model.box_losses = lambda predictions, *others: (
        seen.append(predictions) or original(predictions, *others)
    )
    with EventStorage():
        losses = model(batch)
    del model.box_losses
    return seen[0], losses


def decoded(predictions, where):
    """Predicted boxes of the positives, by Detectron2's transform."""
    anchors = predictions.anchors.expand_as(predictions.deltas)[where]
    return predictions.transform.apply_deltas(predictions.deltas[where], anchors)


class Levels:
    """Two images on three levels, the last without positives, and the overlap of each positive."""

    def __init__(self):
        self.logits = [torch.randn(2, n, K) - 2 for n in SIZES]
        self.labels = torch.randint(-1, K + 1, (2, sum(SIZES)))
        self.labels[:, -SIZES[-1] :] = K
        is_pos = (self.labels >= 0) & (self.labels < K)
        self.quality = torch.where(is_pos, torch.rand(2, sum(SIZES)), 0.0)

    def seen(self):
        zeros = torch.zeros(2, sum(SIZES), 4)
        boxes = {"anchors": zeros[0], "deltas": zeros, "gt_boxes": zeros, "transform": None}
        predictions = LabelledPredictions(logits=self.logits, labels=self.labels, **boxes)
        predictions.quality = lambda: self.quality
        return predictions

    def parts(self):
        """(R_l, K) logits, (R_l,) labels and qualities of each level."""
        per_anchor = (x.split(SIZES, dim=1) for x in (self.labels, self.quality))
        rows = zip(self.logits, *per_anchor, strict=True)
        return [(x.flatten(0, 1), y.flatten(), q.flatten()) for x, y, q in rows]


def compute(loss, levels, normalizer=7.0):
    predictions = levels.seen()
    totals = RankTotals(
        loss.sums(predictions), predictions.num_positives(), torch.tensor(2.0), num_ranks=1
    )
    return loss(predictions, totals, torch.tensor(normalizer)), predictions


SUMS = {
    LevelQualityFocalLoss: lambda x, y, q, g: quality_focal_loss_sum(x, y, q, beta=g),
    LevelVarifocalLoss: lambda x, y, q, g: varifocal_loss_sum(x, y, q, alpha=0.75, gamma=g),
}
of_sums = pytest.mark.parametrize("cls, loss_sum", SUMS.items(), ids=LOSSES)


@of_sums
def test_plain_it_is_the_sum_over_all_levels_divided_by_the_normaliser(cls, loss_sum):
    levels = Levels()
    result, predictions = compute(cls(gamma=1.5), levels)
    expected = sum(loss_sum(x, y, q, 1.5) for x, y, q in levels.parts())
    torch.testing.assert_close(result.loss, expected / 7)
    torch.testing.assert_close(cls(gamma=1.5).plain_sum(predictions), expected)
    assert result.group == "level"


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@of_sums
def test_the_gamma_of_a_level_takes_the_place_of_the_exponent(cls, loss_sum, reduction):
    levels = Levels()
    umop = cls(progressive_focus=True, level_wise=True, level_reduction=reduction)
    result, predictions = compute(umop, levels)
    gammas = [progressive_focus(x, y)[0] for x, y, _ in levels.parts()]
    expected = [loss_sum(*part, g) for part, g in zip(levels.parts(), gammas, strict=True)]
    if reduction == "sum":
        assert result.loss.item() == pytest.approx(sum(expected).item() / 7)
    else:
        counts = [max(n, 2) for n in predictions.num_positives().tolist()]  # of two images
        means = [x.item() / n for x, n in zip(expected, counts, strict=True)]
        assert result.loss.item() == pytest.approx(sum(means) / 3)
    assert result.scalars["gamma"].tolist() == pytest.approx([g.item() for g in gammas])
    assert result.group == "umop" and "alpha" not in result.scalars
    plain = sum(loss_sum(*part, 2.0) for part in levels.parts())  # a measure that does not move
    torch.testing.assert_close(umop.plain_sum(predictions), plain)


@of_losses
@of_families
def test_classes_learn_the_overlap_and_the_boxes_weigh_what_their_best_class_scores(name, loss):
    """On Detectron2's IoU and fvcore's GIoU, one by one."""
    keys = keys_of(name)
    opts = [f"MODEL.{keys}.BBOX_REG_LOSS_TYPE", "giou"]
    opts += [] if name == "ATSS" else [f"MODEL.{keys}.LOSS_NORMALIZER", "num_positives"]
    predictions, losses = seen_by(build(name, loss, *opts), make_batch())
    assert len(losses) == 2  # no centerness
    is_pos = predictions.is_pos
    pred, gt = decoded(predictions, is_pos), predictions.gt_boxes[is_pos]
    quality = torch.zeros(is_pos.shape)
    quality[is_pos] = matched_pairwise_iou(Boxes(pred.detach()), Boxes(gt))
    logits = torch.cat(predictions.logits, dim=1).flatten(0, 1)
    loss_sum = dict(zip(LOSSES, SUMS.values(), strict=True))[loss]
    num = max(is_pos.sum().item(), 2)
    loss_cls, loss_box = losses.values()
    expected = loss_sum(logits, predictions.labels.flatten(), quality.flatten(), 2.0) / num
    torch.testing.assert_close(loss_cls, expected)
    weights = torch.cat(predictions.logits, dim=1)[is_pos].sigmoid().amax(dim=1).detach()
    factor = 2.0 if name == "ATSS" else 1.0
    boxes = (factor * giou_loss(pred, gt) * weights).sum() / max(weights.sum().item(), 2)
    torch.testing.assert_close(loss_box, boxes, rtol=1e-4, atol=1e-6)


@of_losses
@of_families
def test_a_detections_score_is_its_class_score(name, loss):
    model = build(name, loss).eval()
    torch.nn.init.ones_(model.head.bbox_pred.bias)  # FCOS's boxes would be empty
    model.test_score_thresh, model.test_nms_thresh = 0.0, 1.0
    inputs = make_batch()[:1]
    with torch.no_grad():
        features = list(model.backbone(model.preprocess_image(inputs).tensor).values())
        logits = model.head(features)[0]
        best = torch.cat([x.flatten() for x in logits]).sigmoid().topk(20).values
        scores = model(inputs)[0]["instances"].scores[:20]
    torch.testing.assert_close(scores, best)


@of_losses
@pytest.mark.parametrize("name", ["ATSS", "FCOS"])
def test_weights_of_the_detector_with_centerness_fit_but_for_the_centerness(name, loss):
    model, other = build(name, loss), tiny_model(name)
    found = model.load_state_dict(other.state_dict(), strict=False)
    assert found.missing_keys == []
    assert set(found.unexpected_keys) == {"head.ctrness.weight", "head.ctrness.bias"}


def test_a_head_that_does_not_suit_the_loss_is_refused():
    model = tiny_model("ATSS")
    arguments = {"head": model.head, "head_in_features": None, "backbone": model.backbone}
    arguments.update(num_classes=4, pixel_mean=[0.0] * 3, pixel_std=[1.0] * 3)
    with pytest.raises(ValueError, match="has_centerness is True, should be False: LevelQuality"):
        type(model)(cls_loss=LevelQualityFocalLoss(), **arguments)
    gfl = tiny_model("GFL")
    arguments.update(head=gfl.head)
    with pytest.raises(ValueError, match="has_centerness is False, should be True: LevelFocal"):
        type(gfl)(cls_loss=LevelFocalLoss(), **arguments)


@pytest.mark.parametrize(
    "name, key, value, words",
    [
        ("GFL", "ATSS.CLS_LOSS_TYPE", "ohem", "should be quality_focal, varifocal or another"),
        ("VFNet", "ATSS.CLS_LOSS_TYPE", "progressive_focal", "score is the box's quality"),
        ("VFNet", "ATSS.BBOX_REG_LOSS_WEIGHT", 1.0, "MODEL.VFNET.BBOX_REG_LOSS_WEIGHT does"),
        ("GFL", "GFL.NUM_BINS", 0, "MODEL.GFL.NUM_BINS is 0, should be at least 1"),
        ("GFL", "GFL.DFL_LOSS_WEIGHT", -1.0, "should be a finite number >= 0"),
        ("ATSS", "ATSS.VARIFOCAL_ALPHA", -0.5, "should be a finite number >= 0"),
        ("FCOS", "FCOS.BBOX_REG_LOSS_TYPE", "iou", "should be one of balanced_l1, ciou"),
    ],
)
def test_what_a_detector_cannot_do_is_refused_by_key(name, key, value, words):
    with pytest.raises(ConfigError, match=words):
        check_config(tiny_cfg(name, f"MODEL.{key}", value))


@pytest.mark.parametrize("kind", ["diou", "balanced_l1"])
@pytest.mark.parametrize("name", ["ATSS", "FCOS", "GFL", "VFNet"])
def test_the_box_loss_is_the_one_of_the_key(name, kind):
    """Against Detectron2's loss and deltas, of boxes that weigh one each."""
    keys = keys_of(name)
    opts = (f"MODEL.{keys}.BBOX_REG_LOSS_TYPE", kind, f"MODEL.{keys}.SMOOTH_L1_LOSS_BETA", 0.5)
    model = tiny_model(name, *opts)
    predictions, _ = seen_by(model, make_batch())
    is_pos = predictions.is_pos
    gt, anchors = predictions.gt_boxes[is_pos], predictions.anchors.expand(2, -1, -1)[is_pos]
    if kind == "diou":
        expected = diou_loss(decoded(predictions, is_pos), gt).sum()
    else:
        targets = model.box2box_transform.get_deltas(anchors, gt)
        expected = balanced_l1_loss(predictions.deltas[is_pos], targets, beta=0.5).sum()
    got = model.box_loss_sum(predictions, is_pos.float(), 1.0)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_the_mean_of_a_distribution_by_hand():
    """Weights 1, 2, 1 of the bins 0, 1, 2, and a certain 2; half precision in fp32."""
    logits = torch.tensor([[1.0, 2.0, 1.0], [1e-9, 1e-9, 1.0]]).log()
    torch.testing.assert_close(expected_bin(logits), torch.tensor([1.0, 2.0]))
    assert expected_bin(logits.half()).dtype == torch.float32
    bad = torch.tensor([[0.0, float("inf"), 0.0], [0.0, 0.0, 0.0]], requires_grad=True)
    means = expected_bin(bad)
    assert means[0].isnan() and means[1] == 1
    means[1].backward()
    assert bad.grad.isfinite().all()


def test_gfl_boxes_end_as_many_strides_away_as_their_distributions_say():
    model = tiny_model("GFL").eval()
    head = model.head
    assert isinstance(head, GFLHead)
    with torch.no_grad():
        head.bbox_pred.weight.zero_()
        bias = torch.full((4, 17), -50.0)
        for edge, bin_ in enumerate((1, 2, 3, 4)):
            bias[edge, bin_] = 50.0
        head.bbox_pred.bias.copy_(bias.flatten())
    model.test_score_thresh, model.test_nms_thresh = 0.0, 1.0
    model.max_detections_per_image = None
    with torch.no_grad():
        boxes = model([make_input([], [], size=(256, 256))])[0]["instances"].pred_boxes.tensor
    centre = torch.tensor([128.0, 128.0])
    for stride in (8, 16, 32):  # the location in the middle of each level
        box = torch.cat(
            (centre - stride * torch.tensor([1, 2]), centre + stride * torch.tensor([3, 4]))
        )
        assert (boxes - box).abs().amax(dim=1).min() < 1e-3


def test_the_star_samples_the_corners_the_edges_and_the_middle_of_a_box():
    left, top, right, bottom = 1.5, 2.0, 3.0, 0.5
    distances = torch.tensor([left, top, right, bottom]).view(1, 4, 1, 1).repeat(1, 1, 8, 8)
    ramp = torch.arange(8.0)
    feature = torch.stack((ramp[:, None].expand(8, 8), ramp.expand(8, 8)))[None]  # y, x
    found = []
    for k in range(9):  # a convolution that copies its sample k
        conv = DeformConv2d(in_channels=2, out_channels=2)
        torch.nn.init.zeros_(conv.weight)
        conv.weight.data[[0, 1], [0, 1], k // 3, k % 3] = 1
        found.append(conv(feature, star_offsets(distances))[0, :, 4, 3])
    expected = [(y, x) for y in (4 - top, 4, 4 + bottom) for x in (3 - left, 3, 3 + right)]
    torch.testing.assert_close(torch.stack(found), torch.tensor(expected))


def test_a_tenth_of_the_gradient_passes_the_star_and_none_of_a_value_that_is_not_finite():
    distances = torch.ones(1, 4, 2, 2)
    distances[0, 2, 0, 0] = float("inf")
    distances.requires_grad_()
    offsets = star_offsets(distances)
    assert offsets.isfinite().all()
    offsets[:, 17].sum().backward()  # x of the lower right corner: the distance to the right
    expected = torch.zeros(1, 4, 2, 2)
    expected[0, 2] = 0.1
    expected[0, 2, 0, 0] = 0
    torch.testing.assert_close(distances.grad, expected)


@pytest.mark.parametrize("name", ["GFL", "VFNet"])
def test_labels_are_those_of_atss(name):
    model, atss = tiny_model(name), tiny_model("ATSS")
    anchors = model.anchor_generator([torch.zeros(1, 1, 16 >> i, 16 >> i) for i in range(5)])
    instances = [x["instances"] for x in make_batch()]
    for ours, theirs in zip(
        model.label_anchors(anchors, instances), atss.label_anchors(anchors, instances), strict=True
    ):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_vfnet_weighs_first_and_refined_boxes_with_their_own_overlap():
    model = tiny_model("VFNet")
    predictions, losses = seen_by(model, make_batch())
    is_pos = predictions.is_pos
    pred, gt = decoded(predictions, is_pos), predictions.gt_boxes[is_pos]
    overlap = matched_pairwise_iou(Boxes(pred.detach()), Boxes(gt))
    expected = 2.0 * (giou_loss(pred, gt) * overlap).sum() / max(overlap.sum().item(), 2)
    torch.testing.assert_close(losses["loss_box_refine"], expected, rtol=1e-4, atol=1e-6)
    assert set(losses) == {"loss_cls", "loss_box_reg", "loss_box_refine"}


@pytest.mark.parametrize("name", ["GFL", "VFNet", *FAMILIES])
def test_it_learns_where_the_boxes_are(name):
    """A few steps on one image, from wherever the boxes of a new head are."""
    loss = {"GFL": "quality_focal", "VFNet": "varifocal"}.get(name, "varifocal")
    model = build(name, loss, f"MODEL.{keys_of(name)}.BBOX_REG_LOSS_TYPE", "giou")
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    history = []
    for _ in range(25):
        with EventStorage():
            losses = model(make_batch()[:1])
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        predictions, _ = seen_by(model, make_batch()[:1])
        quality = predictions.quality()[predictions.is_pos]
        history.append(quality.mean().item())
    assert history[-1] > history[0] + 0.1 and history[-1] > 0.5, history
