"""Detections as files: COCO-result JSON, CSV, drawn images, drawn videos."""

import csv
import errno
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from detectron2.data.catalog import Metadata
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import Instances
from detectron2.utils.video_visualizer import VideoVisualizer

from ..utils.output_files import GrowingFile, OutputError, writing
from .image_ids import CocoIds
from .inputs import printable

CSV_COLUMNS = ("file_name", "class", "score", "x1", "y1", "x2", "y2")


def coco_records(instances: Instances, name: str, ids: CocoIds) -> list[dict[str, Any]]:
    """The detections of one image as COCO results.

    Beside COCO's own keys (``bbox`` is XYWH pixels of the original image) each has ``file_name``
    and ``category_name``, which pycocotools passes over. An image that the annotation file lacks
    has the ``image_id`` None.
    """
    copied = Instances(  # the conversion shifts keypoints in place
        instances.image_size, **{k: v.to("cpu") for k, v in instances.get_fields().items()}
    )
    if copied.has("pred_keypoints"):
        copied.pred_keypoints = copied.pred_keypoints.clone()
    records = instances_to_coco_json(copied, ids.image(name))
    for record in records:
        class_idx = record["category_id"]
        record["category_id"] = ids.category(class_idx)
        record["file_name"] = name
        record["category_name"] = ids.class_name(class_idx)
    return records


class CocoResultsFile:
    """A list that ``COCO.loadRes`` reads, of the records whose image has an id.

    It is whole after each call, see :class:`GrowingFile`; so is :class:`CsvFile`.
    """

    def __init__(self, file: Path):
        self._file = GrowingFile(file, head="[", tail="\n]\n")
        self._before = "\n"

    def add(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Append the records of an image.

        Raises:
            OutputError: they cannot be written.
        """
        texts = [json.dumps(r) for r in records if r["image_id"] is not None]
        if texts:
            self._file.append(self._before + ",\n".join(texts))
            self._before = ",\n"

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


class CsvFile:
    """A line per detection: file, class, score, and the box as XYXY pixels."""

    def __init__(self, file: Path):
        self._file = GrowingFile(file, head=_csv_lines([CSV_COLUMNS]))

    def add(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Append the records of an image.

        Raises:
            OutputError: they cannot be written.
        """
        rows = []
        for record in records:
            x, y, w, h = record["bbox"]
            corners = [f"{v:.2f}" for v in (x, y, x + w, y + h)]
            score = f"{record['score']:.4f}"
            rows.append([record["file_name"], record["category_name"], score, *corners])
        self._file.append(_csv_lines(rows))

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


def _csv_lines(rows: Iterable[Sequence[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def drawn_name(name: str) -> str:
    """What an image is called once it is drawn: as JPEG where OpenCV cannot write that kind."""
    suffix = Path(name).suffix.lower()
    writable = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
    return name if suffix in writable else f"{name}.jpg"


def write_image(image: np.ndarray, file: Path) -> None:
    """Write a BGR image in the format of the file's suffix.

    An existing file is overwritten; the folder is made.

    Raises:
        OutputError: the file cannot be written.
        ValueError: the format cannot hold the image.
    """
    ok, content = cv2.imencode(file.suffix.lower(), image)
    if not ok:
        raise ValueError(f"{file.suffix} cannot hold {image.shape[1]} x {image.shape[0]} px")
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.tobytes())


class DrawnVideo:
    """An MP4 that frames are drawn into; an object keeps its colour from frame to frame.

    Raises:
        OutputError: the folder cannot be made.
    """

    def __init__(self, file: Path, fps: float, metadata: Metadata):
        with writing(file):
            file.parent.mkdir(parents=True, exist_ok=True)
            if printable(file) != str(file):  # OpenCV ends the whole process at such a name
                raise OSError(errno.EILSEQ, "the name of a video has to be UTF-8")
        self.file = file
        self._fps = fps
        self._visualizer = VideoVisualizer(metadata)
        self._writer: cv2.VideoWriter | None = None

    def add(self, frame: np.ndarray, instances: Instances) -> None:
        """Draw the detections of a BGR frame and append it.

        Raises:
            OutputError: the file cannot be written.
        """
        visualizer = self._visualizer
        drawn = visualizer.draw_instance_predictions(frame[:, :, ::-1], instances.to("cpu"))
        height, width = frame.shape[:2]
        if self._writer is None:
            codec = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self.file), codec, self._fps, (width, height))
            if not self._writer.isOpened():
                raise OutputError(errno.EIO, "cannot be written as a video", str(self.file))
        # Matplotlib's canvas may round the size by a pixel.
        image = cv2.resize(np.ascontiguousarray(drawn.get_image()[:, :, ::-1]), (width, height))
        self._writer.write(image)

    def close(self) -> None:
        """Finish the file.

        Raises:
            OutputError: nothing of it could be written, of which OpenCV says nothing.
        """
        if self._writer is None:
            return
        self._writer.release()
        with writing(self.file):
            if not self.file.stat().st_size:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
