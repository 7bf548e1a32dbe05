"""One step: accumulation, precision, clipping, and losses that are not finite."""

import copy

import pytest
import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils.events import EventStorage

from libra_umop.errors import ConfigError
from libra_umop.training.loop import TrainStep, _amp_dtype


class Model(torch.nn.Module):
    """A loss that is a mean over images, as of a model without batch statistics."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 1)
        self.seen_dtypes = set()

    def forward(self, batch):
        x = self.linear(torch.stack([d["x"] for d in batch]))
        self.seen_dtypes.add(x.dtype)
        return {"a": x.float().square().mean(), "b": x.float().abs().mean()}


def batches(scale=1.0):
    generator = torch.Generator().manual_seed(1)
    while True:
        yield [
            {"x": scale * torch.randn(3, generator=generator), "file_name": f"{i}.jpg"}
            for i in range(4)
        ]


def train(step_class, steps=3, scale=1.0, **kwargs):
    torch.manual_seed(0)
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    step = step_class(model, batches(scale), optimizer, **kwargs)
    with EventStorage() as storage:
        for step.iter in range(steps):
            storage.iter = step.iter
            step.run_step()
    return model, storage


def difference(a, b):
    return max(
        (x - y).abs().max().item() for x, y in zip(a.parameters(), b.parameters(), strict=True)
    )


def test_with_nothing_switched_on_it_is_detectron2s_step():
    theirs, their_storage = train(SimpleTrainer)
    ours, storage = train(TrainStep)
    assert difference(ours, theirs) == 0
    assert storage.latest()["total_loss"] == their_storage.latest()["total_loss"]


@pytest.mark.parametrize("num_parts", [2, 4])
def test_accumulated_parts_are_the_large_batch(num_parts):
    whole, storage = train(TrainStep)
    parts, parts_storage = train(TrainStep, num_parts=num_parts)
    assert difference(whole, parts) < 1e-6
    total = storage.latest()["total_loss"][0]
    assert parts_storage.latest()["total_loss"][0] == pytest.approx(total, rel=1e-5)


def test_global_norm_is_clipped_over_all_parameters_together():
    torch.manual_seed(0)
    start = Model()
    model, storage = train(TrainStep, steps=1, scale=100.0, clip_norm=0.5)
    moved = [a - b for a, b in zip(model.parameters(), start.parameters(), strict=True)]
    norm = sum(m.square().sum().item() for m in moved) ** 0.5
    assert norm == pytest.approx(0.1 * 0.5, rel=1e-4)  # learning rate times the limit
    assert storage.latest()["grad_norm"][0] > 0.5


def test_bfloat16_autocast_works_on_the_cpu_and_keeps_weights_in_float32():
    model, _ = train(TrainStep, amp_dtype=torch.bfloat16)
    assert model.seen_dtypes == {torch.bfloat16} and model.linear.weight.dtype == torch.float32
    assert difference(model, train(TrainStep)[0]) < 0.05


def test_float16_on_the_cpu_is_refused():
    from detectron2.config import get_cfg

    from libra_umop.config import add_libra_umop_config

    cfg = get_cfg()
    add_libra_umop_config(cfg)
    cfg.SOLVER.AMP.ENABLED, cfg.MODEL.DEVICE = True, "cpu"
    with pytest.raises(ConfigError, match="SOLVER.AMP.DTYPE is 'float16', which needs CUDA"):
        _amp_dtype(cfg)
    cfg.SOLVER.AMP.DTYPE = "bfloat16"
    assert _amp_dtype(cfg) == torch.bfloat16


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_loss_that_is_not_finite_names_iteration_loss_and_images_and_keeps_the_weights(value):
    torch.manual_seed(0)
    model = Model()
    before = copy.deepcopy(model.state_dict())
    batch = [{"x": torch.full((3,), value), "file_name": "bad.jpg"}]
    step = TrainStep(model, iter([batch]), torch.optim.SGD(model.parameters(), lr=0.1))
    step.iter = 7
    with EventStorage(), pytest.raises(FloatingPointError) as info:
        step.run_step()
    told = str(info.value)
    assert "iteration 7" in told and "rank 0: a = " in told and "images: bad.jpg" in told
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


class FiniteLoss(Model):
    """A loss of 1 whose gradient is NaN, or infinite, in one weight of many."""

    def __init__(self, bad):
        super().__init__()
        self.bad = bad

    def forward(self, batch):
        losses = super().forward(batch)
        first = self.linear.weight[0, 0]
        zero = first - first.detach()
        zero = zero.abs() if self.bad == "nan" else zero
        return {**losses, "c": 1 + zero.sqrt()}


@pytest.mark.parametrize("bad", ["nan", "inf"])
@pytest.mark.parametrize(
    "kwargs", [{}, {"clip_norm": 1.0}, {"amp_dtype": torch.bfloat16}, {"num_parts": 2}]
)
def test_gradient_that_is_not_finite_under_a_finite_loss_keeps_the_weights(bad, kwargs):
    model = FiniteLoss(bad)
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    step = TrainStep(model, batches(), optimizer, **kwargs)
    step.iter = 7
    with EventStorage(), pytest.raises(FloatingPointError) as info:
        step.run_step()
    told = str(info.value)
    assert f"norm of the gradient became {bad} at iteration 7" in told and "3.jpg" in told
    assert "the weights were not changed by it" in told
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_a_loss_scaler_skips_what_overflows_and_goes_on():
    """In float16 an infinite gradient is how the scaler finds its scale."""
    model = FiniteLoss("inf")
    before = copy.deepcopy(model.state_dict())
    step = TrainStep(model, batches(), torch.optim.SGD(model.parameters(), lr=0.1), clip_norm=1.0)
    step.grad_scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    step.iter = 0
    with EventStorage():
        step.run_step()
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert step.grad_scaler.get_scale() == 4.0
