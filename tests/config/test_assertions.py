"""What Detectron2 would stop at with an assertion is refused before, with its key."""

import pytest
from detectron2.data.detection_utils import build_augmentation
from detectron2.modeling import build_model

from libra_umop.config import add_libra_umop_config
from libra_umop.config.assertions import contradictions
from libra_umop.config.loading import load_config, merge_opts
from libra_umop.errors import ConfigError
from libra_umop.training.trainer import LibraTrainer

RCNN = (
    "MODEL.DEVICE cpu MODEL.BACKBONE.NAME build_resnet_fpn_backbone MODEL.RESNETS.DEPTH 18"
    " MODEL.RESNETS.OUT_FEATURES ['res2','res3','res4','res5'] MODEL.RESNETS.RES2_OUT_CHANNELS 64"
    " MODEL.FPN.IN_FEATURES ['res2','res3','res4','res5'] MODEL.FPN.OUT_CHANNELS 8"
    " MODEL.RPN.IN_FEATURES ['p2','p3','p4','p5','p6'] MODEL.ANCHOR_GENERATOR.SIZES"
    " [[32],[64],[128],[256],[512]] MODEL.ROI_HEADS.NAME StandardROIHeads"
    " MODEL.ROI_HEADS.IN_FEATURES ['p2','p3','p4','p5'] MODEL.ROI_BOX_HEAD.NAME FastRCNNConvFCHead"
    " MODEL.ROI_BOX_HEAD.NUM_FC 1 MODEL.ROI_BOX_HEAD.FC_DIM 8"
)
CASCADE = (
    f"{RCNN} MODEL.ROI_HEADS.NAME CascadeROIHeads MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG True"
)
RETINANET = (
    f"{RCNN} MODEL.META_ARCHITECTURE RetinaNet MODEL.RETINANET.NUM_CONVS 1"
    " MODEL.BACKBONE.NAME build_retinanet_resnet_fpn_backbone"
)
ATSS = RETINANET.replace("ARCHITECTURE RetinaNet", "ARCHITECTURE ATSS") + " MODEL.ATSS.NUM_CONVS 1"
RANGE = "INPUT.MIN_SIZE_TRAIN_SAMPLING range INPUT.MIN_SIZE_TRAIN"
TWO_CONVS = "MODEL.ROI_BOX_HEAD.NUM_FC 0 MODEL.ROI_BOX_HEAD.NUM_CONV"

