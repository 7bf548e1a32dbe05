"""The ids that a COCO-result file gives to images and classes."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from ..data.coco.document import CocoData, read_json
from ..data.defects import short
from ..errors import DatasetError
from .inputs import Input, printable

__all__ = ["CocoIds", "inputs_of_split"]

Parts = tuple[str, ...]


class CocoIds:
    """The ids that a COCO-result file gives to images and classes.

    With an annotation file they are its own, so that pycocotools can score the result against
    it; without one, images are numbered from 1 as they come and class ``i`` is category
    ``i + 1``.

    Raises:
        DatasetError: the file cannot be read, or a class of the model is none of its
            categories.
    """

    def __init__(self, class_names: Sequence[str], annotation_file: Path | None = None):
        self._names = list(class_names)
        self._file = annotation_file
        self._category_ids: list[int] | None = None
        self._annotated: dict[Parts, list[Any]] = defaultdict(list)
        self._assigned: dict[str, Any] = {}
        self._num_seen = 0
        if annotation_file is not None:
            self._read(str(annotation_file))

    def _read(self, file: str) -> None:
        content = read_json(file)
        try:
            used = {a["category_id"] for a in content.get("annotations") or []}
            # Of two categories of one name the one that is used: exporters write placeholders.
            by_use = sorted(content["categories"], key=lambda c: c["id"] in used)
            categories = {c["name"]: c["id"] for c in by_use}
            for image in content["images"]:
                self._annotated[_parts(image["file_name"])].append(image["id"])
        except (AttributeError, KeyError, TypeError) as e:
            raise DatasetError(f"{file}: is no COCO annotation file ({e!r})") from e
        missing = [name for name in self._names if name not in categories]
        if missing or not self._names:
            raise DatasetError(
                f"{file}: the model's classes {missing or 'are not known, they'} are none of its "
                f"categories {sorted(categories, key=str)}"
            )
        self._category_ids = [categories[name] for name in self._names]

    @classmethod
    def of_split(
        cls, class_names: Sequence[str], data: CocoData, categories: Sequence[dict[str, Any]]
    ) -> "CocoIds":
        """The ids of a dataset's split, of which :func:`inputs_of_split` gives the inputs.

        Args:
            class_names: of the model's classes 0, 1, ...
            data: the split.
            categories: of the dataset; the model's classes are among them.
        """
        ids = cls(class_names)
        of_name = {category["name"]: category["id"] for category in categories}
        ids._category_ids = [of_name[name] for name in class_names]
        ids._file = Path(data.source)
        names = [item.name for item in inputs_of_split(data)]
        ids._assigned = dict(zip(names, (image["id"] for image in data.images), strict=True))
        return ids

    def assign(self, inputs: Sequence[Input]) -> list[str]:
        """Find out which image of the annotation file each input is.

        It is the one whose ``file_name`` is the tail of the input's path, the longest if there are
        several. An image of the file is given to one input only: of two that end like it to the one
        that has its very name, or to none.

        Args:
            inputs: all that will be predicted on, videos aside.

        Returns:
            a line for each input that is none of the file's images; none without a file.
        """
        if self._file is None:
            return []
        claims: dict[Parts, list[Input]] = defaultdict(list)
        problems = []
        for item in inputs:
            tail = self._longest_tail(item)
            if tail is None:
                which = f"is none of the images of {self._file}{self._hint(item)}"
                problems.append(f"{item.name}: {which}")
            else:
                claims[tail].append(item)
        for tail, items in claims.items():
            exact = [item for item in items if _parts(item.name) == tail]
            taken = items[0] if len(items) == 1 else exact[0] if len(exact) == 1 else None
            ids = self._annotated[tail]
            if taken is not None and len(ids) == 1:
                self._assigned[taken.name] = ids[0]
            for item in items:
                if item.name not in self._assigned:
                    which = f"ids {short(ids)}" if len(ids) > 1 else f"{len(items)} of these files"
                    problems.append(f"{item.name}: {'/'.join(tail)} of {self._file} is {which}")
        return problems

    def _longest_tail(self, item: Input) -> Parts | None:
        parts = _parts(os.path.abspath(item.path))
        tails = (parts[i:] for i in range(len(parts)))
        return next((tail for tail in tails if tail in self._annotated), None)

    def _hint(self, item: Input) -> str:
        base = _parts(item.name)[-1]
        alike = ["/".join(parts) for parts in self._annotated if parts and parts[-1] == base]
        return f", which has {', '.join(alike[:3])}" if alike else ""

    def image(self, name: str) -> Any | None:
        """The id of an image, by the name of its input; None where the annotation file lacks it.

        A frame of a video is looked up as ``<file name>#<frame number>``.
        """
        self._num_seen += 1
        if self._file is None:
            return self._num_seen
        frame = self._annotated.get(_parts(name), []) if "#" in name else []
        return self._assigned.get(name, frame[0] if len(frame) == 1 else None)

    def category(self, class_idx: int) -> int:
        """The id of class ``class_idx``."""
        return class_idx + 1 if self._category_ids is None else self._category_ids[class_idx]

    def class_name(self, class_idx: int) -> str:
        """The name of class ``class_idx``, or its number where it has none."""
        return self._names[class_idx] if class_idx < len(self._names) else str(class_idx)


def inputs_of_split(data: CocoData) -> list[Input]:
    """The images of a dataset's split, named as there."""
    names = [image["file_name"] for image in data.images]
    return [Input(Path(data.image_root, name), printable(name)) for name in names]


def _parts(name: str) -> Parts:
    """The folders and the base name of a path, written one way on every system."""
    path = PurePosixPath(unicodedata.normalize("NFC", name).replace("\\", "/"))
    return tuple(part for part in path.parts if part != "/")
