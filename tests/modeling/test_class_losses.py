"""ROI heads with class weights and seesaw loss, against their parents and hand arithmetic."""

import pytest
import torch
from detectron2.utils.events import EventStorage
from torch.nn import functional as F

from libra_umop.functional.long_tail import effective_number_weights, seesaw_loss
from libra_umop.modeling import region_losses
from libra_umop.modeling.rcnn.box_predictor import BalancedL1OutputLayers
from testing.batches import a_batch
from testing.tiny_rcnn import tiny_config, tiny_model

COUNTS = [900, 30, 1]  # of the three classes
WEIGHTS = ["MODEL.CLASS_WEIGHTS.BETA", 0.99, "MODEL.CLASS_WEIGHTS.COUNTS", COUNTS]
SEESAW = ["MODEL.ROI_BOX_HEAD.CLS_LOSS_TYPE", "seesaw"]
HEADS = ("LibraROIHeads", "LibraCascadeROIHeads", "OHEMROIHeads", "LibraRes5ROIHeads")
LEVERS = {"weights": WEIGHTS, "seesaw": SEESAW}


def config(heads, *options):
    cascade = ["MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", True] if "Cascade" in heads else []
    name = f"faster_rcnn_R_50_{'C4' if 'Res5' in heads else 'FPN'}_1x"
    return tiny_config(name, ["MODEL.ROI_HEADS.NAME", heads, *cascade, *options])


def predictors(model):
    found = model.roi_heads.box_predictor
    return list(found) if isinstance(found, torch.nn.ModuleList) else [found]


def step(model, batch):
    torch.manual_seed(1)
    model.zero_grad()
    with EventStorage():
        losses = model(batch)
    sum(losses.values()).backward()
    return losses


def seen(model):
    """What each predictor's loss is called with, and gives, in one step."""
    calls = []
    for predictor in predictors(model):
        original = predictor.losses

        def listen(predictions, proposals, original=original, predictor=predictor):
            losses = original(predictions, proposals)
            gt_classes = torch.cat([p.gt_classes for p in proposals])
            calls.append((predictor, predictions, proposals, gt_classes, losses))
            return losses

        predictor.losses = listen
    return calls


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("lever", LEVERS)
@pytest.mark.parametrize("num_boxes", [(3, 2), (3, 0), (0,), (0, 0)])
def test_any_batch_trains(heads, lever, num_boxes):
    torch.manual_seed(0)
    model = tiny_model(config(heads, *LEVERS[lever]))
    losses = step(model, a_batch(*num_boxes))
    assert all(loss.isfinite() for loss in losses.values())
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name
    assert all(p.cls_score.weight.grad.abs().sum() > 0 for p in predictors(model))


@pytest.mark.parametrize("heads", HEADS)
def test_off_is_the_parent_bit_for_bit(heads):
    """And so is a loss that changes nothing, up to rounding."""
    torch.manual_seed(0)
    batch = a_batch(3, 2)
    plain = tiny_model(config(heads))
    off = tiny_model(config(heads, "MODEL.CLASS_WEIGHTS.COUNTS", COUNTS))
    assert off.state_dict().keys() == plain.state_dict().keys()
    expected = step(plain, batch)
    torch.testing.assert_close(step(off, batch), expected, rtol=0, atol=0)
    for p, q in zip(plain.parameters(), off.parameters(), strict=True):
        assert p.grad is None or torch.equal(p.grad, q.grad)
    without = [*SEESAW, "MODEL.ROI_BOX_HEAD.SEESAW_P", 0.0, "MODEL.ROI_BOX_HEAD.SEESAW_Q", 0.0]
    even = [*WEIGHTS[:3], [5, 5, 5]]
    for options in (without, even):
        model = tiny_model(config(heads, *options))
        model.load_state_dict(plain.state_dict())
        torch.testing.assert_close(step(model, batch), expected)


@pytest.mark.parametrize("heads", HEADS)
def test_class_weights_are_those_of_the_regions_of_the_class(heads):
    model = tiny_model(config(heads, *WEIGHTS))
    calls = seen(model)
    step(model, a_batch(3, 2))
    weights = torch.cat((effective_number_weights(torch.tensor(COUNTS), beta=0.99), torch.ones(1)))
    assert len(calls) == len(predictors(model))
    for _, (scores, _), _, gt_classes, losses in calls:
        by_hand = (
            weights[gt_classes] * F.cross_entropy(scores, gt_classes, reduction="none")
        ).mean()
        torch.testing.assert_close(losses["loss_cls"], by_hand)


