"""Every lever, in every family of detectors: it switches what it names, and nothing else."""

import functools
import re
from pathlib import Path
from typing import get_type_hints

import pytest
import yaml
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.modeling.roi_heads import CascadeROIHeads

from libra_umop import levers
from libra_umop.config.checks import check_config
from libra_umop.config.loading import load_config, merge_opts
from libra_umop.levers import FAMILIES, LEVERS, active, baseline, levers_for, switch
from libra_umop.modeling.backbones.bfp import BFP
from libra_umop.modeling.dense.edge_distances import EdgeDistanceATSS
from libra_umop.modeling.dense.losses.classification import CLS_LOSSES
from libra_umop.modeling.dense.losses.focal import ClassWeightedFocalLoss
from libra_umop.modeling.dense.losses.hard_negatives import HardNegativeLoss
from libra_umop.modeling.dense.losses.long_tail import EqualizedFocalLoss
from libra_umop.modeling.dense.losses.quality import LevelQualityFocalLoss, LevelVarifocalLoss
from libra_umop.modeling.rcnn.class_losses import SeesawLoss, WeightedCrossEntropy
from libra_umop.modeling.rcnn.samplers import (
    NEGATIVE_SAMPLERS,
    POSITIVE_SAMPLERS,
    InstanceBalancedSampler,
    IoUBalancedSampler,
)
from testing.scripts import load_script
from testing.shrink import shrink

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
PLAIN = {
    "standard": ("Base-RCNN-FPN.yaml", []),
    "cascade": ("Base-RCNN-FPN.yaml", ["MODEL.ROI_HEADS.NAME", "CascadeROIHeads"]),
    "c4": ("COCO-Detection/faster_rcnn_R_50_C4_1x.yaml", []),
    "rpn": ("Base-RCNN-FPN.yaml", ["MODEL.META_ARCHITECTURE", "ProposalNetwork"]),
    "retinanet": ("Base-RetinaNet.yaml", []),
    "atss": ("Base-ATSS.yaml", []),
    "fcos": ("Base-FCOS.yaml", []),
    "gfl": ("COCO-Detection/gfl_R_50_FPN_1x.yaml", []),
    "vfnet": ("COCO-Detection/vfnet_R_50_FPN_1x.yaml", []),
}
PLAIN["cascade"][1].extend(["MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", "True"])


def lever_that_sets(key, value):
    """The one row that sets a key to a value."""
    rows = [x.name for x in LEVERS.values() if any(w.on.get(key) == value for w in x.ways.values())]
    assert len(rows) == 1, f"{key} {value}: the table of levers has {rows}, should have one row"
    return rows[0]


# What is registered is a lever, wherever the detector chooses it by that key. Lever -> its class.
SAMPLERS = {
    kind: {
        lever_that_sets(f"MODEL.ROI_HEADS.{kind.upper()}_SAMPLER", value): sampler
        for value, sampler in table.items()
        if value != "random"
    }
    for kind, table in (("negative", NEGATIVE_SAMPLERS), ("positive", POSITIVE_SAMPLERS))
}
CLS_LOSS_LEVERS = {
    lever_that_sets("MODEL.ATSS.CLS_LOSS_TYPE", value): get_type_hints(build)["return"]
    for value, build in CLS_LOSSES.items()
    if value != "focal" and not value.startswith("progressive_")
}
CHOOSE_SAMPLERS, CHOOSE_CLS_LOSS = ("standard", "cascade", "c4"), ("retinanet", "atss", "fcos")
EXPECTED = {  # the other single levers of each family
    "standard": "ohem rpn_ratio bfp balanced_l1 rpn_balanced_l1 repeat_factor class_weights seesaw",
    "cascade": "stage_sampling rpn_ratio bfp balanced_l1 rpn_balanced_l1 repeat_factor"
    " class_weights seesaw",
    "c4": "rpn_ratio balanced_l1 rpn_balanced_l1 repeat_factor class_weights seesaw",
    "rpn": "rpn_ratio bfp rpn_balanced_l1",
    "retinanet": "bfp balanced_l1 pfl lrp lrp_mean repeat_factor class_weights",
    "atss": "bfp pfl lrp lrp_mean repeat_factor class_weights",
    "fcos": "bfp pfl lrp lrp_mean repeat_factor class_weights",
    "gfl": "bfp pfl lrp lrp_mean repeat_factor",
    "vfnet": "bfp pfl lrp lrp_mean repeat_factor",
}
EXPECTED = {family: set(names.split()) for family, names in EXPECTED.items()}
for family in CHOOSE_SAMPLERS:
    EXPECTED[family] |= SAMPLERS["negative"].keys() | SAMPLERS["positive"].keys()
