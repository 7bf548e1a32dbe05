"""Layouts that are not read, told by what lies in a folder, and what to do about each."""

import fnmatch
import os

__all__ = ["looks_like"]

# Patterns that all have to match the name of something in the folder (or in a folder of it, with a
# slash), what it looks like, and what helps.
NOT_READ = (
    (("*.zip",), "a packed dataset", "unpack it"),
    (("*.tar*",), "a packed dataset", "unpack it"),
    (("VOCdevkit",), "VOC's devkit", "give the folder VOCdevkit/VOC2012 or the like"),
    (("VOC20??",), "VOC's devkit", "give the folder of one year"),
    (("instances_*.json",), "COCO files outside annotations/", "name them with --train-json"),
    (("labels", "images"), "YOLO without its data.yaml", "write one with train, val and names"),
    (("train/labels",), "YOLO without its data.yaml", "write one with train, val and names"),
    (("*.data", "*.names"), "Darknet", "write a data.yaml with train, val and names"),
    (("*.tfrecord*",), "TFRecord", "export it as COCO"),
    (("*/*.tfrecord*",), "TFRecord", "export it as COCO"),
    (("labelTxt",), "DOTA, oriented boxes", "export it as YOLO or COCO"),
    (("*/labelTxt",), "DOTA, oriented boxes", "export it as YOLO or COCO"),
    (("*/label_2",), "KITTI", "convert it to COCO or YOLO"),
    (("label_2",), "KITTI", "convert it to COCO or YOLO"),
    (("gtFine",), "Cityscapes", "convert it to COCO"),
    (("gtFine*",), "Cityscapes", "convert it to COCO"),
    (("meta.json", "*/ann"), "Supervisely", "export it as COCO or Pascal VOC"),
    (("*.ndjson",), "Labelbox", "export it as COCO"),
    (("via_*.json",), "VGG Image Annotator", "export it as COCO"),
    (("*.parquet",), "a Hugging Face dataset", "export it as COCO"),
    (("data/*.parquet",), "a Hugging Face dataset", "export it as COCO"),
    (("*/_annotations.csv",), "a table of boxes", "export it as COCO"),
    (("*.csv",), "a table of boxes", "export it as COCO"),
    (("*/_annotations.txt",), "Keras' text file of boxes", "export it as COCO"),
)


def looks_like(root: str) -> str:
    """What a folder looks like that is not read, and what helps; "" if it cannot be told."""
    names = os.listdir(root)
    for name in names[:50]:
        folder = os.path.join(root, name)
        if os.path.isdir(folder):
            names += [f"{name}/{inner}" for inner in os.listdir(folder)[:1000]]
    for patterns, what, help in NOT_READ:
        if all(any(_match(name, pattern) for name in names) for pattern in patterns):
            return f"{what}, which is not read as it is: {help}"
    return ""


def _match(name: str, pattern: str) -> bool:
    return name.count("/") == pattern.count("/") and fnmatch.fnmatch(name, pattern)
