"""The same image once or sixteen times in a batch: the same loss, the same gradient."""

import pytest
import torch
from detectron2.utils.events import EventStorage

from testing.batches import make_input
from testing.dense_models import DETECTORS, UMOP_DETECTORS, keys_of, tiny_model

TIMES = 16
WITHOUT_SMALL_OBJECTS = make_input([[0, 0, 120, 92], [4, 2, 100, 90]], [1, 3])
WITH_SMALL_OBJECTS = make_input([[10, 10, 40, 38], [30, 40, 110, 92], [70, 5, 90, 30]], [1, 3, 0])
WITHOUT_OBJECTS = make_input([], [])
IMAGES = {"no small": WITHOUT_SMALL_OBJECTS, "small": WITH_SMALL_OBJECTS, "none": WITHOUT_OBJECTS}


def cases():
    """Pairs of detector and options: every reduction of every classification loss."""
    for name in DETECTORS:
        if name not in UMOP_DETECTORS:
            yield name, ()
            continue
        for reduction in ("sum", "mean"):
            for focus in (True, False):
                key = "MODEL.UMOP.PROGRESSIVE_FOCUS"
                yield name, ("MODEL.UMOP.LEVEL_REDUCTION", reduction, key, focus)
    yield "LibraRetinaNet", ("MODEL.RETINANET.CLS_LOSS_TYPE", "ohem")
    for name in ("LibraRetinaNet", "ATSS", "FCOS"):
        for loss in ("quality_focal", "varifocal"):
            yield name, (f"MODEL.{keys_of(name)}.CLS_LOSS_TYPE", loss)
    for name, loss in (("GFL", "progressive_quality_focal"), ("VFNet", "progressive_varifocal")):
        reduction = ("MODEL.UMOP.LEVEL_REDUCTION", "mean")
        yield name, ("MODEL.ATSS.CLS_LOSS_TYPE", loss, *reduction)
    yield "ATSS", ("MODEL.ATSS.CLS_LOSS_TYPE", "equalized_focal")


def normaliser(name, value):
    """Options that choose the normaliser; ATSS, GFL and VFNet have one only."""
    keys = keys_of(name)
    return () if keys == "ATSS" else (f"MODEL.{keys}.LOSS_NORMALIZER", value)


def step(model, inputs):
    """Losses by name, and all gradients in one vector."""
    with EventStorage():
        losses = model(inputs)
    sum(losses.values()).backward()
    grads = torch.cat([p.grad.flatten() for p in model.parameters()])
    return {key: loss.item() for key, loss in losses.items()}, grads


def assert_same_step(once, often):
    (losses, grads), (losses_often, grads_often) = once, often
    assert losses_often == pytest.approx(losses, rel=1e-5, abs=1e-8)
    assert (grads_often - grads).norm() <= 1e-5 * grads.norm()
    assert grads.norm() > 0


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("name, opts", list(cases()), ids=lambda x: x if type(x) is str else "")
def test_divided_by_the_positives_of_the_step(name, opts, image):
    opts += normaliser(name, "num_positives")
    once = step(tiny_model(name, *opts), [IMAGES[image]])
    often = step(tiny_model(name, *opts), [IMAGES[image]] * TIMES)
    assert_same_step(once, often)


@pytest.mark.parametrize("name, opts", list(cases()), ids=lambda x: x if type(x) is str else "")
def test_divided_by_a_moving_average_that_has_seen_such_batches(name, opts):
    """The average is one per batch, so that it starts from sixteen times as many positives."""
    opts += normaliser(name, "moving_average")
    once, often = tiny_model(name, *opts), tiny_model(name, *opts)
    if keys_of(name) != "ATSS":
        often.loss_normalizer.average.mul_(TIMES)
    image = WITHOUT_SMALL_OBJECTS
    assert_same_step(step(once, [image]), step(often, [image] * TIMES))


@pytest.mark.parametrize("name", [x for x in DETECTORS if keys_of(x) != "ATSS"])
def test_current_positives_do_not_depend_on_the_steps_before(name):
    model = tiny_model(name, *normaliser(name, "num_positives"))
    first, grads = step(model, [WITH_SMALL_OBJECTS])
    average = model.loss_normalizer.average.item()
    model.zero_grad()
    step(model, [WITHOUT_OBJECTS])
    model.zero_grad()
    again, grads_again = step(model, [WITH_SMALL_OBJECTS])
    assert again == first and torch.equal(grads, grads_again)
    assert model.loss_normalizer.average.item() == average


@pytest.mark.parametrize("name", [x for x in DETECTORS if keys_of(x) != "ATSS"])
def test_the_two_normalisers_give_losses_in_the_ratio_of_average_and_count(name):
    losses = {}
    for value in ("moving_average", "num_positives"):
        model = tiny_model(name, *normaliser(name, value))
        with EventStorage() as storage:
            losses[value] = sum(model([WITH_SMALL_OBJECTS]).values()).item()
        count = storage.latest()["num_pos_anchors"][0]
        if value == "moving_average":
            average = model.loss_normalizer.average.item()
    ratio = losses["num_positives"] / losses["moving_average"]
    assert count > 1 and ratio == pytest.approx(average / count, rel=1e-5)
