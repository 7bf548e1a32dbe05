"""Starting the processes of a run: by ourselves as Detectron2 does, or under torchrun."""

import datetime
import inspect
import os
import signal
import sys
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.utils import comm
from torch.multiprocessing.spawn import ProcessExitedException

from ..errors import ConfigError, StopTraining
from ..utils.signals import SIGNALS
from .ending import ending_together
from .exit_codes import exit_code_of

# As long as a rank may wait for another: evaluation on the main rank is part of it.
TIMEOUT = datetime.timedelta(minutes=30)
# How long the other processes may take to end by themselves when one of them has ended.
GRACE_S = 30


def launch(main: Callable[[], Any], args: Any, *, device: str) -> int:
    """Run ``main()`` in every process of the run.

    Under torchrun (``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK`` and ``LOCAL_WORLD_SIZE`` in the
    environment) this process is one of them. Otherwise ``--num-gpus`` processes are started here
    for each of ``--num-machines``. The CPU talks over gloo, CUDA over nccl.

    Args:
        main: picklable; what it returns is lost with more than one process.
        args: ``num_gpus``, ``num_machines``, ``machine_rank`` and ``dist_url``, as of Detectron2's
            ``default_argument_parser``.
        device: ``MODEL.DEVICE``.

    Returns:
        exit code: 0, 2 (the user can mend it), 75 (stopped by a signal, checkpoint written).

    Raises:
        ProcessRaisedException: a process failed, with its traceback.
    """
    if "LOCAL_RANK" in os.environ and "WORLD_SIZE" in os.environ:
        return _run_under_torchrun(main, device)
    if torch.device(device).type == "cuda" and args.num_gpus > torch.cuda.device_count():
        raise ConfigError(
            f"--num-gpus is {args.num_gpus}, but there are {torch.cuda.device_count()} here;"
            " MODEL.DEVICE cpu starts as many processes on the CPU"
        )
    world_size = args.num_gpus * args.num_machines
    if world_size <= 1:
        return _exit_code(main)
    kept = _keep_store(args, world_size)  # noqa: F841  as long as there are processes
    context = mp.start_processes(
        _run_spawned, (main, args, world_size, device), nprocs=args.num_gpus, join=False
    )
    _forward_signals(context)
    can_wait = "grace_period" in inspect.signature(context.join).parameters  # newer torch
    grace = {"grace_period": GRACE_S} if can_wait else {}
    try:
        while not context.join(**grace):
            pass
    except ProcessExitedException as e:
        if e.signal_name:
            print(f"rank {e.error_index} was ended by {e.signal_name}", file=sys.stderr)
            return 1
        return e.exit_code
    return 0


def _keep_store(args: Any, world_size: int) -> dist.Store | None:
    """What the ranks meet by, in the process that outlives them: the first machine's launcher."""
    if args.machine_rank:
        return None
    try:
        return _store(args.dist_url, world_size, is_master=True)
    except RuntimeError as e:
        reason = str(e).strip().splitlines()[0]
        raise ConfigError(f"--dist-url is {args.dist_url}, where nobody can meet: {reason}") from e


def _store(url: str, world_size: int, *, is_master: bool = False) -> dist.Store | None:
    """None where the URL is no ``tcp://HOST:PORT``, by which the ranks meet in torch's own way."""
    parts = urlsplit(url)
    if parts.scheme != "tcp" or not parts.hostname or not parts.port:
        return None
    return dist.TCPStore(
        parts.hostname, parts.port, world_size, is_master, TIMEOUT, wait_for_workers=False
    )


def _run_under_torchrun(main: Callable, device: str) -> int:
    env = os.environ
    _join_group(device, int(env["LOCAL_RANK"]), int(env["LOCAL_WORLD_SIZE"]), "env://", -1, -1)
    return _leave_group(main)


def _run_spawned(local_rank: int, main: Callable, args: Any, world_size: int, device: str) -> None:
    rank = args.machine_rank * args.num_gpus + local_rank
    store = _store(args.dist_url, world_size)
    _join_group(device, local_rank, args.num_gpus, args.dist_url, rank, world_size, store)
    sys.exit(_leave_group(main))


def _join_group(
    device: str,
    local_rank: int,
    local_size: int,
    url: str,
    rank: int,
    world_size: int,
    store: dist.Store | None = None,
) -> None:
    on_cuda = torch.device(device).type == "cuda"
    if on_cuda:
        torch.cuda.set_device(local_rank)
    dist.init_process_group(
        "nccl" if on_cuda else "gloo",
        init_method=None if store else url,
        store=store,
        rank=rank,
        world_size=world_size,
        timeout=TIMEOUT,
    )
    comm.create_local_process_group(local_size)
    comm.synchronize()


def _leave_group(main: Callable) -> int:
    """Run ``main``; all ranks end with one exit code, or with their tracebacks."""
    with ending_together():
        code = _exit_code(main)
    dist.destroy_process_group()
    # Detectron2 keeps its groups; their threads have to end before the interpreter does.
    comm._LOCAL_PROCESS_GROUP = None
    comm._get_global_gloo_group.cache_clear()
    return code


def _exit_code(main: Callable) -> int:
    try:
        exit_code_of(main)()
    except StopTraining as stop:
        if comm.is_main_process():
            print(stop, file=sys.stderr, flush=True)
        return stop.exit_code
    return 0


def _forward_signals(context: Any) -> None:
    """Signals to this process are for its children, and it waits for how they end.

    Ctrl-C in a terminal reaches them by itself, and a second SIGINT would end them at once, so it
    is passed on as SIGTERM.
    """

    def forward(signum: int, frame: Any) -> None:
        signum = signal.SIGTERM if signum == signal.SIGINT else signum
        for process in context.processes:
            if process.is_alive():
                os.kill(process.pid, signum)

    for signum in SIGNALS:
        signal.signal(signum, forward)