for family in CHOOSE_CLS_LOSS:
    EXPECTED[family] |= CLS_LOSS_LEVERS.keys()
EXPECTED = {f: sorted(names, key=list(LEVERS).index) for f, names in EXPECTED.items()}
SINGLE = [(family, name) for family, names in EXPECTED.items() for name in names]


def plain(family):
    file, opts = PLAIN[family]
    return load_config(str(CONFIGS / file), opts)


def merged(cfg, pairs):
    """A config with pairs given as text, as on a command line, and checked."""
    cfg = cfg.clone()
    merge_opts(cfg, levers.as_text(pairs).split(" "))
    check_config(cfg)
    return cfg


def start(family, name):
    """The plain config of a family, with what the lever needs."""
    cfg = plain(family)
    for needed in LEVERS[name].needs:
        cfg = merged(cfg, switch(cfg, needed))
    return cfg


@functools.cache
def built(text):
    """The levers in the built model itself, read off its modules and not its config.

    That of the data, ``repeat_factor``, is in the loader; its sampler is asked for by name.
    """
    cfg = load_config("")
    cfg.merge_from_other_cfg(type(cfg)(yaml.safe_load(text)))
    cfg = shrink(cfg)
    model = build_model(cfg)
    found = {"bfp": isinstance(model.backbone, BFP)}
    found["repeat_factor"] = cfg.DATALOADER.SAMPLER_TRAIN == "RepeatFactorTrainingSampler"
    if hasattr(model, "proposal_generator"):
        rpn = model.proposal_generator
        found["rpn_ratio"] = getattr(rpn, "neg_pos_ratio", -1) > 0
        found["rpn_balanced_l1"] = rpn.box_reg_loss_type == "balanced_l1"
    if hasattr(model, "roi_heads"):
        heads = model.roi_heads
        for kind, classes in SAMPLERS.items():
            sampler = getattr(heads, f"{kind}_sampler", None)
            found |= {name: isinstance(sampler, x) for name, x in classes.items()}
        found["stage_sampling"] = getattr(heads, "sample_every_stage", False)
        found["ohem"] = hasattr(heads, "num_hard")
        is_cascade = isinstance(heads, CascadeROIHeads)
        predictors = heads.box_predictor if is_cascade else [heads.box_predictor]
        found["balanced_l1"] = all(p.box_reg_loss_type == "balanced_l1" for p in predictors)
        class_losses = [type(getattr(p, "class_loss", None)) for p in predictors]
        found["class_weights"] = class_losses == [WeightedCrossEntropy] * len(predictors)
        found["seesaw"] = class_losses == [SeesawLoss] * len(predictors)
    loss = getattr(model, "cls_loss", None)
    if loss is not None:
        has_own = isinstance(model, EdgeDistanceATSS)  # GFL and VFNet, without a lever
        for name, kind in CLS_LOSS_LEVERS.items():
            found[name] = isinstance(loss, kind) and not has_own
        found["class_weights"] = isinstance(loss, ClassWeightedFocalLoss)
        level_wise = getattr(loss, "level_wise", False)
        found["pfl"] = getattr(loss, "progressive_focus", False)
        found["lrp"] = found["pfl"] and level_wise and loss.level_reduction == "sum"
        found["lrp_mean"] = level_wise and loss.level_reduction == "mean"
        found["balanced_l1"] = model.box_loss.loss_type == "balanced_l1"
    return sorted(name for name, is_there in found.items() if is_there)


def levers_of_the_model(cfg):
    return built(cfg.dump())


@pytest.mark.parametrize("family", PLAIN)
def test_plain_config_has_no_lever_and_can_be_switched_to_those_of_its_family(family):
    cfg = plain(family)
    assert levers.family_of(cfg) is FAMILIES[family]
    assert active(cfg) == levers_of_the_model(cfg) == []
    names = [lever.name for lever in levers_for(cfg)]
    singles = [name for name in names if LEVERS[name].ways]
    assert singles == [n for n in EXPECTED[family] if not LEVERS[n].needs]
    assert [n for n in LEVERS if family in LEVERS[n].ways] == EXPECTED[family]


