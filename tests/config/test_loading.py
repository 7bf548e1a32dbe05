"""Configs: nothing in them runs, and what is wrong is named with what would be right."""

import os

import pytest
from detectron2.config import get_cfg

from libra_umop.config.loading import load_config
from libra_umop.errors import ConfigError

EXPLOIT = "MODEL:\n  WEIGHTS: !!python/object/apply:os.system ['touch {flag}']\n"


def refused(config_file="", opts=()) -> str:
    with pytest.raises(ConfigError) as info:
        load_config(str(config_file), opts)
    assert "\n" not in str(info.value)
    return str(info.value)


@pytest.mark.parametrize("through_base", [False, True])
def test_python_in_yaml_is_refused_and_not_run(through_base, tmp_path):
    flag, bad, good = tmp_path / "flag", tmp_path / "bad.yaml", tmp_path / "good.yaml"
    bad.write_text(EXPLOIT.format(flag=flag))
    good.write_text("_BASE_: bad.yaml\nSEED: 3\n")
    message = refused(good if through_base else bad)
    assert f"{bad}, line 2" in message and "os.system" in message
    assert not flag.exists()


def test_detectron2_runs_the_same_yaml(tmp_path):
    """So that the test above means something."""
    flag, bad = tmp_path / "flag", tmp_path / "bad.yaml"
    bad.write_text(EXPLOIT.format(flag=flag))
    with pytest.raises(Exception):
        get_cfg().merge_from_file(str(bad))
    assert flag.exists()


def test_bases_merge_from_the_outermost_in_and_opts_last(tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "a.yaml").write_text("SEED: 1\nSOLVER:\n  BASE_LR: 1\n  MOMENTUM: 0.5\n")
    (tmp_path / "b.yaml").write_text("_BASE_: base/a.yaml\nSEED: 2\nSOLVER:\n  GAMMA: 0.5\n")
    (tmp_path / "c.yaml").write_text("_BASE_: ['b.yaml']\nSOLVER:\n  STEPS: (5, 6)\n")
    cfg = load_config(str(tmp_path / "c.yaml"), ["SOLVER.MOMENTUM", "0"])
    assert (cfg.SEED, cfg.SOLVER.BASE_LR, cfg.SOLVER.GAMMA) == (2, 1.0, 0.5)
    assert (cfg.SOLVER.MOMENTUM, cfg.SOLVER.STEPS) == (0.0, (5, 6))


def test_every_config_of_the_project_is_plain_yaml_and_passes_the_checks(repo):
    files = sorted((repo / "configs").rglob("*.yaml"))
    assert len(files) > 20
    for path in files:
        load_config(str(path))


