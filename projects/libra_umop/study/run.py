"""One run of a study, in this process: an ordinary OUTPUT_DIR, and a record of how it ended."""

import contextlib
import fcntl
import json
import logging
import math
import resource
import statistics
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import yaml
from detectron2.config import CfgNode
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils.logger import setup_logger

from ..errors import EXIT_PREEMPTED, ConfigError, DatasetError, StopTraining
from ..utils.rng import seed_all_rng
from .pairing import PairedTrainer
from .plan import PlannedRun
from .records import is_over, read_record, write_record
from .variants import differing_keys

__all__ = ["EXIT_BUSY", "check_unchanged", "execute"]

EXIT_BUSY = 3  # another process is at this run
DETECTIONS = Path("inference") / "coco_instances_results.json"
LOCK = "study.lock"
LOCK_PATIENCE_S = 10.0  # a run whose study was killed has to notice it first
# Where a run is made, and not what it computes.
PLACE_KEYS = {"OUTPUT_DIR", "MODEL.DEVICE", "DATALOADER.NUM_WORKERS"}


def check_unchanged(run: PlannedRun) -> None:
    """Refuse to go on with, or to count, a run that was made with another config.

    Raises:
        ConfigError: naming the folder and the keys that differ.
    """
    text = read_record(run.folder).get("config")
    if not isinstance(text, str) or text == run.cfg.dump():
        return
    changes = differing_keys(yaml.safe_load(text), yaml.safe_load(run.cfg.dump()), PLACE_KEYS)
    if changes:
        more = f" and {len(changes) - 4} more" if len(changes) > 4 else ""
        raise ConfigError(
            f"{run.folder}: was run with another config: {'; '.join(changes[:4])}{more}; give"
            " another --output, or remove that folder"
        )


def execute(run: PlannedRun, *, retry_failed: bool = False) -> int:
    """Make or finish one run; what goes wrong in it becomes its record.

    Returns:
        exit code: 0 it is over, 75 stopped by a signal with a checkpoint, 3 another process has
        it.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    with _locked(run.folder / LOCK) as is_ours:
        if not is_ours:
            return EXIT_BUSY
        record = read_record(run.folder)
        if is_over(record) and not (retry_failed and record["status"] == "failed"):
            return 0
        check_unchanged(run)
        common = {
            "status": "started",
            "dataset": run.dataset,
            "variant": run.variant,
            "seed": run.seed,
            "config": run.cfg.dump(),
        }
        write_record(run.folder, common)
        try:
            outcome = _train(run)
        except StopTraining as stop:
            return stop.exit_code or EXIT_PREEMPTED
        except Exception as e:
            traceback.print_exc()
            is_ours_to_mend = not isinstance(e, (ConfigError, DatasetError))
            outcome = {"status": "failed", "reason": _one_line(e, with_type=is_ours_to_mend)}
        write_record(run.folder, {**common, **outcome})
    return 0


def _train(run: PlannedRun) -> dict[str, Any]:
    cfg = run.cfg
    start = time.perf_counter()
    _set_up(run)
    trainer = PairedTrainer(cfg)
    trainer.resume_or_load(resume=True)
    results = trainer.train()
    metrics = _metrics(cfg, results)
    steps = trainer.step_seconds[len(trainer.step_seconds) // 5 :]  # without the first, slow ones
    return {
        "status": "done",
        "metrics": metrics,
        "iterations": min(trainer.iter, trainer.max_iter),
        "seconds": time.perf_counter() - start,
        "step_seconds": statistics.median(steps) if steps else None,
        "memory_mib": _peak_memory_mib(cfg.MODEL.DEVICE),
        "device": _device_name(cfg.MODEL.DEVICE),
        "torch": torch.__version__,
    }


def _metrics(cfg: CfgNode, results: dict[str, Any] | None) -> dict[str, float | None]:
    """The numbers of the last evaluation; a model that detects nothing has an AP of 0.

    Detectron2's evaluator says NaN then. To leave such a run out would flatter its variant.

    Raises:
        ConfigError: nothing was evaluated, or there was nothing to find.
    """
    metrics = {k: _number(v) for k, v in flatten_results_dict(results or {}).items()}
    if "bbox/AP" not in metrics:
        raise ConfigError("the run ended without an AP: there is no validation split with objects")
    if metrics["bbox/AP"] is None:
        detections = json.loads((Path(cfg.OUTPUT_DIR) / DETECTIONS).read_text(encoding="utf-8"))
        if detections:
            raise ConfigError(f"the run ended without an AP: {cfg.DATASETS.TEST} have no objects")
        logging.getLogger("libra_umop").warning("The model detects nothing at all: its AP is 0")
        metrics.update(dict.fromkeys(("bbox/AP", "bbox/AP50", "bbox/AP75"), 0.0))
    return metrics


def _set_up(run: PlannedRun) -> None:
    """Loggers, config.yaml and seed, as ``default_setup`` makes them.

    But without asking the machine for its libraries, which takes seconds.
    """
    cfg = run.cfg
    for name in ("fvcore", "detectron2", "libra_umop"):
        setup_logger(str(run.folder), name=name)
    logger = logging.getLogger("libra_umop")
    logger.info(f"A run of a study: {run}")
    (run.folder / "config.yaml").write_text(cfg.dump(), encoding="utf-8")
    seed_all_rng(cfg.SEED)
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """Whether this process alone has the run; the system frees it however the process ends."""
    with open(path, "w") as f:
        until = time.monotonic() + LOCK_PATIENCE_S
        while True:
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() > until:
                    yield False
                    return
                time.sleep(0.2)
                continue
            yield True
            return


def _number(value: Any) -> float | None:
    """A metric; None for COCO's NaN where there is no such object."""
    return float(value) if math.isfinite(value) else None


def _peak_memory_mib(device: str) -> float:
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _device_name(device: str) -> str:
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name()
    return f"cpu, {torch.get_num_threads()} threads"


def _one_line(e: BaseException, *, with_type: bool) -> str:
    text = " ".join(str(e).split())
    text = text if len(text) <= 300 else text[:297] + "..."
    return f"{type(e).__name__}: {text}" if with_type or not text else text
