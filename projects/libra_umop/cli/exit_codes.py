"""What a command says and returns at its end, whatever ended it."""

import functools
import sys

from ..errors import (
    EXIT_INTERRUPTED,
    EXIT_USER_ERROR,
    NO_DETECTRON2,
    ConfigError,
    DatasetError,
    one_line,
)
from ..utils.library_warnings import hide_library_warnings

__all__ = ["exit_code_of"]


def exit_code_of(main):
    """Decorate a command's ``main``: what a user can mend is one line on stderr and exit code 2.

    ``ConfigError`` and ``DatasetError`` are such errors, what the system refuses about files (an
    ``OSError`` with its number: no permission, no space, no such folder), and that Detectron2 is
    not installed; every other exception keeps its traceback, as it is ours to mend. Of several
    ranks that meet the same error the first one prints it. Ctrl-C is a line and exit code 130.
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
        except ModuleNotFoundError as e:
            if e.name is None or e.name.split(".")[0] != "detectron2":
                raise
            _say_once(NO_DETECTRON2)
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
    line = one_line(line)
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