@pytest.mark.parametrize("heads", HEADS)
def test_seesaw_counts_the_regions_of_all_steps_and_loses_by_them(heads):
    model = tiny_model(config(heads, *SEESAW))
    calls = seen(model)
    counts = {p: torch.zeros(3, dtype=torch.int64) for p in predictors(model)}
    for _ in range(2):
        step(model, a_batch(3, 2))
    for predictor, (scores, _), _, gt_classes, losses in calls:
        counts[predictor] += torch.bincount(gt_classes, minlength=4)[:3]
        by_hand = seesaw_loss(scores, gt_classes, counts[predictor]).mean()
        torch.testing.assert_close(losses["loss_cls"], by_hand)
    for predictor in predictors(model):
        assert torch.equal(predictor.class_loss.class_counts, counts[predictor])
        assert counts[predictor].sum() > 0


@pytest.mark.parametrize("lever", LEVERS)
@pytest.mark.parametrize("box_loss", ["smooth_l1", "balanced_l1"])
def test_loss_region_by_region_is_that_of_the_whole(lever, box_loss):
    options = ["MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE", box_loss]
    options += ["MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA", 1.0]
    model = tiny_model(config("LibraROIHeads", *LEVERS[lever], *options))
    calls = seen(model)
    step(model, a_batch(3, 2))
    ((predictor, predictions, proposals, _, losses),) = calls
    assert isinstance(predictor, BalancedL1OutputLayers) == (box_loss == "balanced_l1")
    with torch.no_grad():  # which is not learning: nothing is counted again
        mean = region_losses(predictor, predictions, proposals).mean()
    torch.testing.assert_close(mean, sum(losses.values()).detach())


@pytest.mark.parametrize("heads", HEADS)
def test_a_pass_that_only_measures_counts_nothing(heads):
    model = tiny_model(config(heads, *SEESAW))
    with torch.no_grad(), EventStorage():
        model(a_batch(3, 2))
    assert all(p.class_loss.class_counts.sum() == 0 for p in predictors(model))


def test_counts_are_in_the_checkpoint_and_one_without_them_loads():
    model, other = (tiny_model(config("LibraROIHeads", *SEESAW)) for _ in range(2))
    step(model, a_batch(3, 2))
    state = model.state_dict()
    key = "roi_heads.box_predictor.class_loss.class_counts"
    assert state[key].sum() > 0
    other.load_state_dict(state)
    assert torch.equal(other.state_dict()[key], state[key])
    del state[key]
    other.load_state_dict(state)  # strict


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("lever", LEVERS)
def test_loss_of_half_precision_scores_is_in_fp32(lever, dtype):
    model = tiny_model(config("LibraROIHeads", *LEVERS[lever]))
    loss = model.roi_heads.box_predictor.class_loss
    scores, gt_classes = torch.randn(6, 4).to(dtype), torch.tensor([0, 1, 2, 3, 3, 3])
    with torch.autocast("cpu", dtype=dtype), torch.no_grad():
        got = loss(scores, gt_classes)
        assert got.dtype == torch.float32
    torch.testing.assert_close(got, loss(scores.float(), gt_classes).detach(), check_dtype=False)


@pytest.mark.parametrize(
    "options, words",
    [
        ([*WEIGHTS, *SEESAW], "MODEL.CLASS_WEIGHTS.BETA is 0.99, should be 0"),
        ([*SEESAW, "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE", True], "USE_SIGMOID_CE is True, should be"),
        ([*WEIGHTS[:3], [1, 2]], "COUNTS has 2 numbers, should have one for each of the 3 classes"),
    ],
)
def test_what_does_not_go_together_is_refused(options, words):
    with pytest.raises(ValueError, match=words):
        tiny_model(config("LibraROIHeads", *options))


def test_weights_without_counts_build_but_do_not_train():
    model = tiny_model(config("LibraROIHeads", *WEIGHTS[:2]))
    with pytest.raises(ValueError, match=r"COUNTS is \[\], should be the boxes of each class"):
        step(model, a_batch(3, 2))
    model.eval()
    with torch.no_grad():
        assert model(a_batch(1))
