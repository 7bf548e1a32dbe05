"""Layouts that are not read, told by what lies in a folder, and what to do about each."""

import fnmatch
import os
import re
from collections.abc import Iterator

from .pictures import is_picture

__all__ = ["looks_like"]

BY_COCO = "export it as COCO or YOLO"
# Patterns that all have to match the path of something in the folder, in any letter case; **/ is
# any number of folders, none too. What it looks like, and what helps. The first row that fits.
NOT_READ = (
    (("*.zip",), "a packed dataset", "unpack it"),
    (("*.tar*",), "a packed dataset", "unpack it"),
    (("*.7z",), "a packed dataset", "unpack it"),
    (("*.rar",), "a packed dataset", "unpack it"),
    (("VOCdevkit",), "VOC's devkit", "give the folder VOCdevkit/VOC2012 or the like"),
    (("VOC20??",), "VOC's devkit", "give the folder of one year"),
    (
        ("SegmentationClass*", "JPEGImages"),
        "Pascal VOC with masks only",
        "boxes need its Annotations/",
    ),
    (("**/*.tfrecord*",), "TFRecord", BY_COCO),
    (("**/*.records*",), "TFRecord", BY_COCO),
    (("**/*.record",), "TFRecord", BY_COCO),
    (("**/labelTxt*",), "DOTA, oriented boxes", BY_COCO),
    (("**/label_2",), "KITTI", BY_COCO),
    (("**/gtFine*",), "Cityscapes", "convert it to COCO"),
    (("meta.json", "**/ann"), "Supervisely", "export it as COCO or Pascal VOC"),
    (("**/releases/*/annotations",), "Darwin of V7", BY_COCO),
    (("**/*.ndjson",), "Labelbox", BY_COCO),
    (("**/via_*.json",), "VGG Image Annotator", BY_COCO),
    (("**/seqinfo.ini",), "MOT, tracks of a video", "convert it to COCO"),
    (("wider_face_split*",), "WIDER FACE", "convert it to COCO"),
    (("**/*.odgt",), "CrowdHuman", "convert it to COCO"),
    (("**/*.parquet",), "a Hugging Face dataset", BY_COCO),
    (("**/metadata.jsonl",), "a Hugging Face folder of images", BY_COCO),
    (("**/*.jsonl",), "a JSONL file of a language model's", BY_COCO),
    (("**/*.manifest",), "SageMaker Ground Truth", BY_COCO),
    (("**/annotations/panoptic_*.json",), "COCO panoptic", "its instances_*.json have boxes"),
    (("labels/detections.csv",), "Open Images", "export it as COCO, as FiftyOne can"),
    (("**/oidv?*.csv",), "Open Images", "export it as COCO, as FiftyOne can"),
    (("**/*-annotations-bbox.csv",), "Open Images", "export it as COCO, as FiftyOne can"),
    (("**/_annotations.txt",), "Keras' text file of boxes", BY_COCO),
    (("**/*.csv",), "a table of boxes", BY_COCO),
)
# The same for what is told by keys that all stand near the beginning of a JSON file.
IN_JSON = (
    (("segments_info",), "COCO panoptic", "its instances_*.json have boxes"),
    (("num_keypoints", "images"), "COCO's keypoints", "its instances_*.json have boxes"),
    (("caption", "images"), "COCO's captions", "its instances_*.json have boxes"),
    (("schema_ref",), "Darwin of V7", BY_COCO),
    (("_via_",), "VGG Image Annotator", BY_COCO),
    (("shape_attributes",), "VGG Image Annotator", BY_COCO),
    (("classTitle", "points"), "Supervisely", "export it as COCO or Pascal VOC"),
    (("box2d",), "BDD100K or Scalabel", BY_COCO),
    (("items", "categories"), "Datumaro", BY_COCO),
    (("instances", "metadata"), "SuperAnnotate", BY_COCO),
    (("images", "annotations"), "COCO in several files", "name two with --train-json, --val-json"),
)
BARE_YOLO = (
    "YOLO without its data.yaml, which is not read as it is: write one with train, val and names,"
    " or classes.txt with a name a line"
)
HEAD = 200_000  # bytes of a JSON file that are looked at


