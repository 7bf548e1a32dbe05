"""The solver scaled to processes, batch and epochs; Detectron2's own scaling is the oracle."""

import pytest
from detectron2.config import get_cfg
from detectron2.engine import DefaultTrainer

from libra_umop.config import add_libra_umop_config
from libra_umop.data.schedule import (
    LARGEST_WARMUP,
    describe_solver,
    scale_solver,
    set_epochs,
)
from libra_umop.errors import ConfigError


def a_cfg(reference=8, **solver):
    """The published Libra schedule."""
    cfg = get_cfg()
    add_libra_umop_config(cfg)
    cfg.SOLVER.IMS_PER_BATCH = 16
    cfg.SOLVER.BASE_LR = 0.02
    cfg.SOLVER.MAX_ITER = 90000
    cfg.SOLVER.STEPS = (60000, 80000)
    cfg.SOLVER.WARMUP_ITERS = 500
    cfg.SOLVER.CHECKPOINT_PERIOD = 5000
    cfg.TEST.EVAL_PERIOD = 10000
    cfg.SOLVER.REFERENCE_WORLD_SIZE = reference
    for key, value in solver.items():
        cfg.SOLVER[key] = value
    return cfg


@pytest.mark.parametrize("processes", [1, 2, 4, 8, 16, 32])
def test_scaling_is_that_of_default_trainer_and_happens_once(processes):
    cfg, theirs = a_cfg(), DefaultTrainer.auto_scale_workers(a_cfg(), processes)
    scale_solver(cfg, processes, reference=a_cfg())
    assert cfg == theirs
    assert DefaultTrainer.auto_scale_workers(cfg, processes) == cfg


def test_reference_0_scales_nothing():
    cfg = a_cfg(reference=0)
    assert scale_solver(cfg, 4, reference=a_cfg(reference=0)) == []
    assert cfg == a_cfg(reference=0)


def test_what_the_command_line_gives_is_meant_literally():
    cfg = a_cfg(MAX_ITER=20, STEPS=(10,))
    (line,) = scale_solver(cfg, 1, reference=a_cfg(), given={"SOLVER.MAX_ITER", "SOLVER.STEPS"})
    assert cfg.SOLVER.MAX_ITER == 20 and cfg.SOLVER.STEPS == (10,)
    assert cfg.SOLVER.IMS_PER_BATCH == 2 and cfg.SOLVER.BASE_LR == 0.0025
    assert "as given: SOLVER.MAX_ITER, SOLVER.STEPS" in line


@pytest.mark.parametrize("processes", [1, 2])
def test_a_given_batch_scales_the_rest_whatever_the_processes(processes):
    cfg = a_cfg(IMS_PER_BATCH=4)
    scale_solver(cfg, processes, reference=a_cfg(), given={"SOLVER.IMS_PER_BATCH"})
    theirs = DefaultTrainer.auto_scale_workers(a_cfg(), 2)  # the same batch, 4
    theirs.SOLVER.REFERENCE_WORLD_SIZE = processes
    assert cfg == theirs


def test_a_given_reference_makes_the_command_line_a_part_of_it():
    cfg = a_cfg(reference=4, MAX_ITER=80, STEPS=(40,))
    given = {"SOLVER.REFERENCE_WORLD_SIZE", "SOLVER.MAX_ITER", "SOLVER.STEPS"}
    expected = DefaultTrainer.auto_scale_workers(cfg, 1)
    scale_solver(cfg, 1, reference=a_cfg(), given=given)
    assert cfg == expected and cfg.SOLVER.MAX_ITER == 320


def test_batch_that_the_reference_cannot_share_is_refused():
    with pytest.raises(ConfigError, match="IMS_PER_BATCH 16 is not a multiple of .* 5"):
        scale_solver(a_cfg(5), 1, reference=a_cfg(5))


def test_batch_that_these_processes_cannot_share_is_refused():
    with pytest.raises(ConfigError, match="IMS_PER_BATCH 16 cannot be shared by 3 processes"):
        describe_solver(a_cfg(), 3)


def test_epochs_set_iterations_and_what_follows_from_them():
    cfg = a_cfg()
    cfg.DATASETS.TEST = ("some_val",)
    set_epochs(cfg, 3, 100)  # 100 images in batches of 16: 6.25 an epoch
    assert cfg.SOLVER.MAX_ITER == 19
    assert cfg.SOLVER.STEPS == (13, 17)  # 2/3 and 8/9 of the run
    assert int(19 * LARGEST_WARMUP) == cfg.SOLVER.WARMUP_ITERS
    assert cfg.SOLVER.CHECKPOINT_PERIOD == cfg.TEST.EVAL_PERIOD == 6
    assert cfg.SOLVER.CHECKPOINT_KEEP == 2
    assert "checkpoint every 6 (the last 2 kept)" in describe_solver(cfg, 1)


@pytest.mark.parametrize("keep, given", [(5, ()), (0, ["SOLVER.CHECKPOINT_KEEP"])])
def test_epochs_keep_as_many_checkpoints_as_were_asked_for(keep, given):
    cfg = a_cfg(CHECKPOINT_KEEP=keep)
    set_epochs(cfg, 3, 100, given)
    assert keep == cfg.SOLVER.CHECKPOINT_KEEP


def test_epochs_leave_given_keys_alone():
    cfg = a_cfg(STEPS=(15,), WARMUP_ITERS=9, CHECKPOINT_PERIOD=4)
    cfg.TEST.EVAL_PERIOD = 5
    cfg.DATASETS.TEST = ("some_val",)
    keys = ("SOLVER.STEPS", "SOLVER.WARMUP_ITERS", "SOLVER.CHECKPOINT_PERIOD", "TEST.EVAL_PERIOD")
    set_epochs(cfg, 3, 100, keys)
    assert cfg.SOLVER.STEPS == (15,) and cfg.SOLVER.WARMUP_ITERS == 9
    assert cfg.SOLVER.CHECKPOINT_PERIOD == 4 and cfg.TEST.EVAL_PERIOD == 5


def test_a_long_run_keeps_its_warmup():
    cfg = a_cfg()
    set_epochs(cfg, 12, 118000)
    assert cfg.SOLVER.MAX_ITER == 88500 and cfg.SOLVER.WARMUP_ITERS == 500
    assert cfg.SOLVER.STEPS == (59000, 78667)


def test_the_smallest_run_has_one_iteration_and_no_step():
    cfg = a_cfg()
    set_epochs(cfg, 0.01, 3)
    assert cfg.SOLVER.MAX_ITER == 1 and cfg.SOLVER.STEPS == () and cfg.SOLVER.WARMUP_ITERS == 0


@pytest.mark.parametrize("epochs", [0, -1, float("nan"), float("inf")])
def test_epochs_out_of_range_are_refused(epochs):
    with pytest.raises(ConfigError, match="--epochs is .* should be above 0"):
        set_epochs(a_cfg(), epochs, 100)


def test_epochs_and_iterations_together_are_refused():
    with pytest.raises(ConfigError, match="--epochs 3 and SOLVER.MAX_ITER 90000 both say"):
        set_epochs(a_cfg(), 3, 100, ["SOLVER.MAX_ITER"])