@pytest.mark.parametrize("family, name", SINGLE)
def test_switch_turns_the_named_lever_and_no_other(family, name):
    cfg = start(family, name)
    before = levers_of_the_model(cfg)
    assert not LEVERS[name].is_on(cfg) and name not in before
    on = merged(cfg, switch(cfg, name))
    assert LEVERS[name].is_on(on)
    assert levers_of_the_model(on) == sorted(active(on)) == sorted([*before, name])
    off = merged(on, switch(on, name, on=False))
    assert levers_of_the_model(off) == sorted(active(off)) == before


def cannot_be_on_together(family, name, other):
    """Of each group one: values of the same key, or classes of which there is one."""
    negative, positive = SAMPLERS["negative"], SAMPLERS["positive"]
    groups = [negative, positive, {"lrp", "lrp_mean"}, {"seesaw", "class_weights"}]
    groups += [{"ohem", sampler} for sampler in (*negative, *positive)]
    if family in CHOOSE_CLS_LOSS:
        groups.append(CLS_LOSS_LEVERS)
        # Neither UMOP nor class weights are in any but the focal loss.
        focal = ("pfl", "lrp", "lrp_mean", "class_weights")
        groups += [{loss, lever} for loss in CLS_LOSS_LEVERS for lever in focal]
    return name != other and any(name in group and other in group for group in groups)


EXCLUDING = [
    (family, name, other)
    for family, name in SINGLE
    for other in EXPECTED[family]
    if cannot_be_on_together(family, name, other)
    and not (
        name == "lrp" and other in CLS_LOSS_LEVERS  # it needs pfl
    )
]


@pytest.mark.parametrize("family", PLAIN)
def test_levers_turn_each_other_off_where_no_detector_can_have_both(family):
    """And nowhere else, whatever the order."""
    ways = {name: LEVERS[name].ways[family] for name in EXPECTED[family]}
    for name, way in ways.items():
        excluded = {other for other in ways if way.excludes(ways[other])}
        assert excluded == {
            other for other in ways if cannot_be_on_together(family, name, other)
        }, name


@pytest.mark.parametrize("family, name, other", EXCLUDING)
def test_switch_turns_off_what_the_lever_excludes(family, name, other):
    """Also where the class that the lever needs does not know how the other was switched on."""
    cfg = start(family, name)
    for needed in LEVERS[other].needs:
        cfg = merged(cfg, switch(cfg, needed))
    cfg = merged(cfg, switch(cfg, other))
    assert other in levers_of_the_model(cfg)
    cfg = merged(cfg, switch(cfg, name))
    assert name in levers_of_the_model(cfg) and other not in levers_of_the_model(cfg)


@pytest.mark.parametrize("family", PLAIN)
def test_rows_of_several_levers_turn_all_their_parts(family):
    cfg = plain(family)
    rows = [lever for lever in levers_for(cfg) if lever.parts]
    singles = EXPECTED[family]
    for lever in rows:
        on = merged(cfg, switch(cfg, lever.name))
        parts = [part for part in lever.parts if part in singles]
        assert lever.is_on(on) and levers_of_the_model(on) == sorted(parts), lever.name
        off = merged(on, switch(on, lever.name, on=False))
        assert levers_of_the_model(off) == []
    expected = {
        "standard": ["sampling", "libra"],
        "cascade": ["sampling", "libra"],
        "c4": ["sampling", "libra"],
        "rpn": [],
        "retinanet": ["pfl_lrp", "pfl_lrp_mean", "libra", "all"],
        "atss": ["pfl_lrp", "pfl_lrp_mean", "all"],
        "fcos": ["pfl_lrp", "pfl_lrp_mean", "all"],
        "gfl": ["pfl_lrp", "pfl_lrp_mean", "all"],
        "vfnet": ["pfl_lrp", "pfl_lrp_mean", "all"],
    }
    assert [lever.name for lever in rows] == expected[family]