def looks_like(*folders: str) -> str:
    """What folders look like that are not read, and what helps; "" if it cannot be told.

    Args:
        folders: the dataset's, and one that is all there is in it, and so on.
    """
    found = [(folder, list(_paths(folder))) for folder in folders[::-1] if os.path.isdir(folder)]
    for look in (_by_names, _by_json, _by_text_files, _by_pictures):
        said = next(filter(None, (look(folder, paths) for folder, paths in found)), "")
        if said:
            return said
    return ""


def _by_names(root: str, paths: list[str]) -> str:
    for patterns, what, help in NOT_READ:
        if all(any(_match(path, pattern) for path in paths) for pattern in patterns):
            return f"{what}, which is not read as it is: {help}"
    return ""


def _by_json(root: str, paths: list[str]) -> str:
    """By the keys in the first JSON files."""
    for name in [p for p in paths if p.lower().endswith(".json")][:5]:
        head = _head(os.path.join(root, name))
        for keys, what, help in IN_JSON:
            if all(re.search(rf'"{key}\w*"', head) for key in keys):
                return f"{what} ({name}), which is not read as it is: {help}"
    return ""


def _paths(root: str, folder: str = "", depth: int = 0) -> Iterator[str]:
    """What lies in a folder, those in it and those in these, as far as that is quick."""
    inner = []
    for i, entry in enumerate(sorted(os.scandir(os.path.join(root, folder)), key=lambda e: e.name)):
        path = f"{folder}/{entry.name}" if folder else entry.name
        if entry.name.startswith((".", "__")):
            continue
        if entry.is_dir():
            inner.append(path)
            yield path
        elif i < 1000:
            yield path
    for path in inner[:30] if depth < 3 else ():
        yield from _paths(root, path, depth + 1)


def _match(path: str, pattern: str) -> bool:
    path, pattern = path.casefold(), pattern.casefold()
    if pattern.startswith("**/"):
        tail = pattern.count("/")  # as many parts as the rest of the pattern has
        return fnmatch.fnmatch("/".join(path.split("/")[-tail:]), pattern[3:])
    return path.count("/") == pattern.count("/") and fnmatch.fnmatch(path, pattern)


def _head(file: str) -> str:
    with open(file, "rb") as f:
        return f.read(HEAD).decode(errors="replace")


def _by_text_files(root: str, paths: list[str]) -> str:
    """By the first line of the first text files that are named like a picture."""
    stems = {os.path.splitext(os.path.basename(p))[0] for p in paths if is_picture(p)}
    texts = [p for p in paths if p.endswith(".txt")]
    texts = [p for p in texts if os.path.splitext(os.path.basename(p))[0] in stems]
    for path in texts[:5]:
        lines = _head(os.path.join(root, path)).splitlines()
        words = lines[0].replace(",", " ").split() if lines else []
        if len(words) >= 15 and not _is_number(words[0]):
            return f"KITTI, which is not read as it is: {BY_COCO}"
        if "," in "".join(lines[:1]) and len(words) == 8:
            return f"VisDrone, which is not read as it is: {BY_COCO}"
        if len(words) in (9, 10) and not _is_number(words[8]):
            return f"DOTA, oriented boxes, which is not read as it is: {BY_COCO}"
        if len(words) >= 5 and all(map(_is_number, words)):
            return BARE_YOLO
    is_yolo = {"images", "labels"} <= set(paths) or "train/labels" in paths
    return BARE_YOLO if is_yolo else ""


def _by_pictures(root: str, paths: list[str]) -> str:
    """Pictures without anything else."""
    pictures = [path for path in paths if is_picture(path)]
    folders = {os.path.dirname(path) for path in pictures}
    classes = {os.path.basename(folder) for folder in folders} - {"images", "data"}
    if len(pictures) > 1 and len(classes) > 1 and len(pictures) >= len(paths) / 2:
        return "pictures sorted into folders by class; detection needs boxes: draw them first"
    if pictures:
        return "pictures without annotations; detection needs boxes: draw them first"
    return ""


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
