"""One run of a predictor over files: it reads, batches, detects, draws, and names what it skips."""

import itertools
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from detectron2.structures import Instances
from tqdm import tqdm

from ..data.images import read_image
from ..errors import DatasetError, one_line
from .image_ids import CocoIds
from .inputs import Input, Video, printable
from .outputs import DrawnVideo, coco_records, drawn_name, write_image
from .predictor import LibraPredictor
from .sliced import TiledPredictor

# What a picture of an odd shape or too large makes the detector, Pillow or OpenCV raise.
PICTURE_ERRORS = (
    ArithmeticError,
    AssertionError,
    MemoryError,
    RuntimeError,
    ValueError,
    cv2.error,
)


class ResultsFile(Protocol):
    """Where detections go, image by image."""

    def add(self, records: Sequence[dict[str, Any]]) -> None:
        """Append the records of an image."""


class PredictionRun:
    """Predicts on images and videos, and keeps going past those that it cannot do.

    Attributes:
        num_images: images and frames predicted on.
        num_detections: in all of them.
        skipped: names of the files that could not be read, predicted on or drawn.
        seconds: time in the predictor (resizing, model, post-processing), not reading or drawing.

    Args:
        predictor: the detector.
        ids: of images and classes in the records.
        files: get the records of each image as soon as it is done.
        output_dir: where drawn images and videos go; None to draw nothing.
        batch_size: images per pass through the model, at least 1.

    Raises:
        ValueError: ``batch_size`` is below 1.
    """

    def __init__(
        self,
        predictor: LibraPredictor | TiledPredictor,
        *,
        ids: CocoIds,
        files: Sequence[ResultsFile] = (),
        output_dir: Path | None = None,
        batch_size: int = 1,
    ):
        if batch_size < 1:
            raise ValueError(f"batch size is {batch_size}; it is at least 1")
        self._predictor = predictor
        self._ids = ids
        self._files = files
        self._output_dir = output_dir
        self._batch_size = batch_size
        self._drawn: set = set()
        self.num_images = 0
        self.num_detections = 0
        self.skipped: list[str] = []
        self.seconds = 0.0

    def predict_images(self, inputs: Sequence[Input]) -> None:
        """Detect in image files, print a line for each, and draw them.

        Raises:
            OutputError: results or drawn images cannot be written.
        """
        for item, image, instances in self._detect(self._read(inputs)):
            records = self._collect(instances, item.name)
            target = ""
            if self._output_dir is not None:
                file = self._free_name(self._output_dir, drawn_name(item.name))
                try:
                    write_image(self._predictor.draw(image, instances), file)
                except PICTURE_ERRORS as e:
                    self._skip(item, f"cannot be drawn: {_one_line(e)}")
                    continue
                target = f" -> {file}"
            print(one_line(f"{item.name}: {_summary(records)}{target}"))

    def predict_video(self, item: Input) -> None:
        """Detect in every frame of a video, with a progress bar, and draw it as an MP4.

        A frame's records have ``<file name>#<frame number>`` as file name, from 1.
        """
        try:
            video = Video(item.path)
        except ValueError as e:
            return self._skip(item, str(e))
        drawn = self._drawn_video(item, video)
        frames = tqdm(video, total=video.num_frames or None, desc=one_line(item.name), unit="frame")
        before = self.num_images
        try:
            numbered = (
                (item._replace(name=f"{item.name}#{number:06d}"), image)
                for number, image in enumerate(frames, 1)
            )
            for frame, image, instances in self._detect(numbered):
                self._collect(instances, frame.name)
                if drawn is not None:
                    drawn.add(image, instances)
        finally:  # what is done can be looked at, however it ends
            frames.close()
            if drawn is not None:
                drawn.close()
        count = self.num_images - before
        if not count:
            return self._skip(item, "no frame of it can be read")
        target = f" -> {drawn.file}" if drawn else ""
        print(one_line(f"{item.name}: {count} frames{target}"))

    def summary(self) -> str:
        """A line with counts and speed."""
        line = f"{self.num_images} images, {self.num_detections} detections"
        if self.skipped:
            line += f", {len(self.skipped)} skipped"
        if self.num_images and self.seconds:
            rate = self.num_images / self.seconds
            line += f"; {rate:.2f} images/s, {1000 / rate:.1f} ms per image"
        return f"{line} ({self._predictor.cfg.MODEL.DEVICE}, batches of {self._batch_size})"

    def _read(self, inputs: Iterable[Input]) -> Iterator[tuple[Input, np.ndarray]]:
        keys = self._predictor.cfg.INPUT
        limits = {"white_16bit": keys.WHITE_16BIT, "max_pixels": keys.MAX_IMAGE_PIXELS}
        for item in inputs:
            try:
                image = read_image(str(item.path), "BGR", **limits)
            except DatasetError as e:
                self._skip(item, str(e).removeprefix(one_line(f"{item.path}: ")))
                continue
            yield item, image

    def _detect(
        self, images: Iterable[tuple[Input, np.ndarray]]
    ) -> Iterator[tuple[Input, np.ndarray, Instances]]:
        """Yields each input and image with its detections, on the CPU."""
        images = iter(images)
        while batch := list(itertools.islice(images, self._batch_size)):
            yield from self._detect_batch(batch)

    def _detect_batch(
        self, batch: list[tuple[Input, np.ndarray]]
    ) -> Iterator[tuple[Input, np.ndarray, Instances]]:
        """A batch that fails is taken image by image, so that one image costs only itself."""
        start = time.perf_counter()
        try:
            outputs = self._predictor.predict_batch([image for _, image in batch])
        except PICTURE_ERRORS as e:
            if len(batch) > 1:
                for one in batch:
                    yield from self._detect_batch([one])
            else:
                height, width = batch[0][1].shape[:2]
                reason = f"{width} x {height} px cannot be predicted on: {_one_line(e)}"
                self._skip(batch[0][0], reason)
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds += time.perf_counter() - start
        self.num_images += len(batch)
        for (item, image), output in zip(batch, outputs, strict=True):
            yield item, image, output["instances"].to("cpu")

    def _collect(self, instances: Instances, name: str) -> list[dict[str, Any]]:
        records = coco_records(instances, name, self._ids)
        self.num_detections += len(records)
        for file in self._files:
            file.add(records)
        return records

    def _skip(self, item: Input, reason: str) -> None:
        self.skipped.append(str(item.path))
        print(one_line(f"skipped {printable(item.path)}: {reason}"), file=sys.stderr)

    def _drawn_video(self, item: Input, video: Video) -> DrawnVideo | None:
        if self._output_dir is None:
            return None
        target = self._free_name(self._output_dir, Path(item.name).with_suffix(".mp4").as_posix())
        return DrawnVideo(target, video.fps, self._predictor.metadata)

    def _free_name(self, folder: Path, name: str) -> Path:
        """Files of one name from several folders do not overwrite each other."""
        path = Path(name)
        for number in itertools.count(2):
            if path not in self._drawn:
                break
            path = Path(name).with_stem(f"{Path(name).stem}_{number}")
        self._drawn.add(path)
        return folder / path


def _one_line(error: BaseException) -> str:
    """The first line of an error, with its type where it says nothing by itself."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _summary(records: Sequence[dict[str, Any]]) -> str:
    counts = Counter(record["category_name"] for record in records)
    detail = ", ".join(f"{name} {count}" for name, count in counts.most_common())
    return f"{len(records)} detections" + (f" ({detail})" if detail else "")
