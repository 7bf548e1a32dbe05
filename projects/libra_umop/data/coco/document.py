"""The usable content of one COCO document, and reading and writing files of them.

Format: https://cocodataset.org/#format-data; boxes are ``[x, y, width, height]`` in pixels (XYWH).
"""

import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from ...errors import DatasetError, found_instead
from ..defects import CLIPPED, DROPPED, ERROR, KEPT, NOTE, REPAIRED, Defect, short


@dataclass
class CocoData:
    """The usable content of one COCO document and what was wrong with the rest.

    Attributes:
        source: where it came from; messages begin with it.
        image_root: folder that its ``file_name`` are relative to.
        categories: ``{"id", "name", "supercategory"}``, by ascending id.
        images: ``{"id", "file_name", "width", "height"}``, by ascending id.
        annotations: ``{"id", "image_id", "category_id", "bbox", "area", "iscrowd"}`` and, if asked
            for, "segmentation"; boxes XYWH in pixels, finite, overlapping the image.
        defects: everything that was wrong, in the order of the file.
        num_annotations_in_file: before anything was dropped.
        used_category_ids: of all categories that an annotation of the file names, usable or not.
        exact: whether pycocotools would read just this content from ``source`` itself.
        places: where entries come from, see ``Content`` of the layouts.
    """

    source: str
    image_root: str
    categories: list[dict[str, Any]] = field(default_factory=list)
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: list[dict[str, Any]] = field(default_factory=list)
    defects: list[Defect] = field(default_factory=list)
    num_annotations_in_file: int = 0
    used_category_ids: set[int] = field(default_factory=set)
    exact: bool = True
    places: Mapping[tuple[str, Any], str] = field(default_factory=dict)

    def add(self, kind: str, message: str, severity: str = ERROR, **where: Any) -> None:
        """Record a defect; ``where`` are fields of :class:`Defect`."""
        self.defects.append(self.defect(kind, message, severity, **where))
        self.exact = self.exact and severity in (KEPT, NOTE)

    def defect(self, kind: str, message: str, severity: str = ERROR, **where: Any) -> Defect:
        """A defect with its place in the user's files, the annotation's rather than the image's."""
        keys = [(key, where.get(key)) for key in ("annotation_id", "image_id")]
        place = next((self.places[key] for key in keys if key in self.places), None)
        return Defect(kind, message, severity, place=place, **where)

    @property
    def errors(self) -> list[Defect]:
        """The defects that training refuses."""
        return [d for d in self.defects if d.severity == ERROR]

    @property
    def lost(self) -> list[Defect]:
        """The defects that cost an annotation or a part of its box."""
        return [d for d in self.defects if d.severity in (DROPPED, CLIPPED)]

    @property
    def repaired(self) -> list[Defect]:
        """What was read as it is meant, without a loss."""
        return [d for d in self.defects if d.severity == REPAIRED]

    @property
    def has_rle_masks(self) -> bool:
        """Whether an object's mask is run-length encoded, and no list of polygons."""
        return any(isinstance(a.get("segmentation"), dict) for a in self.objects)

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The annotations that are no crowd regions."""
        return [a for a in self.annotations if not a["iscrowd"]]

    @property
    def num_empty_images(self) -> int:
        """Images without any object."""
        return len(self.images) - len({a["image_id"] for a in self.objects})


def read_json(json_file: str) -> Any:
    """The document in ``json_file``: UTF-8 (with or without byte order mark), UTF-16 or UTF-32.

    Raises:
        DatasetError: the file cannot be read or is not JSON.
    """
    try:
        with _open(json_file) as f:
            raw = f.read()
    except (OSError, ValueError) as e:
        reason = getattr(e, "strerror", None) or str(e)
        raise DatasetError(f"{json_file}: cannot be read: {reason}") from e
    if not raw.strip():
        raise DatasetError(f"{json_file}: is empty; should be a COCO JSON file")
    if found_instead(raw[:64]):
        raise DatasetError(f"{json_file}: {found_instead(raw[:64])}")
    try:
        return json.loads(raw, object_pairs_hook=_object)
    except _RepeatedKey as e:
        raise DatasetError(f"{json_file}: {e}") from e
    except json.JSONDecodeError as e:
        cut = " (is the file cut off?)" if e.pos >= len(e.doc.rstrip()) - 1 else ""
        raise DatasetError(
            f"{json_file}: is not JSON: {e.msg} at line {e.lineno}, column {e.colno}{cut}"
        ) from e
    except RecursionError as e:
        raise DatasetError(f"{json_file}: is not COCO JSON: it is nested too deeply") from e
    except ValueError as e:  # not Unicode, or an integer of thousands of digits
        raise DatasetError(f"{json_file}: is not JSON: {e}") from e


class _RepeatedKey(ValueError):
    """Of which values the last one would win, in silence."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        known = next((f" (with id {short(v)})" for k, v in pairs if k == "id"), "")
        raise _RepeatedKey(
            f"an object{known} has the key {short(twice)} twice; should have it once"
        )
    return content


def _open(path: str) -> BinaryIO:
    """A file, or what one of Detectron2's path handlers knows; the report needs no Detectron2."""
    if "://" not in path:
        return open(path, "rb")
    from detectron2.utils.file_io import PathManager

    return PathManager.open(path, "rb")


def write_coco(data: CocoData, categories: list[dict[str, Any]], path: str) -> None:
    """Write the usable content, with these ``categories``, as JSON that pycocotools can evaluate.

    The file appears in one step, so that several processes may write the same one.
    """
    unused_id = max([a["id"] for a in data.annotations], default=0) + 1
    document = {
        "info": {"description": f"usable content of {os.path.basename(data.source)}"},
        "categories": categories,
        "images": data.images,
        # pycocotools takes the object of id 0 for "no match" and counts its detection as false.
        "annotations": [{**a, "id": a["id"] or max(unused_id, 1)} for a in data.annotations],
    }
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    temporary = f"{path}.{uuid.uuid4().hex}"
    with open(temporary, "w") as f:
        json.dump(document, f)
    os.replace(temporary, path)
