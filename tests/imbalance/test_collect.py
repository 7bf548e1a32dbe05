"""The collector: it measures what is there, for every detector, and leaves the training alone."""

import copy
import json

import numpy as np
import pytest
import torch
from detectron2.engine import HookBase, SimpleTrainer
from detectron2.modeling import build_model
from detectron2.structures import pairwise_iou
from detectron2.utils.events import EventStorage

from libra_umop.benchmark.inputs import Workload, synthetic_batch
from libra_umop.config.loading import load_config
from libra_umop.imbalance import records
from libra_umop.imbalance.measures import objective
from libra_umop.imbalance.probes.collector import ImbalanceCollector
from libra_umop.imbalance.probes.probes import iou_histogram
from libra_umop.imbalance.probes.roi_probe import spread
from libra_umop.imbalance.records import NUM_IOU_BINS
from testing.batches import a_batch
from testing.shrink import shrink

CONFIGS = "configs/COCO-Detection"
MASKS = "configs/COCO-InstanceSegmentation"
PLAIN = f"{CONFIGS}/faster_rcnn_R_50_FPN_1x.yaml"
LIBRA = f"{CONFIGS}/libra_faster_rcnn_R_50_FPN_1x.yaml"
RETINANET = f"{CONFIGS}/retinanet_R_50_FPN_1x.yaml"
SIZE = 96
TWO_STAGE = {
    "class",
    "iteration",
    "feature",
    "sample",
    "objective",
    "level",
    "seconds",
    "step_seconds",
}
DENSE = TWO_STAGE - {"sample"}


def tiny_cfg(repo, config, tmp_path, *opts):
    cfg = shrink(load_config(str(repo / config), opts), SIZE)
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 18, 64
    cfg.OUTPUT_DIR = str(tmp_path)
    cfg.ANALYSIS.PERIOD = 1
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (), ()
    return cfg


def train(cfg, *, steps=1, data=None, extra_hooks=(), model=None):
    """Train ``steps`` with the collector; returns the model and what was written."""
    torch.manual_seed(0)
    model = model or build_model(cfg)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    trainer = SimpleTrainer(model, [data or a_batch(5, 5)] * steps, optimizer)
    trainer.register_hooks([ImbalanceCollector(cfg), *extra_hooks])
    trainer.train(0, steps)
    return model, records.read_steps(cfg.OUTPUT_DIR)


@pytest.mark.parametrize(
    "config, opts, sections, heads",
    [
        (PLAIN, (), TWO_STAGE, {"roi_heads", "rpn"}),
        (LIBRA, (), TWO_STAGE, {"roi_heads", "rpn"}),
        ("configs/ablations/ohem_R_50_FPN_1x.yaml", (), TWO_STAGE, {"roi_heads", "rpn"}),
        (
            f"{CONFIGS}/libra_cascade_rcnn_R_50_FPN_1x.yaml",
            (),
            TWO_STAGE,
            {"roi_heads_stage0", "roi_heads_stage1", "roi_heads_stage2", "rpn"},
        ),
        (f"{MASKS}/mask_rcnn_R_50_FPN_1x.yaml", (), TWO_STAGE, {"roi_heads", "rpn"}),
        (RETINANET, (), DENSE, {"dense"}),
        (f"{CONFIGS}/libra_retinanet_R_50_FPN_1x.yaml", (), DENSE, {"dense"}),
        (f"{CONFIGS}/umop_retinanet_R_50_FPN_1x.yaml", (), DENSE, {"dense"}),
        (f"{CONFIGS}/umop_atss_R_50_FPN_1x.yaml", (), DENSE, {"dense"}),
        (f"{CONFIGS}/umop_fcos_R_50_FPN_1x.yaml", (), DENSE, {"dense"}),
        (f"{CONFIGS}/umop_gfl_R_50_FPN_1x.yaml", (), DENSE, {"dense"}),
        (f"{CONFIGS}/umop_vfnet_R_50_FPN_1x.yaml", (), DENSE, {"dense"}),
    ],
)
def test_every_detector_is_measured(repo, tmp_path, config, opts, sections, heads):
    cfg = tiny_cfg(repo, config, tmp_path, *opts)
    data = synthetic_batch(cfg, Workload((SIZE, SIZE), 2)) if cfg.MODEL.MASK_ON else a_batch(5, 5)
    model, steps = train(cfg, data=data)
    assert set(steps[0]) == sections
    assert set(steps[0]["objective"]) == heads
    for section in steps[0]["objective"].values():
        assert sum(section["count"]) > 0 and sum(section["gradient"]) == pytest.approx(1, abs=1e-3)
    assert sum(steps[0]["feature"]["share"]) == pytest.approx(1, abs=1e-3)
    meta = records.read_meta(tmp_path)
    for head, level in steps[0]["level"].items():
        assert len(meta["levels"][head]) == len(meta["anchor_sizes"][head]) == len(level["anchors"])
        parts = level["gradient_positives"] + level["gradient_negatives"]
        assert sum(parts) == pytest.approx(1, abs=1e-3)
    if "sample" in sections:
        assert sum(steps[0]["sample"]["random"]) == pytest.approx(
            sum(steps[0]["sample"]["picked"]), rel=1e-4
        )
    is_wrapped = [
        name
        for m in model.modules()
        for name in ("losses", "label_and_sample_proposals")
        if name in vars(m)
    ]
    assert not is_wrapped and not any(m._forward_hooks for m in model.modules())


