"""From any JSON document to clean COCO data.

:func:`parse_coco` never raises: it keeps what is usable and lists every defect. :func:`load_split`
refuses a split in which a defect leaves no sensible choice, or in which nothing can be learnt.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import DatasetError
from ..defects import KEPT, NOTE, Defect, short
from ..file_names import file_name_problem, find_files
from ..layouts.reading.layout import Split
from .annotations import parse_annotations
from .classes import equal_names, placeholder_ids
from .document import CocoData
from .entries import identifier, objects
from .values import as_int, is_text, json_type

# No image file has a longer side.
MAX_SIDE_PX = 2**31 - 1
# More crowd regions than this part of all annotations are hardly meant (COCO has 1.2 per cent).
MANY_CROWDS = 0.03
CVAT = 'CVAT writes brush masks so; "iscrowd": 0 makes them objects'


def load_split(
    split: Split,
    *,
    strict: bool = False,
    masks: bool = False,
    annotated: bool = True,
    learnt_from: bool = True,
) -> CocoData:
    """Read a split, repair what can be repaired, refuse the rest.

    Args:
        split: from :mod:`libra_umop.data.layouts`.
        strict: also refuse what would be dropped, clipped or repaired.
        masks: keep and check ``segmentation``; annotations without a usable one are dropped.
        annotated: it must have annotations. False for images whose truth is kept elsewhere.
        learnt_from: it must have objects. False for a validation or test set, which may have none.

    Raises:
        DatasetError: naming the first defect and how many more there are.
    """
    data = parse_split(split, masks=masks, annotated=annotated)
    refuse(split.source, data.errors + (data.lost + data.repaired if strict else []))
    if annotated:
        refuse(split.source, look_for_objects(data, learnt_from))
    return data


def parse_split(
    split: Split, *, masks: bool = False, look_at_masks: bool = False, annotated: bool = True
) -> CocoData:
    """Read a split and judge its document as :func:`parse_coco` does.

    Raises:
        DatasetError: it cannot be read at all.
    """
    content = split.read()
    data = parse_coco(
        content.document,
        split.source,
        content.image_roots,
        masks=masks,
        look_at_masks=look_at_masks,
        annotated=annotated,
        places=content.places,
    )
    data.defects = content.defects + data.defects
    if content.unannotated and annotated:
        data.add("unannotated", content.unannotated)
    data.exact = data.exact and content.is_file
    return data


def refuse(source: str, defects: Sequence[Defect]) -> None:
    """Raise :class:`DatasetError` about the first of ``defects``, if there is any."""
    if not defects:
        return
    more = len(defects) - 1
    tail = f" (and {more} more; tools/check_dataset.py lists them all)" if more else ""
    raise DatasetError(f"{source}: {defects[0]}{tail}")


def look_for_objects(data: CocoData, learnt_from: bool) -> list[Defect]:
    """Record where a sound file has no objects; returns that if it is an error.

    It is one if they should be learnt from, or if the file has some and none can be used.
    """
    if data.objects:
        return []
    if learnt_from or data.lost:
        data.add("no_objects", _no_objects(data))
    else:
        data.add("no_objects", "has no objects; nothing can be evaluated on it", NOTE)
    return data.errors


def _no_objects(data: CocoData) -> str:
    """Why nothing can be learnt from a file without objects."""
    total, crowds = data.num_annotations_in_file, len(data.annotations)
    message = (
        f"none of its {len(data.images)} images has an object to learn from: of {total}"
        f" annotations, {crowds} are crowd regions and {total - crowds} are unusable"
    )
    message += f" ({CVAT})" if crowds and not data.places else ""
    return message + (f"; first: {data.lost[0]}" if data.lost else "")


def parse_coco(
    document: Any,
    source: str,
    image_roots: Sequence[str],
    *,
    masks: bool = False,
    look_at_masks: bool = False,
    annotated: bool = True,
    places: Mapping[tuple[str, Any], str] | None = None,
) -> CocoData:
    """Everything usable in ``document``, and everything that is wrong with it. Never raises.

    Args:
        document: what ``json.load`` gave, of any type.
        source: where it came from, for messages.
        image_roots: folders that its ``file_name`` may be relative to. The one that has most of the
            first images is taken, or else the first one.
        masks: as for :func:`load_split`.
        look_at_masks: name broken masks also where they are not needed.
        annotated: a document without "annotations" is a defect.
        places: where its entries come from, if not from ``source`` itself.
    """
    data = CocoData(source, image_roots[0], places=places or {})
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
    find_files(data, image_roots)
    parse_annotations(
        data, sections["annotations"], declared, masks=masks, look_at_masks=look_at_masks
    )
    placeholders = placeholder_ids([data])  # one may have the name of a class
    data.defects += equal_names([c for c in data.categories if c["id"] not in placeholders])
    _note_repetitions(data)
    _note_crowds(data)
    return data


def _parse_categories(data: CocoData, section: list) -> set[int]:
    """Keep the sound categories; returns the ids of all.

    So what refers to one that is refused is not reported as well.
    """
    seen: set[int] = set()
    for index, raw in objects(data, section, "category"):
        category_id = identifier(data, raw, "category", index)
        if category_id is None:
            continue
        name, where = raw.get("name"), f"category id {category_id}"
        if not is_text(name):
            data.add("category_name", f'{where}: "name" is {short(name)}, should be a text')
        elif category_id in seen:
            data.add("category_id_twice", f"{where}: is declared twice; ids must be unique")
        else:
            parent = raw.get("supercategory")
            parent = parent if is_text(parent) else ""
            data.categories.append({"id": category_id, "name": name, "supercategory": parent})
        seen.add(category_id)
    data.categories.sort(key=lambda c: c["id"])
    return seen


def _parse_images(data: CocoData, section: list) -> set[int]:
    """As :func:`_parse_categories`."""
    seen: set[int] = set()
    for index, raw in objects(data, section, "image"):
        image_id = identifier(data, raw, "image", index)
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


def _size(data: CocoData, raw: dict, key: str, image_id: int) -> int | None:
    value = raw.get(key)
    number = as_int(value)
    if number is None or not 1 <= number <= MAX_SIDE_PX:
        got = f"is {short(value)}" if key in raw else "is missing"
        message = f'"{key}" {got}, should be the number of pixels, 1 or more'
        data.add("image_size", f"{short(raw.get('file_name'))}: {message}", image_id=image_id)
        return None
    data.exact = data.exact and type(value) is int
    return number


def _note_repetitions(data: CocoData) -> None:
    files = Counter(image["file_name"] for image in data.images)
    for image in data.images:
        if files[image["file_name"]] > 1:
            message = f"{short(image['file_name'])} is also the file of another image id"
            data.add("file_name_twice", message, KEPT, image_id=image["id"])
    first: dict[tuple, int] = {}
    for a in data.annotations:
        same_as = first.setdefault((a["image_id"], a["category_id"], *a["bbox"]), a["id"])
        if same_as != a["id"]:
            where = {"image_id": a["image_id"], "annotation_id": a["id"]}
            data.add("box_twice", f"same box and class as annotation id {same_as}", KEPT, **where)


def _note_crowds(data: CocoData) -> None:
    total = len(data.annotations)
    crowds = total - len(data.objects)
    if crowds > MANY_CROWDS * total:
        share = f"{crowds} of {total} annotations ({100 * crowds / total:.0f} per cent)"
        message = f"{share} are crowd regions, from which nothing is learnt"
        message += f"; {CVAT}" if not data.places else ""  # COCO's own file
        data.add("many_crowds", message, NOTE)
