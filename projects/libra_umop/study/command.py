"""What ``tools/study.py`` does beyond reading its command line."""

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from .plan import Plan, PlannedRun, make_plan, threads_of_a_run
from .records import PLAN_FILE, is_over, read_record, write_json
from .run import check_unchanged, execute
from .scheduler import Scheduler, count_gpus
from .slurm import array_index, submit

__all__ = ["make_one", "make_runs", "submit_runs"]


def make_runs(args: argparse.Namespace) -> bool:
    """Make all runs that are not over; returns whether all are over now.

    Raises:
        ConfigError, DatasetError: what a user can mend, before the first run.
    """
    _warn_of_missing_packages()
    tqdm.monitor_interval = 0  # else a bar of the data check leaves a thread, lost in the copies
    gpus = count_gpus()
    plan = _begin(args, gpus)
    left = _left(plan, args.retry_failed)
    jobs = min(args.jobs, max(len(left), 1))
    threads = threads_of_a_run(jobs)
    place = f"{gpus} GPUs" if gpus > 1 else "one GPU, shared" if gpus else "the CPU"
    _say(
        f"{len(plan.runs)} runs ({len(plan.variants)} variants, {len(plan.datasets)} data sets,"
        f" {len(plan.seeds)} seeds), {len(left)} to be made; {jobs} at once with {threads} threads"
        f" each on {place}"
    )
    scheduler = Scheduler(
        runs=left,
        jobs=jobs,
        threads=threads,
        gpus=gpus,
        minutes=args.minutes,
        retry_failed=args.retry_failed,
        say=_say,
    )
    for run in plan.runs:
        record = read_record(run.folder)
        was_on_cpu = str(record.get("device")).startswith("cpu")
        if record.get("seconds") and was_on_cpu == (run.cfg.MODEL.DEVICE == "cpu"):
            scheduler.know(run, record["seconds"])
    return scheduler.run()


def make_one(args: argparse.Namespace) -> int:
    """Make the run of this task of a job array, in this process; returns its exit code."""
    plan = make_plan(args, count_gpus())
    run = plan.runs[array_index(len(plan.runs))]
    _say(f"this task makes {run} in {run.folder}")
    return execute(run, retry_failed=args.retry_failed)


def submit_runs(args: argparse.Namespace, argv: Sequence[str]) -> int:
    """Submit a job array of the runs that are not over; returns 0.

    Raises:
        ConfigError: Slurm is not here or refuses.
    """
    plan = _begin(args, count_gpus())
    left = {id(run) for run in _left(plan, args.retry_failed)}
    indices = [i for i, run in enumerate(plan.runs) if id(run) in left]
    if not indices:
        _say("all runs are over; --collect makes the answer")
        return 0
    _say(submit(argv, indices, args.jobs, args.sbatch))
    _say(f"{len(indices)} runs; the answer so far: tools/study.py --collect --output {args.output}")
    return 0


def _begin(args: argparse.Namespace, gpus: int) -> Plan:
    """The plan, with nothing in its folder that contradicts it; written for collectors."""
    plan = make_plan(args, gpus)
    for line in plan.lines:
        _say(line)
    for variant in plan.variants:
        _say(f"{variant.name}: {variant.title}")
    for run in plan.runs:
        check_unchanged(run)
    write_json(Path(plan.folder) / PLAN_FILE, plan.as_dict())
    return plan


def _left(plan: Plan, retry_failed: bool) -> list[PlannedRun]:
    """Runs to be made."""

    def is_left(run: PlannedRun) -> bool:
        record = read_record(run.folder)
        return not is_over(record) or (retry_failed and record["status"] == "failed")

    return [run for run in plan.runs if is_left(run)]


def _warn_of_missing_packages() -> None:
    if importlib.util.find_spec("scipy") is None:
        print(
            "scipy is not installed: the runs will be made, their answer (--collect) needs it",
            file=sys.stderr,
        )


def _say(line: str) -> None:
    print(line, flush=True)
