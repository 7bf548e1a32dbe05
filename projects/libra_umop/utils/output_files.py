"""Files that a tool writes: tried before the work begins, and named when writing them fails."""

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..errors import ConfigError

PathLike = str | Path


class OutputError(OSError):
    """A file that cannot be written; one line that names it and says why."""


@contextlib.contextmanager
def writing(file: PathLike) -> Iterator[None]:
    """Make what the system says while ``file`` is written an :class:`OutputError` that names it.

    A full disk is reported by ``write``, which does not know the file's name.
    """
    try:
        yield
    except OutputError:
        raise
    except OSError as e:
        reason = e.strerror or str(e)
        if isinstance(e, FileExistsError):  # of a folder to be made
            reason = f"{e.filename} is a file, not a folder"
        raise OutputError(e.errno or 0, f"cannot be written: {reason}", str(file)) from e


def check_writable(*files: PathLike | None) -> None:
    """Find out before the work begins that a file could not be written after it.

    Folders are made. A file that is there keeps its content; one that is not is not left behind.

    Args:
        files: those to be written; None for one that is not wanted.

    Raises:
        OutputError: the first that cannot be written.
    """
    for file in (Path(f) for f in files if f is not None):
        with writing(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            is_new = not os.path.lexists(file)
            with file.open("ab"):
                pass
            if is_new:
                file.unlink()


def refuse_to_overwrite(outputs: Iterable[PathLike | None], inputs: Iterable[PathLike]) -> None:
    """Keep what is read from what is written.

    Args:
        outputs: files to be written; None and "" for one that is not wanted.
        inputs: files to be read; an address or "" is none.

    Raises:
        ConfigError: one of them is both.
    """
    read = {Path(path).resolve() for path in inputs if path}
    for path in outputs:
        if path and Path(path).resolve() in read:
            raise ConfigError(f"{path}: would be overwritten, and is read; name another output")


def check_writable_folder(folder: PathLike | None) -> None:
    """Make a folder, and find out whether files can be written to it; None is passed over.

    Raises:
        OutputError: they cannot.
    """
    if folder is not None:
        with writing(folder):
            Path(folder).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass


class GrowingFile:
    """A text file, UTF-8, that is whole after each call, whatever ends the program.

    Args:
        file: an existing one is replaced.
        head: what stands first.
        tail: what stands last, however much comes between them.

    Raises:
        OutputError: it cannot be written.
    """

    def __init__(self, file: PathLike, *, head: str = "", tail: str = ""):
        self.file = Path(file)
        with writing(file):
            self._stream = self.file.open("wb", buffering=0)
            # A pipe gets its tail at the end only.
            self._tail = tail.encode()
            self._can_go_back = self._stream.seekable()
            self._write(head.encode())
            self._end = self._stream.tell() if self._can_go_back else 0
            self._write_tail()

    def append(self, text: str) -> None:
        """Put ``text`` before the tail.

        Raises:
            OutputError: it cannot be written; what stood there before still stands.
        """
        with writing(self.file):
            try:
                self._go_to_end()
                self._write(text.encode())
                end = self._stream.tell() if self._can_go_back else 0
                self._write_tail()
            except OSError:
                self._go_to_end()
                self._write_tail()
                raise
            self._end = end

    def close(self) -> None:
        """Finish the file."""
        with writing(self.file):
            if not self._can_go_back:
                self._write(self._tail)
            self._stream.close()

    def _go_to_end(self) -> None:
        if self._can_go_back:
            self._stream.seek(self._end)
            self._stream.truncate()

    def _write_tail(self) -> None:
        if self._can_go_back:
            self._write(self._tail)

    def _write(self, data: bytes) -> None:
        while data:  # an unbuffered file may take a part
            data = data[self._stream.write(data) :]
