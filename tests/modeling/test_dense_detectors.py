"""What every dense detector promises: odd batches, logging, no waiting, half precision."""

import copy

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.modeling.meta_arch import RetinaNet
from detectron2.modeling.meta_arch import fcos as d2_fcos
from detectron2.utils.events import EventStorage
from torch.utils._python_dispatch import TorchDispatchMode

from libra_umop.modeling.dense.losses.boxes.box_loss import BOX_LOSS_TYPES
from libra_umop.modeling.dense.losses.classification import CLS_LOSSES
from testing.batches import make_batch, make_input
from testing.dense_models import (
    DETECTORS,
    LEVELS,
    UMOP_DETECTORS,
    keys_of,
    spread_scores,
    tiny_cfg,
    tiny_model,
)

EMPTY = make_input([], [])
PLAIN_DETECTORS = [name for name in DETECTORS if name not in UMOP_DETECTORS]


def step(model, batch):
    """One forward and backward pass: losses by name, and what was logged."""
    model.zero_grad()
    with EventStorage() as storage:
        losses = model(batch)
    sum(losses.values()).backward()
    return losses, {name: value for name, (value, _) in storage.latest().items()}


@pytest.mark.parametrize("name", DETECTORS)
def test_any_batch_trains_with_the_same_losses(name):
    batch = make_batch()
    keys = set()
    for inputs in (batch, batch[:1], [EMPTY], [EMPTY, EMPTY], [batch[0], EMPTY]):
        model = tiny_model(name)
        losses, _ = step(model, inputs)
        keys.add(tuple(losses))
        assert all(loss.isfinite() for loss in losses.values())
        for parameter_name, parameter in model.named_parameters():
            assert parameter.grad is not None, parameter_name
            assert parameter.grad.isfinite().all(), parameter_name
    assert len(keys) == 1


@pytest.mark.parametrize("name", DETECTORS)
def test_a_single_class_and_a_1x1_top_level_train_and_detect(name):
    model = tiny_model(name, f"MODEL.{keys_of(name)}.NUM_CLASSES", 1)
    inputs = [make_input([[4, 4, 60, 60]], [0], size=(64, 64))]
    losses, _ = step(model, inputs)
    assert all(loss.isfinite() for loss in losses.values())
    model.eval()
    model.test_score_thresh = 0.0
    with torch.no_grad():
        assert len(model(inputs)[0]["instances"]) > 0


FOCUS_OFF = ("MODEL.UMOP.PROGRESSIVE_FOCUS", False)
OHEM = ("MODEL.RETINANET.CLS_LOSS_TYPE", "ohem")
LOGGED = [  # detector, options, and what is logged of each level under which name
    *((name, (), "umop", "num_positives gamma alpha clipped loss_cls") for name in UMOP_DETECTORS),
    *((name, FOCUS_OFF, "level", "num_positives loss_cls") for name in UMOP_DETECTORS),
    *((name, (), "level", "num_positives loss_cls") for name in PLAIN_DETECTORS),
    ("LibraRetinaNet", OHEM, "level", "num_positives"),
]


@pytest.mark.parametrize("name, opts, group, columns", LOGGED)
def test_of_levels_what_the_loss_has_is_logged(name, opts, group, columns):
    losses, logged = step(tiny_model(name, *opts), make_batch())
    expected = {f"{group}/{level}/{column}" for level in LEVELS for column in columns.split()}
    assert {key for key in logged if "/" in key} == expected
    positives = [logged[f"{group}/{level}/num_positives"] for level in LEVELS]
    assert sum(positives) > 0
    assert logged["num_pos_anchors"] == pytest.approx(sum(positives) / 2)
    if "loss_cls" in columns:
        total = sum(logged[f"{group}/{level}/loss_cls"] for level in LEVELS)
        assert losses[next(key for key in losses if "cls" in key)].item() == pytest.approx(total)


@pytest.mark.parametrize("name", UMOP_DETECTORS)
def test_logged_gamma_is_clipped_where_it_would_leave_its_range(name):
    _, logged = step(tiny_model(name), make_batch())
    for level in LEVELS:
        assert 1.5 <= logged[f"umop/{level}/gamma"] <= 2.5
        # At the start p is 0.01 everywhere, so that gamma is clamped wherever it moves.
        has_positives = logged[f"umop/{level}/num_positives"] > 0
        assert logged[f"umop/{level}/clipped"] == has_positives


