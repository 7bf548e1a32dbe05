"""A run with MODEL.COMPILE: resumed, averaged, measured, evaluated, exported; over two ranks."""

import contextlib
import sys
from pathlib import Path

import pytest
import torch
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch._dynamo.testing import CompileCounterWithBackend
from torch.nn.parallel import DistributedDataParallel

from libra_umop import LibraPredictor
from libra_umop.imbalance import records
from libra_umop.modeling import compiling
from libra_umop.training.trainer import _wrap
from testing.batches import make_batch
from testing.dense_models import tiny_model
from testing.engine_runs import RETINANET, differences, weights, write_config
from testing.ranks import on_ranks

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import train_net  # noqa: E402

UMOP = {
    **RETINANET,
    "MODEL": {**RETINANET["MODEL"], "META_ARCHITECTURE": "UMOPRetinaNet", "COMPILE": True},
    "INPUT": {**RETINANET["INPUT"], "MIN_SIZE_TRAIN": [160, 192], "MAX_SIZE_TRAIN": 256},
    "SOLVER": {**RETINANET["SOLVER"], "MAX_ITER": 4, "STEPS": [], "EMA": {"ENABLED": True}},
    "TEST": {"EVAL_PERIOD": 2, "VAL_LOSS": {"ENABLED": True}},
    "ANALYSIS": {"ENABLED": True, "PERIOD": 3},
}


@pytest.fixture
def counter(monkeypatch):
    """Counts the graphs that are compiled; they run as they were traced."""
    counter = CompileCounterWithBackend("eager")
    monkeypatch.setattr(compiling, "BACKEND", counter)
    torch._dynamo.reset()
    with compiling.symbolic_shapes_config.patch(use_duck_shape=True):
        yield counter
    torch._dynamo.reset()


def train(*args):
    assert train_net.run([str(arg) for arg in args]) == 0


def test_a_compiled_run_ends_as_an_eager_one_and_as_a_resumed_one(tiny_coco, tmp_path, counter):
    config = write_config(tmp_path / "config.yaml", UMOP)
    args = ["--config-file", config, "--dataset", tiny_coco, "OUTPUT_DIR"]
    train(*args, tmp_path / "eager", "MODEL.COMPILE", "False", "MODEL.CHANNELS_LAST", "True")
    assert counter.frame_count == 0
    train(*args, tmp_path / "whole")
    assert counter.frame_count == 4  # for two sizes of images, and two evaluations
    folder = tmp_path / "resumed"
    train(*args, folder, "SOLVER.MAX_ITER", "2")
    train("--resume", *args, folder)
    for key in ("model", "training_model"):
        ends = [weights(tmp_path / x / "model_final.pth", key) for x in ("eager", "whole")]
        assert max(differences(*ends).values(), default=0) < 1e-6
        assert differences(ends[1], weights(folder / "model_final.pth", key)) == {}
    steps = [records.read_steps(str(tmp_path / x)) for x in ("eager", "whole")]
    assert len(steps[1]) == 2  # the hooks of the measured steps were heard
    assert steps[1][0].keys() == steps[0][0].keys()
    predictor = LibraPredictor.from_weights(str(tmp_path / "whole" / "model_final.pth"))
    assert all(m._compiled_call_impl is None for m in predictor.model.modules())


def two_steps(compiled, wrap):
    """Losses and weights after two steps of this rank's image."""
    model = tiny_model("UMOPATSS")
    if compiled:
        compiling.compile_parts(model)
    ddp = wrap(model)
    assert isinstance(ddp, DistributedDataParallel)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    losses = []
    for _ in range(2):
        optimizer.zero_grad()
        with EventStorage():
            losses_i = ddp([make_batch()[comm.get_rank()]])
        sum(losses_i.values()).backward()
        optimizer.step()
        losses.append({name: x.detach() for name, x in losses_i.items()})
    return losses, {name: p.detach() for name, p in model.named_parameters()}


OPTIONS = {"broadcast_buffers": False, "gradient_as_bucket_view": True}


def many_ways(rank):
    """Two steps by name of the way; and what a static graph makes of a batch in two parts."""
    compiling.BACKEND = "eager"
    ways = {
        "plain": two_steps(False, lambda x: DistributedDataParallel(x, broadcast_buffers=False)),
        "ours": two_steps(False, _wrap),
        "compiled": two_steps(True, _wrap),
        "static": two_steps(
            False, lambda x: DistributedDataParallel(x, **OPTIONS, static_graph=True)
        ),
    }
    ddp = DistributedDataParallel(tiny_model("UMOPATSS"), **OPTIONS, static_graph=True)
    try:
        for context in (ddp.no_sync(), contextlib.nullcontext()):
            with context, EventStorage():
                sum(ddp(make_batch()).values()).backward()
    except RuntimeError as e:
        return ways, str(e)
    return ways, ""


@pytest.fixture(scope="module")
def ways_and_errors(tmp_path_factory):
    return on_ranks(many_ways, tmp_path_factory.mktemp("ranks"))


def test_ranks_with_gradients_as_views_and_compiled_parts_learn_the_same(ways_and_errors):
    for ways, _ in ways_and_errors:
        torch.testing.assert_close(ways["ours"], ways["plain"], rtol=0, atol=0)
        torch.testing.assert_close(ways["compiled"], ways["plain"], rtol=1e-5, atol=1e-6)


def test_a_static_graph_changes_no_weight_and_cannot_accumulate(ways_and_errors):
    """Why ``_wrap`` does not ask for one."""
    for ways, error in ways_and_errors:
        torch.testing.assert_close(ways["static"], ways["plain"], rtol=0, atol=0)
        assert "expect_autograd_hooks_" in error  # torch 2.14's