# base, more keys, and what is said; Detectron2 cannot build a model of any of them.
MODELS = [
    (RCNN, "MODEL.RPN.IOU_THRESHOLDS []", "MODEL.RPN.IOU_THRESHOLDS is [], should be one"),
    (RCNN, "MODEL.RPN.IOU_THRESHOLDS [0.0,0.5]", "the first above 0"),
    (RCNN, "MODEL.RPN.IOU_LABELS [0,1]", "MODEL.RPN.IOU_LABELS is [0, 1], should be 3 of -1, 0"),
    (RCNN, "MODEL.ROI_HEADS.IOU_LABELS [0,-1,1]", "should be 2 of -1, 0 and 1"),
    (RCNN, "MODEL.ROI_HEADS.IOU_LABELS [0,2]", "MODEL.ROI_HEADS.IOU_LABELS is [0, 2]"),
    (RETINANET, "MODEL.RETINANET.IOU_LABELS [0,1]", "MODEL.RETINANET.IOU_LABELS is [0, 1]"),
    (RCNN, "MODEL.ANCHOR_GENERATOR.SIZES [[32],[64]]", "one for each of the 5 levels of MODEL.RPN"),
    (RCNN, "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS [[1.0],[2.0]]", "ASPECT_RATIOS is [[1.0], [2.0]]"),
    (RCNN, "MODEL.ANCHOR_GENERATOR.SIZES []", "none of them empty"),
    (
        RCNN,
        "MODEL.ANCHOR_GENERATOR.SIZES [[32],[64],[128],[256],[512,600]]",
        "the same number of anchors on each level, not [3, 6]",
    ),
    (RETINANET, "MODEL.ANCHOR_GENERATOR.SIZES [[32],[64]]", "5 levels of MODEL.RETINANET.IN_FEA"),
    (ATSS, "MODEL.ANCHOR_GENERATOR.SIZES [[32],[64]]", "5 levels of MODEL.ATSS.IN_FEATURES"),
    (RCNN, "MODEL.ROI_BOX_HEAD.NUM_FC 0", "MODEL.ROI_BOX_HEAD.NUM_FC is 0, should be at least 1"),
    (RCNN, "MODEL.ROI_BOX_HEAD.USE_FED_LOSS True", "USE_SIGMOID_CE is False, should be True"),
    (RCNN, "MODEL.PIXEL_MEAN [1.0]", "MODEL.PIXEL_MEAN is [1.0], should be 3 numbers"),
    (RCNN, "MODEL.ROI_BOX_HEAD.POOLER_TYPE ROIAlignV3", "did you mean ROIAlignV2?"),
    (RCNN, "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION 0", "should be at least 1"),
    (RCNN, "MODEL.FPN.FUSE_TYPE mean", "MODEL.FPN.FUSE_TYPE is 'mean'"),
    (RCNN, "MODEL.ANCHOR_GENERATOR.OFFSET 1.0", "should be in [0, 1)"),
    (CASCADE, "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG False", "True for cascaded heads"),
    (CASCADE, "MODEL.ROI_BOX_CASCADE_HEAD.IOUS (0.5,0.6)", "BBOX_REG_WEIGHTS, 3"),
    (CASCADE, "MODEL.ROI_HEADS.IOU_THRESHOLDS [0.6]", "[0.6], should be [0.5], the first of"),
]


def config(base, opts=""):
    """The merged config, not checked."""
    from detectron2.config import get_cfg

    cfg = get_cfg()
    add_libra_umop_config(cfg)
    merge_opts(cfg, f"{base} {opts}".split())
    return cfg


@pytest.mark.parametrize("base, opts, said", MODELS)
def test_what_no_model_can_be_built_from_is_refused_in_one_line(base, opts, said):
    load_config("", base.split())
    with pytest.raises(ConfigError) as e:
        load_config("", f"{base} {opts}".split())
    assert said in str(e.value) and "\n" not in str(e.value)
    key = opts.split()[0]
    if not key.endswith(("RESOLUTION", "OFFSET", "TYPE")):
        with pytest.raises((AssertionError, IndexError, ValueError)):
            build_model(config(base, opts))  # as a control: it is needed


@pytest.mark.parametrize(
    "opts, said",
    [
        (f"{RANGE} (96,)", "INPUT.MIN_SIZE_TRAIN is (96,), should be two sizes, smallest"),
        (f"{RANGE} (96,64)", "INPUT.MIN_SIZE_TRAIN is (96, 64)"),
        (f"{RANGE} (64,80,96)", "INPUT.MIN_SIZE_TRAIN is (64, 80, 96)"),
        ("INPUT.MIN_SIZE_TRAIN ()", "one size or more"),
        ("INPUT.CROP.ENABLED True INPUT.CROP.SIZE [2.0,0.5]", "two parts of height and width"),
        ("INPUT.CROP.ENABLED True INPUT.CROP.TYPE absolute", "two whole numbers of pixels"),
        ("INPUT.CROP.ENABLED True INPUT.CROP.SIZE [0.5]", "INPUT.CROP.SIZE is (0.5,)"),
        (
            "INPUT.CROP.ENABLED True INPUT.CROP.TYPE absolute_range INPUT.CROP.SIZE [90,60]",
            "the smallest and the largest side",
        ),
        ("INPUT.CROP.TYPE relativ", "did you mean relative?"),
        ("INPUT.FORMAT GBR", "INPUT.FORMAT is 'GBR'"),
        ("INPUT.MASK_FORMAT bitmap", "did you mean bitmask?"),
        ("SOLVER.LR_SCHEDULER_NAME WarmupCosineLR SOLVER.BASE_LR_END 1.0", "most SOLVER.BASE_LR"),
        ("MODEL.LOAD_PROPOSALS True DATASETS.TRAIN ('a',)", "one file for each of DATASETS.TRAIN"),
    ],
)
def test_what_data_and_solver_stop_at_is_refused_in_one_line(opts, said):
    with pytest.raises(ConfigError) as e:
        load_config("", opts.split())
    assert said in str(e.value) and "\n" not in str(e.value)


