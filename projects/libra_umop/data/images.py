"""Reading image files of every kind that people have, or saying which one cannot be read.

Detectron2's reader cuts the values of 16-bit images off at 255 and lets Pillow's errors through
without the file's name.
"""

import contextlib
import functools
import hashlib
import importlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from typing import Any, BinaryIO

import numpy as np
from detectron2.data.detection_utils import convert_PIL_to_numpy
from detectron2.utils.file_io import PathManager
from PIL import Image, ImageFile

from ..errors import DatasetError, found_instead

# Opening a header is mostly waiting, so more threads than cores pay.
NUM_THREADS = 8
# Pixel values of 16-bit images that are shown as white, unless a config says otherwise.
WHITE_16BIT = 65535
# Largest image that is read, unless a config says otherwise: 1.5 GB as RGB, and twice that while it
# is resized.
MAX_IMAGE_PIXELS = 500_000_000

_EXIF_ORIENTATION = 274
_ORIENT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # how to show an image of that EXIF orientation
_ON_ITS_SIDE = (5, 6, 7, 8)
# Pillow's plugins for more formats, each registered by what it is called with, if it is installed.
_PLUGINS = {"pillow_heif": "register_heif_opener", "pillow_jxl": "", "pillow_avif": ""}
for _plugin, _register in _PLUGINS.items():
    with contextlib.suppress(ImportError):
        _module = importlib.import_module(_plugin)
        if _register:
            getattr(_module, _register)()


@dataclass(frozen=True)
class ImageHeader:
    """What an image file says about itself before its pixels are decoded.

    Attributes:
        size: stored (width, height) in pixels.
        orientation: of EXIF; 1 is upright.
        mode: Pillow's, e.g. "RGB", "L", "CMYK", "I;16".
    """

    size: tuple[int, int]
    orientation: int
    mode: str

    @property
    def shown_size(self) -> tuple[int, int]:
        """(width, height) after the EXIF rotation."""
        return self.size[::-1] if self.orientation in _ON_ITS_SIDE else self.size


@dataclass(frozen=True)
class DecodedImage:
    """What is only known of an image once its pixels are decoded.

    Attributes:
        header: what the file says about itself.
        digest: equal for images of equal stored pixels, whatever file format holds them.
        peak: largest pixel value of an image of more than 8 bits; else None.
    """

    header: ImageHeader
    digest: str
    peak: int | None


@functools.cache
def image_suffixes() -> frozenset[str]:
    """The suffixes of image files that can be read here: ".jpg", ".avif", ..., in lower case.

    Those of every format that Pillow has, and of its plugins for HEIC, JPEG XL and AVIF where they
    are installed; without formats that it knows by their names only.
    """
    suffixes = Image.registered_extensions()  # fills Image.OPEN
    readers = {format: entry[0] for format, entry in Image.OPEN.items()}
    return frozenset(
        suffix.lower()
        for suffix, format in suffixes.items()
        if format in readers and format != "MPEG" and not _is_stub(readers[format])
    )


def _is_stub(reader: Any) -> bool:
    return isinstance(reader, type) and issubclass(reader, ImageFile.StubImageFile)


def read_header(path: str, max_pixels: int = MAX_IMAGE_PIXELS) -> ImageHeader:
    """Size, orientation and mode of an image file.

    It is only decoded if it is a JPEG or PNG file without its end, or has a kind of pixels of which
    some cannot be shown.

    Raises:
        DatasetError: naming the file and why it is no image, not a whole one, larger than
            ``max_pixels`` or of pixels that cannot be shown.
    """
    with _opened(path, max_pixels) as (f, image):
        header = ImageHeader(image.size, _orientation(image), image.mode)
        _check_mode(image.mode)
        if image.mode == "I" or _may_be_cut_off(f, image.format or ""):
            _to_8bit(image, WHITE_16BIT).load()
        return header


def read_image(
    path: str,
    format: str | None = None,
    *,
    size: tuple[int, int] | None = None,
    white_16bit: int = WHITE_16BIT,
    max_pixels: int = MAX_IMAGE_PIXELS,
) -> np.ndarray:
    """Same interface as :func:`detectron2.data.detection_utils.read_image`, but for more files.

    For upright 8-bit images it gives the same; it also reads deeper pixels and says what is wrong
    with a file.

    Args:
        path: of the image file.
        format: a mode of Pillow, "BGR" or "YUV-BT.601".
        size: (width, height) that the annotations were made for. An EXIF rotation is undone as
            everywhere unless only the stored image has that size.
        white_16bit: value of 16-bit images that becomes 255; darker ones follow linearly.
        max_pixels: larger images are refused. Pillow's own limit, against files that are made to
            fill the memory, does not apply.

    Returns:
        (H, W, C) uint8 in 0..255 (float for "YUV-BT.601").

    Raises:
        DatasetError: naming the file and what is wrong with it.
    """
    with _opened(path, max_pixels) as (_, image):
        orientation = _orientation(image)
        header = ImageHeader(image.size, orientation, image.mode)
        image = _to_8bit(image, white_16bit)
        annotated_as_stored = size == header.size and size != header.shown_size
        if orientation in _ORIENT and not annotated_as_stored:
            image = image.transpose(_ORIENT[orientation])
        return convert_PIL_to_numpy(image, format)


