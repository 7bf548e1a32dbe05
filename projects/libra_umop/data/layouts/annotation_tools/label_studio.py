"""Label Studio's own JSON export; its exports to COCO, YOLO and VOC are read as those.

https://labelstud.io/guide/export#Label-Studio-JSON-format-of-annotated-tasks: a list of tasks, each
with results whose values are per cent of the picture's size.
"""

import math
import os
import re
from functools import partial
from typing import Any

from ...defects import REPAIRED, short
from ..reading.builder import DocumentBuilder, ellipse_shape, enclosing, polygon_area
from ..reading.layout import Content, Layout, Split
from ..reading.pictures import Pictures, is_picture, local_name
from ..reading.values import (
    BadValue,
    json_lists,
    numbers,
    one_picture,
    text,
)

__all__ = ["LAYOUTS"]

LABELS = ("rectanglelabels", "polygonlabels", "ellipselabels", "labels")
# Before the name of an uploaded file stand 8 hexadecimal digits.
UPLOADED = re.compile(r"^[0-9a-f]{8}-")


def _find(path: str) -> list[Split]:
    listed = ((file, [_task(entry) for entry in entries]) for file, entries in json_lists(path))
    found = [(file, tasks) for file, tasks in listed if any(map(_is_task, tasks))]
    if not found:
        return []
    return [Split("train", file, partial(_read, file, tasks)) for file, tasks in found]


def _task(entry: Any) -> Any:
    """The task that an entry of the JSON-MIN export is of; anything else as it is."""
    if not isinstance(entry, dict) or "annotation_id" not in entry or "data" in entry:
        return entry
    fields = [value for value in entry.values() if isinstance(value, list)]
    values = [v for field in fields for v in field if isinstance(v, dict)]
    results = [{"type": _type(value), "value": value} for value in values]
    annotation = {"result": results}
    return {"id": entry.get("id"), "data": entry, "annotations": [annotation]}


def _type(value: dict[str, Any]) -> str:
    """The type of a result by the key of its labels, as "rectanglelabels"."""
    return next((key for key in value if key.endswith("labels")), "none")


def _is_task(task: Any) -> bool:
    return isinstance(task, dict) and "data" in task and "annotations" in task


def _read(file: str, tasks: list[Any]) -> Content:
    folder = os.path.dirname(file)
    results = [[r for r in _results(task)] for task in tasks]
    names = sorted({_label(r) for task in results for r in task} - {""})
    builder = DocumentBuilder(folder, dict(enumerate(names, 1)))
    pictures = Pictures(folder)
    found = []
    for index, (task, own) in enumerate(zip(tasks, results, strict=True)):
        place = _place(builder, file, task, index)
        if not _is_task(task):
            builder.defect("task", "is no task with data and annotations", place)
            continue
        if not _submitted(task):
            builder.count("{} tasks have no annotation that was submitted: left out", place)
            continue
        picture = _picture(builder, pictures, task, place)
        if picture is not None:
            found.append((picture, (own, place)))
    for image_id, size, (own, place) in builder.add_images(found):
        for number, result in enumerate(own):
            _add(builder, image_id, result, size, f"{place}, result {number + 1}")
    return builder.content()


def _place(builder: DocumentBuilder, file: str, task: Any, index: int) -> str:
    task_id = task.get("id") if isinstance(task, dict) else None
    named = f"task id {short(task_id)}" if task_id is not None else f"task number {index + 1}"
    return f"{builder.place(file)}, {named}"


def _submitted(task: dict[str, Any]) -> list[dict[str, Any]]:
    annotations = task["annotations"] if isinstance(task.get("annotations"), list) else []
    return [a for a in annotations if isinstance(a, dict) and not a.get("was_cancelled")]


def _results(task: Any) -> list[Any]:
    """Of the annotation that is marked as ground truth, else of the last one submitted."""
    if not _is_task(task):
        return []
    submitted = _submitted(task)
    chosen = [a for a in submitted if a.get("ground_truth")] or submitted
    results = chosen[-1].get("result") if chosen else []
    return results if isinstance(results, list) else []


