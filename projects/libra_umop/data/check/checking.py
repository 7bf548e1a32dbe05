"""Every defect of a dataset: in its annotations, in its image files, and between its splits."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from detectron2.config import CfgNode
from tqdm import tqdm

from ...errors import DatasetError
from ..coco.classes import is_spare, reference_of, settle_classes
from ..coco.document import CocoData
from ..coco.parsing import look_for_objects, parse_split
from ..defects import CLIPPED, DROPPED, ERROR, KEPT, NOTE, REPAIRED, Defect, short
from ..images import MAX_IMAGE_PIXELS, DecodedImage, ImageHeader, decode, for_each_file, read_header
from ..layouts.reading.layout import Split

# Exit codes of a check.
CLEAN, DEFECTS, UNUSABLE = 0, 1, 2


@dataclass(frozen=True)
class ImageLimits:
    """What images may be.

    Attributes:
        max_pixels: ``INPUT.MAX_IMAGE_PIXELS``.
        longest_side: that they are resized to, px; an image so long that less than a pixel of its
            shorter side would be left cannot be trained on. 0: they are not resized.
    """

    max_pixels: int = MAX_IMAGE_PIXELS
    longest_side: int = 1333

    @classmethod
    def from_config(cls, cfg: CfgNode) -> "ImageLimits":
        """Of ``INPUT``."""
        test = [cfg.INPUT.MAX_SIZE_TEST] if cfg.INPUT.MIN_SIZE_TEST > 0 else []
        return cls(cfg.INPUT.MAX_IMAGE_PIXELS, min([cfg.INPUT.MAX_SIZE_TRAIN, *test]))


def no_progress(items: Iterable, total: int, desc: str) -> Iterable:
    """A progress bar that shows nothing; same call as tqdm's."""
    return items


def progress_bar(items: Iterable, total: int, desc: str) -> Iterable:
    """Tqdm's bar on stderr, if that is a terminal and it takes more than a moment."""
    return tqdm(items, total=total, desc=desc, unit="image", disable=None, delay=2)


@dataclass
class CheckedDataset:
    """What :func:`check_dataset` found.

    Attributes:
        splits: the usable content of each split, by name.
        defects: of each split, by name.
        modes: how many images of each Pillow mode a split has, by split.
        classes: the training split's categories that are classes, by contiguous id.
    """

    splits: dict[str, CocoData] = field(default_factory=dict)
    defects: dict[str, list[Defect]] = field(default_factory=dict)
    modes: dict[str, dict[str, int]] = field(default_factory=dict)
    classes: list[dict[str, Any]] = field(default_factory=list)

    @property
    def class_names(self) -> list[str]:
        """By contiguous id."""
        return [category["name"] for category in self.classes]

    @property
    def class_ids(self) -> list[int]:
        """Category ids in the files, by contiguous id."""
        return [category["id"] for category in self.classes]

    @property
    def exit_code(self) -> int:
        """The exit code of the command.

        ``UNUSABLE`` if training would refuse it, ``DEFECTS`` if anything else should be looked at,
        else ``CLEAN``.
        """
        found = {d.severity for defects in self.defects.values() for d in defects}
        if ERROR in found:
            return UNUSABLE
        return DEFECTS if found & {DROPPED, CLIPPED, REPAIRED, KEPT} else CLEAN


def check_dataset(
    splits: dict[str, Split],
    *,
    decode_images: bool = True,
    masks: bool = False,
    limits: ImageLimits = ImageLimits(),
    progress: Callable[..., Iterable] = no_progress,
) -> CheckedDataset:
    """Check all splits of a dataset. Whatever is wrong becomes a defect; nothing is raised.

    Args:
        splits: from :mod:`libra_umop.data.layouts`.
        decode_images: decode every image and compare them between the splits; without it only
            their headers are read, and the ends of JPEG and PNG files.
        masks: they will be trained on: an annotation without a usable one is dropped.
        limits: what images may be.
        progress: tqdm, or of its call ``progress(iterable, total=..., desc=...)``.
    """
    checked = CheckedDataset()
    seen: dict[str, tuple[str, str]] = {}
    for name, split in splits.items():
        data = _parse(split, masks, annotated=not is_spare(name, splits))
        checked.splits[name] = data
        defects = checked.defects[name] = list(data.defects)
        modes = checked.modes[name] = {}
        look = decode if decode_images else read_header
        look = partial(look, max_pixels=limits.max_pixels)
        for image, found in _visit(data, look, progress, name):
            defects += _image_defects(data, image, found, limits)
            if isinstance(found, DatasetError):
                continue
            header = found if isinstance(found, ImageHeader) else found.header
            modes[header.mode] = modes.get(header.mode, 0) + 1
            if isinstance(found, DecodedImage):
                defects += _twin(data, image, found.digest, name, seen)
    _check_classes(checked)
    if is_spare("test", splits) and "test" in splits:
        checked.defects["test"] = _leave_out(checked.defects["test"])
    return checked


