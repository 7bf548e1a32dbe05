"""Reading COCO JSON files that anyone may have written.

:func:`parse_coco` turns any JSON document into clean images, categories and annotations and a list
of every :class:`Defect` it met; it never raises. :func:`load_coco` refuses the file if a defect
leaves no sensible choice. Format: https://cocodataset.org/#format-data, boxes are
``[x, y, width, height]`` in pixels (XYWH).
"""

import json
import math
import os
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Sequence, Tuple

from detectron2.utils.file_io import PathManager

from .errors import CLIPPED, DROPPED, ERROR, NOTE, DatasetError, Defect, short

# Boxes may reach this far over the image's edge, in pixels, before it counts as a defect:
# annotation tools disagree about where the last pixel ends.
EDGE_TOLERANCE_PX = 1.0


@dataclass
class CocoData:
    """The usable content of one COCO JSON file.

    Attributes:
        json_file: where it came from.
        image_root: folder that its ``file_name`` are relative to.
        categories: ``{"id", "name", "supercategory"}``, by ascending id.
        images: ``{"id", "file_name", "width", "height"}``, by ascending id.
        annotations: ``{"id", "image_id", "category_id", "bbox", "area", "iscrowd"}`` and, if asked
            for, "segmentation"; boxes XYWH in pixels, inside the image, with a positive size.
        defects: everything that was wrong, in the order of the file.
        num_annotations_in_file: before anything was dropped.
        exact: whether the file says the same, key by key, as what is kept here, so that
            pycocotools may read the file itself.
    """

    json_file: str
    image_root: str
    categories: List[Dict[str, Any]] = field(default_factory=list)
    images: List[Dict[str, Any]] = field(default_factory=list)
    annotations: List[Dict[str, Any]] = field(default_factory=list)
    defects: List[Defect] = field(default_factory=list)
    num_annotations_in_file: int = 0
    exact: bool = True

    def add(self, kind: str, message: str, severity: str = ERROR, **where: Any) -> None:
        """Record a defect."""
        self.defects.append(Defect(kind, message, severity, **where))
        self.exact = self.exact and severity == NOTE

    @property
    def errors(self) -> List[Defect]:
        """The defects that training refuses."""
        return [d for d in self.defects if d.severity == ERROR]

    @property
    def repaired(self) -> List[Defect]:
        """The defects that cost an annotation or a part of its box."""
        return [d for d in self.defects if d.severity in (DROPPED, CLIPPED)]


def read_json(json_file: str) -> Any:
    """The document in ``json_file``, UTF-8 (with or without byte order mark), UTF-16 or UTF-32.

    Raises:
        DatasetError: the file cannot be read or is not JSON.
    """
    try:
        with PathManager.open(json_file, "rb") as f:
            raw = f.read()
    except (OSError, ValueError) as e:
        reason = getattr(e, "strerror", None) or str(e)
        raise DatasetError(f"{json_file}: cannot be read: {reason}") from e
    if not raw.strip():
        raise DatasetError(f"{json_file}: is empty; should be a COCO JSON file")
    try:
        return json.loads(raw)
    except json.JSONDecodeError as e:
        cut = " (is the file cut off?)" if e.pos >= len(e.doc.rstrip()) - 1 else ""
        raise DatasetError(
            f"{json_file}: is not JSON: {e.msg} at line {e.lineno}, column {e.colno}{cut}"
        ) from e
    except (ValueError, RecursionError) as e:
        reason = "nested too deeply" if isinstance(e, RecursionError) else str(e)
        raise DatasetError(f"{json_file}: is not JSON: {reason}") from e


def load_coco(
    json_file: str, image_root: str, *, strict: bool = False, masks: bool = False
) -> CocoData:
    """Read a file, repair what can be repaired, refuse the rest.

    Args:
        json_file: a COCO JSON file.
        image_root: folder that its ``file_name`` are relative to.
        strict: also refuse what would be dropped or clipped.
        masks: keep and check ``segmentation``; annotations without a usable one are dropped.

    Raises:
        DatasetError: naming the first defect and how many more there are.
    """
    data = parse_coco(read_json(json_file), json_file, image_root, masks=masks)
    refuse(json_file, data.errors + (data.repaired if strict else []))
    return data