def test_file_that_is_not_there_is_named(tmp_path):
    assert "nix.yaml: cannot be read" in refused(tmp_path / "nix.yaml")
    (tmp_path / "a.yaml").write_text("_BASE_: nix.yaml\n")
    assert f"_BASE_ of {tmp_path / 'a.yaml'}" in refused(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    "text, told",
    [
        ("MODEL: [", "is not YAML"),
        (
            "SOLVER:\n  BASE_LR: 0.1\nSEED: 1\nSOLVER:\n  MAX_ITER: 7",
            "line 4: SOLVER stands in line 1 already; should be there once, with all that belongs",
        ),
        ("SOLVER:\n  BASE_LR: 0.1\n  BASE_LR: 0.2", "line 3: BASE_LR stands in line 2 already"),
        ("SOLVER.BASE_LR: 0.1", "no key is named SOLVER.BASE_LR; in a file its parts stand below"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:4d", "is a pointer of Git LFS"),
        ("- 1\n- 2\n", "holds a list, should hold KEY: value"),
        ("_BASE_: x.yaml\n", "is a _BASE_ of itself"),
        ("VERSION: 1\n", "VERSION is 1, should be 2"),
        ("MODEL: 3\n", "MODEL is 3, should be a group of keys"),
        ("MODEL:\n  RETINANT:\n    NUM_CLASSES: 3\n", "did you mean MODEL.RETINANET?"),
        ("SOLVER:\n  BASE_LEARNING_RATE: 1\n", "did you mean SOLVER.BASE_LR"),
        ("MODEL:\n  BFP:\n    REFINE_LVL: p4\n", "did you mean MODEL.BFP.REFINE_LEVEL?"),
        ("MODEL:\n  SMOOTH_L1_BETA: 1\n", "SMOOTH_L1_BETA?"),
        ("SOLVER:\n  MAX_ITER: many\n", "SOLVER.MAX_ITER is 'many' (str), should be int like"),
        ("SOLVER:\n  BASE_LR: .nan\n", "SOLVER.BASE_LR is nan, should be a finite number > 0"),
    ],
)
def test_what_is_wrong_in_a_file_is_named_with_what_would_be_right(text, told, tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    message = refused(path)
    assert str(path) in message and told in message


@pytest.mark.parametrize(
    "key, value, told",
    [
        ("SOLVER.IMS_PER_BATCH", "-4", "should be at least 1"),
        ("SOLVER.IMS_PER_BATCH", "0", "should be at least 1"),
        ("SOLVER.BASE_LR", "nan", "should be a finite number > 0"),
        ("SOLVER.BASE_LR", "inf", "should be a finite number > 0"),
        ("SOLVER.BASE_LR", "-0.1", "should be a finite number > 0"),
        ("SOLVER.MOMENTUM", "1.5", "should be in [0, 1)"),
        ("SOLVER.GAMMA", "0", "should be in (0, 1]"),
        ("SOLVER.STEPS", "(100, 50)", "should be increasing"),
        ("SOLVER.STEPS", "(99999,)", "(0, SOLVER.MAX_ITER) = (0, 40000)"),
        ("SOLVER.CHECKPOINT_PERIOD", "0", "should be at least 1"),
        ("SOLVER.EMA.DECAY", "1.0", "should be in [0, 1)"),
        ("SOLVER.GRADIENT_ACCUMULATION", "0", "should be at least 1"),
        ("SOLVER.AMP.DTYPE", "bf16", "did you mean bfloat16?"),
        ("SOLVER.LR_SCHEDULER_NAME", "CosineLR", "did you mean WarmupCosineLR?"),
        ("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "fullmodel", "did you mean full_model?"),
        ("INPUT.MIN_SIZE_TRAIN", "(0,)", "should be sizes in pixels"),
        ("MODEL.ANCHOR_GENERATOR.SIZES", "[8, [16]]", "should be a list of lists of numbers"),
        ("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", "[[-1.0]]", "should be a list of lists of"),
        ("SOLVER.STEPS", "('a',)", "should be finite numbers"),
        ("MODEL.PIXEL_STD", "[0, 1, 1]", "should be finite numbers, each > 0"),
        ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", "1.5", "should be in [0, 1]"),
        ("MODEL.ROI_HEADS.NMS_THRESH_TEST", "-1", "should be in [0, 1]"),
        ("MODEL.RETINANET.IOU_THRESHOLDS", "[0.5, 0.4]", "should be increasing"),
        ("MODEL.RETINANET.PRIOR_PROB", "0", "should be in (0, 1)"),
        ("MODEL.ROI_HEADS.NUM_CLASSES", "0", "should be at least 1"),
        ("MODEL.BALANCED_L1.ALPHA", "0", "should be a finite number > 0"),
        ("MODEL.META_ARCHITECTURE", "UMOP_ATSS", "did you mean UMOPATSS?"),
        ("MODEL.BACKBONE.NAME", "build_resnet_fpn_bakbone", "mean build_resnet_fpn_backbone?"),
        ("MODEL.ROI_HEADS.NAME", "LibraRoiHeads", "did you mean LibraROIHeads?"),
        ("MODEL.ROI_HEADS.NEGATIVE_SAMPLER", "iou_balance", "did you mean iou_balanced?"),
        ("MODEL.ROI_HEADS.OHEM.NUM_HARD", "0", "should be at least 1"),
        ("MODEL.ROI_HEADS.IOU_BALANCED.FLOOR_FRACTION", "2.0", "should be in [0, 1]"),
        ("MODEL.ROI_HEADS.IOU_BALANCED.BIN_RANGE", "treshold", "did you mean threshold?"),
        ("MODEL.ROI_HEADS.POSITIVE_SAMPLER", "rand", "did you mean random?"),
        ("MODEL.RPN.NEG_POS_RATIO", "nan", "should be a finite number"),
        ("MODEL.BFP.REFINE_TYPE", "nonlocal", "did you mean non_local?"),
        ("MODEL.RETINANET.CLS_LOSS_TYPE", "focall", "did you mean focal?"),
        ("MODEL.RETINANET.OHEM_NEG_POS_RATIO", "0.0", "should be a finite number > 0"),
        ("MODEL.RETINANET.BBOX_REG_LOSS_WEIGHT", "-1.0", "should be a finite number >= 0"),
        ("MODEL.UMOP.FOCUS", "mean_probe", "did you mean mean_prob?"),
        ("MODEL.UMOP.LEVEL_REDUCTION", "max", "should be one of mean, sum"),
        ("MODEL.UMOP.W", "0.0", "should be a finite number > 0"),
        ("MODEL.ATSS.MATCH_TOPK", "0", "should be at least 1"),
        ("MODEL.ATSS.NORM", "GroupNorm", 'should be one of "", BN'),
        ("MODEL.ATSS.IN_FEATURES", "[]", "should be one name or more"),
        ("MODEL.ATSS.BBOX_REG_WEIGHTS", "(10.0, 10.0, 0.0, 5.0)", "each > 0"),
        ("MODEL.FCOS.PRIOR_PROB", "1.0", "should be in (0, 1)"),
        ("MODEL.FCOS.CENTER_SAMPLING_RADIUS", "0.0", "should be a finite number > 0"),
        ("MODEL.FPN.BOTTOM_UP", "build_timm_bakbone", "did you mean build_timm_backbone?"),
        ("MODEL.TIMM.DROP_PATH", "1.0", "should be in [0, 1)"),
        ("MODEL.TIMM.OUT_NORM", "BN", "did you mean LN?"),
        ("SOLVER.OPTIMIZER", "Adam", "did you mean AdamW?"),
        ("SOLVER.BETAS", "[0.9]", "should be two numbers in [0, 1)"),
        ("INPUT.WHITE_16BIT", "0", "should be in [1, 65535]"),
        ("TEST.OPERATING_POINT.IOU_THRESH", "0.52", "should be one of 0.5, 0.55 ... 0.95"),
        ("ANALYSIS.PERIOD", "0", "should be at least 1"),
        ("ANALYSIS.HARD_FRACTION", "0.0", "should be in (0, 1]"),
        ("MODEL.DEVICE", "gpu", "should be cpu, cuda or cuda:N"),
        ("TEST.BEST_CHECKPOINT.MODE", "maximum", "did you mean max?"),
        ("DATALOADER.SAMPLER_TRAIN", "TrainSampler", "did you mean TrainingSampler?"),
        ("SOLVR.BASE_LR", "1", "no key is named SOLVR; did you mean SOLVER?"),
    ],
)
def test_values_out_of_range_and_misspelt_names_are_refused(key, value, told):
    message = refused(opts=[key, value])
    assert told in message
    assert key.split(".")[0] in message


@pytest.mark.parametrize(
    "opts, told",
    [
        (
            "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE balanced_l1"
            " MODEL.ROI_HEADS.NAME StandardROIHeads",
            "MODEL.ROI_HEADS.NAME StandardROIHeads does not know; LibraROIHeads does",
        ),
        (
            "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE balanced_l1"
            " MODEL.ROI_HEADS.NAME CascadeROIHeads",
            "LibraCascadeROIHeads does",
        ),
        (
            "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE balanced_l1 MODEL.ROI_HEADS.NAME OHEMROIHeads",
            "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA is 0.0, should be > 0",
        ),
        (
            "MODEL.RPN.BBOX_REG_LOSS_TYPE balanced_l1",
            "MODEL.PROPOSAL_GENERATOR.NAME RPN does not know; LibraRPN does",
        ),
        (
            "MODEL.RPN.BBOX_REG_LOSS_TYPE balanced_l1 MODEL.PROPOSAL_GENERATOR.NAME LibraRPN",
            "MODEL.RPN.SMOOTH_L1_BETA is 0.0, should be > 0",
        ),
        ("MODEL.RPN.BBOX_REG_LOSS_TYPE balanced_l2", "did you mean balanced_l1?"),
        (
            "MODEL.RETINANET.BBOX_REG_LOSS_TYPE balanced_l1 MODEL.META_ARCHITECTURE RetinaNet",
            "MODEL.META_ARCHITECTURE RetinaNet does not know; LibraRetinaNet does",
        ),
        (
            "MODEL.RETINANET.BBOX_REG_LOSS_TYPE balanced_l1 MODEL.META_ARCHITECTURE UMOPRetinaNet"
            " MODEL.RETINANET.SMOOTH_L1_LOSS_BETA 0.0",
            "MODEL.RETINANET.SMOOTH_L1_LOSS_BETA is 0.0, should be > 0",
        ),
        (
            "MODEL.ROI_HEADS.NAME LibraROIHeads MODEL.ROI_HEADS.IOU_BALANCED.FLOOR_IOU 0.5",
            "FLOOR_IOU is 0.5, should be in [0, 0.5)",
        ),
        (
            "MODEL.ROI_HEADS.NAME LibraROIHeads MODEL.ROI_HEADS.IOU_BALANCED.FLOOR_IOU 0.4 "
            "MODEL.ROI_HEADS.IOU_THRESHOLDS [0.3,0.5] MODEL.ROI_HEADS.IOU_LABELS [0,-1,1]",
            "[0, 0.3), below the end of the background (MODEL.ROI_HEADS.IOU_THRESHOLDS)",
        ),
        (
            "MODEL.ROI_HEADS.NAME LibraCascadeROIHeads MODEL.ROI_HEADS.IOU_BALANCED.FLOOR_IOU 0.4 "
            "MODEL.ROI_BOX_CASCADE_HEAD.IOUS (0.4,0.5,0.6)",
            "[0, 0.4), below the end of the background (MODEL.ROI_BOX_CASCADE_HEAD.IOUS)",
        ),
        (
            "MODEL.ROI_HEADS.NAME LibraROIHeads MODEL.ROI_HEADS.IOU_LABELS [1,0]",
            "IOU_LABELS is [1, 0], should be one more than IOU_THRESHOLDS [0.5]",
        ),
        (
            "MODEL.META_ARCHITECTURE UMOPRetinaNet MODEL.RETINANET.CLS_LOSS_TYPE ohem",
            "MODEL.RETINANET.CLS_LOSS_TYPE is 'ohem', which UMOPRetinaNet does not have;"
            " LibraRetinaNet does",
        ),
        (
            "MODEL.META_ARCHITECTURE UMOPFCOS MODEL.FCOS.CLS_LOSS_TYPE ohem",
            "MODEL.FCOS.CLS_LOSS_TYPE is 'ohem', which UMOPFCOS does not have; FCOS does",
        ),
        (
            "MODEL.META_ARCHITECTURE ATSS MODEL.ATSS.CLS_LOSS_TYPE progressive_focal"
            " MODEL.UMOP.DELTA 2.0",
            "MODEL.UMOP.DELTA is 2.0, should be in",
        ),
        (
            "MODEL.META_ARCHITECTURE RetinaNet MODEL.RETINANET.CLS_LOSS_TYPE ohem",
            "RetinaNet does not read; LibraRetinaNet does",
        ),
        (
            "MODEL.META_ARCHITECTURE RetinaNet MODEL.RETINANET.LOSS_NORMALIZER num_positives",
            "RetinaNet does not read; LibraRetinaNet does (or leave it at 'moving_average')",
        ),
        (
            "MODEL.META_ARCHITECTURE RetinaNet MODEL.RETINANET.BBOX_REG_LOSS_WEIGHT 0.5",
            "RetinaNet does not read; LibraRetinaNet does (or leave it at 1.0)",
        ),
        (
            "MODEL.RPN.NEG_POS_RATIO 5.0",
            "MODEL.PROPOSAL_GENERATOR.NAME RPN does not read; LibraRPN does",
        ),
        (
            "INPUT.IGNORE_REGIONS True",
            "INPUT.IGNORE_REGIONS is True, which MODEL.PROPOSAL_GENERATOR.NAME RPN does not read;"
            " LibraRPN does (or leave it at False)",
        ),
        (
            "INPUT.IGNORE_REGIONS True MODEL.PROPOSAL_GENERATOR.NAME LibraRPN"
            " MODEL.ROI_HEADS.NAME StandardROIHeads",
            "MODEL.ROI_HEADS.NAME StandardROIHeads does not read; LibraROIHeads does",
        ),
        (
            "INPUT.IGNORE_REGIONS True MODEL.META_ARCHITECTURE RetinaNet",
            "RetinaNet does not read; LibraRetinaNet does",
        ),
        (
            "MODEL.ROI_HEADS.NAME CascadeROIHeads MODEL.ROI_BOX_CASCADE_HEAD.SAMPLE_EVERY_STAGE"
            " True",
            "MODEL.ROI_HEADS.NAME CascadeROIHeads does not read; LibraCascadeROIHeads does",
        ),
        (
            "MODEL.ROI_HEADS.NAME LibraCascadeROIHeads MODEL.ROI_HEADS.IOU_BALANCED.FLOOR_IOU 0.45 "
            "MODEL.ROI_BOX_CASCADE_HEAD.IOUS (0.5,0.6,0.4)"
            " MODEL.ROI_BOX_CASCADE_HEAD.SAMPLE_EVERY_STAGE True",
            "FLOOR_IOU is 0.45, should be in [0, 0.4), below the end of the background",
        ),
        (
            "MODEL.ROI_HEADS.NAME Res5ROIHeads INPUT.IGNORE_REGIONS True"
            " MODEL.PROPOSAL_GENERATOR.NAME LibraRPN",
            "MODEL.ROI_HEADS.NAME Res5ROIHeads does not read; LibraRes5ROIHeads does",
        ),
        (
            "MODEL.META_ARCHITECTURE UMOPATSS MODEL.UMOP.DELTA 2.0",
            "MODEL.UMOP.DELTA is 2.0, should be in",
        ),
        (
            "MODEL.META_ARCHITECTURE UMOPFCOS MODEL.UMOP.W 1.75",
            "MODEL.UMOP.W is 1.75, should be in",
        ),
        ("TEST.AUG.ENABLED True TEST.AUG.MAX_SIZES (1333,)", "TEST.AUG.MAX_SIZES is (1333,)"),
        (
            "TEST.AUG.ENABLED True TEST.AUG.SCALE_RANGES ((0,96),)",
            "TEST.AUG.SCALE_RANGES is ((0, 96),), should be empty or one pair for each",
        ),
    ],
)
def test_keys_that_do_not_go_together_are_refused(opts, told):
    assert told in refused(opts=opts.split())


@pytest.mark.parametrize(
    "opts",
    [
        "MODEL.META_ARCHITECTURE ATSS MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE balanced_l1",
        "MODEL.META_ARCHITECTURE GeneralizedRCNN MODEL.RETINANET.BBOX_REG_LOSS_TYPE balanced_l1",
        "MODEL.META_ARCHITECTURE UMOPATSS MODEL.UMOP.PROGRESSIVE_FOCUS False MODEL.UMOP.W 9.0",
        "MODEL.META_ARCHITECTURE ATSS MODEL.RPN.NEG_POS_RATIO 5.0",
        "MODEL.META_ARCHITECTURE ATSS MODEL.UMOP.DELTA 2.0",
        "MODEL.META_ARCHITECTURE LibraRetinaNet MODEL.RETINANET.CLS_LOSS_TYPE ohem",
        "MODEL.META_ARCHITECTURE UMOPRetinaNet MODEL.RETINANET.LOSS_NORMALIZER num_positives",
        "TEST.AUG.ENABLED False TEST.AUG.MAX_SIZES (1333,)",
    ],
)
def test_keys_that_nothing_reads_are_left_alone(opts):
    load_config("", opts.split())


@pytest.mark.parametrize(
    "text", ["20241126", "1e3", "007", "3.50", "True", "(1, 2)", "[a]", "2024-11-26", "0x1f"]
)
def test_a_text_made_of_digits_stays_a_text(text, tmp_path):
    assert text == load_config("", ["OUTPUT_DIR", text]).OUTPUT_DIR
    (tmp_path / "a.yaml").write_text(f"OUTPUT_DIR: '{text}'\nWANDB: {{NAME: '{text}'}}\n")
    cfg = load_config(str(tmp_path / "a.yaml"))
    assert (text, text) == (cfg.OUTPUT_DIR, cfg.WANDB.NAME)


def test_a_number_of_yaml_serves_as_a_text_but_no_other_value_does(tmp_path):
    (tmp_path / "a.yaml").write_text("OUTPUT_DIR: 20241126\n")
    assert load_config(str(tmp_path / "a.yaml")).OUTPUT_DIR == "20241126"
    (tmp_path / "a.yaml").write_text("OUTPUT_DIR: [a, b]\n")
    assert "OUTPUT_DIR is ['a', 'b'] (list), should be str" in refused(tmp_path / "a.yaml")


def test_quotes_around_a_text_are_not_part_of_it():
    assert load_config("", ["OUTPUT_DIR", "'20241126'"]).OUTPUT_DIR == "20241126"


@pytest.mark.parametrize(
    "opts", ["SEED 3 --resume", "--resume SEED 3", "SEED 3 --dataset cells", "SEED --dataset=cells"]
)
def test_an_option_behind_the_keys_is_named(opts):
    option = next(text for text in opts.split() if text.startswith("--"))
    assert f"{option} stands behind KEY value pairs; options stand before" in refused(
        opts=opts.split()
    )


def test_steps_of_the_file_beyond_max_iter_of_the_command_line_are_left_out(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("SOLVER: {MAX_ITER: 100, STEPS: [60, 80]}\n")
    for max_iter, steps in ((100, (60, 80)), (80, (60,)), (61, (60,)), (60, ()), (2, ())):
        cfg = load_config(str(path), ["SOLVER.MAX_ITER", str(max_iter)])
        assert (max_iter, steps) == (cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS)
    assert "SOLVER.STEPS is (60, 80)" in refused(
        path, ["SOLVER.MAX_ITER", "70", "SOLVER.STEPS", "(60, 80)"]
    )
    path.write_text("SOLVER: {MAX_ITER: 70, STEPS: [60, 80]}\n")
    assert "SOLVER.STEPS is (60, 80)" in refused(path)


def test_option_without_value_is_named():
    assert "'SEED' has no value" in refused(opts=["SEED"])


@pytest.mark.parametrize("config", ["", "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml"])
def test_what_detectron2_ships_passes(config):
    from detectron2 import model_zoo

    path = model_zoo.get_config_file(config) if config else ""
    cfg = load_config(path)
    assert cfg.MODEL.META_ARCHITECTURE == "GeneralizedRCNN" and os.path.isfile(path or __file__)
