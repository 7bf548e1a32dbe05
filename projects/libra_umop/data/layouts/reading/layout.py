"""The contract between the layouts that datasets come in and all that reads datasets.

A layout finds the splits of a dataset; a split can be read, and what it gives is a COCO document
with the places in the user's own files that its entries came from.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...defects import Defect

__all__ = ["Content", "Layout", "Split"]


@dataclass(frozen=True)
class Content:
    """What was read of a split.

    Attributes:
        document: a COCO document; of any JSON type where it is a file of the user's.
        image_roots: the folders that ``file_name`` may be relative to, the likeliest first.
        defects: what is wrong in the user's files and cannot be said by the document.
        places: where entries of the document come from, ``("image_id", 3)`` or
            ``("annotation_id", 7)`` -> "labels/a.txt, line 2", instead of ids that the user has
            never seen, and ``("image_size", 3)``, where its size is said. Empty where the ids are
            the user's own.
        is_file: the document is just what the split's ``source`` holds, which pycocotools can read.
        unannotated: why there are images without any annotations, which only a test split may be.
    """

    document: Any
    image_roots: tuple[str, ...]
    defects: list[Defect] = field(default_factory=list)
    places: Mapping[tuple[str, Any], str] = field(default_factory=dict)
    is_file: bool = False
    unannotated: str = ""


@dataclass(frozen=True)
class Split:
    """One part of a dataset.

    Attributes:
        name: "train", "val" or "test".
        source: what the user knows it by, mostly a file; messages begin with it.
        read: gives its content; raises DatasetError if there is none.
    """

    name: str
    source: str
    read: Callable[[], Content] = field(compare=False)


@dataclass(frozen=True)
class Layout:
    """One way to keep a dataset in a folder.

    Attributes:
        name: as people call it.
        wants: what the folder has to hold for its training split, for messages.
        find: the splits that a folder holds in this way; [] for none.
    """

    name: str
    wants: str
    find: Callable[[str], list[Split]]
