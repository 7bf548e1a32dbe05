"""LibraRetinaNet and UMOPRetinaNet: Detectron2's RetinaNet with the methods off."""

import logging

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from torch._dynamo.testing import CompileCounter

from testing.batches import make_batch, make_input
from testing.dense_models import (
    assert_same_detections,
    assert_same_step,
    spread_scores,
    tiny_cfg,
    tiny_model,
    train_step,
)

OFF = ("MODEL.UMOP.PROGRESSIVE_FOCUS", False, "MODEL.UMOP.LEVEL_WISE", False)


@pytest.mark.parametrize("name", ["LibraRetinaNet", "UMOPRetinaNet"])
@pytest.mark.parametrize("box_loss", ["smooth_l1", "giou", "diou", "ciou"])
def test_losses_and_gradients_are_detectron2s_with_the_methods_off(name, box_loss):
    opts = (*OFF, "MODEL.RETINANET.BBOX_REG_LOSS_TYPE", box_loss)
    parent, model = tiny_model("RetinaNet", *opts), tiny_model(name, *opts)
    model.load_state_dict(parent.state_dict())
    batch = make_batch()
    # Twice: the normaliser moves.
    for inputs in (batch, batch[1:], [make_input([], [])]):
        assert_same_step(model, parent, inputs)


def test_detections_are_detectron2s_if_boxes_are_clipped_after_nms():
    parent = tiny_model("RetinaNet").eval()
    model = tiny_model("LibraRetinaNet", "MODEL.RETINANET.CLIP_BEFORE_NMS", False).eval()
    spread_scores(parent)
    model.load_state_dict(parent.state_dict())
    assert_same_detections(model, parent)


def test_boxes_that_leave_the_image_are_clipped_before_nms():
    model = tiny_model("LibraRetinaNet").eval()
    anchor = model.anchor_generator([torch.zeros(1, 1, 1, 1)] * 5)[0]
    # Two boxes that overlap inside the image only a little less than outside of it, one outside.
    boxes = torch.tensor([[-90.0, 0, 10, 10], [-90.0, 0, 12, 10], [-50.0, -50, -1, -1]])
    anchors = [type(anchor)(boxes)] + [type(anchor)(torch.zeros(0, 4))] * 4
    scores = torch.zeros(3, model.num_classes)
    scores[:, 0] = torch.tensor([0.9, 0.8, 0.7])
    empty = torch.zeros(0, model.num_classes)
    levels = [anchors, [scores] + [empty] * 4, [torch.zeros(3, 4)] + [torch.zeros(0, 4)] * 4]
    model.test_nms_thresh = 0.9
    kept = model.inference_single_image(*levels, (20, 20))
    assert kept.pred_boxes.tensor.tolist() == [[0, 0, 10, 10], [0, 0, 12, 10]]


def test_box_loss_weight_scales_the_box_loss_alone():
    plain = train_step(tiny_model("LibraRetinaNet"), make_batch())[0]
    half = tiny_model("LibraRetinaNet", "MODEL.RETINANET.BBOX_REG_LOSS_WEIGHT", 0.5)
    halved = train_step(half, make_batch())[0]
    assert halved["loss_cls"] == plain["loss_cls"]
    assert halved["loss_box_reg"].item() == pytest.approx(plain["loss_box_reg"].item() / 2)


def test_balanced_l1_takes_its_beta_from_the_retinanet_key():
    opts = ("MODEL.RETINANET.BBOX_REG_LOSS_TYPE", "balanced_l1")
    values = []
    for beta, formula in ((0.11, "exact"), (1.0, "exact"), (1.0, "reference"), (0.11, "reference")):
        extra = ("MODEL.RETINANET.SMOOTH_L1_LOSS_BETA", beta, "MODEL.BALANCED_L1.FORMULA", formula)
        values.append(train_step(tiny_model("LibraRetinaNet", *opts, *extra), make_batch())[0])
    box = [x["loss_box_reg"].item() for x in values]
    assert box[1] == pytest.approx(box[2], rel=1e-6)  # the formulas agree at beta 1
    assert len({round(x, 5) for x in box}) == 3


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("BBOX_REG_LOSS_TYPE", "l3", "l3"),
        ("BBOX_REG_LOSS_WEIGHT", -1.0, "BBOX_REG_LOSS_WEIGHT"),
        ("CLS_LOSS_TYPE", "hinge", "CLS_LOSS_TYPE"),
        ("FOCAL_LOSS_GAMMA", -1.0, "FOCAL_LOSS_GAMMA"),
    ],
)
def test_values_out_of_range_are_refused(key, value, message):
    with pytest.raises(ValueError, match=message):
        build_model(tiny_cfg("LibraRetinaNet", f"MODEL.RETINANET.{key}", value))


