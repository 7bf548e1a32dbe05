"""From any JSON document to clean COCO data.

:func:`parse_coco` never raises: it keeps what is usable and lists every defect. :func:`load_coco`
refuses a file in which a defect leaves no sensible choice, or in which nothing can be learnt.
"""

import os
from collections import Counter
from typing import Any, Dict, Iterator, List, Optional, Sequence, Set, Tuple

from .boxes import box_type_problem, usable_area, usable_box, usable_mask
from .coco import CocoData, read_json
from .errors import CLIPPED, DROPPED, KEPT, DatasetError, Defect, short
from .values import as_int, is_text, json_type

# Images that are looked for to find the folder that all of them are in.
NUM_IMAGES_TRIED = 100
# No image file has a longer side.
MAX_SIDE_PX = 2**31 - 1


def load_coco(
    json_file: str,
    image_roots: Sequence[str],
    *,
    strict: bool = False,
    masks: bool = False,
    annotated: bool = True,
) -> CocoData:
    """Read a file, repair what can be repaired, refuse the rest.

    Args:
        json_file: a COCO JSON file.
        image_roots: folders that its ``file_name`` may be relative to. The one that has most of the
            first images is taken, or else the first one.
        strict: also refuse what would be dropped or clipped.
        masks: keep and check ``segmentation``; annotations without a usable one are dropped.
        annotated: the file must have objects. False for images whose truth is kept elsewhere.

    Raises:
        DatasetError: naming the first defect and how many more there are.
    """
    document = read_json(json_file)
    data = parse_coco(document, json_file, image_roots, masks=masks, annotated=annotated)
    refuse(json_file, data.errors + (data.repaired if strict else []))
    if annotated and not data.objects:
        total, crowds = data.num_annotations_in_file, len(data.annotations)
        raise DatasetError(
            f"{json_file}: none of its {len(data.images)} images has an object to learn from: of"
            f" {total} annotations, {crowds} are crowd regions and {total - crowds} are unusable"
        )
    return data


def refuse(json_file: str, defects: Sequence[Defect]) -> None:
    """Raise :class:`DatasetError` about the first of ``defects``, if there is any."""
    if not defects:
        return
    more = len(defects) - 1
    tail = f" (and {more} more; tools/check_dataset.py lists them all)" if more else ""
    raise DatasetError(f"{json_file}: {defects[0]}{tail}")


def parse_coco(
    document: Any,
    json_file: str,
    image_roots: Sequence[str],
    *,
    masks: bool = False,
    annotated: bool = True,
) -> CocoData:
    """Everything usable in ``document``, and everything that is wrong with it. Never raises.

    Args:
        document: what ``json.load`` gave, of any type.
        json_file, image_roots, masks: as for :func:`load_coco`.
        annotated: a document without "annotations" is a defect.
    """
    data = CocoData(json_file, image_roots[0])
    if not isinstance(document, dict):
        want = "an object with images, annotations and categories"
        data.add("not_an_object", f"holds {json_type(document)}, should be {want}")
        return data
    sections = {}
    for key in ("images", "annotations", "categories"):
        section = document.get(key, [])
        if key not in document and (annotated or key != "annotations"):
            data.add("section_missing", f'has no "{key}"; should be a list')
        elif not isinstance(section, list):
            data.add("section_type", f'"{key}" is {json_type(section)}, should be a list')
        elif not section and key != "annotations":
            data.add("section_empty", f'"{key}" is empty; should declare at least one')
        sections[key] = section if isinstance(section, list) else []
    data.num_annotations_in_file = len(sections["annotations"])
    declared = {
        "category_id": _parse_categories(data, sections["categories"]),
        "image_id": _parse_images(data, sections["images"]),
    }
    _parse_annotations(data, sections["annotations"], declared, masks)
    _note_repetitions(data)
    data.image_root = _likeliest_root(image_roots, data.images[:NUM_IMAGES_TRIED])
    return data


def _parse_categories(data: CocoData, section: list) -> Set[int]:
    """Keep the sound categories; returns the ids of all, so that what refers to one that is refused
    is not reported as well."""
    names: Dict[str, int] = {}
    seen: Set[int] = set()
    for index, raw in _objects(data, section, "category"):
        category_id = _identifier(data, raw, "category", index)
        if category_id is None:
            continue
        name, where = raw.get("name"), f"category id {category_id}"
        if not is_text(name):
            data.add("category_name", f'{where}: "name" is {short(name)}, should be a text')
        elif category_id in seen:
            data.add("category_id_twice", f"{where}: is declared twice; ids must be unique")
        elif name in names:
            same = f"{where}: is named {short(name)} like category id {names[name]}"
            data.add("category_name_twice", f"{same}; every class should have its own name")
        else:
            names[name] = category_id
            parent = raw.get("supercategory")
            parent = parent if is_text(parent) else ""
            data.categories.append({"id": category_id, "name": name, "supercategory": parent})
        seen.add(category_id)
    data.categories.sort(key=lambda c: c["id"])
    return seen


def _parse_images(data: CocoData, section: list) -> Set[int]:
    """As :func:`_parse_categories`."""
    seen: Set[int] = set()
    for index, raw in _objects(data, section, "image"):
        image_id = _identifier(data, raw, "image", index)
        if image_id is None:
            continue
        if image_id in seen:
            data.add("image_id_twice", "is declared twice; ids must be unique", image_id=image_id)
            continue
        seen.add(image_id)
        problem = file_name_problem(raw.get("file_name"))
        if problem:
            data.add("file_name", problem, image_id=image_id)
        width, height = (_size(data, raw, key, image_id) for key in ("width", "height"))
        if not problem and width and height:
            image = {"id": image_id, "file_name": raw["file_name"], "width": width}
            data.images.append({**image, "height": height})
    data.images.sort(key=lambda image: image["id"])
    return seen