def refuse(json_file: str, defects: Sequence[Defect]) -> None:
    """Raise :class:`DatasetError` about the first of ``defects``, if there is any."""
    if not defects:
        return
    more = len(defects) - 1
    tail = f" (and {more} more; tools/check_dataset.py lists them all)" if more else ""
    raise DatasetError(f"{json_file}: {defects[0]}{tail}")


def parse_coco(
    document: Any, json_file: str, image_root: str, *, masks: bool = False
) -> CocoData:
    """Everything usable in ``document``, and everything that is wrong with it. Never raises.

    Args:
        document: what ``json.load`` gave, of any type.
        json_file, image_root, masks: as for :func:`load_coco`.
    """
    data = CocoData(json_file, image_root)
    if not isinstance(document, dict):
        keys = "a JSON object with images, annotations and categories"
        data.add("not_an_object", f"holds {_type(document)}, should be {keys}")
        return data
    sections = {}
    for key in ("images", "annotations", "categories"):
        section = document.get(key)
        if key not in document:
            data.add("missing_section", f'has no "{key}"; should be a list')
        elif not isinstance(section, list):
            data.add("section_type", f'"{key}" is {_type(section)}, should be a list')
        sections[key] = section if isinstance(section, list) else []
    data.num_annotations_in_file = len(sections["annotations"])
    _parse_categories(data, sections["categories"])
    _parse_images(data, sections["images"])
    _parse_annotations(data, sections["annotations"], masks)
    _note_repetitions(data)
    return data


def _parse_categories(data: CocoData, section: list) -> None:
    names: Dict[str, int] = {}
    for index, raw in _objects(data, section, "category"):
        category_id = _identifier(data, raw, "id", "category", index)
        if category_id is None:
            continue
        name, where = raw.get("name"), f"category id {category_id}"
        if not isinstance(name, str) or not name.strip() or not _is_text(name):
            data.add("category_name", f'{where}: "name" is {short(name)}, should be a text')
        elif name in names:
            data.add(
                "category_name_twice",
                f"{where}: is named {short(name)} like category id {names[name]};"
                " every class needs a name of its own",
            )
        elif any(c["id"] == category_id for c in data.categories):
            data.add("category_id_twice", f"{where}: is declared twice; ids must be unique")
        else:
            names[name] = category_id
            supercategory = raw.get("supercategory")
            if not isinstance(supercategory, str):
                supercategory = ""
            data.categories.append(
                {"id": category_id, "name": name, "supercategory": supercategory}
            )
    data.categories.sort(key=lambda c: c["id"])
    if not section and not data.errors:
        data.add("no_categories", '"categories" is empty; every class must be declared in it')


def _parse_images(data: CocoData, section: list) -> None:
    seen = set()
    for index, raw in _objects(data, section, "image"):
        image_id = _identifier(data, raw, "id", "image", index)
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
        if problem or width is None or height is None:
            continue
        data.images.append(
            {"id": image_id, "file_name": raw["file_name"], "width": width, "height": height}
        )
    data.images.sort(key=lambda image: image["id"])
    if not section and not data.errors:
        data.add("no_images", '"images" is empty; there is nothing to learn from')


def file_name_problem(file_name: Any) -> Optional[str]:
    """What is wrong with an image's ``file_name``, or None. Only paths that stay below the image
    folder by their text are accepted; links that lie in the folder are followed."""
    if not isinstance(file_name, str) or not file_name:
        return f'"file_name" is {short(file_name)}, should be a path below the image folder'
    if "\0" in file_name or not _is_text(file_name):
        return f'"file_name" {short(file_name)} cannot be the name of a file'
    parts = file_name.replace("\\", "/").split("/")
    is_absolute = parts[0] == "" or parts[0].endswith(":") or "://" in file_name
    if is_absolute or ".." in parts:
        return (
            f'"file_name" {short(file_name)} leaves the image folder;'
            " should be a path below it, without .."
        )
    return None


def _size(data: CocoData, raw: dict, key: str, image_id: int) -> Optional[int]:
    value = raw.get(key)
    number = _as_int(value)
    if number is None or number <= 0:
        got = f"is {short(value)}" if key in raw else "is missing"
        data.add("image_size", f'"{key}" {got}, should be its pixels, >= 1', image_id=image_id)
        return None
    data.exact = data.exact and type(value) is int
    return number


