"""Registered classes in LazyConfigs, with the arguments of their Detectron2 parents alone."""

import inspect

import pytest
import torch
from detectron2.config import LazyCall, LazyConfig, get_cfg, instantiate
from detectron2.layers import ShapeSpec
from detectron2.modeling import (
    META_ARCH_REGISTRY,
    PROPOSAL_GENERATOR_REGISTRY,
    ROI_HEADS_REGISTRY,
    build_model,
)
from detectron2.utils.events import EventStorage

from libra_umop import add_libra_umop_config, modeling
from libra_umop.modeling.dense.atss import ATSSHead
from libra_umop.modeling.dense.gfl import GFLHead
from libra_umop.modeling.dense.vfnet import VFNetHead
from testing.batches import a_batch
from testing.dense_models import CHANNELS, DETECTORS, TinyPyramid, keys_of, tiny_model

REGISTRIES = (META_ARCH_REGISTRY, PROPOSAL_GENERATOR_REGISTRY, ROI_HEADS_REGISTRY)
REGISTERED = [x for registry in REGISTRIES for _, x in registry if "libra_umop" in x.__module__]
# What else a LazyConfig names.
CLASSES = [*REGISTERED, modeling.BFP, modeling.BalancedL1OutputLayers]
CLASSES += [ATSSHead, GFLHead, VFNetHead]
R_CNNS = {
    "libra_mask_rcnn": modeling.LibraROIHeads,
    "ohem_mask_rcnn": modeling.OHEMROIHeads,
    "libra_cascade_rcnn": modeling.LibraCascadeROIHeads,
    "libra_mask_rcnn_c4": modeling.LibraRes5ROIHeads,
}
DENSE = {  # row of the example -> name of the class
    "libra_retinanet": "LibraRetinaNet",
    "umop_retinanet": "UMOPRetinaNet",
    "atss": "ATSS",
    "umop_atss": "UMOPATSS",
    "fcos": "FCOS",
    "umop_fcos": "UMOPFCOS",
    "gfl": "GFL",
    "vfnet": "VFNet",
}


def arguments(cls):
    """Name -> parameter of all that a constructor takes, with what it passes on to its parents."""
    found = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = list(inspect.signature(base.__init__).parameters.values())[1:]
        for parameter in parameters:
            if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                found.setdefault(parameter.name, parameter)
        if all(parameter.kind != parameter.VAR_KEYWORD for parameter in parameters):
            return found
    return found


def required(cls):
    return {name for name, x in arguments(cls).items() if x.default is x.empty}


def test_the_classes_are_all_that_is_registered():
    names = {"LibraROIHeads", "LibraCascadeROIHeads", "OHEMROIHeads", "LibraRPN", *DETECTORS}
    assert {cls.__name__ for cls in REGISTERED} >= names


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_what_has_a_default_in_detectron2s_class_has_one_here_and_what_is_new_has_one_too(cls):
    parent = next(base for base in cls.__mro__ if base.__module__.startswith("detectron2."))
    needed = {"pyramid"} if cls is modeling.BFP else set()  # what it goes around
    assert required(cls) - required(parent) == needed
    assert set(arguments(parent)) <= set(arguments(cls))


@pytest.fixture(scope="module")
def example(repo):
    return LazyConfig.load(str(repo / "examples" / "lazy_config.py"))


def losses_of(model):
    with EventStorage():
        losses = model.train()(a_batch(1))
    assert all(loss.isfinite() for loss in losses.values())
    return losses


def test_the_example_has_every_registered_class(example):
    assert set(R_CNNS) | set(DENSE) == set(example)
    named = {part._target_ for row in example.values() for part in parts(row)}
    assert set(CLASSES) - {modeling.BalancedL1OutputLayers} <= named


def parts(node):
    """All nodes of a config that have a target."""
    if hasattr(node, "_target_"):
        yield node
    children = node.values() if hasattr(node, "values") else ()
    for child in children:
        yield from parts(child)


@pytest.mark.parametrize("name", R_CNNS)
def test_the_examples_two_stage_detectors_train(example, name):
    model = instantiate(example[name])
    assert type(model.roi_heads) is R_CNNS[name]
    expected = "loss_box_reg_stage2" if "cascade" in name else "loss_mask"
    assert expected in losses_of(model)


@pytest.mark.parametrize("name", DENSE)
def test_the_examples_dense_detectors_train_with_the_settings_of_their_keys(example, name):
    """The towers are made smaller, and the pyramid."""
    config = example[name].copy()
    config.backbone = LazyCall(TinyPyramid)()
    config.head.input_shape, config.head.conv_dims = [ShapeSpec(channels=CHANNELS)] * 5, [CHANNELS]
    model = instantiate(config)
    # Detectron2's argument is 0 by default, its key 0.1.
    by_keys = tiny_model(DENSE[name], "MODEL.RETINANET.SMOOTH_L1_LOSS_BETA", 0.0)
    losses_of(model)
    assert type(model) is type(by_keys)
    assert type(model.cls_loss) is type(by_keys.cls_loss)
    assert vars(model.cls_loss) == vars(by_keys.cls_loss)
    assert vars(model.box_loss) == vars(by_keys.box_loss)
    settings = ("box_reg_loss_weight", "match_topk", "centerness_loss_weight", "dfl_loss_weight")
    for setting in (*settings, "refined_box_reg_loss_weight"):
        assert getattr(model, setting, None) == getattr(by_keys, setting, None)
    for setting in ("test_score_thresh", "test_nms_thresh", "test_topk_candidates"):
        assert getattr(model, setting) == getattr(by_keys, setting)
    shapes = [torch.zeros(1, 1, 8 >> i, 8 >> i) for i in range(4)] + [torch.zeros(1, 1, 1, 1)]
    if keys_of(DENSE[name]) == "ATSS":
        ours, theirs = (m.anchor_generator(shapes) for m in (model, by_keys))
        assert all(torch.equal(a.tensor, b.tensor) for a, b in zip(ours, theirs, strict=True))


def test_the_defaults_of_the_two_stage_classes_are_those_of_the_keys(example):
    model = instantiate(example.libra_mask_rcnn)
    cfg = get_cfg()
    add_libra_umop_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.ROI_HEADS.NAME, cfg.MODEL.PROPOSAL_GENERATOR.NAME = "LibraROIHeads", "LibraRPN"
    cfg.MODEL.BACKBONE.NAME = "build_bfp_backbone"
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.RPN.IN_FEATURES = cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    cfg.MODEL.ROI_BOX_HEAD.NAME, cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = "FastRCNNConvFCHead", 7
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 1
    built = build_model(cfg)
    for name in ("negative_sampler", "positive_sampler"):
        assert getattr(model.roi_heads, name) == getattr(built.roi_heads, name)
    poolers = [type(m.roi_heads.box_pooler.level_poolers[0]) for m in (model, built)]
    assert poolers[0] is poolers[1]
    assert model.proposal_generator.neg_pos_ratio == built.proposal_generator.neg_pos_ratio
    balances = [m.backbone.balance for m in (model, built)]
    assert {k: x.shape for k, x in balances[0].state_dict().items()} == {
        k: x.shape for k, x in balances[1].state_dict().items()
    }
    assert balances[0].refine_level == balances[1].refine_level
