"""A drawn set in COCO form: the demo and the tests train on it, offline and repeatably.

Circles, rectangles, triangles and stars on a noisy background. Object sizes are drawn evenly in
log scale from :data:`MIN_SIZE_PX` to most of the image, so every pyramid level has work. A few
images are empty and a few are crowded, as in real data.
"""

import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np

CLASSES = ("circle", "rectangle", "triangle", "star")
MIN_SIZE_PX = 8
EMPTY_EVERY = 20  # one image in this many has no object
CROWDED_EVERY = 10  # one image in this many has CROWDED_OBJECTS of them, all small
CROWDED_OBJECTS = 20
MAX_OBJECTS = 6
LARGEST = 0.85  # of the image's side
MAX_OVERLAP = 0.2  # intersection over the smaller box, so that no object hides another


def write_shapes(
    root: Path | str,
    *,
    num_train: int = 600,
    num_val: int = 100,
    size: int = 192,
    largest: float | None = None,
    most_objects: int = MAX_OBJECTS,
    seed: int = 0,
) -> None:
    """Write the set as ``root/images/*.png`` and ``root/annotations/{train,val}.json``.

    The same arguments give the same pixels and boxes. Annotation files are written last and
    atomically, so their presence says that the set is whole.

    Args:
        root: folder to write to; made if missing.
        num_train, num_val: images per split.
        size: side of the square images, in pixels; at least 64.
        largest: longest side of an object, in pixels; None for most of the image.
        most_objects: of an image that is not crowded.
        seed: of NumPy's generator.

    Raises:
        ValueError: ``size`` is below 64, a split is empty, or objects are none or too large.
    """
    if size < 64:
        raise ValueError(f"size is {size}: at least 64 pixels are needed to hold every object size")
    if min(num_train, num_val) < 1:
        raise ValueError(f"num_train, num_val are {num_train}, {num_val}, should be >= 1 each")
    largest = size * LARGEST if largest is None else largest
    if not MIN_SIZE_PX <= largest <= size * LARGEST or most_objects < 1:
        limits = f"{MIN_SIZE_PX} to {size * LARGEST:g} and >= 1"
        raise ValueError(f"largest, most_objects are {largest}, {most_objects}, should be {limits}")
    root = Path(root)
    (root / "images").mkdir(parents=True, exist_ok=True)
    (root / "annotations").mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)
    for split, num_images in (("train", num_train), ("val", num_val)):
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for i in range(num_images):
            file_name = f"{split}_{i:05d}.png"
            image, objects = _draw_image(rng, i, size, largest, most_objects)
            cv2.imwrite(str(root / "images" / file_name), image)
            images.append({"id": i + 1, "file_name": file_name, "width": size, "height": size})
            for category_id, box in objects:
                annotations.append(_annotation(len(annotations) + 1, i + 1, category_id, box))
        _write_json(root / "annotations" / f"{split}.json", images, annotations)


def _draw_image(rng: np.random.Generator, index: int, size: int, largest: float, most_objects: int):
    """One BGR uint8 image (size, size, 3) and its objects as (category id, XYXY pixels)."""
    shade = rng.integers(60, 196, size=3)
    image = np.full((size, size, 3), shade, dtype=np.float32)
    image += rng.normal(0, 12, size=image.shape).astype(np.float32)
    image = np.clip(image, 0, 255).astype(np.uint8)
    if index % EMPTY_EVERY == EMPTY_EVERY - 1:
        return image, []
    crowded = index % CROWDED_EVERY == CROWDED_EVERY // 2
    num_objects = CROWDED_OBJECTS if crowded else int(rng.integers(1, most_objects + 1))
    largest = min(size / 8, largest) if crowded else largest
    objects: list[tuple[int, np.ndarray]] = []
    for _ in range(num_objects):
        box = _place(rng, [b for _, b in objects], largest, size)
        if box is None:
            continue
        category_id = int(rng.integers(1, len(CLASSES) + 1))
        colour = (shade + rng.choice([-1, 1]) * rng.integers(50, 130, size=3)) % 256
        drawn_box = _draw(image, CLASSES[category_id - 1], box, tuple(int(c) for c in colour))
        objects.append((category_id, drawn_box))
    return image, objects


def _place(rng, boxes: list[np.ndarray], largest: float, size: int) -> np.ndarray | None:
    """A random XYXY box, clear of ``boxes``; None when twenty tries found no room."""
    for _ in range(20):
        long_side = np.exp(rng.uniform(np.log(MIN_SIZE_PX), np.log(largest)))
        sides = np.maximum([long_side, long_side * rng.uniform(0.6, 1.0)], MIN_SIZE_PX)
        w, h = rng.permutation(sides)
        x, y = rng.uniform(0, size - 1 - w), rng.uniform(0, size - 1 - h)
        box = np.round([x, y, x + w, y + h])
        if all(_overlap(box, other) <= MAX_OVERLAP for other in boxes):
            return box
    return None


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection of two XYXY boxes over the area of the smaller one, in [0, 1]."""
    w, h = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)
    return w * h / min(np.prod(a[2:] - a[:2]), np.prod(b[2:] - b[:2]))


def _draw(image: np.ndarray, name: str, box: np.ndarray, colour) -> np.ndarray:
    """Draw the shape into ``image`` in place; returns the tight XYXY box of the drawn pixels."""
    mask = np.zeros(image.shape[:2], dtype=np.uint8)
    (x1, y1, x2, y2), centre = box, (box[:2] + box[2:]) / 2
    if name == "rectangle":
        corners = [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]
    elif name == "triangle":
        corners = [(centre[0], y1), (x2, y2), (x1, y2)]
    else:
        num_corners = 40 if name == "circle" else 10
        angles = np.arange(num_corners) * 2 * np.pi / num_corners - np.pi / 2
        radius = np.where(np.arange(num_corners) % 2, 0.45 if name == "star" else 1.0, 1.0)
        unit = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius[:, None]
        corners = centre + unit * (box[2:] - box[:2]) / 2
    cv2.fillPoly(mask, [np.round(corners).astype(np.int32)], 255)
    image[mask > 0] = colour
    rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float64)


def _annotation(annotation_id: int, image_id: int, category_id: int, box: np.ndarray) -> dict:
    x1, y1, x2, y2 = (float(v) for v in box)
    bbox = [x1, y1, x2 - x1, y2 - y1]
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": bbox,
        "area": bbox[2] * bbox[3],
        "iscrowd": 0,
    }


def _write_json(path: Path, images: list[dict], annotations: list[dict]) -> None:
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(CLASSES)]
    partial = path.with_suffix(".partial")
    content = {"images": images, "annotations": annotations, "categories": categories}
    partial.write_text(json.dumps(content))
    os.replace(partial, path)
