"""Equalised focal loss and class weights in the dense detectors: state, resuming, parents."""

import copy

import pytest
import torch
from detectron2.utils.events import EventStorage

from libra_umop.functional.long_tail import effective_number_weights
from testing.batches import make_batch, make_input
from testing.dense_models import NUM_CLASSES, tiny_model

FAMILIES = {"RETINANET": "LibraRetinaNet", "ATSS": "ATSS", "FCOS": "FCOS"}
EMPTY = make_input([], [])


def equalized(keys, *options):
    return tiny_model(FAMILIES[keys], f"MODEL.{keys}.CLS_LOSS_TYPE", "equalized_focal", *options)


def step(model, batch, rate=0.0):
    model.zero_grad()
    with EventStorage() as storage:
        losses = model(batch)
    sum(losses.values()).backward()
    with torch.no_grad():
        for p in model.parameters():
            p -= rate * p.grad
    return {k: v.detach() for k, v in losses.items()}, storage.latest()


def assert_same(model, other):
    for (name, p), q in zip(model.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q) and torch.equal(p.grad, q.grad), name


@pytest.mark.parametrize("keys", FAMILIES)
def test_first_step_and_every_one_without_scale_are_the_focal_loss(keys):
    plain = tiny_model(FAMILIES[keys])
    expected = [step(plain, make_batch(), 1e-3)[0] for _ in range(2)]
    off = equalized(keys, f"MODEL.{keys}.EQUALIZED_SCALE", 0.0)
    got = [step(off, make_batch(), 1e-3)[0] for _ in range(2)]
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(step(equalized(keys), make_batch())[0], expected[0])