@pytest.mark.parametrize("config", [LIBRA, f"{CONFIGS}/umop_retinanet_R_50_FPN_1x.yaml"])
def test_measuring_changes_neither_losses_gradients_statistics_nor_random_state(
    repo, tmp_path, config
):
    cfg = tiny_cfg(repo, config, tmp_path)
    torch.manual_seed(0)
    model = build_model(cfg).train()
    seen = []
    for is_measured in (False, True):
        one = copy.deepcopy(model)
        probes = ImbalanceCollector(cfg).build_probes(one) if is_measured else []
        for probe in probes:
            probe.attach()
        torch.manual_seed(5)
        with EventStorage():
            losses = one(a_batch(5, 5))
            sum(losses.values()).backward()
        for probe in probes:
            probe.detach()
            assert probe.sections() and not probe.failed
        gradients = [p.grad for p in one.parameters() if p.grad is not None]
        seen.append((losses, gradients, list(one.buffers()), torch.get_rng_state()))
    (losses, gradients, buffers, state), (losses2, gradients2, buffers2, state2) = seen
    assert torch.equal(state, state2)
    assert losses.keys() == losses2.keys()
    for a, b in zip(
        [*losses.values(), *gradients, *buffers],
        [*losses2.values(), *gradients2, *buffers2],
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_gradient_over_errors_is_that_of_the_loss_itself(repo, tmp_path):
    """What autograd measured is what the formula of smooth L1 says of the same errors."""
    cfg = tiny_cfg(repo, PLAIN, tmp_path, "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA", "1.0")
    torch.manual_seed(0)
    model = build_model(cfg)
    torch.nn.init.normal_(model.roi_heads.box_predictor.bbox_pred.bias, std=0.7)  # spread errors
    _, (step,) = train(cfg, model=model)
    section = step["objective"]["roi_heads"]
    count = np.asarray(section["count"], dtype=float)
    edges = np.asarray(records.ERROR_EDGES)
    centres = np.append((edges[1:] + edges[:-1]) / 2, edges[-1])
    expected = count * objective.gradient(centres, {"type": "smooth_l1", "beta": 1.0})
    assert count[1:50].sum() > 10 and count[50:].sum() > 10  # inliers and outliers
    assert np.asarray(section["gradient"]) == pytest.approx(expected / expected.sum(), abs=2e-3)


def test_negatives_are_all_candidates_below_the_threshold(repo, tmp_path):
    cfg = tiny_cfg(repo, PLAIN, tmp_path)
    torch.manual_seed(0)
    model = build_model(cfg)
    heard = []
    original = type(model.roi_heads).label_and_sample_proposals

    def listen(self, proposals, targets):
        heard.extend(zip(proposals, targets, strict=True))
        return original(self, proposals, targets)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model.roi_heads), "label_and_sample_proposals", listen)
        _, (step,) = train(cfg, model=model)
    expected = np.zeros(NUM_IOU_BINS)
    for proposals, targets in heard:
        ious = pairwise_iou(targets.gt_boxes, proposals.proposal_boxes).max(dim=0).values
        negatives = ious[ious < 0.5].double().numpy()
        expected += np.histogram(negatives, NUM_IOU_BINS, (0, 1))[0]
    assert np.abs(np.asarray(step["sample"]["all"]) - expected).sum() <= 2  # edges, fp32
    assert step["sample"]["hard_among"] == "all"
    probed = min(32, int(sum(step["sample"]["all"])))
    assert 0 < sum(step["sample"]["hard"]) <= 0.1 * 2 * probed


