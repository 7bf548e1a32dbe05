"""Making a COCO document entry by entry, with the places in the user's files it came from."""

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from ....errors import DatasetError
from ...defects import DROPPED, ERROR, NOTE, Defect
from .layout import Content

__all__ = [
    "DocumentBuilder",
    "common_folder",
    "ellipse_shape",
    "enclosing",
    "polygon_area",
    "sizes_of",
]

_Entry = TypeVar("_Entry")


class DocumentBuilder:
    """A COCO document in the making.

    Image ids are 1, 2, ... in the order in which images are added, annotation ids likewise.

    Args:
        root: folder of the dataset, which places are relative to.
        classes: the name of each category id.

    Attributes:
        classes, ids: the name of each category id, and the id of each name.
        defects: what is wrong in the user's files, see :meth:`defect`.
    """

    def __init__(self, root: str, classes: Mapping[int, str]):
        self.root = root
        self.classes = dict(classes)
        self.ids = {name: class_id for class_id, name in classes.items()}
        self.defects: list[Defect] = []
        self._images: list[dict[str, Any]] = []
        self._paths: list[str] = []
        self._annotations: list[dict[str, Any]] = []
        self._places: dict[tuple[str, Any], str] = {}
        self._counted: dict[str, list[str]] = {}
        self._names: dict[str, str] = {}

    def place(self, path: str, line: int | None = None) -> str:
        """Where something lies, as messages say it: "labels/a.txt, line 3"."""
        name = self._names.get(path)
        if name is None:
            inside = os.path.relpath(path, self.root)
            name = path if inside.startswith("..") else inside
            name = self._names[path] = name if name.isprintable() else ascii(name)[1:-1]
        return name if line is None else f"{name}, line {line}"

    def defect(self, kind: str, message: str, place: str, severity: str = ERROR) -> None:
        """Record what is wrong at a place."""
        self.defects.append(Defect(kind, message, severity, place=place))

    def drop(self, kind: str, message: str, place: str) -> None:
        """The same for an object that is left out."""
        self.defect(kind, message, place, DROPPED)

    def unreadable(self, path: str, error: DatasetError) -> None:
        """Record that a picture cannot be read, by the error of :func:`sizes_of`."""
        self.defect("image_unreadable", str(error).partition(f"{path}: ")[2], self.place(path))

    def count(self, message: str, place: str) -> None:
        """Count what is in order and worth a note; ``message`` takes the number as ``{}``."""
        self._counted.setdefault(message, []).append(place)

    def add_images(
        self, found: Iterable[tuple[str, _Entry]]
    ) -> Iterator[tuple[int, tuple[int, int], _Entry]]:
        """Add images whose headers give their size; one that cannot be read is a defect.

        Args:
            found: the path of each image file, and what belongs to it.

        Yields:
            The id of each image that was added, its (width, height), and what belongs to it.
        """
        found = list(found)
        sizes = sizes_of([path for path, _ in found])
        for path, entry in found:
            size = sizes[path]
            if isinstance(size, DatasetError):
                self.unreadable(path, size)
            else:
                yield self.add_image(path, size), size, entry

    def add_image(self, path: str, size: tuple[int, int], said: str = "") -> int:
        """Add an image by the path of its file and its (width, height) in pixels; its id.

        ``said`` is the place where the user's files give that size, if they do.
        """
        image_id = len(self._images) + 1
        self._images.append({"id": image_id, "width": size[0], "height": size[1]})
        self._paths.append(path)
        self._places["image_id", image_id] = self.place(path)
        if said:
            self._places["image_size", image_id] = said
        return image_id

    def add_object(
        self,
        image_id: int,
        class_id: int,
        xyxy: Sequence[float],
        place: str,
        *,
        mask: Any = None,
        area: float | None = None,
        crowd: bool = False,
    ) -> None:
        """Add one object.

        Args:
            image_id: of :meth:`add_image`.
            class_id: one of the category ids.
            xyxy: its box, XYXY pixels.
            place: of :meth:`place`.
            mask: polygons ``[[x1, y1, x2, y2, ...], ...]`` in pixels, or COCO's RLE.
            area: of the mask, in square pixels; by default that of the box.
            crowd: it counts neither as found nor as missed, and nothing is learnt from it.
        """
        x1, y1, x2, y2 = xyxy
        annotation_id = len(self._annotations) + 1
        annotation = {
            "id": annotation_id,
            "image_id": image_id,
            "category_id": class_id,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": (x2 - x1) * (y2 - y1) if area is None else area,
            "iscrowd": int(crowd),
        }
        if mask is not None:
            annotation["segmentation"] = mask
        self._annotations.append(annotation)
        self._places["annotation_id", annotation_id] = place

    def content(self, unannotated: str = "") -> Content:
        """What was added. The image root is the lowest folder that all images lie in.

        Args:
            unannotated: see :class:`Content`.
        """
        image_root = common_folder(self._paths) if self._paths else self.root
        for image, path in zip(self._images, self._paths, strict=True):
            image["file_name"] = os.path.relpath(path, image_root)
        document = {
            "images": self._images,
            "annotations": self._annotations,
            "categories": [
                {"id": class_id, "name": name, "supercategory": ""}
                for class_id, name in self.classes.items()
            ],
        }
        notes = [
            Defect(
                "layout_note",
                f"{message.replace('{}', str(len(places)), 1)}; first: {places[0]}",
                NOTE,
            )
            for message, places in self._counted.items()
        ]
        return Content(
            document, (image_root,), self.defects + notes, self._places, unannotated=unannotated
        )


