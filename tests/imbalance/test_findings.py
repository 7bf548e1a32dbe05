"""The findings say what was measured, with its numbers and its switch, and no more."""

import json

import pytest

from libra_umop.imbalance.findings import (
    comparison,
    data,
    feature,
    level,
    objective,
    sample,
)
from libra_umop.imbalance.findings.finding import percent
from libra_umop.imbalance.measures.objective import measure_objective
from libra_umop.imbalance.report.all_findings import CAVEAT, find_all
from libra_umop.imbalance.report.run import load_runs

FINDERS = [module.find for module in (sample, feature, objective, level, data)]
SETTINGS = {
    "sampler": None,
    "backbone": "build_resnet_fpn_backbone",
    "bfp": False,
    "box_losses": {},
    "focus": {"progressive": False},
}

NAMES = ("iou_sampling", "bfp", "balanced_l1", "pfl_lrp_mean")
SWITCHES = {name: [["KEY", name]] for name in NAMES}  # those that the run could switch on


def measured(**parts):
    base = {
        "name": "run",
        "detector": "RetinaNet",
        "settings": SETTINGS,
        "levers": [],
        "switches": SWITCHES,
        "sample": None,
        "feature": None,
        "objective": {},
        "level": {},
        "data": None,
    }
    return {**base, **parts}


def levels_with(rates, clipped=0.9):
    names = [f"p{i}" for i in range(3, 3 + len(rates))]
    return {
        "dense": {
            "levels": names,
            "rate": rates,
            "clipped_all": clipped,
            "focus": {"gamma": 2.0, "delta": 0.5},
        }
    }


def shares(random, picked, hard):
    values = {"random": random, "picked": picked, "hard": hard}
    return {"hard_among": "all", **{k: {"share_above": v} for k, v in values.items()}}


def test_starved_level_points_to_umop():
    (found,) = level.find(measured(level=levels_with([0.014, 0.01, 0.005, 0.001, 0.0002])))
    assert "Level P7 has 0.02 % positives among its anchors against 1.4 % at P3" in found.text
    assert "90 % of the measurements" in found.text
    assert found.size == "large"
    assert found.lever == "pfl_lrp_mean" and found.switch == SWITCHES["pfl_lrp_mean"]


def test_even_levels_need_no_switch():
    (found,) = level.find(measured(level=levels_with([0.01, 0.012])))
    assert found.size == "small" and not found.switch and "UMOP" not in found.text


def test_a_run_with_umop_is_not_told_to_use_it():
    m = measured(level=levels_with([0.01, 0.0001]), levers=["pfl", "lrp"], switches={})
    (found,) = level.find(m)
    assert not found.switch and found.size == "" and "UMOP gives each level" in found.text


def test_a_run_with_one_focus_for_all_levels_is_pointed_to_that_of_each_level():
    switches = {"lrp_mean": [["MODEL.UMOP.LEVEL_WISE", "True"]]}
    m = measured(level=levels_with([0.01, 0.0001]), levers=["pfl"], switches=switches)
    (found,) = level.find(m)
    assert found.lever == "lrp_mean" and found.switch == switches["lrp_mean"]


def test_level_without_any_object_is_nothing_to_balance():
    (found,) = level.find(measured(level=levels_with([0.0, 0.01, 0.012, 0.0])))
    assert found.size == "small" and not found.switch and "UMOP" not in found.text
    assert "P4 has 1.0 % positives among its anchors against 1.2 % at P5 (1 times" in found.text
    assert "P3 and P6 had none, so there is nothing to balance on them." in found.text


def test_objects_of_one_level_alone_are_nothing_to_balance():
    (found,) = level.find(measured(level=levels_with([0.0, 0.01, 0.0])))
    assert found.size == "small" and not found.switch
    assert found.text.startswith("Level P4 has 1.0 % positives among its anchors; P3 and P5 had")


def test_the_rpn_is_not_sent_to_umop():
    entry = {"rpn": levels_with([0.01, 0.0001])["dense"]}
    (found,) = level.find(measured(level=entry))
    assert not found.switch and found.size == "" and "an RPN samples" in found.text


def test_hard_negatives_that_random_sampling_misses_point_to_balanced_sampling():
    settings = {**SETTINGS, "sampler": "random"}
    (found,) = sample.find(measured(sample=shares(0.28, 0.28, 0.62), settings=settings))
    assert found.text.startswith("62 % of the hardest negatives overlap")
    assert "against 28 % of random picks" in found.text and found.size == "large"
    assert found.lever == "iou_sampling" and found.switch == SWITCHES["iou_sampling"]


def test_random_sampling_that_is_good_enough_is_left_alone():
    settings = {**SETTINGS, "sampler": "random"}
    (found,) = sample.find(measured(sample=shares(0.55, 0.55, 0.6), settings=settings))
    assert found.size == "small" and not found.switch and "little to balance" in found.text


def test_balanced_sampling_where_random_is_harder_is_said_to_have_little_to_balance():
    settings = {**SETTINGS, "sampler": "iou_balanced"}
    (found,) = sample.find(measured(sample=shares(0.73, 0.81, 0.6), settings=settings))
    assert found.size == "small" and "picks 81 %" in found.text
    assert "little to balance" in found.text


def test_balanced_sampling_is_said_to_pick_what_it_picked():
    settings = {**SETTINGS, "sampler": "iou_balanced"}
    (found,) = sample.find(measured(sample=shares(0.28, 0.66, 0.62), settings=settings))
    assert "picks 66 %" in found.text and not found.switch and found.size == "small"