def test_detectron2_stops_at_one_size_of_a_range():
    """So that the test above means something."""
    with pytest.raises(AssertionError):
        build_augmentation(config("INPUT.MIN_SIZE_TRAIN_SAMPLING range"), True)


@pytest.mark.parametrize(
    "opts",
    [
        "INPUT.CROP.SIZE [2.0,0.5]",
        f"{RANGE} (64,96)",
        f"{RETINANET} MODEL.RPN.IOU_LABELS [0] MODEL.ROI_HEADS.IOU_LABELS [7]",
        f"{RCNN} MODEL.RETINANET.IOU_LABELS [0]",
        f"{RCNN} MODEL.ANCHOR_GENERATOR.SIZES [[32,64]]",
        f"{RCNN} MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS [[1.0]]",
        f"{RCNN} MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS [1.0,2.0]",
        f"{RCNN} {TWO_CONVS} 2",
        "INPUT.FORMAT L MODEL.PIXEL_MEAN [100.0] MODEL.PIXEL_STD [1.0]",
        "SOLVER.LR_SCHEDULER_NAME WarmupMultiStepLR SOLVER.BASE_LR_END 1.0",
    ],
)
def test_what_works_or_is_not_read_is_left_alone(opts):
    assert not list(contradictions(load_config("", opts.split())))


@pytest.mark.parametrize(
    "base, opts, said",
    [
        (RCNN, "MODEL.FPN.IN_FEATURES ['res4','res9']", "MODEL.FPN.IN_FEATURES names 'res9'"),
        (RCNN, "MODEL.ROI_HEADS.IN_FEATURES ['p3','q']", "MODEL.ROI_HEADS.IN_FEATURES names 'q'"),
        (
            RETINANET,
            "MODEL.RETINANET.IN_FEATURES ['p3','p4','p5','p6','p9']",
            "MODEL.RETINANET.IN_FEATURES names 'p9', which the network below does not give",
        ),
        (
            ATSS,
            "MODEL.ATSS.IN_FEATURES ['p3','p4','p5','p6','p9']"
            " MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS [[1.0]] MODEL.FPN.OUT_CHANNELS 32",
            "MODEL.ATSS.IN_FEATURES names 'p9'",
        ),
        (RCNN, "MODEL.RESNETS.RES2_OUT_CHANNELS 256", "RES2_OUT_CHANNELS = 64 for R18/R34"),
        (RCNN, "MODEL.RESNETS.NUM_GROUPS 32", "MODEL.RESNETS.NUM_GROUPS = 1 for R18/R34"),
        (RCNN, "MODEL.RESNETS.RES5_DILATION 2", "MODEL.RESNETS.RES5_DILATION = 1 for R18/R34"),
        (RCNN, "MODEL.RESNETS.DEFORM_ON_PER_STAGE [False,True,True,True]", "DEFORM_ON_PER_STAGE"),
    ],
)
def test_what_a_component_stops_at_while_it_is_built_is_one_line(base, opts, said):
    with pytest.raises(ConfigError) as e:
        LibraTrainer.build_model(config(base, opts))
    assert said in str(e.value) and "\n" not in str(e.value)
