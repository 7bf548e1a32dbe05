"""How a run ends: what a user can mend, what another rank did, and what was asked for."""

import functools
import sys

import torch.distributed as dist
from detectron2.utils import comm

from ..data.errors import DatasetError

# Documented exit codes of train_net.py beside 0 (done) and 1 (an error with its traceback).
EXIT_USER_ERROR = 2
# A signal asked to stop, and a checkpoint of that iteration was written (EX_TEMPFAIL of sysexits.h:
# "try again later"). 128 + signal number stays what it always is: killed with nothing saved.
EXIT_PREEMPTED = 75


class ConfigError(ValueError):
    """A config file, key, value or weights file that cannot be used; one line that says why."""


class StopTraining(BaseException):
    """Leaves the training loop on purpose; not an ``Exception``, so nothing logs it as a failure.

    Args:
        reason: what the log says.
        exit_code: of the process.
    """

    def __init__(self, reason: str, exit_code: int = 0):
        super().__init__(reason)
        self.exit_code = exit_code


def exit_code_of(main):
    """Decorate a command's ``main``: what a user can mend is one line on stderr and exit code 2.

    ``ConfigError`` and ``DatasetError`` are such errors; every other exception keeps its traceback,
    as it is ours to mend. Of several ranks that meet the same error the first one prints it.
    """

    @functools.wraps(main)
    def wrapped(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except (ConfigError, DatasetError) as e:
            line = f"{type(e).__name__}: {e}"
            if _is_first_to_say(line):
                print(line, file=sys.stderr, flush=True)
            sys.exit(EXIT_USER_ERROR)

    return wrapped


def _is_first_to_say(line: str) -> bool:
    """Whether no other rank has said it. Not left to rank 0, as an error may be one rank's own."""
    if comm.get_world_size() == 1:
        return True
    try:
        return dist.distributed_c10d._get_default_store().add(f"said: {line}", 1) == 1
    except RuntimeError:  # the process that keeps the count has ended: rather twice than never
        return True
