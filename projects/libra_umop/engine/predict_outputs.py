"""Detections as files: COCO-result JSON, CSV, drawn images, drawn videos."""

import csv
import json
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence

import cv2
import numpy as np
from detectron2.data.catalog import Metadata
from detectron2.evaluation.coco_evaluation import instances_to_coco_json
from detectron2.structures import Instances
from detectron2.utils.video_visualizer import VideoVisualizer

from ..data.errors import DatasetError

CSV_COLUMNS = ("file_name", "class", "score", "x1", "y1", "x2", "y2")


class CocoIds:
    """The ids that a COCO-result file gives to images and classes.

    With an annotation file they are its own, so that pycocotools can score the result against
    it; without one, images are numbered from 1 as they come and class ``i`` is category
    ``i + 1``.
    """

    def __init__(self, class_names: Sequence[str], annotation_file: Optional[Path] = None):
        """
        Raises:
            DatasetError: the file cannot be read, or a class of the model is none of its
                categories.
        """
        self._names = list(class_names)
        self._image_ids: Optional[Dict[str, int]] = None
        self._category_ids: Optional[List[int]] = None
        self._num_seen = 0
        if annotation_file is not None:
            self._read(Path(annotation_file))

    def _read(self, file: Path) -> None:
        try:
            content = json.loads(file.read_text())
            categories = {c["name"]: c["id"] for c in content["categories"]}
            self._image_ids = {i["file_name"]: i["id"] for i in content["images"]}
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise DatasetError(f"{file}: is no COCO annotation file ({e!r})") from e
        missing = [name for name in self._names if name not in categories]
        if missing or not self._names:
            raise DatasetError(
                f"{file}: the model's classes {missing or 'are not known, they'} are none of its "
                f"categories {sorted(categories)}"
            )
        self._category_ids = [categories[name] for name in self._names]
        by_base_name: Dict[str, List[int]] = {}
        for name, image_id in self._image_ids.items():
            by_base_name.setdefault(Path(name).name, []).append(image_id)
        for name, ids in by_base_name.items():
            if len(ids) == 1:
                self._image_ids.setdefault(name, ids[0])

    def image(self, name: str) -> Optional[int]:
        """The id of an image; None where the annotation file has no such image."""
        self._num_seen += 1
        if self._image_ids is None:
            return self._num_seen
        return self._image_ids.get(name, self._image_ids.get(Path(name).name))

    def category(self, class_idx: int) -> int:
        """The id of class ``class_idx``."""
        return class_idx + 1 if self._category_ids is None else self._category_ids[class_idx]

    def class_name(self, class_idx: int) -> str:
        """The name of class ``class_idx``, or its number where it has none."""
        return self._names[class_idx] if class_idx < len(self._names) else str(class_idx)


def coco_records(instances: Instances, name: str, ids: CocoIds) -> List[Dict[str, Any]]:
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


def write_coco_results(records: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Write the records whose image has an id, as a list that ``COCO.loadRes`` reads."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps([r for r in records if r["image_id"] is not None]))


def write_csv(records: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Write one line per detection: file, class, score, and the box as XYXY pixels."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as f:
        writer = csv.writer(f)
        writer.writerow(CSV_COLUMNS)
        for record in records:
            x, y, w, h = record["bbox"]
            corners = [f"{v:.2f}" for v in (x, y, x + w, y + h)]
            score = f"{record['score']:.4f}"
            writer.writerow([record["file_name"], record["category_name"], score, *corners])


def write_image(image: np.ndarray, file: Path) -> Path:
    """Write a BGR image below its name, as JPEG where OpenCV cannot write that kind.

    An existing file is overwritten; the folder is made. Returns what was written.
    """
    if file.suffix.lower() not in (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"):
        file = file.with_name(file.name + ".jpg")
    file.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(file), image):
        raise OSError(f"{file}: cannot be written")
    return file


class DrawnVideo:
    """An MP4 that frames are drawn into; an object keeps its colour from frame to frame."""

    def __init__(self, file: Path, fps: float, metadata: Metadata):
        file.parent.mkdir(parents=True, exist_ok=True)
        self.file = file
        self._fps = fps
        self._visualizer = VideoVisualizer(metadata)
        self._writer: Optional[cv2.VideoWriter] = None

    def add(self, frame: np.ndarray, instances: Instances) -> None:
        """Draw the detections of a BGR frame and append it."""
        visualizer = self._visualizer
        drawn = visualizer.draw_instance_predictions(frame[:, :, ::-1], instances.to("cpu"))
        height, width = frame.shape[:2]
        if self._writer is None:
            codec = cv2.VideoWriter_fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self.file), codec, self._fps, (width, height))
            if not self._writer.isOpened():
                raise OSError(f"{self.file}: cannot be written as a video")
        # Matplotlib's canvas may round the size by a pixel.
        image = cv2.resize(np.ascontiguousarray(drawn.get_image()[:, :, ::-1]), (width, height))
        self._writer.write(image)

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()
