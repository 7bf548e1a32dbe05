"""How a run ends: what a user can mend, what another rank did, and what was asked for."""

import functools
import sys

from ..data.errors import DatasetError
from .library_warnings import hide_library_warnings

# Documented exit codes of train_net.py beside 0 (done) and 1 (an error with its traceback).
EXIT_USER_ERROR = 2
# Ctrl-C, with nothing to go on from: 128 + SIGINT, as shells have it.
EXIT_INTERRUPTED = 130
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

    ``ConfigError`` and ``DatasetError`` are such errors, and what the system refuses about files
    (an ``OSError`` with its number: no permission, no space, no such folder); every other exception
    keeps its traceback, as it is ours to mend. Of several ranks that meet the same error the first
    one prints it. Ctrl-C is a line and exit code 130.
    """

    @functools.wraps(main)
    def wrapped(*args, **kwargs):
        hide_library_warnings()
        _let_any_name_be_printed()
        try:
            return main(*args, **kwargs)
        except (ConfigError, DatasetError) as e:
            _say_once(f"{type(e).__name__}: {e}")
            sys.exit(EXIT_USER_ERROR)
        except OSError as e:
            if e.errno is None:  # a library's, about something else than the system
                raise
            _say_once(f"{type(e).__name__}: {e}")
            sys.exit(EXIT_USER_ERROR)
        except KeyboardInterrupt:
            _say_once("stopped by Ctrl-C")
            sys.exit(EXIT_INTERRUPTED)

    return wrapped


def _let_any_name_be_printed() -> None:
    """A character that the terminal's encoding lacks is printed as its number, not raised."""
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")


def _say_once(line: str) -> None:
    if _is_first_to_say(line):
        print(line, file=sys.stderr, flush=True)


def _is_first_to_say(line: str) -> bool:
    """Whether no other rank has said it. Not left to rank 0, as an error may be one rank's own."""
    dist = sys.modules.get("torch.distributed")  # there are ranks only where it was imported
    if dist is None or not dist.is_available() or not dist.is_initialized():
        return True
    if dist.get_world_size() == 1:
        return True
    try:
        return dist.distributed_c10d._get_default_store().add(f"said: {line}", 1) == 1
    except RuntimeError:  # the process that keeps the count has ended: rather twice than never
        return True
