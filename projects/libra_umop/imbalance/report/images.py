"""Images with ground truth and detections, as self-contained SVG."""

import base64
import html
import io
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

# Hits, false alarms and misses: told apart by colour and by dashes.
HIT, FALSE_ALARM, MISSED = "#56B4E9", "#D55E00", "#FFFFFF"
MAX_SIDE = 460


def encode(path: Path, max_side: int = MAX_SIDE) -> str | None:
    """An image file as a small JPEG in a data URI; None if it cannot be read.

    EXIF rotation is undone, as training does.
    """
    try:
        with Image.open(path) as image:
            small = ImageOps.exif_transpose(image).convert("RGB")
            small.thumbnail((max_side, max_side))
            buffer = io.BytesIO()
            small.save(buffer, "JPEG", quality=78)
    except (OSError, ValueError):
        return None
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def draw(uri: str, width: int, height: int, entry: dict[str, Any]) -> str:
    """One image with its boxes.

    Args:
        uri: the image, see :func:`encode`.
        width, height: of the original, px; boxes are in its pixels.
        entry: ``truth`` and ``found``, see :func:`libra_umop.imbalance.measures.detections`.

    Returns:
        an ``<svg>``; every box says its class when pointed at.
    """
    unit = max(width, height) / MAX_SIDE
    parts = [f'<image href="{uri}" width="{width}" height="{height}"/>']
    for box in entry["truth"]:
        if not box["hit"]:
            parts.append(_rectangle(box, MISSED, unit, "6 4", f"missed: {box['name']}"))
    for box in sorted(entry["found"], key=lambda b: b["score"]):
        kind, colour = ("hit", HIT) if box["hit"] else ("false alarm", FALSE_ALARM)
        parts.append(_rectangle(box, colour, unit, "", f"{kind}: {box['name']} {box['score']:.2f}"))
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" xmlns="http://www.w3.org/2000/svg">'
        + "".join(parts)
        + "</svg>"
    )


def _rectangle(box: dict[str, Any], colour: str, unit: float, dash: str, title: str) -> str:
    """A rectangle over a darker one, seen on any image."""
    x, y, w, h = (f"{v:.1f}" for v in box["bbox"])
    place = f'x="{x}" y="{y}" width="{w}" height="{h}" fill="none"'
    scaled = " ".join(f"{float(d) * unit:.1f}" for d in dash.split())
    dashes = f' stroke-dasharray="{scaled}"' if dash else ""
    return (
        f"<g><title>{html.escape(title)}</title>"
        f'<rect {place} stroke="#000" stroke-opacity=".55" stroke-width="{3.4 * unit:.2f}"/>'
        f'<rect {place} stroke="{colour}" stroke-width="{1.9 * unit:.2f}"{dashes}'
        ' pointer-events="all"/></g>'
    )


def image_rows(
    coco: dict[str, Any],
    names: list[str],
    per_run: list[dict[Any, dict[str, Any]]],
    chosen: dict[str, list[Any]],
) -> list[dict[str, Any]]:
    """Rows for the page: one image, drawn for each run.

    Args:
        coco: of :func:`libra_umop.imbalance.measures.data.read_coco`.
        names: of the runs.
        per_run: ``images`` of each run.
        chosen: see :func:`libra_umop.imbalance.measures.detections.choose_images`.

    Returns:
        [{kind, file, cells: [{run, svg, text}]}]; images that cannot be read are left out.
    """
    by_id = {image["id"]: image for image in coco["images"]}
    rows = []
    for kind, ids in chosen.items():
        for image_id in ids:
            image = by_id[image_id]
            uri = encode(Path(coco["image_root"]) / image["file_name"])
            if uri is None:
                continue
            cells = []
            for name, images in zip(names, per_run, strict=True):
                entry = images[image_id]
                text = f"F1 {entry['f1']:.2f}: {entry['tp']} hits, {entry['fp']} false alarms, "
                svg = draw(uri, image["width"], image["height"], entry)
                cells.append({"run": name, "svg": svg, "text": f"{text}{entry['fn']} missed"})
            rows.append({"kind": kind, "file": image["file_name"], "cells": cells})
    return rows
