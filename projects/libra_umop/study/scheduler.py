"""Many runs side by side on one machine, each in a process forked from this one.

Importing torch, Detectron2 and timm takes seconds, reading and checking the data some more, and a
run of a study may be as short: both are done once, and every run starts as a copy of this process.
Nothing here may touch CUDA or start threads, as neither would live on in the copies.
"""

import ctypes
import os
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import torch

from ..errors import EXIT_PREEMPTED
from .plan import PlannedRun
from .records import is_over, read_record, write_record
from .run import EXIT_BUSY, execute

__all__ = ["Scheduler", "count_gpus"]

POLL_S = 0.05
# How long stopped runs may take to write their checkpoints.
GRACE_S = 60.0
OUTPUT = "study_output.txt"  # what a run says on stdout and stderr
PR_SET_PDEATHSIG = 1  # of Linux's prctl


class _Running(NamedTuple):
    run: PlannedRun
    slot: int
    start: float  # time.monotonic()


class Scheduler:
    """Makes runs in their order, several at once, until all are over or the time is.

    Args:
        runs: those that are not over, seed by seed.
        jobs: how many at once.
        threads: of each run.
        gpus: how many to share out among the jobs; with one or none every run sees what this
            process sees.
        minutes: no run is started that cannot end by then, and those that have not ended are
            stopped with a checkpoint; None for as long as it takes.
        retry_failed: also make runs whose record says that they failed.
        say: takes the lines of progress.
    """

    def __init__(
        self,
        *,
        runs: Sequence[PlannedRun],
        jobs: int,
        threads: int,
        gpus: int = 0,
        minutes: float | None = None,
        retry_failed: bool = False,
        say: Callable[[str], None] = print,
    ):
        self._pending: deque[PlannedRun] = deque(runs)
        self._running: dict[int, _Running] = {}
        self._free = list(range(jobs))
        self._jobs, self._threads, self._gpus = jobs, threads, gpus
        self._deadline = None if minutes is None else time.monotonic() + 60 * minutes
        self._retry_failed = retry_failed
        self._say = say
        self._total, self._ended = len(self._pending), 0
        self._seconds: dict[str, list[float]] = {}  # by dataset and variant
        self._entered_seed: int | None = None
        self._is_stopping = False
        self.stop_signal = 0  # the signal that asked to stop; 0 if none did

    def know(self, run: PlannedRun, seconds: float) -> None:
        """A run took so long, now or in an earlier start."""
        self._seconds.setdefault(_kind(run), []).append(seconds)

    def run(self) -> bool:
        """Make the runs; returns whether all that were given are over now."""
        old = {s: signal.signal(s, self._note) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            while (self._pending or self._running) and not self._has_to_stop():
                self._start_what_fits()
                self._reap()
                time.sleep(POLL_S)
            self._stop_running()
        finally:
            for signum, handler in old.items():
                signal.signal(signum, handler)
        return self._ended == self._total

    def _note(self, signum: int, frame: Any) -> None:
        self.stop_signal = signum

    def _has_to_stop(self) -> bool:
        is_late = self._deadline is not None and time.monotonic() > self._deadline
        return bool(self.stop_signal) or is_late

    def _start_what_fits(self) -> None:
        while self._free and self._pending and not self._has_to_stop():
            run = self._pending[0]
            if not self._fits(run):
                self._say(f"{len(self._pending)} runs would not end in time and are not started")
                self._pending.clear()
                return
            self._pending.popleft()
            self._entered_seed = run.seed
            self._fork(run)

    def _fits(self, run: PlannedRun) -> bool:
        """Whether ``run`` can end in time; if it is the first of its seed, whether all of them can.

        So what is there at the end is complete seeds.
        """
        if self._deadline is None:
            return True
        now = time.monotonic()
        left = self._deadline - now
        if run.seed == self._entered_seed:
            return self._expected(run) <= left
        work = [self._expected(r) for r in self._pending if r.seed == run.seed]
        busy = [self._expected(r.run) - (now - r.start) for r in self._running.values()]
        total = sum(work) + sum(max(b, 0.0) for b in busy)
        return max(max(work), total / self._jobs) <= left

    def _expected(self, run: PlannedRun) -> float:
        """Seconds that a run may take: the longest of its kind so far, else of all; 0 if none."""
        everything = [s for seconds in self._seconds.values() for s in seconds]
        return max(self._seconds.get(_kind(run)) or everything, default=0.0)

    def _fork(self, run: PlannedRun) -> None:
        slot = self._free.pop(0)
        run.folder.mkdir(parents=True, exist_ok=True)
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                _become_a_run(run.folder, parent, self._threads)
                _choose_gpu(slot, self._gpus)
                code = execute(run, retry_failed=self._retry_failed)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        self._running[pid] = _Running(run, slot, time.monotonic())

    def _reap(self) -> None:
        for pid in list(self._running):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                running = self._running.pop(pid)
                self._free.append(running.slot)
                self._end(running, os.waitstatus_to_exitcode(status))

    def _end(self, running: _Running, code: int) -> None:
        """Say how a run ended; one that ended without a word is a failure, unless we ended it."""
        run, record = running.run, read_record(running.run.folder)
        if code == EXIT_BUSY:
            self._say(f"{run}: another process is at it")
            return
        is_over_now = is_over(record) and not (self._retry_failed and code)
        if not is_over_now and (code == EXIT_PREEMPTED or self._is_stopping):
            self._say(f"{run}: stopped; the same command goes on")
            return
        if not is_over_now:
            reason = f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            record = {**record, "status": "failed", "reason": f"{reason}; see {OUTPUT}"}
            record.update(dataset=run.dataset, variant=run.variant, seed=run.seed)
            write_record(run.folder, record)
        self._ended += 1
        if record["status"] == "done":
            self.know(run, time.monotonic() - running.start)
        self._say(f"[{self._ended}/{self._total}] {run}: {outcome(record)}; {self._outlook()}")

    def _outlook(self) -> str:
        """How many runs are left, and about how long they take."""
        left = [*self._pending, *(r.run for r in self._running.values())]
        if not left:
            return "none left"
        seconds = [s for kind in self._seconds.values() for s in kind]
        if not seconds:
            return f"{len(left)} left"
        each = sum(seconds) / len(seconds)
        now = time.monotonic()
        spent = sum(min(now - r.start, each) for r in self._running.values())
        ahead = max(each * len(left) - spent, 0.0) / min(self._jobs, len(left))
        return f"{len(left)} left, about {_clock(ahead)}"

    def _stop_running(self) -> None:
        """Ask what still runs for its checkpoint, and wait; end what does not obey."""
        if not self._running:
            return
        why = signal.Signals(self.stop_signal).name if self.stop_signal else "the time is up"
        self._say(f"{why}: stopping {len(self._running)} runs, each with a checkpoint")
        self._is_stopping = True
        self._signal_all(signal.SIGTERM)
        until = time.monotonic() + GRACE_S
        while self._running:
            if time.monotonic() > until:
                self._signal_all(signal.SIGKILL)
            self._reap()
            time.sleep(POLL_S)

    def _signal_all(self, signum: int) -> None:
        for pid in self._running:
            os.kill(pid, signum)


def outcome(record: dict[str, Any]) -> str:
    """How a run ended, in words."""
    if record["status"] == "failed":
        return f"FAILED: {record.get('reason', '')}"
    return f"AP {record['metrics']['bbox/AP']:.2f}, {record['seconds']:.0f} s"


def count_gpus() -> int:
    """CUDA devices that this process may use.

    Found out in a copy of the process: CUDA cannot be used in one that is copied after it was
    started.
    """
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, str(torch.cuda.device_count()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as f:
        text = f.read()
    os.waitpid(pid, 0)
    return int(text or 0)


def _kind(run: PlannedRun) -> str:
    return f"{run.dataset} {run.variant}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


def _become_a_run(folder: Path, parent: int, threads: int) -> None:
    """In the copy: die with the study, be asked to stop by it alone, speak into the folder."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was killed before that was said
        os._exit(1)
    os.setpgid(0, 0)  # a Ctrl-C in the terminal is for the study, which asks for checkpoints
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, signal.SIG_DFL)
    fd = os.open(folder / OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (1, 2):
        os.dup2(fd, stream)
    os.close(fd)
    torch.set_num_threads(threads)
    cv2.setNumThreads(0)


def _choose_gpu(slot: int, gpus: int) -> None:
    if gpus > 1:
        listed = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        names = listed.split(",") if listed else [str(i) for i in range(gpus)]
        os.environ["CUDA_VISIBLE_DEVICES"] = names[slot % gpus]
