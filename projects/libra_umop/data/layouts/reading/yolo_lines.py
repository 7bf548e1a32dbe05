"""The text files of YOLO: a line for each object.

``class x y width height`` (the box's centre and size) or ``class x1 y1 x2 y2 x3 y3 ...`` (a
polygon), as fractions of the picture's size as it is shown.
"""

import codecs
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ....errors import DatasetError
from ...defects import CLIPPED, DROPPED, ERROR, NOTE, short
from .builder import DocumentBuilder, enclosing, polygon_area

__all__ = ["LineCounts", "judge", "numbered_lines", "read_label_file", "read_text"]

# By so much, as a part of the picture, a number may miss [0, 1] before that counts: rounding.
TOLERANCE = 1e-3
# Numbers beyond it in this part of all lines are hardly fractions.
PIXELS, MANY = 2.0, 0.2
# Boxes that reach over the edge by more than this part of the picture; so few boxes tell nothing.
OVER, FEW = 0.01, 10


class _Bad(Exception):
    """A line that cannot be used as it is: kind, message and severity of the defect."""


class LineCounts:
    """What all lines of a split say together."""

    def __init__(self) -> None:
        self.total = self.boxes = self.nine = self.longer = self.beyond = 0
        self.ordered = self.over_edge = 0
        self.first_place = ""
        self.class_ids: set[int] = set()


class _Object(NamedTuple):
    class_id: int
    xyxy: Sequence[float]  # fractions
    polygon: list[float] | None


def read_label_file(
    builder: DocumentBuilder,
    image_id: int,
    size: tuple[int, int],
    label: str,
    config: dict[str, Any],
    lines: LineCounts,
) -> None:
    """Add the objects of a picture's text file to the document.

    Args:
        builder, image_id: the document, and which image of it.
        size: of the picture, (width, height) in pixels.
        label: path of the text file.
        config: of the YAML file, whose ``kpt_shape`` says how many numbers of a line are keypoints.
        lines: what all lines say together is counted here.
    """
    try:
        numbered = list(numbered_lines(label))
    except DatasetError as e:
        builder.defect("label_file", str(e).partition(f"{label}: ")[2], builder.place(label))
        return
    width, height = size
    for number, line in numbered:
        place = builder.place(label, number)
        words = line.split()
        lines.first_place = lines.first_place or place
        try:
            found, problem = _parse(words, builder.classes, _keypoint_columns(config), lines)
        except _Bad as e:
            kind, message, severity = e.args
            builder.defect(kind, message, place, severity)
            continue
        if problem:
            builder.defect("out_of_range", problem, place, CLIPPED)
        x1, y1, x2, y2 = found.xyxy
        xyxy = (x1 * width, y1 * height, x2 * width, y2 * height)
        mask, area = None, None
        if found.polygon is not None:
            polygon = [v * (height if i % 2 else width) for i, v in enumerate(found.polygon)]
            mask, area = [polygon], polygon_area(polygon)
        builder.add_object(image_id, found.class_id, xyxy, place, mask=mask, area=area)


def _keypoint_columns(config: dict[str, Any]) -> int:
    shape = config.get("kpt_shape")
    if isinstance(shape, list) and len(shape) == 2 and all(type(n) is int for n in shape):
        return shape[0] * shape[1]
    return 0