def test_umop_refuses_a_classification_loss_that_it_would_ignore():
    with pytest.raises(ValueError, match="CLS_LOSS_TYPE is 'ohem', which UMOPRetinaNet"):
        build_model(tiny_cfg("UMOPRetinaNet", "MODEL.RETINANET.CLS_LOSS_TYPE", "ohem"))


def test_balanced_l1_without_a_transition_point_names_the_key():
    opts = ("MODEL.RETINANET.BBOX_REG_LOSS_TYPE", "balanced_l1")
    with pytest.raises(ValueError, match="SMOOTH_L1_LOSS_BETA is 0.0, should be > 0"):
        build_model(tiny_cfg("LibraRetinaNet", *opts, "MODEL.RETINANET.SMOOTH_L1_LOSS_BETA", 0.0))


def test_ohem_trains_on_fewer_negatives_than_cross_entropy():
    gamma, alpha = "MODEL.RETINANET.FOCAL_LOSS_GAMMA", "MODEL.RETINANET.FOCAL_LOSS_ALPHA"
    cross_entropy = tiny_model("LibraRetinaNet", gamma, 0.0, alpha, -1.0)
    everything = train_step(cross_entropy, make_batch())[0]
    ohem = tiny_model("LibraRetinaNet", "MODEL.RETINANET.CLS_LOSS_TYPE", "ohem")
    few = train_step(ohem, make_batch())[0]
    assert 0 < few["loss_cls"] < everything["loss_cls"]
    every = "MODEL.RETINANET.OHEM_NEG_POS_RATIO", 1e9
    ohem = tiny_model("LibraRetinaNet", "MODEL.RETINANET.CLS_LOSS_TYPE", "ohem", *every)
    all_of_them = train_step(ohem, make_batch())[0]
    assert all_of_them["loss_cls"].item() == pytest.approx(everything["loss_cls"].item(), rel=1e-5)


def test_normaliser_survives_in_a_checkpoint(tmp_path):
    model = tiny_model("UMOPRetinaNet")
    train_step(model, make_batch())
    assert model.loss_normalizer.average != 100
    DetectionCheckpointer(model, str(tmp_path)).save("model")
    other = tiny_model("UMOPRetinaNet", seed=1)
    DetectionCheckpointer(other).load(str(tmp_path / "model.pth"))
    assert other.loss_normalizer.average == model.loss_normalizer.average
    batch = make_batch()
    assert train_step(other, batch)[0] == train_step(model, batch)[0]


def test_a_checkpoint_of_detectron2_loads_silently(tmp_path, caplog):
    parent = tiny_model("RetinaNet", seed=1)
    DetectionCheckpointer(parent, str(tmp_path)).save("model")
    model = tiny_model("LibraRetinaNet")
    with caplog.at_level(logging.WARNING):
        DetectionCheckpointer(model).load(str(tmp_path / "model.pth"))
    assert not caplog.records
    assert model.load_state_dict(parent.state_dict()).missing_keys == []
    assert model.loss_normalizer.average == 100


def test_compiled_losses_are_not_compiled_again_at_each_step():
    """What is logged in them are numbers that differ from step to step."""
    torch.compiler.reset()
    model, counter = tiny_model("UMOPRetinaNet"), CompileCounter()
    model.losses = torch.compile(model.losses, backend=counter)
    graphs = []
    with EventStorage() as storage:
        for _ in range(4):
            model(make_batch())
            storage.step()
            graphs.append(counter.frame_count)
    assert graphs[0] > 0 and graphs[1:] == graphs[:-1]