@pytest.mark.parametrize("name", UMOP_DETECTORS)
def test_half_precision_trains_20_steps_near_fp32(name):
    model = tiny_model(name)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    batch = make_batch()
    for iteration in range(20):
        exact, _ = step(copy.deepcopy(model), batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses, _ = step(model, batch)
        optimizer.step()
        total, expected = sum(losses.values()).item(), sum(exact.values()).item()
        assert total == pytest.approx(expected, rel=0.02), iteration


class CountWaits(TorchDispatchMode):
    """Counts the operators that make the host wait for a GPU."""

    WAITING = ("nonzero", "_local_scalar_dense", "masked_select", "is_nonzero", "equal", "unique")

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        indices = args[1] if name in ("index", "index_put", "index_put_") else []
        by_mask = any(i is not None and i.dtype == torch.bool for i in indices)
        if name in self.WAITING or by_mask:
            self.calls.append(name)
        return func(*args, **(kwargs or {}))


def predict(model, batch):
    """Anchors and transposed predictions of a batch."""
    features = list(model.backbone(model.preprocess_image(batch).tensor).values())
    predictions = model.head(features)
    anchors = model.anchor_generator(features)
    if not hasattr(model, "arrange"):  # RetinaNet
        return anchors, model._transpose_dense_predictions(predictions, [model.num_classes, 4])
    logits, deltas, others = model.arrange(predictions)
    return anchors, [logits, deltas, *others]


def count_waits(model, batch, parent=None):
    """Waits of (labelling, losses) of ``model``, or of these methods of class ``parent``."""
    owner = parent or type(model)
    anchors, (logits, deltas, *rest) = predict(model, batch)
    with EventStorage():
        with CountWaits() as labelling:
            labels, boxes = owner.label_anchors(model, anchors, [x["instances"] for x in batch])
        with CountWaits() as losses:
            result = owner.losses(model, anchors, logits, labels, deltas, boxes, *rest)
            sum(result.values()).backward()
    return len(labelling.calls), len(losses.calls)


QUALITY_LOSSES = [name for name in CLS_LOSSES if "quality" in name or "vari" in name]
WAITING_CASES = (
    [(name, ()) for name in DETECTORS]
    + [
        (name, (f"MODEL.{keys_of(name)}.CLS_LOSS_TYPE", cls_loss))
        for name in DETECTORS
        if name not in UMOP_DETECTORS
        for cls_loss in QUALITY_LOSSES
    ]
    + [
        (
            name,
            (
                *(f"MODEL.{keys_of(name)}.BBOX_REG_LOSS_TYPE", box_loss),
                *(f"MODEL.{keys_of(name)}.SMOOTH_L1_LOSS_BETA", 0.1),
            ),
        )
        for name in DETECTORS
        if name not in UMOP_DETECTORS
        for box_loss in BOX_LOSS_TYPES
    ]
)


@pytest.mark.parametrize("name, opts", WAITING_CASES)
def test_losses_never_wait_for_the_device(name, opts):
    model = tiny_model(name, *opts)
    labelling, losses = count_waits(model, make_batch())
    assert losses == 0
    if keys_of(name) == "ATSS":
        assert labelling == 0


@pytest.mark.gpu
@pytest.mark.parametrize("name, opts", WAITING_CASES)
def test_losses_pass_cudas_own_check_for_waiting(name, opts):
    model = tiny_model(name, *opts).cuda()
    anchors, (logits, deltas, *rest) = predict(model, make_batch())
    instances = [x["instances"].to("cuda") for x in make_batch()]
    labels, boxes = model.label_anchors(anchors, instances)
    with EventStorage() as storage:
        for _ in range(2):  # the second writes what the first left pending
            torch.cuda.set_sync_debug_mode("error")
            try:
                if keys_of(name) == "ATSS":
                    model.label_anchors(anchors, instances)
                result = model.losses(anchors, logits, labels, deltas, boxes, *rest)
                sum(result.values()).backward(retain_graph=True)
            finally:
                torch.cuda.set_sync_debug_mode("default")
    group = "umop" if name in UMOP_DETECTORS or "progressive" in str(opts) else "level"
    assert f"{group}/p3/num_positives" in storage.latest()


@pytest.mark.parametrize("name", [x for x in DETECTORS if keys_of(x) != "ATSS"])
def test_labelling_is_the_parents_and_waits_no_more_often(name):
    parent = d2_fcos.FCOS if "FCOS" in name else RetinaNet
    model, batch = tiny_model(name), make_batch()
    anchors, gts = predict(model, batch)[0], [x["instances"] for x in batch]
    with CountWaits() as ours:
        labelled = model.label_anchors(anchors, gts)
    with CountWaits() as theirs:
        expected = parent.label_anchors(model, anchors, gts)
    assert len(ours.calls) <= len(theirs.calls)
    for found, wanted in zip(labelled, expected, strict=True):
        assert all(map(torch.equal, found, wanted))


def test_parent_losses_do_wait():
    """Shows that the counting counts."""
    model = tiny_model("LibraRetinaNet")
    del model.loss_normalizer  # the parent keeps a number of that name
    assert count_waits(model, make_batch(), RetinaNet)[1] > 0


@pytest.mark.parametrize("name", DETECTORS)
def test_detections_lie_inside_the_image_and_are_the_same_one_by_one(name):
    model = tiny_model(name).eval()
    model.test_score_thresh = 0.0
    spread_scores(model)
    batch = [make_batch()[0], make_input([], [], seed=3)]
    with torch.no_grad():
        together = [x["instances"] for x in model(batch)]
        alone = [model([x])[0]["instances"] for x in batch]
    for a, b in zip(together, alone, strict=True):
        assert 0 < len(a) <= 100
        torch.testing.assert_close(a.pred_boxes.tensor, b.pred_boxes.tensor, rtol=0, atol=1e-3)
        boxes = a.pred_boxes.tensor
        assert (boxes >= 0).all() and (boxes[:, 0::2] <= 128).all() and (boxes[:, 1::2] <= 96).all()


@pytest.mark.parametrize("name", UMOP_DETECTORS)
@pytest.mark.parametrize(
    "key, value, message",
    [
        ("FOCUS", "median", "MODEL.UMOP.FOCUS"),
        ("LEVEL_REDUCTION", "max", "MODEL.UMOP.LEVEL_REDUCTION"),
        ("DELTA", 2.0, "MODEL.UMOP.DELTA"),
        ("W", 1.6, "MODEL.UMOP.W"),
    ],
)
def test_values_out_of_range_name_their_key(name, key, value, message):
    with pytest.raises(ValueError, match=message):
        build_model(tiny_cfg(name, f"MODEL.UMOP.{key}", value))


def train_and_test(model):
    """Losses of three steps, the weights after them, and what is then detected."""
    spread_scores(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    losses = []
    for _ in range(3):
        losses.append({key: loss.item() for key, loss in step(model, make_batch())[0].items()})
        optimizer.step()
    model.eval().test_score_thresh = 0.0
    with torch.no_grad():
        detections = [output["instances"] for output in model(make_batch())]
    return losses, model.state_dict(), detections


@pytest.mark.parametrize(
    "family, opts",
    [
        ("ATSS", ()),
        ("RetinaNet", ()),
        ("RetinaNet", ("MODEL.RETINANET.LOSS_NORMALIZER", "num_positives")),
        ("RetinaNet", ("MODEL.RETINANET.BBOX_REG_LOSS_TYPE", "giou")),
        ("FCOS", ()),
        ("FCOS", ("MODEL.FCOS.LOSS_NORMALIZER", "num_positives")),
    ],
)
def test_umop_with_its_levers_off_is_the_baseline_bit_for_bit(family, opts):
    """In training and in testing, so that a row and its baseline differ in the lever alone."""
    plain = {"RetinaNet": "LibraRetinaNet"}.get(family, family)
    off = ("MODEL.UMOP.PROGRESSIVE_FOCUS", False, "MODEL.UMOP.LEVEL_WISE", False)
    losses, weights, detections = train_and_test(tiny_model(plain, *opts))
    same_losses, same_weights, same_detections = train_and_test(
        tiny_model("UMOP" + family, *opts, *off)
    )
    assert same_losses == losses
    assert same_weights.keys() == weights.keys()
    assert all(torch.equal(same_weights[key], weights[key]) for key in weights)
    for a, b in zip(same_detections, detections, strict=True):
        assert len(a) > 0
        assert torch.equal(a.pred_boxes.tensor, b.pred_boxes.tensor)
        assert torch.equal(a.scores, b.scores) and torch.equal(a.pred_classes, b.pred_classes)


@pytest.mark.parametrize("family", ["RetinaNet", "ATSS", "FCOS"])
def test_none_pfl_and_lrp_are_one_key_apart(family):
    name = "UMOP" + family
    plain = {"RetinaNet": "LibraRetinaNet"}.get(family, family)
    off = ("MODEL.UMOP.PROGRESSIVE_FOCUS", False, "MODEL.UMOP.LEVEL_WISE", False)
    batch = make_batch()
    expected, _ = step(tiny_model(plain), batch)
    losses, _ = step(tiny_model(name, *off), batch)
    assert {k: v.item() for k, v in losses.items()} == {k: v.item() for k, v in expected.items()}
    values = {tuple(x.item() for x in losses.values())}
    # Without a gamma for each level, levels that are summed are the plain loss.
    for progressive, level_wise, reduction in (
        (True, False, "sum"),
        (True, True, "sum"),
        (True, True, "mean"),
        (False, True, "mean"),
        (False, True, "sum"),
    ):
        opts = ("MODEL.UMOP.PROGRESSIVE_FOCUS", progressive, "MODEL.UMOP.LEVEL_WISE", level_wise)
        opts += ("MODEL.UMOP.LEVEL_REDUCTION", reduction)
        losses, _ = step(tiny_model(name, *opts), batch)
        values.add(tuple(x.item() for x in losses.values()))
    assert len(values) == 5
