"""What the findings of a run tell one to try can be trained, whatever the detector is."""

from pathlib import Path

import numpy as np
import pytest
from detectron2.modeling import build_model

from libra_umop.config.checks import check_config
from libra_umop.config.loading import load_config, merge_opts
from libra_umop.imbalance import records
from libra_umop.imbalance.probes.collector import run_meta
from libra_umop.imbalance.report.report import Report
from libra_umop.imbalance.report.run import load_run
from libra_umop.levers import LEVERS, active
from testing.shrink import shrink

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SMOOTH = ["MODEL.RETINANET.SMOOTH_L1_LOSS_BETA", "0.11"]
BASES = {
    "Faster R-CNN": ("Base-RCNN-FPN.yaml", []),
    "Cascade R-CNN": ("COCO-Detection/cascade_rcnn_R_50_FPN_1x.yaml", []),
    "Mask R-CNN": ("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml", []),
    "OHEM": ("ablations/ohem_R_50_FPN_1x.yaml", []),
    "RPN": ("Base-RCNN-FPN.yaml", ["MODEL.META_ARCHITECTURE", "ProposalNetwork"]),
    "RetinaNet": ("Base-RetinaNet.yaml", []),
    "RetinaNet with smooth L1": ("Base-RetinaNet.yaml", SMOOTH),
    "RetinaNet with PFL": ("ablations/pfl_retinanet_R_50_FPN_1x.yaml", SMOOTH),
    "ATSS": ("Base-ATSS.yaml", []),
    "ATSS with PFL": ("ablations/pfl_atss_R_50_FPN_1x.yaml", []),
    "FCOS": ("Base-FCOS.yaml", []),
}
ADVISED = {
    "Faster R-CNN": {"iou_sampling", "bfp", "balanced_l1"},
    "Cascade R-CNN": {"iou_sampling", "bfp", "balanced_l1"},
    "Mask R-CNN": {"iou_sampling", "bfp", "balanced_l1"},
    "OHEM": {"bfp", "balanced_l1"},
    "RPN": {"bfp", "rpn_balanced_l1"},
    "RetinaNet": {"bfp", "pfl_lrp_mean"},
    "RetinaNet with smooth L1": {"bfp", "balanced_l1", "pfl_lrp_mean"},
    "RetinaNet with PFL": {"bfp", "balanced_l1", "lrp_mean"},
    "ATSS": {"bfp", "pfl_lrp_mean"},
    "ATSS with PFL": {"bfp", "lrp_mean"},
    "FCOS": {"bfp", "pfl_lrp_mean"},
}


def worst_step(heads):
    """A measured iteration in which every imbalance is as large as can be."""
    levels = {
        "anchors": [1000, 100, 10],
        "positives": [500, 2, 0],
        "p_sum": [50.0, 0.2, 0.0],
        "neg_log_p_sum": [1000.0, 4.0, 0.0],
        "gradient_positives": [0.5, 0.1, 0.0],
        "gradient_negatives": [0.3, 0.1, 0.0],
    }
    errors = {"count": [1.0] + [0.0] * 99 + [0.01], "gradient": [0.0] * 100 + [1.0]}
    low, high = (np.eye(records.NUM_IOU_BINS)[i].tolist() for i in (0, 20))
    feature = {"levels": ["p3", "p4"], "share": [0.99, 0.01], "cosine": [1.0, 0.1]}
    return {
        "iteration": 0,
        "feature": {**feature, "before": [9.0, 0.1], "after": None, "gain": None},
        "sample": {"all": low, "random": low, "picked": low, "hard": high, "hard_among": "all"},
        "objective": {head: errors for head in heads},
        "level": {head: levels for head in heads if not head.startswith("roi")},
    }


def run_of(cfg, folder):
    """What a training with the collector leaves behind, if all is as bad as can be."""
    heads = ["dense"]
    if cfg.MODEL.META_ARCHITECTURE == "ProposalNetwork":
        heads = ["rpn"]
    elif "RCNN" in cfg.MODEL.META_ARCHITECTURE:
        stages = [f"roi_heads_stage{i}" for i in range(3)]
        is_cascade = "Cascade" in cfg.MODEL.ROI_HEADS.NAME
        heads = ["rpn", *(stages if is_cascade else ["roi_heads"])]
    step = worst_step(heads)
    if not any(head.startswith("roi") for head in heads):
        del step["sample"]
    (folder / "config.yaml").write_text(cfg.dump())
    records.write_meta(folder, {**run_meta(cfg), "levels": {h: ["p3", "p4", "p5"] for h in heads}})
    records.append_step(folder, step)
    return load_run(folder)


def findings_of(cfg, folder):
    return Report([run_of(cfg, folder)]).findings


@pytest.mark.parametrize("name", BASES)
def test_every_switch_that_a_finding_prints_is_accepted_builds_and_turns_its_lever_alone(
    name, tmp_path
):
    file, opts = BASES[name]
    cfg = load_config(str(CONFIGS / file), opts)
    findings = findings_of(cfg, tmp_path)
    assert {f.imbalance for f in findings} >= {"feature", "objective", "level"}
    assert {f.lever for f in findings if f.switch} == ADVISED[name]
    for finding in findings:
        assert bool(finding.switch) == bool(finding.lever)
        if not finding.switch:
            continue
        tried = cfg.clone()
        merge_opts(tried, [word for pair in finding.switch for word in pair])
        check_config(tried)
        parts = LEVERS[finding.lever].parts or (finding.lever,)
        assert set(active(tried)) == {*active(cfg), *parts}
        build_model(shrink(tried))


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_findings_of_every_config_have_a_remedy_that_is_accepted_or_no_grade(path, tmp_path):
    cfg = load_config(str(path))
    for finding in findings_of(cfg, tmp_path):
        assert (finding.size in ("large", "moderate")) == bool(finding.switch), finding.text
        tried = cfg.clone()
        merge_opts(tried, [word for pair in finding.switch for word in pair])
        check_config(tried)


def test_cascade_is_told_the_class_of_a_cascade_and_the_loss_of_its_stages(tmp_path):
    cfg = load_config(str(CONFIGS / BASES["Cascade R-CNN"][0]))
    found = [f for f in findings_of(cfg, tmp_path) if f.imbalance == "objective"]
    assert len(found) == 3
    for stage, finding in enumerate(found, start=1):
        assert f"cascade stage {stage}'s" in finding.text
        assert "under smooth L1 (beta 1)" in finding.text
        assert ["MODEL.ROI_HEADS.NAME", "LibraCascadeROIHeads"] in finding.switch


def test_text_gives_a_line_that_can_be_pasted(tmp_path):
    cfg = load_config(str(CONFIGS / "Base-RCNN-FPN.yaml"))
    (line,) = [
        line
        for line in Report([run_of(cfg, tmp_path)]).text().splitlines()
        if line.startswith("    try balanced_l1: ")
    ]
    opts = line.split(": ", 1)[1].split(" ")
    assert active(load_config(str(CONFIGS / "Base-RCNN-FPN.yaml"), opts)) == ["balanced_l1"]