@pytest.mark.parametrize("family", PLAIN)
def test_baseline_is_of_the_class_that_knows_the_levers_with_all_of_them_off(family):
    cfg = plain(family)
    base = merged(cfg, baseline(cfg))
    assert levers_of_the_model(base) == active(base) == []
    classes = {
        "standard": ("MODEL.ROI_HEADS.NAME", "LibraROIHeads"),
        "cascade": ("MODEL.ROI_HEADS.NAME", "LibraCascadeROIHeads"),
        "c4": ("MODEL.ROI_HEADS.NAME", "LibraRes5ROIHeads"),
        "rpn": ("MODEL.PROPOSAL_GENERATOR.NAME", "LibraRPN"),
        "retinanet": ("MODEL.META_ARCHITECTURE", "LibraRetinaNet"),
        "atss": ("MODEL.META_ARCHITECTURE", "ATSS"),
        "fcos": ("MODEL.META_ARCHITECTURE", "FCOS"),
        "gfl": ("MODEL.META_ARCHITECTURE", "GFL"),
        "vfnet": ("MODEL.META_ARCHITECTURE", "VFNet"),
    }
    assert classes[family] in baseline(cfg)


@pytest.mark.parametrize("family", PLAIN)
def test_baseline_of_a_config_with_everything_on_is_that_of_the_plain_one(family):
    cfg = plain(family)
    full = cfg
    for name in EXPECTED[family]:
        if name not in ("ohem", "lrp_mean", "equalized_focal", "seesaw"):
            full = merged(full, switch(full, name))
    assert len(active(full)) >= 2
    left = merged(full, baseline(full))
    assert levers_of_the_model(left) == []
    same = [k for k in ("ROI_HEADS", "ROI_BOX_HEAD", "RETINANET", "ATSS", "FCOS", "BACKBONE")]
    base = merged(cfg, baseline(cfg))
    assert {k: left.MODEL[k] for k in same} == {k: base.MODEL[k] for k in same}


def test_levers_of_the_papers_are_these_classes():
    assert SAMPLERS["negative"]["iou_sampling"] is IoUBalancedSampler
    assert SAMPLERS["positive"]["instance_sampling"] is InstanceBalancedSampler
    losses = {"ohem": HardNegativeLoss, "equalized_focal": EqualizedFocalLoss}
    losses |= {"qfl": LevelQualityFocalLoss, "vfl": LevelVarifocalLoss}
    assert losses.items() <= CLS_LOSS_LEVERS.items()


def test_ohem_and_the_samplers_take_the_place_of_each_other():
    cfg = merged(plain("standard"), switch(plain("standard"), "sampling"))
    ohem = merged(cfg, switch(cfg, "ohem"))
    assert levers_of_the_model(ohem) == ["ohem"]
    sampling = merged(ohem, switch(ohem, "iou_sampling"))
    assert levers_of_the_model(sampling) == ["iou_sampling"]


def test_the_two_level_reductions_take_the_place_of_each_other():
    cfg = merged(plain("atss"), switch(plain("atss"), "pfl_lrp"))
    mean = merged(cfg, switch(cfg, "lrp_mean"))
    assert levers_of_the_model(mean) == ["lrp_mean", "pfl"]
    assert levers_of_the_model(merged(mean, switch(mean, "lrp"))) == ["lrp", "pfl"]


def test_balanced_l1_keeps_a_transition_point_that_is_there_and_brings_one_where_there_is_none():
    assert dict(switch(plain("retinanet"), "balanced_l1")) == {
        "MODEL.META_ARCHITECTURE": "LibraRetinaNet",
        "MODEL.RETINANET.BBOX_REG_LOSS_TYPE": "balanced_l1",
        "MODEL.RETINANET.SMOOTH_L1_LOSS_BETA": 0.11,
    }
    cfg = plain("standard")
    cfg.MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA = 0.25
    on = merged(cfg, switch(cfg, "balanced_l1"))
    assert on.MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA == 0.25


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_progressive_focus_keeps_a_gamma_that_has_room_to_move_and_brings_one_otherwise(gamma):
    cfg = plain("retinanet")
    cfg.MODEL.RETINANET.FOCAL_LOSS_GAMMA = gamma
    on = merged(cfg, switch(cfg, "pfl"))
    assert on.MODEL.RETINANET.FOCAL_LOSS_GAMMA == 2.0
    cfg.MODEL.RETINANET.FOCAL_LOSS_GAMMA = 3.0
    assert "MODEL.RETINANET.FOCAL_LOSS_GAMMA" not in dict(switch(cfg, "pfl"))


def test_bfp_goes_around_the_pyramid_that_the_config_has():
    cfg = plain("retinanet")
    cfg.MODEL.BFP.PYRAMID = "build_resnet_fpn_backbone"
    pairs = switch(cfg, "bfp")
    assert ("MODEL.BFP.PYRAMID", "build_retinanet_fpn_backbone") in pairs
    on = merged(cfg, pairs)
    assert switch(on, "bfp", on=False) == [("MODEL.BACKBONE.NAME", "build_retinanet_fpn_backbone")]


