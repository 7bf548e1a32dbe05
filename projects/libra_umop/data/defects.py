"""What can be wrong with a dataset: single defects, and the error that refuses to train on them."""

import reprlib
from dataclasses import dataclass
from typing import Any

# What became of the thing that a defect is about.
ERROR = "error"  # nothing sensible can be done: training refuses the file
DROPPED = "dropped"  # the annotation is left out of training and evaluation
CLIPPED = "clipped"  # the box is cut at the image's edge
REPAIRED = "repaired"  # written in another way than COCO's, and read as it is meant
KEPT = "kept"  # used as it is, though it is hardly meant so
NOTE = "note"  # in order, worth knowing
SEVERITIES = (ERROR, DROPPED, CLIPPED, REPAIRED, KEPT, NOTE)

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 60


def short(value: Any) -> str:
    """``repr`` of any JSON value on one line of limited length."""
    return _short.repr(value)


@dataclass(frozen=True)
class Defect:
    """One thing that is wrong with a dataset.

    Attributes:
        kind: a short stable name, e.g. "bbox_nan", for counting and for machines.
        message: what is wrong and what would be right, one line.
        severity: one of ``SEVERITIES``.
        image_id, annotation_id: as in the file; None where the defect belongs to neither.
        file: the image file, where the defect is in it and not in the annotations.
        place: where that is in the user's files, where the ids are not the user's own.
    """

    kind: str
    message: str
    severity: str = ERROR
    image_id: Any | None = None
    annotation_id: Any | None = None
    file: str | None = None
    place: str | None = None

    def __str__(self) -> str:
        where = []
        if self.place is not None:
            return f"{self.place}: {self.message}"
        if self.image_id is not None:
            where.append(f"image id {short(self.image_id)}")
        if self.annotation_id is not None:
            where.append(f"annotation id {short(self.annotation_id)}")
        if self.file is not None:
            where.append(self.file if self.file.isprintable() else short(self.file))
        return f"{', '.join(where)}: {self.message}" if where else self.message

    def as_dict(self) -> dict[str, Any]:
        """For JSON: only plain values, and None left out."""
        fields = {
            "kind": self.kind,
            "severity": self.severity,
            "image_id": self.image_id,
            "annotation_id": self.annotation_id,
            "file": self.file,
            "place": self.place,
            "message": self.message,
        }
        return {k: v for k, v in fields.items() if v is not None}