def box_errors(kind, inliers, gradient, beta=1.0):
    loss = {"type": kind, "beta": beta, "alpha": 0.5, "gamma": 1.5}
    return {
        "roi_heads": {
            "loss": loss,
            "threshold": beta or 1.0,
            "inliers": inliers,
            "gradient_inliers": gradient,
            "balanced_l1": 0.5,
        }
    }


def test_outliers_that_dominate_smooth_l1_point_to_balanced_l1():
    (found,) = objective.find(measured(objective=box_errors("smooth_l1", 0.8, 0.3)))
    assert "give 30 % of the box gradient under smooth L1 (beta 1)" in found.text
    assert "would give them 50 %" in found.text and found.size == "large"
    assert found.lever == "balanced_l1" and found.switch == SWITCHES["balanced_l1"]


@pytest.mark.parametrize(
    "kind, beta, title",
    [
        ("smooth_l1", 0.0, "L1"),
        ("giou", 0.0, "GIoU"),
        ("balanced_l1", 1.0, "balanced L1"),
    ],
)
def test_other_box_losses_are_described_without_a_switch(kind, beta, title):
    on = ["balanced_l1"] if kind == "balanced_l1" else []
    m = measured(objective=box_errors(kind, 0.9, 0.5, beta), levers=on, switches={"bfp": []})
    (found,) = objective.find(m)
    assert f"under {title}" in found.text and not found.switch and found.size == ""
    assert ("No lever here changes that" in found.text) == (not on)


def test_stages_of_a_cascade_have_the_loss_of_its_box_head():
    histogram = {"count": [1.0] * 101, "gradient": [1.0] * 101}
    steps = [{"iteration": 0, "objective": {"roi_heads_stage2": histogram}}]
    losses = {"roi_heads": {"type": "smooth_l1", "beta": 0.5}}
    m = measured(objective=measure_objective(steps, losses))
    (found,) = objective.find(m)
    assert "cascade stage 3's box coordinates are inliers (|x| < 0.5)" in found.text
    assert "under smooth L1 (beta 0.5)" in found.text


def test_detector_that_nothing_is_known_of_gets_no_grade_and_no_advice():
    one_level_louder = {"levels": ["p2", "p3"], "share": [0.9, 0.1], "ratio": 9.0, "gain": None}
    (found,) = feature.find(measured(feature=one_level_louder, switches={}))
    assert found.size == "" and not found.switch
    assert found.text.endswith("Which levers this detector can have is not known.")


def test_loud_level_points_to_bfp():
    one_level_louder = {"levels": ["p2", "p3"], "share": [0.9, 0.1], "ratio": 9.0, "gain": None}
    (found,) = feature.find(measured(feature=one_level_louder))
    assert "P2 makes 90 % and P3 10 %; equal parts would be 50 %" in found.text
    assert found.lever == "bfp" and found.switch == SWITCHES["bfp"]


def test_bfp_is_said_to_add_what_it_added():
    one_level_louder = {
        "levels": ["p2", "p3"],
        "share": [0.6, 0.4],
        "ratio": 1.5,
        "gain": [0.1, 0.4],
    }
    (found,) = feature.find(measured(feature=one_level_louder))
    assert "adds 10 % to 40 %" in found.text and "most to P3" in found.text and not found.switch


def test_nothing_measured_nothing_said():
    assert find_all([], [measured()], FINDERS) == []


def test_comparison_gives_differences_and_says_that_it_is_one_run_each(tmp_path):
    for name, ap in (("plain", 30.0), ("libra", 31.5)):
        (tmp_path / name).mkdir()
        line = {"iteration": 9, "bbox/AP": ap, "bbox/APs": 10.0, "bbox/APl": float("nan")}
        (tmp_path / name / "metrics.json").write_text(json.dumps(line))
    (found,) = comparison.find(load_runs([tmp_path / "plain", tmp_path / "libra"]))
    assert found.text.startswith("libra has 31.5 AP, plain 30.0: +1.5 (APs +0.0). One run each")


def test_the_caveat_says_that_a_lever_may_not_help():
    assert "may not help" in CAVEAT and "37.0 to 36.4" in CAVEAT
    assert "Libra raised AP by 0.8 to 0.9" in CAVEAT and "libra-umop study --dataset" in CAVEAT


@pytest.mark.parametrize(
    "detector, words",
    [
        ("UMOPRetinaNet", "pfl_lrp_mean did nothing to see: measure it on yours"),
        ("LibraRetinaNet", "pfl_lrp cost a RetinaNet up to 0.8 AP in our study"),
        ("ATSS", "was shown to help an ATSS in our study: measure it on yours"),
        ("FCOS", None),
        (None, None),
    ],
)
@pytest.mark.parametrize("levers", [[], ["pfl", "lrp"]])
def test_umop_is_not_advised_without_what_a_study_showed_of_it(detector, words, levers):
    rates = [0.014, 0.01, 0.005, 0.001, 0.0002]
    (found,) = level.find(measured(level=levels_with(rates), detector=detector, levers=levers))
    assert words in found.text if words else "in our study" not in found.text
    even = level.find(measured(level=levels_with([0.01, 0.012]), detector=detector))
    assert "in our study" not in even[0].text


@pytest.mark.parametrize(
    "value, text",
    [
        (0.624, "62 %"),
        (0.014, "1.4 %"),
        (0.0002, "0.02 %"),
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.00096, "0.1 %"),
        (0.00094, "0.094 %"),
        (None, "?"),
        (float("nan"), "?"),
    ],
)
def test_percent_is_as_people_write_it(value, text):
    assert percent(value) == text