def common_folder(paths: Sequence[str]) -> str:
    """The lowest folder that all files lie in, relative or absolute as the first path is."""
    folder = os.path.commonpath([os.path.dirname(os.path.abspath(path)) for path in paths])
    return folder if os.path.isabs(paths[0]) else os.path.relpath(folder)


def sizes_of(paths: Sequence[str]) -> dict[str, tuple[int, int] | DatasetError]:
    """(width, height) in pixels of image files, as shown, by their headers; by path.

    Some 10,000 headers take 2 seconds. A file that is no image has the error that says so.
    """
    from ...images import for_each_file, read_header  # needs Detectron2, which the table does not

    found = for_each_file(read_header, paths)
    return {
        path: header if isinstance(header, DatasetError) else header.shown_size
        for path, header in zip(paths, found, strict=True)
    }


def polygon_area(xy: Sequence[float]) -> float:
    """Area inside a polygon ``[x1, y1, x2, y2, ...]``, by the shoelace formula.

    >>> polygon_area([0, 0, 4, 0, 4, 3])
    6.0
    """
    x, y = xy[0::2], xy[1::2]
    twice = sum(x[i - 1] * y[i] - x[i] * y[i - 1] for i in range(len(x)))
    return abs(twice) / 2


def enclosing(xy: Sequence[float]) -> tuple[float, float, float, float]:
    """The upright box around points ``[x1, y1, x2, y2, ...]``, XYXY."""
    return min(xy[0::2]), min(xy[1::2]), max(xy[0::2]), max(xy[1::2])


def ellipse_shape(
    centre: tuple[float, float], radii: tuple[float, float], degrees: float = 0.0
) -> tuple[tuple[float, float, float, float], list[float], float]:
    """The upright box (XYXY) around an ellipse, a polygon of 64 points of it, and its area.

    Args:
        centre: (x, y).
        radii: half of its width and height before it is turned.
        degrees: by how much it is turned about its centre.

    >>> ellipse_shape((10, 20), (4, 2))[0]
    (6.0, 18.0, 14.0, 22.0)
    """
    (x, y), (rx, ry) = centre, radii
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    w, h = math.hypot(rx * cos, ry * sin), math.hypot(rx * sin, ry * cos)
    polygon: list[float] = []
    for k in range(64):
        a, b = rx * math.cos(math.pi * k / 32), ry * math.sin(math.pi * k / 32)
        polygon += [x + a * cos - b * sin, y + a * sin + b * cos]
    return (x - w, y - h, x + w, y + h), polygon, math.pi * rx * ry
