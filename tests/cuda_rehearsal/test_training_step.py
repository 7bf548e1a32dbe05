"""A training step with everything a run can have, on a GPU that is not there: loss scaling,
accumulation, clipping, averaged weights, the collector of imbalances and losses on other images."""

import copy

import pytest
import torch
from detectron2.utils.events import EventStorage
from pretend_cuda import CUDA, PretendCUDA
from rehearsal import DTYPES, OUR_TRAINING, build, tiny_config, two_images
from torch.utils._pytree import tree_leaves

from libra_umop.evaluation import validation_losses as validation
from libra_umop.imbalance import records
from libra_umop.imbalance.probes.collector import ImbalanceCollector
from libra_umop.training.hooks import EMAHook
from libra_umop.training.loop import TrainStep
from libra_umop.training.optimizer import OPTIMIZERS, build_optimizer

DETECTORS = (
    "COCO-Detection/libra_retinanet_R_50_FPN_1x",
    "COCO-Detection/umop_atss_R_50_FPN_1x",
    "COCO-Detection/libra_faster_rcnn_R_50_FPN_1x",
    "COCO-Detection/libra_cascade_rcnn_R_50_FPN_1x",
)
FULL = (
    *("SOLVER.GRADIENT_ACCUMULATION", "2"),
    *("SOLVER.CLIP_GRADIENTS.ENABLED", "True"),
    *("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "full_model"),
    *("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "0.5"),
)
NUM_STEPS = 2
# Who waits in a step beside the model, and how often at most. The first wait is for the step to be
# computed; what is asked after it is there.
STEP = {
    "libra_umop:_write_metrics": 8,  # each loss, judged before the weights are touched
    "libra_umop:_clip_and_step": 2,  # the gradient's norm; whether the scaler found an overflow
    "libra_umop:after_step": 1,  # torch's AveragedModel sends its counter to the device
}


def train(cfg, *, on_cuda=True, dtype=None, hooks=lambda model: ()):
    """``NUM_STEPS`` steps; the model, its step, the hooks, and who waited."""
    model = build(cfg, on_cuda=on_cuda)
    cfg = cfg.clone()
    cfg.MODEL.DEVICE = "cuda" if on_cuda else "cpu"
    cfg.SOLVER.AMP.ENABLED, cfg.SOLVER.AMP.DTYPE = dtype is not None, dtype or "float16"
    torch.manual_seed(2)  # of the samplers
    with PretendCUDA() if on_cuda else EventStorage() as cuda:
        step = TrainStep.from_config(
            cfg, model, [two_images()] * NUM_STEPS, build_optimizer(cfg, model)
        )
        listening = list(hooks(model))
        step.register_hooks(listening)
        step.train(0, NUM_STEPS)
    return model, step, listening, getattr(cuda, "waits", None)


def weights_of(module):
    return {name: getattr(x, "elem", x).clone() for name, x in module.state_dict().items()}


def of_ours(waits):
    return {name: count for name, count in waits.items() if name.startswith("libra_umop:")}


@pytest.mark.parametrize("name", DETECTORS)
def test_steps_and_averaged_weights_are_those_of_the_cpu(name):
    cfg, ends = tiny_config(name, *FULL), []
    for on_cuda in (False, True):
        model, _, (average,), _ = train(
            cfg, on_cuda=on_cuda, hooks=lambda model: [EMAHook(model, 0.5)]
        )
        ends.append((weights_of(model), weights_of(average.module)))
    start = weights_of(build(cfg, on_cuda=False))
    for on_cpu, on_cuda in zip(*ends, strict=True):
        assert any(not torch.equal(start[key], on_cuda[key]) for key in start)
        for key, value in on_cpu.items():
            torch.testing.assert_close(on_cuda[key], value, rtol=1e-4, atol=1e-5, msg=key)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", DETECTORS)
def test_half_precision_steps_keep_fp32_weights_on_the_device_and_nothing_new_waits(name, dtype):
    cfg = tiny_config(name, *FULL)
    model, step, (average,), waits = train(
        cfg, dtype=dtype, hooks=lambda model: [EMAHook(model, 0.5)]
    )
    for module in (model, average.module):
        for key, p in module.named_parameters():
            assert (p.device, p.dtype) == (CUDA, torch.float32), key
            assert p.elem.isfinite().all(), key
    assert step.grad_scaler.is_enabled() == (dtype == "float16")
    for state in step.optimizer.state.values():
        assert {x.device for x in state.values() if torch.is_tensor(x)} == {CUDA}
    waits = of_ours(waits)
    assert set(STEP) <= set(waits) <= {*STEP, *OUR_TRAINING}
    assert all(waits[name] <= limit * NUM_STEPS for name, limit in STEP.items()), waits


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("clip_type", ["value", "norm", "full_model"])
def test_every_optimizer_and_way_of_clipping_stays_on_the_device(name, clip_type):
    cfg = tiny_config(
        "COCO-Detection/umop_fcos_R_50_FPN_1x",
        *("SOLVER.OPTIMIZER", name),
        *("SOLVER.CLIP_GRADIENTS.ENABLED", "True"),
        *("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", clip_type),
    )
    model, _, _, waits = train(cfg, dtype="float16")
    assert all(p.elem.isfinite().all() for p in model.parameters())
    assert set(of_ours(waits)) <= set(STEP)


@pytest.mark.parametrize("name", DETECTORS)
def test_the_collector_waits_in_the_steps_that_it_measures_alone(name, tmp_path):
    cfg = tiny_config(name, "OUTPUT_DIR", str(tmp_path))
    _, _, _, plain = train(cfg, dtype="bfloat16")
    counts = []
    for cfg.ANALYSIS.PERIOD in (1, NUM_STEPS):
        waits = train(cfg, dtype="bfloat16", hooks=lambda model: [ImbalanceCollector(cfg)])[-1]
        counts.append(sum((waits - plain).values()))
    first, second = counts[1], counts[0] - counts[1]
    assert second == first - 1 > 0  # the sizes of the anchors are written once


@pytest.mark.parametrize("name", DETECTORS)
def test_the_collector_measures_what_it_does_on_the_cpu(name, tmp_path):
    cfg, measured = tiny_config(name, "ANALYSIS.PERIOD", "1"), []
    for cfg.OUTPUT_DIR in (str(tmp_path / "cpu"), str(tmp_path / "cuda")):
        is_there = cfg.OUTPUT_DIR.endswith("cuda")
        train(cfg, on_cuda=is_there, hooks=lambda model: [ImbalanceCollector(cfg)])
        steps = records.read_steps(cfg.OUTPUT_DIR)
        assert len(steps) == NUM_STEPS
        assert {"feature", "level", "objective"} <= set(steps[0])
        measured.append([step[key] for step in steps for key in ("feature", "level", "objective")])
    for a, b in zip(tree_leaves(measured[0]), tree_leaves(measured[1]), strict=True):
        assert b == (pytest.approx(a, rel=1e-3, abs=1e-5) if isinstance(a, float) else a)


@pytest.mark.parametrize("name", DETECTORS)
def test_validation_losses_are_those_of_the_cpu(name, monkeypatch):
    cfg = tiny_config(name)
    cfg.DATASETS.TEST = ("two images",)
    monkeypatch.setattr(
        validation, "build_test_loader", lambda *args: [[image] for image in two_images()]
    )
    expected = validation.validation_losses(cfg, build(cfg, on_cuda=False))
    model = build(cfg)
    before = copy.deepcopy(weights_of(model))
    with PretendCUDA():
        actual = validation.validation_losses(cfg, model)
    assert actual == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert all(torch.equal(before[key], value) for key, value in weights_of(model).items())