def test_saved_config_is_read_as_the_config_itself():
    cfg = load_config(str(CONFIGS / "COCO-Detection" / "libra_faster_rcnn_R_50_FPN_1x.yaml"))
    saved = yaml.safe_load(cfg.dump())
    assert active(saved) == active(cfg)
    assert active(cfg) == ["iou_sampling", "instance_sampling", "bfp", "balanced_l1"]
    assert switch(saved, "ohem") == switch(cfg, "ohem")


@pytest.mark.parametrize("name", ["UMOPRetinaNet", "UMOPATSS", "UMOPFCOS"])
def test_config_saved_by_0_1_0_has_the_levers_that_its_class_stands_for(name):
    family = name.removeprefix("UMOP").lower()
    cfg = plain(family)
    cfg.MODEL.META_ARCHITECTURE = name
    saved = yaml.safe_load(cfg.dump())
    del saved["MODEL"]["ATSS"]["CLS_LOSS_TYPE"], saved["MODEL"]["FCOS"]["CLS_LOSS_TYPE"]
    assert saved["MODEL"]["RETINANET"]["CLS_LOSS_TYPE"] == "focal"
    assert active(saved) == active(cfg) == ["pfl", "lrp"]
    assert levers_of_the_model(cfg) == ["lrp", "pfl"]
    off = merged(cfg, switch(saved, "pfl", on=False))
    assert levers_of_the_model(off) == []
    assert FAMILIES[family].baseline == merged(cfg, baseline(saved)).MODEL.META_ARCHITECTURE


@pytest.mark.parametrize(
    "family, name, words",
    [
        ("standard", "pfl", "Faster and Mask R-CNN has no such lever"),
        ("atss", "balanced_l1", "ATSS has no such lever"),
        ("retinanet", "lrp", "it changes nothing without pfl"),
        (
            "fcos",
            "umop",
            f"no such lever; should be one of"
            f" {', '.join(name for name in EXPECTED['fcos'] if name != 'lrp')}, pfl_lrp",
        ),
    ],
)
def test_lever_that_cannot_be_switched_is_refused_with_those_that_can(family, name, words):
    with pytest.raises(ValueError, match=f"lever is '{name}': .*{words}"):
        switch(plain(family), name)


def test_detector_that_the_table_does_not_know_is_refused_and_has_no_levers():
    cfg = plain("standard")
    cfg.MODEL.ROI_HEADS.NAME = "RROIHeads"
    assert active(cfg) == [] and levers_for(cfg) == []
    for ask in (lambda: switch(cfg, "bfp"), lambda: baseline(cfg)):
        with pytest.raises(ValueError, match="no levers are known for .*RROIHeads"):
            ask()


def test_config_without_the_keys_of_this_project_has_no_levers():
    cfg = get_cfg()
    assert levers.family_of(cfg) is None and active(cfg) == [] and levers_for(cfg) == []
    assert active({}) == [] and levers_for({}) == []


def test_every_row_cures_an_imbalance_and_every_imbalance_has_a_row():
    assert {row.imbalance for row in LEVERS.values() if row.ways} == set(levers.IMBALANCES)
    assert {row.imbalance for row in LEVERS.values()} - {""} == set(levers.IMBALANCES)


def test_the_page_of_levers_shows_this_table():
    levers_table = load_script("dev/levers_table.py")
    page = levers_table.PAGE.read_text()
    assert levers_table.render(page) == page, "run dev/levers_table.py"
    assert all(f"| `{name}` |" in page for name in LEVERS)


def test_example_of_the_page_of_levers_prints_what_it_says(monkeypatch):
    page = (CONFIGS.parent / "docs" / "levers.md").read_text()
    (code,) = [x for x in re.findall(r"```python\n(.*?)```", page, re.S) if "levers import" in x]
    monkeypatch.chdir(CONFIGS.parent)
    printed = []
    exec(code, {"print": printed.append})
    assert printed[0] == [] and printed[1] == "MODEL.META_ARCHITECTURE LibraRetinaNet"
    assert printed[2].split() == [
        *("MODEL.META_ARCHITECTURE", "LibraRetinaNet"),
        *("MODEL.RETINANET.BBOX_REG_LOSS_TYPE", "balanced_l1"),
        *("MODEL.RETINANET.SMOOTH_L1_LOSS_BETA", "0.11"),
    ]
