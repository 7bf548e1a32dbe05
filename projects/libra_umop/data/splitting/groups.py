"""Which images of a dataset belong together, so that a split does not tear them apart.

Copies that an augmentation made, frames of a video and near-duplicates are almost the same picture:
with one of them in training and one in validation, the AP of the validation measures memory.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from ...errors import DatasetError
from ..images import for_each_file

__all__ = ["Groups", "same_name", "look_alike"]

# Roboflow names the copies that it augments ``dog_jpg.rf.0123456789abcdef.jpg``.
_COPY = re.compile(r"\.rf\.[0-9A-Za-z]+$")
_NUMBER = re.compile(r"[\W_]*\d+$")
# Names with a number at the end are frames of clips if there are so many clips, none larger than
# this part of the images; BloodImage_00001 ... 00410 are single pictures.
LEAST_CLIPS, LARGEST_CLIP = 3, 1 / 3
# Pictures are alike if at most so many of 256 comparisons of neighbouring pixels differ: frames of
# one scene in the aquarium set had 29 to 48, other pictures (blood cells, COCO) 72 and more.
ALIKE_BITS = 50
# With fewer bits set (or unset) a picture has too little in it to be told from others.
LEAST_BITS = 24
# More pictures are only compared for being equal: the time grows with the square.
MOST_COMPARED = 20_000
ROWS = 512
# A picture is also compared with these parts of the others, as (x1, y1, x2, y2) of 1: cut by 5 per
# cent on two sides, the bits of a whole picture are no longer like its own (62 to 74 differ). That
# takes pictures with something in them: so many of the 256 differences have to be of LEAST_STEP
# grey levels. Of 364 of the aquarium set without that, four pairs of blue water were wrongly alike.
LEAST_STEP, LEAST_STEPS = 4, 110
PARTS = ((0.0, 0.0, 1.0, 1.0),) + tuple(
    (x, y, x + side, y + side)
    for side in (0.95, 0.9, 0.8)
    for x, y in (
        (0.0, 0.0),
        (1 - side, 0.0),
        (0.0, 1 - side),
        (1 - side, 1 - side),
        ((1 - side) / 2, (1 - side) / 2),
    )
)


class Groups:
    """Which of N things belong together (union-find)."""

    def __init__(self, count: int):
        self._parent = list(range(count))

    def of(self, i: int) -> int:
        """The group of thing ``i``, by one of its members."""
        while self._parent[i] != i:
            self._parent[i] = self._parent[self._parent[i]]
            i = self._parent[i]
        return i

    def join(self, i: int, j: int) -> None:
        """Make one group of those of ``i`` and ``j``."""
        a, b = sorted((self.of(i), self.of(j)))
        self._parent[b] = a

    def join_equal(self, keys: Sequence[Hashable]) -> int:
        """Join things of equal keys; returns how many groups that left out were joined to one."""
        first: dict[Hashable, int] = {}
        before = self.count
        for i, key in enumerate(keys):
            self.join(first.setdefault(key, i), i)
        return before - self.count

    @property
    def count(self) -> int:
        """How many groups there are."""
        return sum(1 for i in range(len(self._parent)) if self._parent[i] == i)

    @property
    def members(self) -> list[list[int]]:
        """The things of each group, in their order."""
        found: dict[int, list[int]] = defaultdict(list)
        for i in range(len(self._parent)):
            found[self.of(i)].append(i)
        return list(found.values())


def same_name(names: Sequence[str]) -> tuple[list[str], bool]:
    """What images of one origin have in common in their names.

    Args:
        names: of image files, with folders.

    Returns:
        a key for each, equal for copies of one picture and for frames of one clip; and whether
        there are clips, which is told by all names together.
    """
    stems = [_COPY.sub("", os.path.splitext(name)[0]) for name in names]
    clips = [_NUMBER.sub("", os.path.basename(stem)) for stem in stems]
    clips = [
        os.path.join(os.path.dirname(stem), clip) if clip else stem
        for stem, clip in zip(stems, clips, strict=True)
    ]
    pictures = len(set(stems))
    sizes = Counter(clip for clip, _ in set(zip(clips, stems, strict=True)))
    several = [n for n in sizes.values() if n > 1]
    are_clips = (
        len(sizes) >= LEAST_CLIPS and several and max(several) <= max(LARGEST_CLIP * pictures, 2)
    )
    return (clips, True) if are_clips else (stems, False)


def look_alike(paths: Sequence[str], groups: Groups) -> int:
    """Join the groups of pictures that look the same, or one like a part of the other.

    Each is shrunk to 17 x 16 grey pixels, of which neighbours are compared (a difference hash).

    Args:
        paths: of N image files; what cannot be read is like nothing.
        groups: of N things, changed in place.

    Returns:
        by how many there are fewer groups now.
    """
    before = groups.count
    found = list(for_each_file(difference_hashes, paths))
    told = [i for i, h in enumerate(found) if isinstance(h, Hashes)]
    groups_of_equal: dict[bytes, int] = {}
    for i in told:
        groups.join(groups_of_equal.setdefault(found[i].bits[0].tobytes(), i), i)
    if 1 < len(told) <= MOST_COMPARED:
        wholes = np.stack([found[i].bits[0] for i in told])
        _join_alike(groups, told, wholes, wholes)
        detailed = [i for i in told if found[i].detailed]
        for part in range(1, len(PARTS)) if detailed else ():
            wholes = np.stack([found[i].bits[0] for i in detailed])
            parts = np.stack([found[i].bits[part] for i in detailed])
            _join_alike(groups, detailed, wholes, parts)
    return before - groups.count


def _join_alike(
    groups: Groups, things: Sequence[int], bits: np.ndarray, others: np.ndarray
) -> None:
    """Join thing i with thing j where ``bits[i]`` are like ``others[j]``, both (M, 256) bool.

    As numbers of -1 and 1 the product of two is 256 less twice the bits that differ, and a product
    of matrices is the fastest way to all of them.
    """
    signs, other_signs = (2 * b.astype(np.float32) - 1 for b in (bits, others))
    for start in range(0, len(things), ROWS):
        products = signs[start : start + ROWS] @ other_signs.T  # (ROWS, M)
        for i, j in np.argwhere(products >= bits.shape[1] - 2 * ALIKE_BITS):
            groups.join(things[start + i], things[j])


class Hashes(NamedTuple):
    """Difference hashes of a picture.

    Attributes:
        bits: 256 comparisons of neighbouring pixels of each of ``PARTS``, (P, 256) bool.
        detailed: its parts can be told from those of others.
    """

    bits: np.ndarray
    detailed: bool


def difference_hashes(path: str) -> Hashes | None:
    """The hashes of a picture; None for one without contrast.

    Raises:
        DatasetError: the file cannot be read.
    """
    try:
        with Image.open(path) as image:
            image.draft("L", (128, 128))
            grey = image.convert("L")
    except Exception as e:  # Pillow raises anything; the readers of images say what is wrong
        raise DatasetError(f"{path}: {e}") from e
    grey.thumbnail((256, 256), Image.Resampling.BOX)  # pictures that are no JPEG
    steps = np.stack([_steps(grey, part) for part in PARTS])  # (P, 16, 16)
    bits = steps > 0
    if not LEAST_BITS <= bits[0].sum() <= bits[0].size - LEAST_BITS:
        return None
    detailed = (np.abs(steps[0]) >= LEAST_STEP).sum() >= LEAST_STEPS
    return Hashes(bits.reshape(len(PARTS), -1), detailed)


def _steps(grey: Image.Image, part: Sequence[float]) -> np.ndarray:
    """How much lighter each pixel is than the one left of it, (16, 16) int16."""
    (x1, y1, x2, y2), (w, h) = part, grey.size
    small = grey.resize((17, 16), Image.Resampling.BOX, box=(x1 * w, y1 * h, x2 * w, y2 * h))
    return np.diff(np.asarray(small, dtype=np.int16), axis=1)