def check_headers(
    data: CocoData,
    progress: Callable[..., Iterable] = no_progress,
    limits: ImageLimits = ImageLimits(),
) -> list[Defect]:
    """The images of a split with which something is wrong that can be told without decoding all.

    They are missing, no images, cut off (JPEG and PNG), too large, too long, of pixels that cannot
    be shown, or of another size than annotated.
    """
    look = partial(read_header, max_pixels=limits.max_pixels)
    visited = _visit(data, look, progress, os.path.basename(data.source))
    return [
        defect for image, found in visited for defect in _image_defects(data, image, found, limits)
    ]


def _parse(split: Split, masks: bool, annotated: bool) -> CocoData:
    try:
        data = parse_split(split, masks=masks, look_at_masks=not masks, annotated=annotated)
    except DatasetError as e:
        data = CocoData(split.source, "")
        data.add("unreadable", str(e).replace(f"{split.source}: ", "", 1))
        return data
    if annotated and not data.errors:
        look_for_objects(data, split.name == "train")
    return data


def _visit(
    data: CocoData, look: Callable[[str], Any], progress: Callable[..., Iterable], desc: str
) -> Iterator[tuple[dict[str, Any], Any]]:
    """``(image, look(its path))`` for all images of a split, DatasetError where that raised it."""
    paths = [os.path.join(data.image_root, image["file_name"]) for image in data.images]
    found = progress(for_each_file(look, paths), total=len(paths), desc=desc)
    return zip(data.images, found, strict=True)


def _image_defects(
    data: CocoData,
    image: dict[str, Any],
    found: ImageHeader | DecodedImage | DatasetError,
    limits: ImageLimits,
) -> list[Defect]:
    where = {"image_id": image["id"], "file": image["file_name"]}
    if isinstance(found, DatasetError):
        name = image["file_name"]
        name = name if name.isprintable() else repr(name)[1:]  # as the end of a quoted path
        reason = str(found).partition(f"{name}: ")[2] or str(found)
        return [data.defect("image_unreadable", reason, **where)]
    header = found if isinstance(found, ImageHeader) else found.header
    annotated = (image["width"], image["height"])
    defects = []
    if annotated not in (header.size, header.shown_size):
        said = data.places.get(("image_size", image["id"]), "the annotations")
        message = "is {} x {} pixels, but {} x {} in {}"
        message = message.format(*header.shown_size, *annotated, said)
        defects.append(data.defect("image_missized", message, **where))
    elif header.orientation != 1:
        how = "shown" if annotated == header.shown_size else "stored"
        message = f"has EXIF orientation {header.orientation}; used as {how}, like its annotations"
        defects.append(data.defect("image_rotated", message, NOTE, **where))
    if limits.longest_side and max(annotated) > limits.longest_side * min(annotated):
        message = f"is {annotated[0]} x {annotated[1]} pixels; less than one of the shorter side is"
        message += f" left when the longer one is resized to {limits.longest_side}"
        defects.append(data.defect("image_too_long", message, **where))
    if isinstance(found, DecodedImage) and found.peak is not None:
        message = f"has 16 bits, values up to {found.peak}; INPUT.WHITE_16BIT should be near that"
        defects.append(data.defect("image_16bit", message, NOTE, **where))
    return defects


def _twin(
    data: CocoData,
    image: dict[str, Any],
    digest: str,
    split: str,
    seen: dict[str, tuple[str, str]],
) -> list[Defect]:
    """A defect if an image of the same pixels was seen before."""
    first_split, first_file = seen.setdefault(digest, (split, image["file_name"]))
    if (first_split, first_file) == (split, image["file_name"]):
        return []
    across = first_split != split
    message = f"is the same picture as {short(first_file)} of the {first_split} split"
    message += "; a picture should be in one split only" if across else ""
    kind = "duplicate_across_splits" if across else "duplicate_in_split"
    return [data.defect(kind, message, KEPT, image_id=image["id"], file=image["file_name"])]


def _check_classes(checked: CheckedDataset) -> None:
    if not checked.splits:
        return
    train = reference_of(checked.splits)
    reference = next(name for name, data in checked.splits.items() if data is train)
    usable = {name: data for name, data in checked.splits.items() if not data.errors}
    settled = settle_classes({reference: train, **usable})
    checked.classes = settled.categories
    for name, conflicts in settled.conflicts.items():
        checked.defects[name] += conflicts if not train.errors else []
    boxes = {a["category_id"] for a in train.objects}
    without = [short(c["name"]) for c in checked.classes if c["id"] not in boxes]
    if without and train.objects:
        message = f"{len(without)} classes have no box to learn from: {', '.join(without[:8])}"
        message += ", ..." if len(without) > 8 else ""
        checked.defects[reference].append(Defect("class_without_boxes", message, NOTE))


def _leave_out(defects: list[Defect]) -> list[Defect]:
    """What training refuses, of a split that it leaves out instead."""
    return [replace(d, severity=DROPPED) if d.severity == ERROR else d for d in defects]
