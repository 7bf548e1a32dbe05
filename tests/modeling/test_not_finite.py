"""An overflow where no loss looks: it reaches neither the loss nor the gradient."""

from functools import partial

import pytest
import torch
from detectron2.structures import ImageList
from detectron2.utils.events import EventStorage

from libra_umop.functional.focal_loss import focal_loss_sum
from libra_umop.functional.hard_negative_mining import hard_negative_bce_sum
from libra_umop.functional.quality_losses import quality_focal_loss_sum, varifocal_loss_sum
from libra_umop.modeling.dense.losses.boxes.box_loss import BOX_LOSS_TYPES
from testing.batches import make_batch
from testing.dense_models import DETECTORS, EDGE_DISTANCE_DETECTORS, keys_of, tiny_model

BAD = [float("inf"), float("-inf"), float("nan")]
CASES = [("RetinaNet", "smooth_l1"), ("RetinaNet", "giou")]  # Detectron2's own, which has none
CASES += [(f"{name}RetinaNet", loss) for name in ("Libra", "UMOP") for loss in BOX_LOSS_TYPES]
CASES += [(name, "giou") for name in DETECTORS if keys_of(name) != "RETINANET"]
CASES += [(name, "balanced_l1") for name in ("ATSS", "FCOS", *EDGE_DISTANCE_DETECTORS)]
# The class scores of VFNet look where its boxes end, of background, too.
SCORES_SEE_BOXES = ("VFNet",)


def build(name, box_loss):
    node = f"MODEL.{keys_of(name)}."
    return tiny_model(
        name, node + "BBOX_REG_LOSS_TYPE", box_loss, node + "SMOOTH_L1_LOSS_BETA", 0.1
    )


def losses_and_grads(model, bad=None):
    """Losses and the gradients of all predictions, with ``bad`` in the boxes and the centerness of
    one location of P3 and of P7 that is background (the images' lower right corners are)."""
    batch = make_batch()
    images = ImageList.from_tensors([x["image"] for x in batch], 32)
    with torch.no_grad():
        features = list(model.backbone((images.tensor - 100) / 57).values())
        predictions = [[x.clone() for x in maps] for maps in model.head(features)]
    for maps in predictions[1:] if bad is not None else ():  # deltas and, if any, centerness
        maps[0][1, :, -1, -1] = maps[-1][1, :, -1, -1] = bad
    predictions = [[x.requires_grad_() for x in maps] for maps in predictions]
    with EventStorage():
        losses = model.forward_training(
            images, features, predictions, [x["instances"] for x in batch]
        )
    sum(losses.values()).backward()
    return losses, [x.grad for maps in predictions for x in maps]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name, box_loss", CASES)
def test_a_value_at_a_background_anchor_changes_no_loss_and_no_gradient(name, box_loss, bad):
    expected, expected_grads = losses_and_grads(build(name, box_loss))
    losses, grads = losses_and_grads(build(name, box_loss), bad)
    for key in expected:
        torch.testing.assert_close(losses[key], expected[key])
    for grad, expected_grad in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(grad, expected_grad, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("name", DETECTORS)
def test_a_value_out_of_the_head_changes_no_gradient_of_a_weight(name, bad):
    """As an overflow of the last convolution, so that what the head does behind it counts too."""
    gradients = []
    for value in (0.25, bad):
        model = tiny_model(name)

        def put(module, args, out, value=value):
            out = out.clone()
            out[1, :, -1, -1] = value
            return out

        model.head.bbox_pred.register_forward_hook(put)
        with EventStorage():
            sum(model(make_batch()).values()).backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    if name in SCORES_SEE_BOXES:
        assert all(grad.isfinite().all() for grad in gradients[1].values())
    else:
        torch.testing.assert_close(gradients[1], gradients[0])


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize(
    "loss",
    [
        partial(focal_loss_sum, gamma=2.0, alpha=0.25),
        hard_negative_bce_sum,
        partial(quality_focal_loss_sum, quality=torch.full((6,), 0.4)),
        partial(varifocal_loss_sum, quality=torch.full((6,), 0.4)),
    ],
    ids=["focal", "ohem", "quality_focal", "varifocal"],
)
def test_a_logit_of_an_ignored_anchor_changes_no_loss_and_no_gradient(loss, bad):
    logits = torch.randn(6, 3)
    labels = torch.tensor([0, 3, -1, 3, 2, -1])
    results = []
    for value in (0.0, bad):
        logits[2, 1] = logits[5] = value
        x = logits.clone().requires_grad_()
        total = loss(x, labels)
        total.backward()
        results.append((total.detach(), x.grad))
    torch.testing.assert_close(*results, rtol=0, atol=0)
    assert results[0][0] > 0 and results[1][1].isfinite().all()
