"""What a user names on the command line, as images: files, folders, globs, and videos."""

import glob
from pathlib import Path
from typing import Iterator, List, NamedTuple, Sequence, Tuple

import cv2
import numpy as np

IMAGE_SUFFIXES = frozenset(".jpg .jpeg .jpe .png .bmp .webp .tif .tiff .ppm .pgm .gif".split())
VIDEO_SUFFIXES = frozenset(".mp4 .avi .mov .mkv .webm .m4v .mpg .mpeg".split())


class Input(NamedTuple):
    """A file to predict on: where it is, and its name below what the user named."""

    path: Path
    name: str


def find_inputs(patterns: Sequence[str]) -> Tuple[List[Input], List[Input], List[str]]:
    """Resolve files, folders and globs.

    Of a folder come the images in it and below, sorted. A file that is named itself is taken,
    whatever its suffix. A file that is named twice is taken once.

    Args:
        patterns: paths of files and folders, and globs (``**`` goes down folders).

    Returns:
        Images, videos, and for each pattern that gave nothing a line that says so.
    """
    images, videos, problems = {}, {}, []
    for pattern in patterns:
        found = _expand(pattern)
        if not found:
            problems.append(f"{pattern}: {_why_nothing(pattern)}")
        for item in found:
            target = videos if item.path.suffix.lower() in VIDEO_SUFFIXES else images
            target.setdefault(item.path.resolve(), item)
    return list(images.values()), list(videos.values()), problems


def _expand(pattern: str) -> List[Input]:
    path = Path(pattern)
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        return [Input(p, p.relative_to(path).as_posix()) for p in files if p.is_file()]
    if path.exists():
        return [Input(path, path.name)]
    found = []
    for name in sorted(glob.glob(pattern, recursive=True)):
        found += _expand(name) if Path(name).is_dir() else [Input(Path(name), Path(name).name)]
    return found


def _why_nothing(pattern: str) -> str:
    if Path(pattern).is_dir():
        return f"no image in this folder ({' '.join(sorted(IMAGE_SUFFIXES))})"
    return "no such file, and no file matches it"


class Video:
    """The frames of a video file, in order.

    Attributes:
        fps: frames per second, 25 where the file does not say.
        num_frames: what the file claims, 0 where it does not say; for a progress bar only.
    """

    def __init__(self, path: Path):
        """
        Raises:
            ValueError: the file cannot be opened as a video.
        """
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
                self._capture.release()
                return
            yield frame