def _parse_annotations(data: CocoData, section: list, masks: bool) -> None:
    images = {image["id"]: image for image in data.images}
    categories = {category["id"] for category in data.categories}
    # Annotations of an image or class that was itself refused are not reported a second time.
    orphans_matter = not data.errors
    seen = set()
    for index, raw in _objects(data, section, "annotation"):
        ann_id = _identifier(data, raw, "id", "annotation", index)
        if ann_id is None:
            continue
        where = {"annotation_id": ann_id, "image_id": _as_int(raw.get("image_id"))}
        if ann_id in seen:
            data.add("annotation_id_twice", "the id is used twice; ids must be unique", **where)
            continue
        seen.add(ann_id)
        problems = [
            _reference(raw, "image_id", images, orphans_matter),
            _reference(raw, "category_id", categories, orphans_matter),
            _box_type(raw),
            _flags(raw),
        ]
        problems = [p for p in problems if p]
        for kind, message in problems:
            data.add(kind, message, **where)
        image = images.get(where["image_id"])
        known = _as_int(raw.get("category_id")) in categories
        if not problems and image is not None and known:
            _keep(data, raw, ann_id, image, masks)


def _keep(data: CocoData, raw: dict, ann_id: int, image: dict, masks: bool) -> None:
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
        "category_id": _as_int(raw["category_id"]),
        "bbox": bbox,
        "area": _area(raw, bbox),
        "iscrowd": int(raw.get("iscrowd", 0)),
    }
    if masks:
        segmentation = usable_mask(raw.get("segmentation"))
        if segmentation is None:
            message = f'"segmentation" is {short(raw.get("segmentation"))}, should be polygons of'
            data.add("mask", f"{message} at least 3 points each or an RLE", DROPPED, **where)
            return
        annotation["segmentation"] = segmentation
    # pycocotools needs all of these; it also takes the object of id 0 for "no match".
    same = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")
    unchanged = all(
        key in raw and type(raw[key]) is not bool and raw[key] == annotation[key] for key in same
    )
    data.exact = data.exact and unchanged and ann_id != 0
    data.annotations.append(annotation)


def usable_box(
    bbox: Sequence[Any], width: int, height: int
) -> Tuple[Optional[List[float]], Optional[str], str]:
    """Judge one box.

    Args:
        bbox: four numbers, XYWH in pixels.
        width, height: of the image, in pixels.

    Returns:
        the box to use (None if unusable), the kind of defect (None if sound), and the message.
    """
    x, y, w, h = numbers = [_as_float(v) for v in bbox]
    says = f"bbox is {short(list(bbox))}"
    if any(math.isnan(v) for v in numbers):
        return None, "bbox_nan", f"{says}; should be four finite numbers"
    if any(math.isinf(v) for v in (*numbers, x + w, y + h)):
        return None, "bbox_inf", f"{says}; should be four finite numbers"
    if w < 0 or h < 0:
        return None, "bbox_negative", f"{says}; should be [x, y, width, height], sizes above 0"
    if w == 0 or h == 0 or x + w == x or y + h == y:
        return None, "bbox_zero", f"{says}; width and height should be above 0"
    x1, y1, x2, y2 = max(x, 0.0), max(y, 0.0), min(x + w, width), min(y + h, height)
    if x2 <= x1 or y2 <= y1:
        return None, "bbox_outside", f"{says}, outside the image of {width} x {height}"
    over = max(-x, -y, x + w - width, y + h - height)
    if over > EDGE_TOLERANCE_PX:
        clipped = [x1, y1, x2 - x1, y2 - y1]
        return clipped, "bbox_clipped", f"{says}, {over:g} px over the edge of {width} x {height}"
    return numbers, None, ""


def usable_mask(segmentation: Any) -> Optional[Any]:
    """COCO polygons with at least 3 points each, or an RLE; None if there is nothing usable."""
    if isinstance(segmentation, dict):
        size, counts = segmentation.get("size"), segmentation.get("counts")
        size_ok = isinstance(size, list) and len(size) == 2 and all(map(_as_int, size))
        return segmentation if size_ok and isinstance(counts, (str, list)) and counts else None
    if not isinstance(segmentation, list):
        return None
    polygons = [
        p
        for p in segmentation
        if isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0
        if all(_is_number(v) and math.isfinite(_as_float(v)) for v in p)
    ]
    return polygons or None


def _area(raw: dict, bbox: List[float]) -> float:
    """The file's area, by which COCO's evaluation sorts objects into small, medium and large, if
    it is a sensible number; else that of the box."""
    area = raw.get("area")
    if _is_number(area) and math.isfinite(_as_float(area)) and area > 0:
        return area
    return bbox[2] * bbox[3]