def decode(path: str, max_pixels: int = MAX_IMAGE_PIXELS) -> DecodedImage:
    """Decode an image file as training does.

    Raises:
        DatasetError: as :func:`read_image`.
    """
    with _opened(path, max_pixels) as (_, image):
        header = ImageHeader(image.size, _orientation(image), image.mode)
        _check_mode(image.mode)
        deep = image.mode.startswith("I")
        pixels = np.asarray(image if deep else image.convert("RGB"))
        peak = int(pixels.max()) if deep else None
        _to_8bit(image, WHITE_16BIT)
        digest = hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16).hexdigest()
        return DecodedImage(header, f"{pixels.shape}{digest}", peak)


def for_each_file(function: Callable[[str], Any], paths: Sequence[str]) -> Iterator[Any]:
    """``function(path)``, or the DatasetError it raised, for all ``paths`` in order, by threads."""

    def result_or_error(path: str) -> Any:
        try:
            return function(path)
        except DatasetError as e:
            return e

    with ThreadPool(NUM_THREADS) as pool:
        yield from pool.imap(result_or_error, paths, chunksize=4)
        pool.close()
        pool.join()  # which leaving does not do; a fork may follow


@contextmanager
def _opened(path: str, max_pixels: int) -> Iterator[tuple[BinaryIO, Image.Image]]:
    """An image file and its image, of which at least the header can be read."""
    with _named(path), _pillow_without_limit(), PathManager.open(path, "rb") as f:
        with Image.open(f) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise ValueError(
                    f"{width} x {height} are more than INPUT.MAX_IMAGE_PIXELS {max_pixels}"
                )
            yield f, image


class _Readers:
    """How many are reading now, in this process, and Pillow's limit when none is."""

    lock = threading.Lock()
    count = 0
    limit = Image.MAX_IMAGE_PIXELS


@contextmanager
def _pillow_without_limit() -> Iterator[None]:
    """Pillow's limit is one for the whole process; here it is off while any thread reads."""
    with _Readers.lock:
        if _Readers.count == 0:
            _Readers.limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        _Readers.count += 1
    try:
        yield
    finally:
        with _Readers.lock:
            _Readers.count -= 1
            if _Readers.count == 0:
                Image.MAX_IMAGE_PIXELS = _Readers.limit


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Make whatever goes wrong a DatasetError with the name of the file.

    Broken files make Pillow raise OSError, SyntaxError, ValueError, struct.error, EOFError and
    others.
    """
    try:
        yield
    except DatasetError:
        raise
    except Exception as e:
        shown = path if path.isprintable() else repr(path)
        raise DatasetError(f"{shown}: {_reason(path, e)}") from e


def _reason(path: str, error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such image file"
    if os.path.isdir(path):
        return "is a folder, should be an image file"
    if os.path.isfile(path) and os.path.getsize(path) == 0:
        return "is empty, should be an image file"
    if isinstance(error, Image.UnidentifiedImageError):
        with open(path, "rb") as f:
            return found_instead(f.read(64)) or "is no image that Pillow knows"
    text = " ".join(str(error).split()) or type(error).__name__
    return f"cannot be read as an image: {text}"


def _may_be_cut_off(f: BinaryIO, format: str) -> bool:
    """Whether a file lacks the end that its format has.

    It may still be whole: some cameras write more behind it.
    """
    end = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}.get(format, b"")
    f.seek(-len(end), os.SEEK_END)
    return f.read() != end


def _orientation(image: Image.Image) -> int:
    """EXIF's; 1, upright, if there is none. Pillow turns TIFF images itself."""
    if image.format == "TIFF":
        return 1
    try:
        value = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # broken EXIF data raise anything
        return 1
    return value if value in _ORIENT else 1


def _check_mode(mode: str) -> None:
    """Refuse the kind of pixels that has no white, by the header alone."""
    if mode == "F":
        raise ValueError("holds floating-point pixels; should have 8 or 16 bits a channel")


def _to_8bit(image: Image.Image, white: int) -> Image.Image:
    """Grey images of more than 8 bits as "L"; all others as they are."""
    _check_mode(image.mode)
    if not image.mode.startswith("I"):
        return image
    pixels = np.asarray(image).astype(np.float64)
    if pixels.min() < 0 or pixels.max() > WHITE_16BIT:
        raise ValueError("holds 32-bit pixels; should have 8 or 16 bits a channel")
    return Image.fromarray((pixels * (255 / white)).round().clip(0, 255).astype(np.uint8))
