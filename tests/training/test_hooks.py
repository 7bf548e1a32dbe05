"""Best checkpoint, early stopping, averaging and evaluation that training does not notice."""

import random

import numpy as np
import pytest
import torch
from detectron2.engine.train_loop import TrainerBase

from libra_umop.errors import StopTraining
from libra_umop.training.hooks import BestCheckpointHook, EMAHook, EvalHook, PeriodicCheckpointer


class Saved:
    def __init__(self):
        self.files = []

    def save_weights(self, name, **state):
        self.files.append((name, state["iteration"]))


class Run(TrainerBase):
    """A trainer without a model, whose evaluations come from a list."""

    def __init__(self, values, period=1, **kwargs):
        super().__init__()
        self.values, self.saved = iter(values), Saved()
        self.evaluate = EvalHook(period, lambda: {"bbox": {"AP": next(self.values)}})
        self.best = BestCheckpointHook(self.evaluate, self.saved, **kwargs)
        self.register_hooks([self.evaluate, self.best])

    def run_step(self):
        pass


def test_best_weights_are_those_of_the_best_evaluation():
    run = Run([1.0, 3.0, 2.0, float("nan"), 4.0])
    run.train(0, 5)
    assert run.saved.files == [("model_best", 0), ("model_best", 1), ("model_best", 4)]
    assert (run.best.best, run.best.best_iter) == (4.0, 4)


def test_smaller_is_better_where_the_mode_says_so():
    run = Run([3.0, 1.0, 2.0], mode="min")
    run.train(0, 3)
    assert (run.best.best, run.best.best_iter) == (1.0, 1)


def test_best_value_survives_a_resume_and_is_not_overwritten_by_a_worse_one():
    first = Run([5.0, 1.0])
    first.train(0, 2)
    second = Run([2.0, 6.0])
    second.load_state_dict(first.state_dict())
    second.evaluate.done_until = 2
    second.train(2, 4)
    assert second.saved.files == [("model_best", 3)]


def test_a_run_resumed_from_before_its_evaluation_evaluates_first():
    run = Run([2.0, 3.0, 1.0], period=2)
    run.train(2, 6)  # the checkpoint of iteration 1 was written before the evaluation after it
    assert run.evaluate.count == 3
    assert [iteration for _, iteration in run.saved.files] == [1, 3]


def test_training_ends_after_patience_evaluations_without_a_better_one():
    run = Run([1.0, 2.0, 2.05, 1.0, 9.0], patience=2, min_delta=0.1)
    with pytest.raises(StopTraining, match="bbox/AP was not better for 2 evaluations") as info:
        run.train(0, 5)
    assert run.iter == 3 and info.value.exit_code == 0
    assert run.best.best == 2.05  # kept, though not better by enough to go on for


def test_a_run_that_ended_early_does_not_go_on_when_resumed():
    run = Run([2.0, 1.0, 1.0], patience=2)
    with pytest.raises(StopTraining):
        run.train(0, 5)
    again = Run([], patience=2)
    again.load_state_dict(run.state_dict())
    with pytest.raises(StopTraining):
        again.train(run.iter + 1, 5)
    assert again.iter == run.iter + 1


def test_metric_of_the_first_of_several_test_sets_is_found_and_a_missing_one_is_named(caplog):
    run = Run([1.0])
    run.evaluate._evaluate = lambda: {"a": {"bbox": {"AP": 1.0}}, "b": {"bbox": {"AP": 2.0}}}
    run.train(0, 1)
    assert run.best.best == 1.0
    run = Run([1.0], metric="segm/AP")
    run.train(0, 1)
    assert run.best.best is None and "segm/AP is none of the metrics ['bbox/AP']" in caplog.text


def test_what_evaluation_draws_does_not_change_what_training_draws():
    def draws(evaluate):
        for seed in (random.seed, np.random.seed, torch.manual_seed):
            seed(0)
        if evaluate:
            run = Run([])
            drawing = (random.random, np.random.rand, lambda: torch.rand(1).item())
            run.evaluate._evaluate = lambda: {"x": sum(draw() for draw in drawing)}
            run.train(0, 1)
        return random.random(), np.random.rand(), torch.rand(1).item()

    assert draws(True) == draws(False)


def test_averaged_weights_are_the_exponential_mean_and_buffers_are_copied():
    model = torch.nn.BatchNorm1d(1)
    average = EMAHook(model, decay=0.9)
    expected = None
    for value in (1.0, 2.0, 5.0):
        model.weight.data.fill_(value)
        model.running_mean.fill_(value)
        average.after_step()
        expected = value if expected is None else 0.9 * expected + 0.1 * value
        assert average.module.weight.item() == pytest.approx(expected)
        assert average.module.running_mean.item() == value
    again = EMAHook(model, decay=0.9)
    again.load_state_dict(average.state_dict())
    again.module.load_state_dict(average.module.state_dict())
    again.after_step()
    average.after_step()
    assert torch.equal(again.module.weight, average.module.weight)


class Names:
    """A checkpointer that notes what it is asked for."""

    def __init__(self):
        self.saved = []

    def save(self, name, iteration):
        self.saved.append(name)

    def save_as(self, name, saved):
        self.saved.append((name, saved))


@pytest.mark.parametrize(
    "period, last", [(2, [("model_final", "model_0000003")]), (3, ["model_final"])]
)
def test_the_last_checkpoint_is_not_written_twice(period, last):
    names, trainer = Names(), Run([])
    trainer._hooks = []
    trainer.register_hooks([PeriodicCheckpointer(names, period)])
    trainer.train(0, 4)
    assert names.saved == [f"model_{i:07d}" for i in range(period - 1, 4, period)] + last
