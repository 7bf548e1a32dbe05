"""The annotations of a COCO document: which are usable, and what is wrong with the others."""

from typing import Any

from ..defects import CLIPPED, DROPPED, KEPT, REPAIRED, short
from .boxes import box_type_problem, usable_area, usable_box
from .conventions import COCOS, other_convention
from .document import CocoData
from .entries import identifier, objects
from .masks import usable_mask
from .values import as_float, as_int


def parse_annotations(
    data: CocoData,
    section: list,
    declared: dict[str, set[int]],
    *,
    masks: bool,
    look_at_masks: bool,
) -> None:
    """Append the usable annotations to ``data``, and record the defects of all.

    Its images and categories are complete.

    Args:
        data: of the file.
        section: its "annotations".
        declared: the ids of all images and categories, usable or not, by "image_id", "category_id".
        masks: keep "segmentation", and drop an annotation without a usable one.
        look_at_masks: else, keep those that are there and name those that are broken.
    """
    images = {image["id"]: image for image in data.images}
    classes = {category["id"] for category in data.categories}
    entries = list(objects(data, section, "annotation"))
    undecidable = _judge_together(data, [entry for _, entry in entries], images)
    seen: set[int] = set()
    for index, raw in entries:
        ann_id = identifier(data, raw, "annotation", index)
        if ann_id is None:
            continue
        where: dict[str, Any] = {"image_id": as_int(raw.get("image_id")), "annotation_id": ann_id}
        if ann_id in seen:
            data.add("annotation_id_twice", "the id is used twice; ids must be unique", **where)
            continue
        seen.add(ann_id)
        problems = (
            _reference_problem(raw, "image_id", declared),
            _reference_problem(raw, "category_id", declared),
            box_type_problem(raw),
            _flag_problem(raw),
        )
        for kind, message in filter(None, problems):
            data.add(kind, message, **where)
        category_id = as_int(raw.get("category_id"))
        if category_id is not None:
            data.used_category_ids.add(category_id)
        known = where["image_id"] in images and category_id in classes
        if known and not any(problems) and not undecidable:
            _keep(data, raw, ann_id, images[where["image_id"]], masks, look_at_masks)


def _judge_together(data: CocoData, entries: list[dict], images: dict[int, dict[str, Any]]) -> bool:
    """Whether the boxes of the whole file are of another convention, which becomes a defect."""
    boxes, sizes = [], []
    for raw in entries:
        image_id = as_int(raw.get("image_id"))
        image = None if image_id is None else images.get(image_id)
        if image is not None and box_type_problem(raw) is None:
            boxes.append([as_float(v) for v in raw["bbox"]])
            sizes.append((image["width"], image["height"]))
    convention = other_convention(boxes, sizes)
    if convention:
        message = f"its {len(boxes)} boxes look like {convention}; should be {COCOS} in pixels"
        data.add("box_convention", message)
    return convention is not None


def _keep(
    data: CocoData,
    raw: dict,
    ann_id: int,
    image: dict[str, Any],
    masks: bool,
    look_at_masks: bool,
) -> None:
    """Append the annotation unless its box or mask is unusable."""
    where = {"image_id": image["id"], "annotation_id": ann_id}
    bbox, kind, message = usable_box(raw["bbox"], image["width"], image["height"])
    if kind:
        data.add(kind, message, CLIPPED if bbox else DROPPED, **where)
    if bbox is None:
        return
    annotation = {
        "id": ann_id,
        "image_id": image["id"],
        "category_id": as_int(raw["category_id"]),
        "bbox": bbox,
        "area": usable_area(raw.get("area"), bbox),
        "iscrowd": int(raw.get("iscrowd", 0)),
    }
    # pycocotools needs all of these, and takes the object of id 0 for "no match".
    told = all(key in raw and raw[key] == value for key, value in annotation.items())
    data.exact = data.exact and told and ann_id != 0
    if masks:
        mask = _mask(data, raw, image, where)
        if mask is None:
            return
        data.exact = data.exact and mask == raw["segmentation"]
        annotation["segmentation"] = mask
    elif look_at_masks and raw.get("segmentation"):
        mask, kind, message = usable_mask(raw["segmentation"], image["width"], image["height"])
        if kind == "mask":
            data.add(kind, f"{message} (needed where MODEL.MASK_ON is True)", KEPT, **where)
        if mask is not None:
            annotation["segmentation"] = mask
    data.annotations.append(annotation)


def _mask(data: CocoData, raw: dict, image: dict[str, Any], where: dict[str, int]) -> Any:
    """The annotation's mask, None if it is unusable; either way its defect is recorded."""
    segmentation = raw.get("segmentation")
    mask, kind, message = usable_mask(segmentation, image["width"], image["height"])
    if mask is None and not segmentation:
        message += "; MODEL.MASK_ON False trains on boxes alone"
    if kind:
        data.add(kind, message, REPAIRED if mask else DROPPED, **where)
    return mask


def _reference_problem(
    raw: dict, key: str, declared: dict[str, set[int]]
) -> tuple[str, str] | None:
    section = {"image_id": "images", "category_id": "categories"}[key]
    if key not in raw:
        return f"{key}_missing", f'has no "{key}"; should be the id of one of "{section}"'
    number = as_int(raw[key])
    if number is None:
        return f"{key}_type", f'"{key}" is {short(raw[key])}, should be an integer'
    if declared[key] and number not in declared[key]:
        return f"{key}_undeclared", f'"{key}" {short(number)} is not declared in "{section}"'
    return None


def _flag_problem(raw: dict) -> tuple[str, str] | None:
    crowd = raw.get("iscrowd", 0)
    if not isinstance(crowd, bool) and as_int(crowd) not in (0, 1):
        return "iscrowd", f'"iscrowd" is {short(crowd)}, should be 0 or 1'
    if raw.get("ignore"):
        return "ignore", f'"ignore" is {short(raw["ignore"])}, should be "iscrowd": 0 or 1'
    return None
