"""Two gloo ranks, each a process, for the tests of what ranks do together."""

import time

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.utils import comm

NUM_RANKS = 2
TIMEOUT_S = 280  # a few seconds on an idle machine


def on_ranks(work, folder, *args):
    """What ``work(rank, *args)``, a function of a module, returns on each of the ranks.

    Args:
        work: called with a process group; what it returns can be saved by torch.
        folder: an empty one.
        args: picklable.
    """
    context = mp.spawn(_run, args=(work, str(folder), *args), nprocs=NUM_RANKS, join=False)
    deadline = time.monotonic() + TIMEOUT_S
    while not context.join(timeout=5):
        if time.monotonic() > deadline:
            for process in context.processes:
                process.kill()
            pytest.fail(f"the ranks hang: not done after {TIMEOUT_S} s")
    return [torch.load(folder / f"{rank}.pt") for rank in range(NUM_RANKS)]


def _run(rank, work, folder, *args):
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=NUM_RANKS)
    comm.create_local_process_group(NUM_RANKS)
    torch.save(work(rank, *args), f"{folder}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
