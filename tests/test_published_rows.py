"""A config with a published AP is what that AP was trained with, and its name says how."""

import re
from pathlib import Path

import pytest

from libra_umop.config.loading import load_config
from libra_umop.convert.checks import contradictions
from libra_umop.convert.read import Checkpoint
from libra_umop.levers import active, baseline, family_of
from test_model_zoo import ROWS

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
PUBLISHED = [name for name, row in ROWS.items() if row.published_ap]
UMOP = [name for name in PUBLISHED if re.search(r"/(umop|pfl)_", name)]
ALL = [name for name in ROWS if not name.startswith("quick/")]

# AP on val and test-dev, as the papers and the authors' README print them; None: not printed.
AUTHORS = {
    "umop_atss_R_50_FPN_1.5x": (40.4, 40.5),
    "umop_atss_R_101_FPN_1.5x": (42.1, 42.3),
    "umop_atss_R_101_DCN_FPN_1.5x": (45.2, 45.4),
    "umop_atss_R_101_DCN_FPN_1.5x_ms640-800": (47.6, 47.7),
    "umop_atss_X_101_64x4d_DCN_FPN_1.5x_ms640-800": (48.8, 49.1),
    "umop_atss_R2_101_26w4s_DCN_FPN_2x_ms480-960": (50.0, 50.3),
    "umop_atss_Swin_S_FPN_2x_ms480-960": (49.9, 50.3),
    "umop_atss_Swin_S_FPN_2x_ms480-960_tta": (51.9, 52.3),
    "umop_atss_Swin_B_FPN_2x_ms480-960": (51.6, 51.9),
    "umop_atss_Swin_B_FPN_2x_ms480-960_tta": (53.4, 53.9),
    "umop_atss_Swin_L_FPN_2x_ms480-960": (52.8, 53.1),
    "umop_atss_Swin_L_FPN_2x_ms480-960_tta": (54.7, 55.1),
    "atss_R_101_DCN_FPN_1.5x_ms640-800": (46.1, None),
    "pfl_atss_R_101_DCN_FPN_1.5x_ms640-800": (46.7, None),
    "umop_retinanet_R_50_FPN_1x": (36.9, None),
    "baseline_retinanet_R_50_FPN_1x": (35.7, 35.8),
    "libra_faster_rcnn_R_50_FPN_1x": (None, 38.7),
}


def load(name):
    return load_config(str(CONFIGS / name))


def printed(name):
    """AP on val and on test-dev in the zoo."""
    text = next(row.published_ap for row in ROWS.values() if Path(row.config).stem == name)
    found = {split: float(ap) for ap, split in re.findall(r"([\d.]+) (val|test-dev)", text)}
    return found.get("val"), found.get("test-dev")


@pytest.mark.parametrize("name", AUTHORS)
def test_published_ap_stands_at_its_own_schedule_and_split(name):
    assert printed(name) == AUTHORS[name]


@pytest.mark.parametrize("name", UMOP)
def test_published_umop_row_is_the_released_code(name):
    cfg = load(name)
    umop = cfg.MODEL.UMOP
    assert umop.FOCUS == "mean_log" and umop.LEVEL_REDUCTION == "sum"
    assert (umop.DELTA, umop.W, umop.PROGRESSIVE_FOCUS) == (0.5, 0.5, True)
    assert cfg.MODEL.FPN.P7_RELU is False
    if family_of(cfg).name == "retinanet":  # ATSS always divides by the step's positives
        assert cfg.MODEL.RETINANET.LOSS_NORMALIZER == "num_positives"
    assert active(cfg) == (["pfl"] if "/pfl_" in name else ["pfl", "lrp"])


@pytest.mark.parametrize("name", [n for n in PUBLISHED if re.search("atss|retinanet", n)])
def test_published_dense_row_has_the_p7_of_the_reference_code(name):
    assert load(name).MODEL.FPN.P7_RELU is False


@pytest.mark.parametrize("detector", ["atss", "retinanet"])
def test_equation_of_umop_is_an_ablation_beside_its_row(detector):
    row = load(f"COCO-Detection/umop_{detector}_R_50_FPN_1x.yaml")
    equation = load(f"ablations/umop_equation_{detector}_R_50_FPN_1x.yaml")
    assert active(equation) == ["pfl", "lrp_mean"]
    assert equation.MODEL.UMOP.FOCUS == "mean_prob"
    equation.MODEL.UMOP = row.MODEL.UMOP
    assert equation == row


def baseline_of(name):
    """The config that a row of a dense detector is compared with; None if there is none."""
    found = re.search(r"(atss|retinanet)_.*", Path(name).stem)
    if not found or not active(load(name)):
        return None
    prefix = "baseline_" if found[1] == "retinanet" else ""
    path = f"COCO-Detection/{prefix}{found[0]}.yaml"
    return path if path in ROWS else None


