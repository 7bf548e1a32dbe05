"""Registering a dataset of one's own with Detectron2's catalogs."""

import os
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from ..errors import DatasetError
from .coco.classes import is_spare, reference_of, settle_classes
from .coco.document import CocoData, write_coco
from .coco.masks import compressed
from .coco.parsing import load_split, refuse
from .defects import NOTE, Defect, short
from .layouts.reading.layout import Split


@dataclass
class OwnDataset:
    """A dataset whose splits are all read and agree on their classes.

    Attributes:
        name: prefix of the names in the catalogs.
        splits: the content of "train", "val" and "test", as far as there.
        categories: the classes, in the order of their contiguous ids.
        registered: catalog name of each split.
        lines: what was found out, for people.
    """

    name: str
    splits: dict[str, CocoData]
    categories: list[dict[str, Any]]
    registered: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    @property
    def reference(self) -> CocoData:
        """The split that declares the classes."""
        return reference_of(self.splits)

    @property
    def class_names(self) -> list[str]:
        """By contiguous id."""
        return [category["name"] for category in self.categories]


def load_dataset(
    name: str, splits: dict[str, Split], *, strict: bool = False, masks: bool = False
) -> OwnDataset:
    """Read all splits and settle the classes, which the training split declares.

    Args:
        name: of the dataset.
        splits: from :mod:`libra_umop.data.layouts`.
        strict, masks: as for :func:`libra_umop.data.coco.parsing.load_split`.

    Raises:
        DatasetError: a file cannot be used, or declares classes that the training split lacks. But
            a test split beside a validation split, which no training looks at, is then left out.
    """
    loaded, left_out = {}, []
    for key, split in splits.items():
        spare = is_spare(key, splits)
        try:
            loaded[key] = load_split(
                split,
                strict=strict,
                masks=masks,
                annotated=not spare,
                learnt_from=key == "train",
            )
        except DatasetError as e:
            if not spare:
                raise
            left_out.append(e)
    settled = settle_classes(loaded)
    for key, conflicts in settled.conflicts.items():
        try:
            refuse(loaded[key].source, conflicts)
        except DatasetError as e:
            if not is_spare(key, splits):
                raise
            left_out.append(e)
            del loaded[key]
    dataset = OwnDataset(name, loaded, settled.categories)
    dataset.lines = [line for data in loaded.values() for line in summary(data)]
    dataset.lines += [f"the test split is left out: {e}" for e in left_out]
    for category in settled.placeholders:
        said = f"category {short(category['name'])} only groups the others and has no box"
        dataset.lines.append(f"{said}: it is not a class")
    names = ", ".join(dataset.class_names)
    dataset.lines.append(f"{len(dataset.categories)} classes: {textwrap.shorten(names, 200)}")
    return dataset


def summary(data: CocoData) -> list[str]:
    """One line of counts, and lines about what was dropped, repaired or noted, if anything was."""
    num_crowds = len(data.annotations) - len(data.objects)
    lines = [
        f"{data.source}: {len(data.images)} images ({data.num_empty_images} without objects),"
        f" {len(data.objects)} boxes, {num_crowds} crowd regions"
    ]
    if data.lost:
        said = f"of {data.num_annotations_in_file} annotations repaired or left out"
        lines.append(f"{data.source}: {len(data.lost)} {said} {_counted(data.lost)}")
    if data.repaired:
        said = "entries read as they are meant"
        lines.append(f"{data.source}: {len(data.repaired)} {said} {_counted(data.repaired)}")
    lines += [f"{data.source}: {d.message}" for d in data.defects if d.severity == NOTE]
    return lines


def _counted(defects: Sequence[Defect]) -> str:
    kinds = Counter(f"{defect.severity} {defect.kind}" for defect in defects)
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    return f"({counts}); first: {defects[0]}"


def register(dataset: OwnDataset, folder: str) -> dict[str, str]:
    """Put every split into DatasetCatalog and MetadataCatalog.

    ``json_file`` of the metadata, by which COCOEvaluator evaluates, is the user's file if it is
    COCO's and training sees exactly its content; else the cleaned content, in ``folder``.

    Returns:
        the catalog name of each split.
    """
    names = {}
    for key, data in dataset.splits.items():
        name = _free_name(f"{dataset.name}_{key}")
        json_file = data.source
        ids, class_ids = ([c["id"] for c in some.categories] for some in (data, dataset))
        if not (data.exact and ids == class_ids):
            json_file = os.path.join(folder, f"{name}.json")
            write_coco(data, dataset.categories, json_file)
        contiguous = {c["id"]: i for i, c in enumerate(dataset.categories)}
        DatasetCatalog.register(name, lambda d=data, c=contiguous: dataset_dicts(d, c))
        MetadataCatalog.get(name).set(
            json_file=json_file,
            image_root=data.image_root,
            evaluator_type="coco",
            thing_classes=dataset.class_names,
            thing_dataset_id_to_contiguous_id=contiguous,
            source=data.source,
        )
        names[key] = name
    dataset.registered = names
    return names


def _free_name(name: str) -> str:
    """``name``, freed if it was registered here before; another one if it is someone else's."""
    if name not in DatasetCatalog:
        return name
    if MetadataCatalog.get(name).get("source") is None:
        return _free_name(f"own_{name}")
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)
    return name


def dataset_dicts(data: CocoData, contiguous_id: dict[int, int]) -> list[dict[str, Any]]:
    """Detectron2's standard dicts of one split, images by ascending id.

    Crowd regions are kept; Detectron2's mapper leaves them out of training.
    """
    records = {
        image["id"]: {
            "file_name": os.path.join(data.image_root, image["file_name"]),
            "image_id": image["id"],
            "height": image["height"],
            "width": image["width"],
            "annotations": [],
        }
        for image in data.images
    }
    for a in data.annotations:
        instance = {
            "bbox": list(a["bbox"]),
            "bbox_mode": BoxMode.XYWH_ABS,
            "category_id": contiguous_id[a["category_id"]],
            "iscrowd": a["iscrowd"],
        }
        if "segmentation" in a:
            mask = a["segmentation"]
            instance["segmentation"] = compressed(mask) if isinstance(mask, dict) else mask
        records[a["image_id"]]["annotations"].append(instance)
    return list(records.values())
