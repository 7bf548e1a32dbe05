"""The solver's numbers for this many processes, this batch and this many epochs."""

import math
import os
from collections.abc import Collection

from detectron2.config import CfgNode
from detectron2.utils import comm

from ..errors import ConfigError

# With a number of epochs, warm-up takes at most this part of the run.
LARGEST_WARMUP = 0.1
# One checkpoint an epoch is many: 100 epochs of an R-50 are about 50 GB. The last, and the one
# before to fall back on.
KEEP_WITH_EPOCHS = 2


def is_first_of_machine() -> bool:
    """Whether this is the process that does what one process of each machine has to do."""
    if comm.get_world_size() > 1:
        return comm.get_local_rank() == 0
    return os.environ.get("LOCAL_RANK", "0") == "0"


def scale_solver(
    cfg: CfgNode, num_processes: int, *, reference: CfgNode, given: Collection[str] = ()
) -> list[str]:
    """Scale batch, learning rate and iterations to ``num_processes``, in place.

    The rule is that of ``DefaultTrainer.auto_scale_workers`` (linear; Goyal et al., "Accurate,
    Large Minibatch SGD", section 2.1): the config file describes a run of
    ``SOLVER.REFERENCE_WORLD_SIZE`` processes. Each process keeps its share of the batch, the
    learning rate grows with the batch, iterations of every kind shrink. Afterwards
    ``REFERENCE_WORLD_SIZE`` is ``num_processes``, so that DefaultTrainer does not scale again.
    A ``REFERENCE_WORLD_SIZE`` of 0 switches it off.

    Args:
        cfg: the merged config.
        num_processes: of this run.
        reference: the config file alone, without the command line.
        given: keys of the command line. Their values are meant for this run and stay as they are,
            and a given ``IMS_PER_BATCH`` sets the scale of all others. But if
            ``REFERENCE_WORLD_SIZE`` is among them, the command line is a part of the reference.

    Returns:
        what was decided, as lines.

    Raises:
        ConfigError: the batch cannot be shared by the reference processes or by these.
    """
    if "SOLVER.REFERENCE_WORLD_SIZE" in given:
        reference, given = cfg.clone(), ()
    processes, batch = reference.SOLVER.REFERENCE_WORLD_SIZE, reference.SOLVER.IMS_PER_BATCH
    if processes <= 0:
        return []
    if batch % processes:
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH {batch} is not a multiple of SOLVER.REFERENCE_WORLD_SIZE"
            f" {processes}, its number of processes"
        )
    if "SOLVER.IMS_PER_BATCH" not in given:
        cfg.SOLVER.IMS_PER_BATCH = batch // processes * num_processes
    cfg.SOLVER.REFERENCE_WORLD_SIZE = num_processes
    scale = cfg.SOLVER.IMS_PER_BATCH / batch
    if scale == 1:
        return []
    if "SOLVER.BASE_LR" not in given:
        cfg.SOLVER.BASE_LR = reference.SOLVER.BASE_LR * scale
    if "SOLVER.STEPS" not in given:  # also those beyond a given MAX_ITER, which they may now meet
        cfg.SOLVER.STEPS = reference.SOLVER.STEPS
    kept = _rescale_iterations(cfg, 1 / scale, given)
    note = f"; as given: {', '.join(kept)}" if kept else ""
    return [
        f"learning rate x {scale:g} and iterations x {1 / scale:g}, as the batch is"
        f" {cfg.SOLVER.IMS_PER_BATCH} instead of {batch} (SOLVER.REFERENCE_WORLD_SIZE){note}"
    ]


