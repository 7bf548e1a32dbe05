"""What a user names on the command line, as images: files, folders, globs, and videos."""

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ..data.images import image_suffixes

# What FFmpeg has to say of files that are no videos goes into one line of ours.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")


class Input(NamedTuple):
    """A file to predict on: where it is, and its name, no other input's.

    The name is that below what the user named, in front of it as many of the folders above as tell
    it from other inputs.
    """

    path: Path
    name: str


class Inputs(NamedTuple):
    """What was found.

    Attributes:
        images, videos: in the order of the command line; of a folder sorted.
        problems: for each pattern that gave nothing, a line that says so.
        notes: a line for each folder that holds other files than images.
    """

    images: list[Input]
    videos: list[Input]
    problems: list[str]
    notes: list[str]


def find_inputs(patterns: Sequence[str]) -> Inputs:
    """Resolve files, folders and globs.

    Of a folder come the images in it and below, by the suffixes that Pillow reads. A file that is
    named itself is taken, whatever its suffix: as a video if OpenCV opens it and Pillow does not.
    A file that is named twice is taken once.

    Args:
        patterns: paths of files and folders, and globs (``**`` goes down folders).
    """
    found: dict[Path, Input] = {}
    problems, notes = [], []
    for pattern in patterns:
        items, passed_over = _expand(pattern)
        if passed_over:
            notes.append(f"passed over in {printable(pattern)}: {_counted(passed_over)}")
        if not items:
            problems.append(f"{printable(pattern)}: {_why_nothing(pattern)}")
        for item in items:
            found.setdefault(item.path.resolve(), item)
    images: list[Input] = []
    videos: list[Input] = []
    for item in _told_apart(list(found.values())):
        (videos if is_video(item.path) else images).append(item)
    return Inputs(images, videos, problems, notes)


def printable(name: object) -> str:
    """A file's name as text that can be printed and written as UTF-8.

    A byte of it that is no UTF-8 becomes a backslash, an x and its two hex digits.
    """
    return os.fsencode(str(name)).decode("utf-8", "backslashreplace")


def is_video(path: Path) -> bool:
    """Whether a file is a video: what OpenCV opens and Pillow does not, or what is named like one.

    FFmpeg opens text, too, as a film of a terminal or as a list of addresses; that is none.
    """
    suffix = path.suffix.lower()
    if suffix in image_suffixes() or _is_image(path):
        return False
    if suffix in _VIDEO_SUFFIXES or _is_text(path):
        return suffix in _VIDEO_SUFFIXES
    try:
        Video(path).release()
    except ValueError:
        return False
    return True


# A file of these names that cannot be opened is a broken video; of others, a broken image.
_VIDEO_SUFFIXES = frozenset(
    [".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv"]
)


def _is_image(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            return image.format != "MPEG"  # Pillow knows these by name only
    except Exception:  # broken files make Pillow raise anything
        return False


def _is_text(path: Path) -> bool:
    """Every video has a zero byte among its first."""
    try:
        with path.open("rb") as f:
            return b"\0" not in f.read(4096)
    except OSError:
        return True  # said when it is read


def _expand(pattern: str) -> tuple[list[Input], Counter]:
    """The inputs of a pattern, and how many files of which suffix were passed over."""
    path = Path(pattern)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file())
        taken = [p for p in files if p.suffix.lower() in image_suffixes()]
        passed_over = Counter(p.suffix.lower() or "without a suffix" for p in files)
        passed_over.subtract(p.suffix.lower() for p in taken)
        return [Input(p, p.relative_to(path).as_posix()) for p in taken], +passed_over
    if os.path.lexists(path):
        return [Input(path, path.name)], Counter()
    found: list[Input] = []
    passed_over = Counter()
    for name in sorted(glob.glob(pattern, recursive=True)):
        if Path(name).is_dir():
            items, others = _expand(name)
            found, passed_over = found + items, passed_over + others
        else:
            found.append(Input(Path(name), Path(name).name))
    return found, passed_over


def _told_apart(items: list[Input]) -> list[Input]:
    """The items with names of which no two are equal: longer tails of their paths where need be."""
    items = [Input(item.path, printable(item.name)) for item in items]
    depth = {item.path: len(Path(item.name).parts) for item in items}
    while True:
        count = Counter(item.name for item in items)
        if len(count) == len(items):
            return items
        for i, item in enumerate(items):
            if count[item.name] > 1:
                depth[item.path] += 1
                parts = Path(os.path.abspath(item.path)).parts[1:]
                name = printable(os.path.join(*parts[-depth[item.path] :]))
                # Two ways to one file are one input, so whole paths differ.
                items[i] = Input(item.path, Path(name).as_posix())


def _counted(suffixes: Counter) -> str:
    number = sum(suffixes.values())
    kinds = ", ".join(f"{suffix} {n}" for suffix, n in suffixes.most_common(8))
    more = ", ..." if len(suffixes) > 8 else ""
    what = "file that is no image" if number == 1 else "files that are no images"
    return f"{number} {what} ({printable(kinds)}{more}); videos are named one by one"


def _why_nothing(pattern: str) -> str:
    if Path(pattern).is_dir():
        return f"no image in this folder ({' '.join(sorted(image_suffixes()))})"
    return "no such file, and no file matches it"


class Video:
    """The frames of a video file, in order.

    Attributes:
        fps: frames per second, 25 where the file does not say.
        num_frames: what the file claims, 0 where it does not say; for a progress bar only.

    Raises:
        ValueError: the file cannot be opened as a video.
    """

    def __init__(self, path: Path):
        import cv2

        if printable(path) != str(path):  # OpenCV ends the whole process at such a name
            raise ValueError("cannot be read as a video: its name is not UTF-8")
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise ValueError("cannot be read as a video")
        self.fps = self._capture.get(cv2.CAP_PROP_FPS) or 25.0
        self.num_frames = max(int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)), 0)

    def __iter__(self) -> Iterator[np.ndarray]:
        """BGR frames, (H, W, 3) uint8."""
        while True:
            ok, frame = self._capture.read()
            if not ok:
                self.release()
                return
            yield frame

    def release(self) -> None:
        """Close the file."""
        self._capture.release()