def _reference(raw: dict, key: str, declared: Any, report: bool) -> Optional[Tuple[str, str]]:
    what = {"image_id": "images", "category_id": "categories"}[key]
    if key not in raw:
        return f"missing_{key}", f'has no "{key}"; should be an id of "{what}"'
    number = _as_int(raw[key])
    if number is None:
        return f"{key}_type", f'"{key}" is {short(raw[key])}, should be an integer'
    if number not in declared and report:
        return f"undeclared_{key}", f'"{key}" {number} is not declared in "{what}"'
    return None


def _box_type(raw: dict) -> Optional[Tuple[str, str]]:
    want = "should be [x, y, width, height]"
    if "bbox" not in raw:
        return "missing_bbox", f'has no "bbox"; {want}'
    bbox = raw["bbox"]
    if not isinstance(bbox, list):
        return "bbox_type", f'"bbox" is {short(bbox)}; {want}'
    if len(bbox) != 4:
        return "bbox_length", f'"bbox" has {len(bbox)} values, {short(bbox)}; {want}'
    if not all(_is_number(v) for v in bbox):
        return "bbox_type", f'"bbox" is {short(bbox)}; {want} as four numbers'
    return None


def _flags(raw: dict) -> Optional[Tuple[str, str]]:
    crowd = raw.get("iscrowd", 0)
    if _as_int(crowd) not in (0, 1) and not isinstance(crowd, bool):
        return "iscrowd", f'"iscrowd" is {short(crowd)}, should be 0 or 1'
    if raw.get("ignore"):
        return "ignore", '"ignore" is not part of the format; say "iscrowd": 1 for such regions'
    return None


def _note_repetitions(data: CocoData) -> None:
    files = Counter(image["file_name"] for image in data.images)
    for image in data.images:
        if files[image["file_name"]] > 1:
            message = f"{files[image['file_name']]} images name the file {image['file_name']}"
            data.add("file_name_twice", message, NOTE, image_id=image["id"])
    first: Dict[Any, int] = {}
    for a in data.annotations:
        key = (a["image_id"], a["category_id"], *a["bbox"])
        if key in first:
            message = f"the same box and class as annotation id {first[key]}"
            where = {"image_id": a["image_id"], "annotation_id": a["id"]}
            data.add("box_twice", message, NOTE, **where)
        first.setdefault(key, a["id"])


def _objects(data: CocoData, section: list, what: str):
    """``(index, entry)`` of the entries that are JSON objects; the others are recorded."""
    for index, raw in enumerate(section):
        if isinstance(raw, dict):
            yield index, raw
        else:
            data.add(f"{what}_type", f"{what} number {index} is {_type(raw)}, should be an object")


def _identifier(data: CocoData, raw: dict, key: str, what: str, index: int) -> Optional[int]:
    number = _as_int(raw.get(key))
    if number is None:
        got = f"is {short(raw[key])}" if key in raw else "is missing"
        where = {"image_id": _as_int(raw.get("image_id"))} if what == "annotation" else {}
        message = f'{what} number {index}: "{key}" {got}, should be an integer'
        data.add(f"{what}_{key}", message, **where)
    return number


def _as_int(value: Any) -> Optional[int]:
    """An integer or a float that is whole; None for all else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:  # JSON integers have no limit
        return math.inf if value > 0 else -math.inf


def _is_text(value: str) -> bool:
    try:
        value.encode("utf-8")
        return True
    except UnicodeEncodeError:  # half a surrogate pair
        return False


def _type(value: Any) -> str:
    """The JSON name of a value's type."""
    names = {dict: "an object", list: "a list", str: "a text", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")


def write_coco(data: CocoData, categories: List[Dict[str, Any]], path: str) -> None:
    """Write the usable content as COCO JSON that pycocotools can evaluate, in one step, so that
    several processes may write the same file."""
    ids = [a["id"] for a in data.annotations]
    free = max(ids, default=0) + 1
    document = {
        "info": {"description": f"usable content of {os.path.basename(data.json_file)}"},
        "categories": categories,
        "images": data.images,
        # pycocotools takes the object of id 0 for "no match"
        "annotations": [{**a, "id": a["id"] or max(free, 1)} for a in data.annotations],
    }
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w") as f:
        json.dump(document, f)
    os.replace(temporary, path)
