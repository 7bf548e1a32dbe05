"""One key for the classification loss of all dense detectors, and what a registered loss sees."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes
from detectron2.structures.boxes import matched_pairwise_iou
from detectron2.utils.events import EventStorage

from libra_umop.modeling.dense.losses.classification import (
    CLS_LOSSES,
    ClassificationLoss,
    LevelLoss,
    register_cls_loss,
)
from testing.batches import make_batch, make_input
from testing.dense_models import spread_scores, tiny_cfg, tiny_model

FAMILIES = {"RETINANET": "LibraRetinaNet", "ATSS": "ATSS", "FCOS": "FCOS"}
UMOP = {"RETINANET": "UMOPRetinaNet", "ATSS": "UMOPATSS", "FCOS": "UMOPFCOS"}


def train_step(model, batch):
    """Losses, logged scalars and gradients."""
    with EventStorage() as storage:
        losses = model(batch)
    sum(losses.values()).backward()
    grads = {name: p.grad for name, p in model.named_parameters()}
    return {k: v.detach() for k, v in losses.items()}, storage.latest(), grads


@pytest.mark.parametrize("keys", FAMILIES)
def test_umop_is_a_name_for_the_detector_with_the_progressive_focal_loss(keys):
    key = f"MODEL.{keys}.CLS_LOSS_TYPE"
    as_saved_by_0_1_0 = tiny_model(UMOP[keys], key, "focal")
    others = [
        tiny_model(FAMILIES[keys], key, "progressive_focal"),
        tiny_model(UMOP[keys], key, "progressive_focal"),
    ]
    expected = train_step(as_saved_by_0_1_0, make_batch())
    assert any(name.endswith("/gamma") for name in expected[1])
    for model in others:
        assert model.state_dict().keys() == as_saved_by_0_1_0.state_dict().keys()
        torch.testing.assert_close(train_step(model, make_batch()), expected, rtol=0, atol=0)


@pytest.mark.parametrize("keys", FAMILIES)
def test_umop_refuses_a_classification_loss_that_it_would_ignore(keys):
    key, name = f"MODEL.{keys}.CLS_LOSS_TYPE", UMOP[keys]
    told = f"{key} is 'ohem', which {name} does not have; {FAMILIES[keys]} does"
    with pytest.raises(ValueError, match=told):
        build_model(tiny_cfg(name, key, "ohem"))


@pytest.mark.parametrize("keys", FAMILIES)
def test_ohem_with_every_negative_is_cross_entropy_and_less_with_few(keys):
    group = f"MODEL.{keys}."
    cross_entropy = (group + "FOCAL_LOSS_GAMMA", 0.0, group + "FOCAL_LOSS_ALPHA", -1.0)
    ohem = (group + "CLS_LOSS_TYPE", "ohem", group + "OHEM_NEG_POS_RATIO")
    everything, every, few = (
        next(iter(train_step(tiny_model(FAMILIES[keys], *opts), make_batch())[0].values()))
        for opts in (cross_entropy, (*ohem, 1e9), (*ohem, 3.0))
    )
    torch.testing.assert_close(every, everything, rtol=1e-5, atol=0)
    assert 0 < few < everything


class QualitySeen(ClassificationLoss):
    """Keeps what it saw, and asks for the sum of the quality of each level."""

    def sums(self, predictions):
        return torch.stack([x.sum() for x in predictions.split(predictions.quality())])[:, None]

    def __call__(self, predictions, totals, normalizer):
        self.seen = predictions, totals
        loss = sum(x.sum() for x in predictions.logits) / normalizer
        return LevelLoss(loss, {"mean_quality": totals.sums[:, 0]}, group="seen")


@pytest.fixture
def seen():
    """The one instance, registered as "seen"."""
    loss = QualitySeen()
    register_cls_loss("seen")(lambda cfg, keys: loss)
    yield loss
    del CLS_LOSSES["seen"]


@pytest.mark.parametrize("keys", FAMILIES)
def test_a_registered_loss_sees_the_iou_of_the_positives_and_its_sums(keys, seen):
    model = tiny_model(FAMILIES[keys], f"MODEL.{keys}.CLS_LOSS_TYPE", "seen")
    spread_scores(model)
    _, logged, grads = train_step(model, make_batch())
    predictions, totals = seen.seen
    quality, is_pos = predictions.quality(), predictions.is_pos
    assert is_pos.sum() > 0 and not quality.requires_grad and quality[~is_pos].count_nonzero() == 0
    anchors = predictions.anchors.expand_as(predictions.deltas)[is_pos]
    boxes = predictions.transform.apply_deltas(predictions.deltas[is_pos].detach(), anchors)
    expected = matched_pairwise_iou(Boxes(boxes), Boxes(predictions.gt_boxes[is_pos]))
    torch.testing.assert_close(quality[is_pos], expected)
    torch.testing.assert_close(totals.sums.sum(), expected.sum())
    assert totals.num_positives.sum() == is_pos.sum() and totals.num_images == 2
    names = {f"seen/p{i}/{x}" for i in range(3, 8) for x in ("num_positives", "mean_quality")}
    assert names <= set(logged) and all(g.isfinite().all() for g in grads.values())


@pytest.mark.parametrize("keys", FAMILIES)
def test_an_image_without_objects_has_no_quality(keys, seen):
    model = tiny_model(FAMILIES[keys], f"MODEL.{keys}.CLS_LOSS_TYPE", "seen")
    train_step(model, [make_input([], [])])
    assert seen.seen[1].sums.count_nonzero() == 0
