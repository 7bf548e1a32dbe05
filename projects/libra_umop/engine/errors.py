"""How a run ends: what a user can mend, what another rank did, and what was asked for."""

import functools
import sys

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

    ``ConfigError`` and ``DatasetError`` are such errors; every other
    exception keeps its traceback, as it is ours to mend.
    """

    @functools.wraps(main)
    def wrapped(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except (ConfigError, DatasetError) as e:
            print(f"{type(e).__name__}: {e}", file=sys.stderr, flush=True)
            sys.exit(EXIT_USER_ERROR)

    return wrapped
