"""Two gloo ranks, one without objects: what is known of the classes is the same on both."""

import pytest
import torch
from detectron2.utils.events import EventStorage
from torch.nn.parallel import DistributedDataParallel

from testing import batches, dense_models, tiny_rcnn
from testing.ranks import NUM_RANKS, on_ranks

DENSE = {"LibraRetinaNet": "RETINANET", "ATSS": "ATSS", "FCOS": "FCOS"}
HEADS = ("LibraCascadeROIHeads", "OHEMROIHeads")
STATE = ("gradients", "class_counts")


def dense_model(name):
    return dense_models.tiny_model(name, f"MODEL.{DENSE[name]}.CLS_LOSS_TYPE", "equalized_focal")


def two_stage_model(heads):
    options = ["MODEL.ROI_HEADS.NAME", heads, "MODEL.ROI_BOX_HEAD.CLS_LOSS_TYPE", "seesaw"]
    options += ["MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", "Cascade" in heads]
    return tiny_rcnn.tiny_model(tiny_rcnn.tiny_config(options=options))


def dense_inputs():
    return [
        batches.make_input([[10, 10, 60, 50], [70, 5, 90, 30]], [1, 3]),
        batches.make_input([], [], seed=1),
    ]


def train(model, inputs):
    """Two steps: the losses of the last, and what the model knows of the classes."""
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    for _ in range(2):
        with EventStorage():
            losses = model(inputs)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    buffers = {k: v.clone() for k, v in model.named_buffers() if k.endswith(STATE)}
    return {k: v.detach() for k, v in losses.items()}, buffers


def run_rank(rank):
    results = {}
    for name in DENSE:
        model = DistributedDataParallel(dense_model(name), broadcast_buffers=False)
        results[name] = train(model, dense_inputs()[rank : rank + 1])
    for name in HEADS:
        torch.manual_seed(0)
        inputs = batches.a_batch(3, 0)[rank : rank + 1]
        model = DistributedDataParallel(two_stage_model(name), broadcast_buffers=False)
        results[name] = train(model, inputs)
    return results


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What each of the two ranks saw of every detector."""
    return on_ranks(run_rank, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("name", [*DENSE, *HEADS])
def test_both_ranks_know_the_same_of_the_classes(ranks, name):
    (losses, buffers), (losses_1, buffers_1) = (r[name] for r in ranks)
    assert all(x.isfinite() for x in (*losses.values(), *losses_1.values()))
    assert len(buffers) == (3 if "Cascade" in name else 1)
    for key, value in buffers.items():
        assert torch.equal(value, buffers_1[key]) and value.sum() > 0


@pytest.mark.parametrize("name", DENSE)
def test_ranks_together_know_what_one_process_knows_of_the_joined_batch(ranks, name):
    model = dense_model(name)
    if hasattr(model, "loss_normalizer"):  # starts from a number per rank
        model.loss_normalizer.average.mul_(NUM_RANKS)
    _, buffers = train(model, dense_inputs())
    _, of_rank = ranks[0][name]
    # A rank's normaliser is the mean over ranks, a process's the sum.
    torch.testing.assert_close(
        of_rank["module.cls_loss.gradients"] / NUM_RANKS,
        buffers["cls_loss.gradients"],
        rtol=1e-3,
        atol=1e-6,
    )
