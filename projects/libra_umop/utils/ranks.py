"""What the ranks of a training step tell each other, so that a failure is named by who failed."""

import contextlib
import datetime
from collections.abc import Iterator

import torch
import torch.distributed as dist
from detectron2.utils import comm
from torch import Tensor

__all__ = ["PeerError", "agree", "heard_by_all_ranks", "is_end_of_peer", "sum_over_ranks"]

_FAILED = 2**16  # above every flag


class PeerError(RuntimeError):
    """Another rank failed; the message says which, where and of what.

    Args:
        message: as above.
        mendable: a user can mend what every rank that failed has met.
    """

    def __init__(self, message: str, *, mendable: bool = False):
        super().__init__(message)
        self.mendable = mendable


def is_end_of_peer(error: BaseException | None) -> bool:
    """Whether ``error`` says no more than that another rank is not there, or failed."""
    if isinstance(error, (PeerError, dist.DistError)):
        return True
    return isinstance(error, RuntimeError) and "gloo" in str(error)  # has no type of its own


def agree(
    flag: int = 0,
    *,
    failure: str = "",
    mendable: bool = False,
    timeout: datetime.timedelta | None = None,
) -> int:
    """The largest ``flag`` of all ranks: one all-reduce of one int over gloo.

    All ranks call it at the same points of a step, before whatever else makes them wait for each
    other. A rank that fails calls it once, with ``failure``, and then ends: in whichever of these
    calls its peers are next, they learn what happened, and not from a broken collective, which
    would blame who waited in it.

    Args:
        flag: in [0, 65536).
        failure: what to tell the others of a failure of this rank.
        mendable: a user can mend it.
        timeout: for a rank that fails, how long to wait for others who may have failed, too.

    Raises:
        PeerError: another rank failed.
    """
    if comm.get_world_size() == 1:
        return flag
    largest = torch.tensor(_FAILED if failure else flag)
    group = comm._get_global_gloo_group()
    work = dist.all_reduce(largest, op=dist.ReduceOp.MAX, group=group, async_op=True)
    work.wait(timeout) if timeout else work.wait()
    if largest < _FAILED:
        return int(largest)
    failures = [told for told in comm.all_gather((failure, mendable)) if told[0]]
    if failure:
        return flag
    texts, are_mendable = zip(*failures, strict=True)
    raise PeerError(
        f"{'; '.join(texts)}; rank {comm.get_rank()} ends too", mendable=all(are_mendable)
    )


def sum_over_ranks(x: Tensor) -> Tensor:
    """``x`` summed over all ranks, without gradient: none in a single process.

    One collective over nccl, which does not make the host wait; over gloo, where it does, it comes
    after :func:`agree`.

    Raises:
        PeerError: another rank failed.
    """
    x = x.detach()
    if comm.get_world_size() == 1:
        return x
    if dist.get_backend() == "gloo":
        agree()
    x = x.clone()
    dist.all_reduce(x)
    return x


@contextlib.contextmanager
def heard_by_all_ranks() -> Iterator[None]:
    """An error of the main rank's disk, on which it alone writes, is raised on every rank."""
    error: OSError | None = None
    try:
        yield
    except OSError as e:
        error = e
    error = comm.all_gather(error)[0]
    if error is not None:
        raise error