def _label(result: Any) -> str:
    value = result.get("value") if isinstance(result, dict) else None
    named = (value.get(key) for key in LABELS) if isinstance(value, dict) else ()
    labels = next((v for v in named if isinstance(v, list) and v), [""])
    return labels[0] if isinstance(labels[0], str) else ""


def _picture(
    builder: DocumentBuilder, pictures: Pictures, task: dict[str, Any], place: str
) -> str | None:
    data = task["data"] if isinstance(task["data"], dict) else {}
    texts = [v for v in data.values() if isinstance(v, str)]
    address = text(data, "image", "img") or next(
        (v for v in texts if is_picture(local_name(v))), ""
    )
    name = local_name(address)
    folder, base = os.path.split(name.replace("\\", "/"))
    found = pictures.named(name) or pictures.named(f"{folder}/{UPLOADED.sub('', base)}")
    return one_picture(builder, pictures, name, place, found)


def _add(
    builder: DocumentBuilder, image_id: int, result: Any, size: tuple[int, int], place: str
) -> None:
    kind, label = text(result, "type") or "none", _label(result)
    value: Any = result.get("value") if isinstance(result, dict) else None
    value = value if isinstance(value, dict) else {}
    is_polygon = "points" in value
    is_ellipse = "radiusX" in value
    is_box = "width" in value and not is_polygon
    if not (is_box or is_polygon or is_ellipse) or "keypoint" in kind:
        builder.count(
            f"{{}} results of type {short(kind)} are no boxes or polygons: left out", place
        )
        return
    if not label:
        if kind in ("rectangle", "polygon", "ellipse"):  # repeats a labelled one without its label
            return
        builder.defect("label", f"a result of type {short(kind)} has no label", place)
        return
    try:
        read = _box if is_box else _polygon if is_polygon else _ellipse
        xyxy, mask, area = read(value, size)
    except BadValue as e:
        builder.defect("shape", f"a result of type {short(kind)} {e}", place)
        return
    if is_box and value.get("rotation"):
        said = f"is rotated by {short(value['rotation'])} degrees; read as the upright box around"
        builder.defect("rotated", f"{said} it", place, REPAIRED)
    builder.add_object(image_id, builder.ids[label], xyxy, place, mask=mask, area=area)


def _box(value: dict[str, Any], size: tuple[int, int]) -> tuple[Any, None, None]:
    """Turned about its upper left corner."""
    x, y, w, h = numbers(value, ("x", "y", "width", "height"))
    x, y, w, h = (v * size[i % 2] / 100 for i, v in enumerate((x, y, w, h)))
    (degrees,) = numbers({"rotation": value.get("rotation") or 0}, ("rotation",))
    if not math.isfinite(degrees):
        raise BadValue(f"has rotation {degrees}, should be in degrees")
    angle = math.radians(degrees)
    if not angle:
        return (x, y, x + w, y + h), None, None
    cos, sin = math.cos(angle), math.sin(angle)
    corners = ((0, 0), (w, 0), (w, h), (0, h))
    points = [v for a, b in corners for v in (x + a * cos - b * sin, y + a * sin + b * cos)]
    return enclosing(points), None, None


def _polygon(value: dict[str, Any], size: tuple[int, int]) -> tuple[Any, Any, float]:
    points = value["points"]
    if not isinstance(points, list) or len(points) < 3:
        raise BadValue("should have three points or more")
    pairs = [dict(zip("xy", p, strict=False)) if isinstance(p, list) else p for p in points]
    flat = [v for pair in pairs for v in numbers(pair, ("x", "y"))]
    flat = [v * size[i % 2] / 100 for i, v in enumerate(flat)]
    return enclosing(flat), [flat], polygon_area(flat)


def _ellipse(value: dict[str, Any], size: tuple[int, int]) -> tuple[Any, Any, float]:
    x, y, rx, ry = numbers(value, ("x", "y", "radiusX", "radiusY"))
    (degrees,) = numbers({"rotation": value.get("rotation") or 0}, ("rotation",))
    x, y, rx, ry = (v * size[i % 2] / 100 for i, v in enumerate((x, y, rx, ry)))
    xyxy, outline, area = ellipse_shape((x, y), (rx, ry), degrees)
    return xyxy, [outline], area


LAYOUTS = (Layout("Label Studio's JSON", "a JSON file of Label Studio's tasks", _find),)