def set_epochs(
    cfg: CfgNode, epochs: float, num_images: int, given: Collection[str] = ()
) -> list[str]:
    """Set ``MAX_ITER`` to that many passes over ``num_images``, and what follows from it.

    ``STEPS`` keep their place relative to ``MAX_ITER``, ``WARMUP_ITERS`` takes at most
    ``LARGEST_WARMUP`` of the run, evaluation and checkpoints happen once an epoch, and the last
    ``KEEP_WITH_EPOCHS`` checkpoints are kept; keys of the command line (``given``) stay as they
    are.

    Raises:
        ConfigError: ``epochs`` is not above 0, or ``MAX_ITER`` is given too.
    """
    if not (epochs > 0 and math.isfinite(epochs)):
        raise ConfigError(f"--epochs is {epochs:g}, should be above 0")
    if "SOLVER.MAX_ITER" in given:
        raise ConfigError(
            f"--epochs {epochs:g} and SOLVER.MAX_ITER {cfg.SOLVER.MAX_ITER} both say how long to"
            " train; give one of them"
        )
    per_epoch = num_images / cfg.SOLVER.IMS_PER_BATCH
    before = cfg.SOLVER.MAX_ITER
    cfg.SOLVER.MAX_ITER = max(1, math.ceil(epochs * per_epoch))
    if "SOLVER.STEPS" not in given:
        cfg.SOLVER.STEPS = _steps(cfg, cfg.SOLVER.MAX_ITER / before)
    if "SOLVER.WARMUP_ITERS" not in given:
        longest = int(LARGEST_WARMUP * cfg.SOLVER.MAX_ITER)
        cfg.SOLVER.WARMUP_ITERS = min(cfg.SOLVER.WARMUP_ITERS, longest)
    once_an_epoch = max(1, round(per_epoch))
    if "SOLVER.CHECKPOINT_PERIOD" not in given:
        cfg.SOLVER.CHECKPOINT_PERIOD = once_an_epoch
    if "SOLVER.CHECKPOINT_KEEP" not in given and not cfg.SOLVER.CHECKPOINT_KEEP:
        cfg.SOLVER.CHECKPOINT_KEEP = KEEP_WITH_EPOCHS
    if "TEST.EVAL_PERIOD" not in given and len(cfg.DATASETS.TEST):
        cfg.TEST.EVAL_PERIOD = once_an_epoch
    return [f"--epochs {epochs:g} of {num_images} images: {cfg.SOLVER.MAX_ITER} iterations"]


def describe_solver(cfg: CfgNode, num_processes: int) -> str:
    """One line of what training will do.

    Raises:
        ConfigError: the processes cannot share the batch.
    """
    batch = cfg.SOLVER.IMS_PER_BATCH
    if batch % num_processes:
        raise ConfigError(
            f"SOLVER.IMS_PER_BATCH {batch} cannot be shared by {num_processes} processes;"
            f" should be a multiple of {num_processes}"
        )
    kept = f" (the last {cfg.SOLVER.CHECKPOINT_KEEP} kept)" if cfg.SOLVER.CHECKPOINT_KEEP else ""
    evaluated = f"every {cfg.TEST.EVAL_PERIOD}" if cfg.TEST.EVAL_PERIOD else "at the end"
    evaluated = f"evaluation {evaluated}" if len(cfg.DATASETS.TEST) else "no evaluation"
    return (
        f"batch {batch} = {num_processes} x {batch // num_processes}, learning rate"
        f" {cfg.SOLVER.BASE_LR:g}, {cfg.SOLVER.MAX_ITER} iterations, warm-up"
        f" {cfg.SOLVER.WARMUP_ITERS}, steps {tuple(cfg.SOLVER.STEPS)}, checkpoint every"
        f" {cfg.SOLVER.CHECKPOINT_PERIOD}{kept}, {evaluated}"
    )


def _rescale_iterations(cfg: CfgNode, factor: float, given: Collection[str]) -> list[str]:
    """Multiply all that is counted in iterations; returns the keys that were left as given."""
    for group, key in (
        ("SOLVER", "MAX_ITER"),
        ("SOLVER", "WARMUP_ITERS"),
        ("SOLVER", "CHECKPOINT_PERIOD"),
        ("TEST", "EVAL_PERIOD"),
    ):
        if f"{group}.{key}" not in given and cfg[group][key]:
            cfg[group][key] = max(1, round(cfg[group][key] * factor))
    if "SOLVER.STEPS" not in given:
        cfg.SOLVER.STEPS = _steps(cfg, factor)
    keys = ("BASE_LR", "MAX_ITER", "STEPS", "WARMUP_ITERS")
    return [f"SOLVER.{key}" for key in keys if f"SOLVER.{key}" in given]


def _steps(cfg: CfgNode, factor: float) -> tuple:
    """``STEPS`` times ``factor``, without those that fall together or outside the run."""
    steps = {round(step * factor) for step in cfg.SOLVER.STEPS}
    return tuple(sorted(step for step in steps if 0 < step < cfg.SOLVER.MAX_ITER))