def _parse(
    words: list[str], classes: dict[int, str], keypoints: int, lines: LineCounts
) -> tuple[_Object, str]:
    """The object of a line, cut at the picture's edge, and what was out of range, "" for nothing.

    Raises:
        _Bad: the line cannot be used.
    """
    lines.total += 1
    class_id = _class_id(words[0], classes, lines)
    is_box = len(words) in (5, 5 + keypoints)
    if len(words) == 6:
        raise _Bad("columns", "has 6 numbers, like a detector's output; should be 5", ERROR)
    if not is_box and (len(words) < 7 or len(words) % 2 == 0):
        want = "class x y width height, or class and the points of a polygon"
        raise _Bad("columns", f"has {len(words)} numbers, should be {want}", ERROR)
    numbers = [_number(word) for word in words[1 : 5 if is_box else None]]
    lines.boxes, lines.nine = lines.boxes + is_box, lines.nine + (len(words) == 9 and not is_box)
    lines.longer += not is_box and len(words) != 9
    lines.beyond += max(map(abs, numbers)) > PIXELS
    if is_box and min(numbers[2:]) <= 0:
        said = f"width and height are {numbers[2]:g} and {numbers[3]:g}, should be above 0"
        raise _Bad("size", said, DROPPED)
    outside = [v for v in numbers if not -TOLERANCE <= v <= 1 + TOLERANCE]
    problem = f"{outside[0]:g} should be within [0, 1]" if outside else ""
    if is_box:
        x, y, w, h = numbers
        corners: Sequence[float] = (x - w / 2, y - h / 2, x + w / 2, y + h / 2)
        lines.ordered += w > x and h > y
        lines.over_edge += min(corners) < -OVER or max(corners) > 1 + OVER
        polygon = None
    else:
        polygon = [min(max(v, 0.0), 1.0) for v in numbers] if outside else numbers
        corners = enclosing(polygon)
    if outside:
        corners = tuple(min(max(v, 0.0), 1.0) for v in corners)
        if corners[2] <= corners[0] or corners[3] <= corners[1]:
            raise _Bad("out_of_range", f"{problem}; the object is outside the image", DROPPED)
    return _Object(class_id, corners, polygon), problem


def _class_id(word: str, classes: dict[int, str], lines: LineCounts) -> int:
    try:
        number = float(word)
    except ValueError:
        number = math.nan
    if not number.is_integer():
        raise _Bad("class_index", f"class index is {short(word)}, should be a whole number", ERROR)
    lines.class_ids.add(int(number))
    if int(number) not in classes:
        said = f"class index is {word}, which has no name; those from {min(classes)} to"
        said += f" {max(classes)} have one"
        raise _Bad("class_index", said, ERROR)
    return int(number)


def _number(word: str) -> float:
    try:
        number = float(word)
    except ValueError:
        raise _Bad("not_a_number", f"{short(word)} should be a number", ERROR) from None
    if not math.isfinite(number):
        raise _Bad("not_finite", f"{word} should be a finite number", DROPPED)
    return number


def judge(builder: DocumentBuilder, lines: LineCounts) -> None:
    """What is told by all lines of a split together."""
    if lines.beyond >= 2 and lines.beyond > MANY * lines.total:
        said = f"{lines.beyond} of {lines.total} lines have numbers above {PIXELS:g}, like pixels"
        message = f"{said}; should be fractions of the image"
        builder.defect("pixels", message, lines.first_place)
        builder.defects.insert(0, builder.defects.pop())
    if lines.ordered == lines.boxes >= FEW and lines.over_edge > MANY * lines.boxes:
        message = f"its {lines.boxes} boxes look like class x1 y1 x2 y2; should be the class and"
        builder.defect("corners", f"{message} x y width height", lines.first_place)
        builder.defects.insert(0, builder.defects.pop())
    if len(builder.classes) in lines.class_ids and min(lines.class_ids) > min(builder.classes):
        message = (
            f"class indices are {min(lines.class_ids)} to {max(lines.class_ids)}, as if counted"
        )
        message += f" from {min(lines.class_ids)}; the names begin at {min(builder.classes)}"
        builder.defect("class_index", message, lines.first_place)
        builder.defects.insert(0, builder.defects.pop())
    if lines.nine and not lines.longer and not lines.boxes:
        message = f"its {lines.nine} lines of 9 numbers look like oriented boxes (OBB), which are"
        message += " not trained on here; taken are the upright boxes around them"
        builder.defect("oriented_boxes", message, lines.first_place, NOTE)


def numbered_lines(file: str) -> Iterator[tuple[int, str]]:
    """``(number, text)`` of a text file's lines that are not blank."""
    try:
        text = read_text(file)
    except OSError as e:
        raise DatasetError(f"{file}: cannot be read: {e.strerror}") from e
    except ValueError as e:
        raise DatasetError(f"{file}: is not text in UTF-8") from e
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line.strip()


def read_text(file: str) -> str:
    """The text of a file in UTF-8, or in UTF-16 with its mark, as PowerShell writes it.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such text.
    """
    with open(file, "rb") as f:
        raw = f.read()
    is_utf16 = raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = raw.decode("utf-16" if is_utf16 else "utf-8-sig")
    return text.replace("\r\n", "\n").replace("\r", "\n")
