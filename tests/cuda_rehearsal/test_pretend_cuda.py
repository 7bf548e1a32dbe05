"""The device that is not there finds what is planted, and computes what the CPU does."""

import pytest
import torch
from detectron2.utils.events import EventStorage
from pretend_cuda import CUDA, PretendCUDA, PretendTensor, to_cuda
from rehearsal import build, tiny_config, two_images
from torch import nn

from libra_umop.functional.boxes import dense_box_loss
from libra_umop.modeling.dense.losses.boxes import box_loss
from libra_umop.modeling.scalars import DeferredScalars


def vector(*numbers):
    return PretendTensor(torch.tensor(numbers))


def waits_of(function):
    with PretendCUDA() as cuda:
        function()
    return cuda.waits.total() if hasattr(cuda.waits, "total") else sum(cuda.waits.values())


def test_a_planted_tensor_of_the_cpu_is_found(monkeypatch):
    planted = box_loss.box_deltas
    monkeypatch.setattr(
        box_loss, "box_deltas", lambda *args, **kwargs: planted(*args, **kwargs) * torch.ones(4)
    )
    model, batch = build(tiny_config("COCO-Detection/libra_retinanet_R_50_FPN_1x")), two_images()
    with PretendCUDA(), EventStorage(), pytest.raises(RuntimeError, match="on the CPU"):
        model(batch)


def test_a_planted_wait_is_found_and_named(monkeypatch):
    original = dense_box_loss._area
    monkeypatch.setattr(dense_box_loss, "_area", lambda wh: original(wh) * float(wh.amax() > -1))
    model, batch = build(tiny_config("COCO-Detection/atss_R_50_FPN_1x")), two_images()
    with PretendCUDA() as cuda, EventStorage():
        model(batch)
    ours = {name: count for name, count in cuda.waits.items() if name.startswith("libra_umop:")}
    assert sum(ours.values()) == 4 and ours["libra_umop:giou_loss"] == 1  # hull and three others


def test_types_that_do_not_fit_are_refused_outside_of_autocast_alone():
    layer, x = to_cuda(nn.Linear(3, 2)), PretendTensor(torch.randn(4, 3).half())
    with PretendCUDA():
        with pytest.raises(RuntimeError, match="same dtype"):
            layer(x)
        with torch.autocast("cuda", dtype=torch.float16):
            y = layer(x)
    assert (y.dtype, y.device) == (torch.float16, CUDA)


@pytest.mark.parametrize(
    "waiting",
    [
        lambda x: x.sum().item(),
        lambda x: bool((x > 0).all()),
        lambda x: x.cpu(),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: x[torch.tensor([0, 1])],
        lambda x: x.unique(),
        lambda x: torch.ones(2).to(x.device),
        lambda x: torch.tensor([1.0], device="cuda"),
        lambda x: x.repeat_interleave(x.long().abs()),
        lambda x: x.long().abs().bincount(),
    ],
)
def test_what_waits_is_counted(waiting):
    assert waits_of(lambda: waiting(vector(1.0, -2.0))) == 1


@pytest.mark.parametrize(
    "flowing",
    [
        lambda x: x.new_zeros(3) + torch.zeros(2, 3, device="cuda"),
        lambda x: x * torch.tensor(2.0),  # a number of the host goes along with the kernel
        lambda x: torch.where(x > 0, x, 0.0).topk(1).indices,
        lambda x: x.masked_fill(x > 0, 1.0),
        lambda x: x.__setitem__(x > 0, 1.0),
        lambda x: torch.empty(2, pin_memory=True).copy_(x, non_blocking=True),
        lambda x: torch.randperm(5, device=x.device).argsort(),
    ],
)
def test_what_does_not_wait_is_not(flowing):
    assert waits_of(lambda: flowing(vector(1.0, -2.0))) == 0


def test_deferred_scalars_do_not_wait_and_keep_their_numbers():
    scalars = DeferredScalars()
    with PretendCUDA() as cuda, EventStorage() as storage:
        for value in (1.0, 2.0):
            scalars.put(["x"], vector(value))
            storage.step()
    assert not cuda.waits
    assert storage.history("x").values() == [(1.0, 0)]


@pytest.mark.parametrize(
    "name", ["COCO-Detection/umop_atss_R_50_FPN_1x", "COCO-Detection/libra_faster_rcnn_R_50_FPN_1x"]
)
def test_losses_and_gradients_are_those_of_the_cpu_and_of_autograds_engine(name):
    cfg, results = tiny_config(name), []
    for on_cuda in (False, True):
        model, batch = build(cfg, on_cuda=on_cuda), two_images()
        torch.manual_seed(2)  # of the samplers
        with PretendCUDA(), EventStorage():
            losses = model(batch)
            if on_cuda:
                sum(losses.values()).backward()
        if not on_cuda:  # outside, where backward is the engine's
            sum(losses.values()).backward()
        gradients = [p.grad for p in model.parameters() if p.requires_grad]
        results.append([getattr(x, "elem", x) for x in (*losses.values(), *gradients)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5)


def test_nothing_of_it_stays():
    before = torch.Tensor.backward, torch.cuda.Event, torch._C._only_lift_cpu_tensors()
    with PretendCUDA():
        assert torch.Tensor.backward is not before[0]
    assert before == (torch.Tensor.backward, torch.cuda.Event, torch._C._only_lift_cpu_tensors())