@pytest.mark.parametrize("keys", FAMILIES)
def test_later_steps_have_the_exponents_of_the_gradients_so_far(keys):
    model, heard = equalized(keys), []

    def listen(module, args, output):
        output.register_hook(heard.append)

    hook = model.head.cls_score.register_forward_hook(listen)
    step(model, make_batch(), 1e-3)
    hook.remove()
    gradients = model.cls_loss.gradients.clone()
    assert gradients.shape == (2, NUM_CLASSES) and (gradients > 0).all()
    # What reached the logits of a class, of positives and negatives together, is what was counted.
    by_class = sum(g.abs().unflatten(1, (-1, NUM_CLASSES)).sum(dim=(0, 1, 3, 4)) for g in heard)
    torch.testing.assert_close(gradients.sum(dim=0), by_class, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("keys", FAMILIES)
def test_exponents_follow_the_gradients_so_far(keys):
    """The class whose positives had none of it: gamma 10, and its terms 5 times as much."""
    model = equalized(keys)
    model.cls_loss.gradients.copy_(torch.tensor([[1.0, 0.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]))
    raised = {f"MODEL.{keys}.FOCAL_LOSS_GAMMA": 10.0, f"MODEL.{keys}.EQUALIZED_SCALE": 0.0}
    other = equalized(keys, *[x for pair in raised.items() for x in pair])
    heard = []
    for m in (model, other):
        hook = m.head.cls_score.register_forward_hook(
            lambda module, args, output: output.register_hook(heard[-1].append) and None
        )
        heard.append([])
        step(m, make_batch())
        hook.remove()
    by_class = [
        sum(g.unflatten(1, (-1, NUM_CLASSES)).square().sum(dim=(0, 1, 3, 4)) for g in grads).sqrt()
        for grads in heard
    ]
    torch.testing.assert_close(by_class[0][1], 5 * by_class[1][1], rtol=1e-4, atol=0)


@pytest.mark.parametrize("keys", FAMILIES)
def test_a_model_that_loads_the_state_goes_on_bit_for_bit(keys):
    model = equalized(keys)
    step(model, make_batch(), 1e-3)
    resumed = equalized(keys, "SEED", 7)
    resumed.load_state_dict(model.state_dict())
    for _ in range(2):
        torch.testing.assert_close(
            step(model, make_batch(), 1e-3)[0], step(resumed, make_batch(), 1e-3)[0], rtol=0, atol=0
        )
    assert_same(model, resumed)
    assert torch.equal(model.cls_loss.gradients, resumed.cls_loss.gradients)
    state = {k: v for k, v in model.state_dict().items() if k != "cls_loss.gradients"}
    equalized(keys).load_state_dict(state)  # strict: of a detector without it


@pytest.mark.parametrize("keys", FAMILIES)
def test_any_batch_trains(keys):
    batch = make_batch()
    for inputs in (batch, batch[:1], [EMPTY], [EMPTY, EMPTY], [batch[0], EMPTY]):
        model = equalized(keys)
        for _ in range(2):
            losses, logged = step(model, inputs, 1e-3)
            assert all(loss.isfinite() for loss in losses.values())
        assert all(p.grad.isfinite().all() for p in model.parameters())
        assert model.cls_loss.gradients.isfinite().all()
        assert "level/p3/loss_cls" in logged


@pytest.mark.parametrize("keys", FAMILIES)
def test_a_pass_that_only_measures_changes_no_state(keys):
    model = equalized(keys)
    step(model, make_batch())
    before = copy.deepcopy(model.cls_loss.gradients)
    with torch.no_grad(), EventStorage():
        model(make_batch())
    assert torch.equal(model.cls_loss.gradients, before)
    copy.deepcopy(model)  # nothing of a step is left in it


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_logit_that_is_not_finite_spoils_the_loss_and_not_the_state(bad):
    model = equalized("RETINANET")
    hook = model.head.cls_score.register_forward_hook(lambda m, args, out: out * bad)
    with EventStorage():
        losses = model(make_batch())
    hook.remove()
    assert not losses["loss_cls"].isfinite()
    assert model.cls_loss.gradients.isfinite().all()


@pytest.mark.parametrize("keys", FAMILIES)
def test_autocast_computes_the_loss_in_fp32(keys):
    model = equalized(keys)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses, _ = step(model, make_batch())
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    assert model.cls_loss.gradients.dtype == torch.float32


def test_gamma_0_is_refused():
    with pytest.raises(ValueError, match="FOCAL_LOSS_GAMMA is 0.0, should be > 0"):
        equalized("ATSS", "MODEL.ATSS.FOCAL_LOSS_GAMMA", 0.0)


# Class weights of the focal loss.

COUNTS = [900, 30, 5, 1]
WEIGHTS = ("MODEL.CLASS_WEIGHTS.BETA", 0.99, "MODEL.CLASS_WEIGHTS.COUNTS")
UMOP = {"RETINANET": "UMOPRetinaNet", "ATSS": "UMOPATSS", "FCOS": "UMOPFCOS"}
CASES = [(names, keys) for names in (FAMILIES, UMOP) for keys in FAMILIES]


@pytest.mark.parametrize("names, keys", CASES)
def test_class_weights_that_are_equal_are_the_parent_and_others_are_not(names, keys):
    for batch in (make_batch(), [EMPTY]):
        plain, even = (tiny_model(names[keys], *o) for o in ((), (*WEIGHTS, [7] * 4)))
        assert plain.state_dict().keys() == even.state_dict().keys()
        expected = step(plain, batch)[0]
        torch.testing.assert_close(step(even, batch)[0], expected)
        for p, q in zip(plain.parameters(), even.parameters(), strict=True):
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-3, atol=1e-6)
    off = tiny_model(names[keys], "MODEL.CLASS_WEIGHTS.COUNTS", COUNTS)
    plain = tiny_model(names[keys])
    expected = step(plain, make_batch())[0]
    torch.testing.assert_close(step(off, make_batch())[0], expected, rtol=0, atol=0)
    assert_same(plain, off)
    weighted = step(tiny_model(names[keys], *WEIGHTS, COUNTS), make_batch())[0]
    name = plain.cls_loss_name
    assert weighted.pop(name) != expected.pop(name)
    torch.testing.assert_close(weighted, expected, rtol=0, atol=0)


def test_image_of_one_class_has_the_classification_loss_times_its_weight():
    """But for the background's part, which is what an image without objects has."""
    key = "MODEL.RETINANET.LOSS_NORMALIZER"
    batch = [make_input([[10, 10, 60, 50]], [3])]
    weights = effective_number_weights(torch.tensor(COUNTS), beta=0.99)

    def positives(*options):
        model = tiny_model("LibraRetinaNet", key, "num_positives", *options)
        model.returns_sums = False
        seen = []
        original = model.cls_loss.level_sum

        def level_sum(logits, labels, quality, gamma):
            background = labels.masked_fill((labels >= 0) & (labels < NUM_CLASSES), -1)
            whole = original(logits, labels, quality, gamma)
            seen.append(whole - original(logits, background, quality, gamma))
            return whole

        model.cls_loss.level_sum = level_sum
        step(model, batch)
        return torch.stack(seen).sum().detach()

    torch.testing.assert_close(
        positives(*WEIGHTS, COUNTS), weights[3] * positives(), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("loss", ["ohem", "equalized_focal", "quality_focal", "varifocal"])
def test_loss_that_does_not_weigh_classes_is_refused_beside_weights(loss):
    words = f"BETA is 0.99, should be 0 where MODEL.ATSS.CLS_LOSS_TYPE is '{loss}'"
    with pytest.raises(ValueError, match=words):
        tiny_model("ATSS", "MODEL.ATSS.CLS_LOSS_TYPE", loss, *WEIGHTS, COUNTS)


def test_weights_of_the_dense_detectors_need_counts_to_train():
    model = tiny_model("FCOS", *WEIGHTS[:2])
    with pytest.raises(ValueError, match=r"COUNTS is \[\], should be the boxes of each class"):
        step(model, make_batch())
