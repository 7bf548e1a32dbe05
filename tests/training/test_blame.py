"""One of two gloo ranks fails in a detector that sums over ranks: it is named, and no other."""

import datetime

import pytest
import torch
from detectron2.utils.events import EventStorage
from torch.nn.parallel import DistributedDataParallel

from libra_umop.training import loop as train_step
from libra_umop.training.loop import TrainStep
from testing.batches import make_input  # noqa: E402
from testing.dense_models import DETECTORS, tiny_model  # noqa: E402
from testing.ranks import TIMEOUT_S, on_ranks

GUILTY = 1
# What goes wrong, in the second step: the first in which DistributedDataParallel speaks in forward.
ACCIDENTS = ("nan", "loading", "backbone", "losses", "gradient")


def fail(*args, **kwargs):
    raise ValueError("an accident")


def make_nan(gradient):
    return gradient * float("nan")


def batches(rank, accident):
    for step in range(2):
        image = make_input([[10, 10, 60, 50], [30, 40, 110, 92]], [1, 3], seed=rank)
        image["file_name"] = f"rank{rank}_step{step}.png"
        if rank == GUILTY and step == 1:
            if accident == "loading":
                fail()
            if accident == "nan":
                image["image"].fill_(float("nan"))
        yield [image]


def run_two_steps(name, accident, rank):
    """How the second step ended: type and message of the error."""
    inner = tiny_model(name)
    model = DistributedDataParallel(inner, broadcast_buffers=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    step = TrainStep(model, batches(rank, accident), optimizer)
    with EventStorage() as storage:
        for step.iter in range(2):
            storage.iter = step.iter
            if rank == GUILTY and step.iter == 1 and accident == "backbone":
                inner.backbone.register_forward_pre_hook(fail)
            if rank == GUILTY and step.iter == 1 and accident == "losses":
                inner.box_loss = fail
            if rank == GUILTY and step.iter == 1 and accident == "gradient":
                next(p for p in inner.parameters() if p.requires_grad).register_hook(make_nan)
            try:
                step.run_step()
            except Exception as e:
                return type(e).__name__, str(e)
    return "none", ""


def run_rank(rank):
    # Nobody may wait for a peer that waits elsewhere: that would take until the fixture's limit.
    train_step.FAREWELL = datetime.timedelta(seconds=2 * TIMEOUT_S)
    cases = [(name, accident) for name in DETECTORS for accident in ACCIDENTS]
    return {case: run_two_steps(*case, rank) for case in cases}


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """How each of the two ranks ended in every case."""
    return on_ranks(run_rank, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("name", DETECTORS)
def test_nan_on_one_rank_is_told_of_that_rank_and_its_image_by_all(ends, name):
    for kind, told in (rank[name, "nan"] for rank in ends):
        assert kind == "FloatingPointError" and "at iteration 1" in told
        assert "rank 1: loss_" in told and "images: rank1_step1.png" in told
        assert "rank 0" not in told and "rank0" not in told


@pytest.mark.parametrize("accident", ["loading", "backbone", "losses"])
@pytest.mark.parametrize("name", DETECTORS)
def test_an_exception_on_one_rank_is_told_of_that_rank_and_its_image_by_all(ends, name, accident):
    assert ends[GUILTY][name, accident] == ("ValueError", "an accident")
    kind, told = ends[0][name, accident]
    where = "loading its images" if accident == "loading" else "the forward pass of rank1_step1.png"
    assert kind == "PeerError" and told == (
        f"Rank 1 failed at iteration 1, in {where}: ValueError: an accident; rank 0 ends too"
    )


@pytest.mark.parametrize("name", DETECTORS)
def test_a_gradient_that_is_nan_on_one_rank_ends_all_in_that_iteration(ends, name):
    """It is the ranks' mean when it is looked at, so that no one can be blamed."""
    for kind, told in (rank[name, "gradient"] for rank in ends):
        assert kind == "FloatingPointError" and "norm of the gradient became nan" in told
        assert "at iteration 1" in told and told.endswith("rank0_step1.png, rank1_step1.png")
