"""Two gloo ranks: unequal images, a rank without objects, the statistics of the joined batch."""

import pytest
import torch
from detectron2.utils.events import EventStorage
from torch.nn.parallel import DistributedDataParallel

from testing.batches import make_input
from testing.dense_models import DETECTORS, LEVELS, UMOP_DETECTORS, tiny_model
from testing.ranks import NUM_RANKS, on_ranks

# Rank 0 has small objects on one image shape, rank 1 has none on another.
INPUTS = [
    [make_input([[10, 10, 60, 50], [30, 40, 80, 92]], [1, 3])],
    [make_input([], [], size=(64, 96), seed=1), make_input([], [], size=(128, 64), seed=2)],
]
# Of the same size, for what must equal one process that has them all.
JOINT_INPUTS = [make_input([[10, 10, 60, 50]], [1]), make_input([[30, 10, 90, 80]], [2], seed=1)]


def train_two_steps(model, inputs):
    """Losses and logged scalars of the second step, and the largest gradient."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for _ in range(2):
        with EventStorage() as storage:
            losses = model(inputs)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    logged = {name: value for name, (value, _) in storage.latest().items()}
    grads = {name: p.grad.clone() for name, p in model.named_parameters()}
    return {name: loss.detach() for name, loss in losses.items()}, logged, grads


def joint_step(model, inputs):
    """Losses, logged scalars and gradients of one step on images of equal size."""
    with EventStorage() as storage:
        losses = model(inputs)
    sum(losses.values()).backward()
    logged = {name: value for name, (value, _) in storage.latest().items()}
    grads = {name.removeprefix("module."): p.grad for name, p in model.named_parameters()}
    return sum(losses.values()).detach(), logged, grads


def run_rank(rank):
    results = {}
    for name in DETECTORS:
        model = DistributedDataParallel(tiny_model(name), broadcast_buffers=False)
        results[name] = train_two_steps(model, INPUTS[rank])
        model = DistributedDataParallel(tiny_model(name), broadcast_buffers=False)
        results[name, "joint"] = joint_step(model, JOINT_INPUTS[rank : rank + 1])
        state = model.module.state_dict()
        results[name, "average"] = state.get("loss_normalizer.average")
    return results


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each of the two ranks saw of every detector."""
    folder = tmp_path_factory.mktemp("ranks")
    return on_ranks(run_rank, folder)


@pytest.mark.parametrize("name", DETECTORS)
def test_a_rank_without_objects_and_other_image_sizes_train_along(ranks, name):
    (losses, logged, grads), (losses_1, logged_1, grads_1) = (r[name] for r in ranks)
    assert losses.keys() == losses_1.keys()
    for values in (losses, losses_1):
        assert all(x.isfinite() for x in values.values())
    group = "umop" if name in UMOP_DETECTORS else "level"
    assert sum(logged[f"{group}/{level}/num_positives"] for level in LEVELS) > 0
    assert sum(logged_1[f"{group}/{level}/num_positives"] for level in LEVELS) == 0
    for key in grads:
        assert grads[key].isfinite().all()
        torch.testing.assert_close(grads[key], grads_1[key])


@pytest.mark.parametrize("name", UMOP_DETECTORS)
def test_gamma_is_the_same_on_all_ranks(ranks, name):
    logged, logged_1 = (r[name][1] for r in ranks)
    gammas = [logged[f"umop/{level}/gamma"] for level in LEVELS]
    assert gammas == [logged_1[f"umop/{level}/gamma"] for level in LEVELS]
    assert gammas[-1] == 2.0 and logged["umop/p7/num_positives"] == 0
    assert set(gammas) != {2.0}


@pytest.mark.parametrize("name", DETECTORS)
def test_ranks_together_equal_one_process_on_the_joined_batch(ranks, name):
    model = tiny_model(name)
    if hasattr(model, "loss_normalizer"):
        # The average starts from a number per rank, so that of one process starts from twice that.
        assert ranks[0][name, "average"] == ranks[1][name, "average"]
        model.loss_normalizer.average.mul_(NUM_RANKS)
    total, logged, grads = joint_step(model, JOINT_INPUTS)
    of_ranks = [r[name, "joint"] for r in ranks]
    torch.testing.assert_close(sum(r[0] for r in of_ranks) / NUM_RANKS, total)
    for key in (f"umop/{level}/gamma" for level in LEVELS if name in UMOP_DETECTORS):
        assert of_ranks[0][1][key] == pytest.approx(logged[key], rel=1e-6)
    for key in grads:
        torch.testing.assert_close(of_ranks[0][2][key], grads[key], rtol=1e-3, atol=1e-6)