def test_level_numbers_are_those_that_umop_logs(repo, tmp_path):
    class Log(HookBase):
        def after_step(self):
            self.logged = {k: v for k, (v, _) in self.trainer.storage.latest().items()}

    log = Log()
    opts = ("MODEL.UMOP.DELTA", "1.9", "MODEL.UMOP.W", "0.1", "MODEL.RETINANET.PRIOR_PROB", "0.2")
    cfg = tiny_cfg(repo, f"{CONFIGS}/umop_retinanet_R_50_FPN_1x.yaml", tmp_path, *opts)
    _, (step,) = train(cfg, extra_hooks=[log])
    level = step["level"]["dense"]
    assert sum(level["positives"]) > 0
    for i, name in enumerate(cfg.MODEL.RETINANET.IN_FEATURES):
        if level["positives"][i]:
            gamma = -np.log(level["p_sum"][i] / level["positives"][i])
            logged = log.logged.get(f"umop/{name}/gamma")
            if logged is not None:
                assert np.clip(gamma, 0.1, 3.9) == pytest.approx(logged, abs=1e-3)


def test_only_every_period_is_measured_and_a_resumed_run_appends(repo, tmp_path):
    cfg = tiny_cfg(repo, RETINANET, tmp_path)
    cfg.ANALYSIS.PERIOD = 2
    train(cfg, steps=3)
    train(cfg, steps=1)
    lines = (tmp_path / records.FOLDER / records.STEPS_FILE).read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines] == [0, 2, 0]


def test_images_without_objects_are_measured(repo, tmp_path):
    _, (step,) = train(tiny_cfg(repo, LIBRA, tmp_path), data=a_batch(0, 0))
    assert sum(step["sample"]["all"]) == step["sample"]["all"][0] > 0
    assert step["level"]["rpn"]["positives"] == [0] * 5 and "objective" not in step


def test_a_model_that_cannot_be_measured_trains_all_the_same(repo, tmp_path, caplog):
    cfg = tiny_cfg(repo, PLAIN, tmp_path)
    torch.manual_seed(0)
    model = build_model(cfg)
    matcher = model.roi_heads.proposal_matcher
    calls = []

    def matches_once(quality):
        calls.append(quality)
        if len(calls) > 2:  # the training's own two images came first
            raise RuntimeError("an odd matcher")
        return matcher(quality)

    model.roi_heads.proposal_matcher = matches_once
    _, (step,) = train(cfg, model=model)
    assert "does not fit this model" in caplog.text
    assert "sample" not in step and "rpn" in step["level"]


@pytest.mark.parametrize(
    "key, value, says",
    [
        ("period", 0, "ANALYSIS.PERIOD is 0"),
        ("hard_fraction", 1.5, "ANALYSIS.HARD_FRACTION is 1.5"),
    ],
)
def test_wrong_keys_are_refused(tmp_path, key, value, says):
    with pytest.raises(ValueError, match=says):
        ImbalanceCollector(output_dir=str(tmp_path), meta={}, **{key: value})


def test_histogram_has_the_edges_of_the_records():
    ious = torch.tensor([0.0, 0.024, 0.026, 0.5, 1.0])
    bins = iou_histogram(ious)
    assert bins.nonzero()[:, 0].tolist() == [0, 1, 20, 39] and bins.sum() == 5


def test_spread_covers_everything_evenly():
    assert spread(5, 10, torch.device("cpu")).tolist() == [0, 1, 2, 3, 4]
    assert spread(100, 4, torch.device("cpu")).tolist() == [0, 25, 50, 75]