@pytest.mark.parametrize("name", [n for n in ALL if baseline_of(n)])
def test_row_with_its_levers_off_is_the_row_that_it_is_compared_with(name):
    """But for the numbers that only those levers read, and the solver of the released configs."""
    cfg, base = load(name), load(baseline_of(name))
    for key, value in baseline(cfg):
        cfg.merge_from_list([key, value])
    cfg.MODEL.UMOP, cfg.MODEL.BALANCED_L1 = base.MODEL.UMOP, base.MODEL.BALANCED_L1
    if "released" in name:
        cfg.SOLVER = base.SOLVER
    assert cfg == base


def test_every_published_row_with_levers_of_a_dense_detector_has_such_a_baseline():
    without = {n for n in UMOP if not baseline_of(n)}
    # Of these the authors publish no baseline.
    assert {Path(n).stem.replace("umop_atss_", "").split("_FPN")[0] for n in without} <= {
        "R_101",
        "R_101_DCN",
        "R2_101_26w4s_DCN",
        "Swin_S",
        "Swin_B",
        "Swin_L",
    }


def test_baseline_of_retinanet_is_detectron2s_but_for_class_normaliser_and_p7():
    cfg = load("COCO-Detection/baseline_retinanet_R_50_FPN_1x.yaml")
    cfg.MODEL.META_ARCHITECTURE = "RetinaNet"
    cfg.MODEL.FPN.P7_RELU = True
    cfg.MODEL.RETINANET.LOSS_NORMALIZER = "moving_average"
    assert cfg == load("COCO-Detection/retinanet_R_50_FPN_1x.yaml")


@pytest.mark.parametrize("name", ["R_50_FPN_1x", "retinanet_R_50_FPN_1x"])
def test_released_libra_clips_at_35_and_warms_up_for_500_steps_from_a_third(name):
    cfg = load(f"ablations/libra_released_{name}.yaml")
    clip = cfg.SOLVER.CLIP_GRADIENTS
    assert (clip.ENABLED, clip.CLIP_TYPE, clip.CLIP_VALUE, clip.NORM_TYPE) == (
        True,
        "full_model",
        35.0,
        2.0,
    )
    assert cfg.SOLVER.WARMUP_ITERS == 500 and cfg.SOLVER.WARMUP_METHOD == "linear"
    assert pytest.approx(1 / 3, abs=1e-6) == cfg.SOLVER.WARMUP_FACTOR


def test_released_libra_has_the_samplers_formula_p7_and_normalisers_of_its_code():
    faster = load("ablations/libra_released_R_50_FPN_1x.yaml").MODEL
    assert faster.ROI_HEADS.IOU_BALANCED.BIN_RANGE == "observed"
    assert faster.PROPOSAL_GENERATOR.NAME == "LibraRPN"  # divides by the anchors used
    assert faster.RPN.NEG_POS_RATIO == 5.0
    retinanet = load("ablations/libra_released_retinanet_R_50_FPN_1x.yaml").MODEL
    assert retinanet.BALANCED_L1.FORMULA == "reference"
    assert retinanet.RETINANET.SMOOTH_L1_LOSS_BETA == 0.11
    assert retinanet.RETINANET.LOSS_NORMALIZER == "num_positives"
    assert retinanet.FPN.P7_RELU is False


@pytest.mark.parametrize("name", ALL)
def test_name_says_schedule_scales_deformable_stages_and_multi_scale_test(name):
    cfg, stem = load(name), Path(name).stem
    schedule = re.search(r"_(1|1\.5|2)x(_|$)", stem)[1]
    assert 90000 * float(schedule) == cfg.SOLVER.MAX_ITER
    scales = re.search(r"_ms(\d+)-(\d+)(_|$)", stem)
    assert list(cfg.INPUT.MIN_SIZE_TRAIN) == ([int(scales[1]), int(scales[2])] if scales else [800])
    assert ("range" if scales else "choice") == cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING
    if scales:
        assert scales.groups()[:2] == {"1.5": ("640", "800"), "2": ("480", "960")}[schedule]
    assert any(cfg.MODEL.RESNETS.DEFORM_ON_PER_STAGE) == ("_DCN_" in stem)
    assert stem.endswith("_tta") == cfg.TEST.AUG.ENABLED


def test_authors_umop_files_are_converted_to_atss_and_need_no_further_keys():
    page = (CONFIGS.parent / "MODEL_ZOO.md").read_text()
    lines = [x for x in page.splitlines() if x.startswith("python") and "umop_r50.pth" in x]
    (name,) = re.findall(r"configs/(\S+\.yaml)", lines[0])
    assert len(lines) == 1 and not re.search(r"MODEL\.", lines[0])
    cfg = load(name)
    assert family_of(cfg).name == "atss" and contradictions(cfg, Checkpoint({}, {})) == []