def file_name_problem(file_name: Any) -> Optional[str]:
    """What is wrong with an image's ``file_name``, or None. Only names that stay below the image
    folder are accepted; a link that lies in the folder is the user's own and is followed."""
    if not isinstance(file_name, str) or not file_name:
        return f'"file_name" is {short(file_name)}, should be a path below the image folder'
    if "\0" in file_name or not is_text(file_name):
        return f'"file_name" {short(file_name)} cannot be the name of a file'
    parts = file_name.replace("\\", "/").split("/")
    is_absolute = parts[0] == "" or parts[0].endswith(":")  # also C: and http:
    if is_absolute or ".." in parts:
        return (
            f'"file_name" {short(file_name)} leaves the image folder;'
            " should be a path below it, without .."
        )
    return None


def _size(data: CocoData, raw: dict, key: str, image_id: int) -> Optional[int]:
    value = raw.get(key)
    number = as_int(value)
    if number is None or not 1 <= number <= MAX_SIDE_PX:
        got = f"is {short(value)}" if key in raw else "is missing"
        message = f'"{key}" {got}, should be the number of pixels, 1 or more'
        data.add("image_size", f"{short(raw.get('file_name'))}: {message}", image_id=image_id)
        return None
    data.exact = data.exact and type(value) is int
    return number


def _parse_annotations(
    data: CocoData, section: list, declared: Dict[str, Set[int]], masks: bool
) -> None:
    images = {image["id"]: image for image in data.images}
    classes = {category["id"] for category in data.categories}
    seen: Set[int] = set()
    for index, raw in _objects(data, section, "annotation"):
        ann_id = _identifier(data, raw, "annotation", index)
        if ann_id is None:
            continue
        where = {"image_id": as_int(raw.get("image_id")), "annotation_id": ann_id}
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
        known = where["image_id"] in images and as_int(raw.get("category_id")) in classes
        if known and not any(problems):
            _keep(data, raw, ann_id, images[where["image_id"]], masks)


def _keep(data: CocoData, raw: dict, ann_id: int, image: Dict[str, Any], masks: bool) -> None:
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
        mask = usable_mask(raw.get("segmentation"), image["width"], image["height"])
        if mask is None:
            got = f'"segmentation" is {short(raw.get("segmentation"))}'
            want = "should be polygons of 3 or more points, or an RLE of the image's size"
            data.add("mask", f"{got}; {want}", DROPPED, **where)
            return
        data.exact = data.exact and mask == raw["segmentation"]
        annotation["segmentation"] = mask
    data.annotations.append(annotation)


def _reference_problem(
    raw: dict, key: str, declared: Dict[str, Set[int]]
) -> Optional[Tuple[str, str]]:
    section = {"image_id": "images", "category_id": "categories"}[key]
    if key not in raw:
        return f"{key}_missing", f'has no "{key}"; should be the id of one of "{section}"'
    number = as_int(raw[key])
    if number is None:
        return f"{key}_type", f'"{key}" is {short(raw[key])}, should be an integer'
    if declared[key] and number not in declared[key]:
        return f"{key}_undeclared", f'"{key}" {short(number)} is not declared in "{section}"'
    return None


def _flag_problem(raw: dict) -> Optional[Tuple[str, str]]:
    crowd = raw.get("iscrowd", 0)
    if not isinstance(crowd, bool) and as_int(crowd) not in (0, 1):
        return "iscrowd", f'"iscrowd" is {short(crowd)}, should be 0 or 1'
    if raw.get("ignore"):
        return "ignore", '"ignore" is not of COCO\'s format; such regions should say "iscrowd": 1'
    return None


def _likeliest_root(image_roots: Sequence[str], images: Sequence[dict]) -> str:
    if len(image_roots) == 1:
        return image_roots[0]

    def hits(root: str) -> int:
        return sum(os.path.isfile(os.path.join(root, image["file_name"])) for image in images)

    return max(image_roots, key=hits)


def _note_repetitions(data: CocoData) -> None:
    files = Counter(image["file_name"] for image in data.images)
    for image in data.images:
        if files[image["file_name"]] > 1:
            message = f"{short(image['file_name'])} is also the file of another image id"
            data.add("file_name_twice", message, KEPT, image_id=image["id"])
    first: Dict[Tuple, int] = {}
    for a in data.annotations:
        same_as = first.setdefault((a["image_id"], a["category_id"], *a["bbox"]), a["id"])
        if same_as != a["id"]:
            where = {"image_id": a["image_id"], "annotation_id": a["id"]}
            data.add("box_twice", f"same box and class as annotation id {same_as}", KEPT, **where)


def _objects(data: CocoData, section: List[Any], what: str) -> Iterator[Tuple[int, dict]]:
    """``(index, entry)`` of the entries that are JSON objects; the others are recorded."""
    for index, raw in enumerate(section):
        if isinstance(raw, dict):
            yield index, raw
        else:
            got = f"{what} number {index} is {json_type(raw)}"
            data.add(f"{what}_type", f"{got}, should be an object")


def _identifier(data: CocoData, raw: dict, what: str, index: int) -> Optional[int]:
    number = as_int(raw.get("id"))
    if number is None:
        got = f"is {short(raw['id'])}" if "id" in raw else "is missing"
        image_id = as_int(raw.get("image_id")) if what == "annotation" else None
        message = f'{what} number {index}: "id" {got}, should be an integer'
        data.add(f"{what}_id", message, image_id=image_id)
    return number
