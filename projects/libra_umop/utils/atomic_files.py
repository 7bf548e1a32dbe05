"""Files that are whole or absent."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

__all__ = ["atomic_link", "atomic_write"]


def atomic_write(path: str, write: Callable[[Any], None]) -> None:
    """Write a file so that it is whole or not there at all, through a crash or a power cut too.

    Args:
        path: of the file; its folder exists.
        write: given the open binary file.
    """
    folder = os.path.dirname(path) or "."
    fd, temporary = tempfile.mkstemp(dir=folder, prefix=f".{os.path.basename(path)}.")
    try:
        with os.fdopen(fd, "wb") as f:
            write(f)
            f.flush()
            os.fsync(f.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp's files are private
        os.replace(temporary, path)
    except BaseException as e:
        os.unlink(temporary)
        if isinstance(e, RuntimeError) and isinstance(e.__context__, OSError):
            raise e.__context__ from None  # torch.save ends its archive on the full disk, too
        raise
    _sync_folder(folder)


def atomic_link(path: str, existing: str) -> None:
    """Make ``path`` a second name of the file ``existing``, which is in the same folder.

    A copy where the file system has no hard links. An older ``path`` is there until the new one is.
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.link")
    with contextlib.suppress(FileNotFoundError):  # of a process that was killed
        os.unlink(temporary)
    try:
        os.link(existing, temporary)
    except OSError:
        with open(existing, "rb") as source:
            atomic_write(path, lambda f: shutil.copyfileobj(source, f))
        return
    os.replace(temporary, path)
    with contextlib.suppress(FileNotFoundError):  # rename leaves it where both were one file
        os.unlink(temporary)
    _sync_folder(folder or ".")


def _sync_folder(folder: str) -> None:
    """Have a folder's new names written to the disk, where the system can open a folder."""
    if os.name == "nt":
        return
    folder_fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(folder_fd)
    finally:
        os.close(folder_fd)
