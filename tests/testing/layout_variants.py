"""The same data as tools and people really leave it: what differs from the plain layouts.

Same calls as the writers of :mod:`testing.layout_writers`. Those in ``ONLY_TRAIN`` write the
training images only.
"""

import re
import shutil
from pathlib import Path

import yaml

from testing.layout_writers import (
    class_names,
    coco_years,
    createml,
    cvat,
    label_studio,
    labelme,
    objects,
    put_image,
    voc_devkit,
    voc_xml,
    write,
    yolo_labels,
    yolo_roboflow,
)


def yolo_of_a_notebook(root, documents, images):
    """Absolute paths of another machine."""
    yolo_roboflow(root, documents, images)
    names = class_names(documents)
    paths = {split: f"/content/drive/My Drive/{split}/images" for split in documents}
    paths["val"] = paths["val"].replace("val", "valid")
    write(root / "data.yaml", yaml.safe_dump(paths | {"nc": len(names), "names": names}))


def yolo_of_windows(root, documents, images):
    """Backslashes, a drive, CRLF and byte order marks; folders in another letter case."""
    names = class_names(documents)
    paths = (lambda s: root / "Images" / s, lambda s: root / "Images" / s)
    yolo_labels(documents, images, *paths, names)
    text = (
        f"path: C:\\data\\x\ntrain: C:\\data\\x\\images\\train\nval: images\\val\nnames: {names}\n"
    )
    write(root / "data.yaml", text)
    for file in [root / "data.yaml", *root.rglob("*.txt")]:
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    (root / "Images").rename(root / "IMAGES")


def yolo_of_supervision(root, documents, images):
    """Its data.yaml names the classes only."""
    names = class_names(documents)
    paths = (lambda s: root / s / "images", lambda s: root / s / "labels")
    yolo_labels(documents, images, *paths, names)
    write(root / "data.yaml", yaml.safe_dump({"nc": len(names), "names": names}))


def voc_of_supervision(root, documents, images):
    """Pixels are counted from 1."""
    for split, document in documents.items():
        for image, own in objects(document):
            target = root / split / image["file_name"]
            put_image(images, image["file_name"], target)
            text = voc_xml(image, own, shift=1, source="roboflow.ai")
            text = text.replace("<annotation>", "<annotation><folder>VOC</folder>")
            write(target.with_suffix(".xml"), text)


def yolo_of_label_studio(root, documents, images):
    names, train = class_names(documents), {"train": documents["train"]}
    yolo_labels(train, images, lambda s: root / "images", lambda s: root / "labels", names)
    write(root / "classes.txt", "\n".join(names))
    write(root / "notes.json", {"categories": [], "info": {"contributor": "Label Studio"}})


def yolo_of_labelimg(root, documents, images):
    """Text files and ``classes.txt`` beside the pictures, in a folder of each split."""
    names = class_names(documents)
    yolo_labels(documents, images, lambda s: root / s, lambda s: root / s, names)
    for split in documents:
        write(root / split / "classes.txt", "\n".join([*names, ""]))


def yolo_of_cvat(root, documents, images):
    """YOLO 1.1, which is Darknet's."""
    names = class_names(documents)
    paths = (lambda s: root / f"obj_{s}_data", lambda s: root / f"obj_{s}_data")
    yolo_labels(documents, images, *paths, names)
    write(root / "obj.names", "\n".join([*names, ""]))
    write(root / "obj.data", "classes = 2\ntrain = data/train.txt\nnames = data/obj.names\n")
    for split, document in documents.items():
        lines = [f"data/obj_{split}_data/{image['file_name']}" for image in document["images"]]
        write(root / f"{split}.txt", "\n".join(lines))


def yolo_of_fiftyone(root, documents, images):
    """YOLOv4: ``images.txt`` names all pictures."""
    names, train = class_names(documents), {"train": documents["train"]}
    yolo_labels(train, images, lambda s: root / "data", lambda s: root / "data", names)
    write(root / "obj.names", "\n".join(names))
    lines = [f"data/{image['file_name']}" for image in train["train"]["images"]]
    write(root / "images.txt", "\n".join(lines))


def yolo_unpacked_twice(root, documents, images):
    """A folder in a folder, and what macOS leaves."""
    yolo_roboflow(root / "cells.v3i.yolov8", documents, images)
    (root / "__MACOSX").mkdir()
    write(root / "README.txt", "x")


def voc_in_its_devkit(root, documents, images):
    voc_devkit(root / "VOCdevkit" / "VOC2007", documents, images)


def voc_of_cvat(root, documents, images):
    """``default.txt``, and names with folders."""
    lines = []
    for image, own in objects(documents["train"]):
        stem = Path(image["file_name"]).stem
        put_image(images, image["file_name"], root / "JPEGImages" / "a b" / image["file_name"])
        write(root / "Annotations" / "a b" / f"{stem}.xml", voc_xml(image, own))
        lines.append(f"a b/{stem}\n")
    write(root / "ImageSets" / "Main" / "default.txt", "".join(lines))
    write(root / "labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\n")


def voc_in_capitals(root, documents, images):
    """Folders and suffixes in capitals."""
    for split, document in documents.items():
        for image, own in objects(document):
            target = root / split.upper() / image["file_name"].upper()
            put_image(images, image["file_name"], target)
            write(target.with_suffix(".xml"), voc_xml(image, own))


def voc_apart_by_split(root, documents, images):
    """Pictures of the same names in both splits, XML in another tree."""
    for split, document in documents.items():
        for i, (image, own) in enumerate(objects(document)):
            put_image(images, image["file_name"], root / "images" / split / f"{i}.png")
            named = {**image, "file_name": f"{i}.png"}
            write(root / "annotations" / split / f"{i}.xml", voc_xml(named, own))


def cvat_with_same_names(root, documents, images):
    """A project whose tasks have pictures of the same names."""
    cvat(root, documents, images)
    text = (root / "annotations.xml").read_text()
    for split, document in documents.items():
        for i, image in enumerate(document["images"]):
            picture = root / "images" / split / image["file_name"]
            folder = "Validation" if split == "val" else "Train"
            (root / "images" / folder).mkdir(exist_ok=True)
            picture.rename(root / "images" / folder / f"{i}.png")
            text = text.replace(f'name="{image["file_name"]}"', f'name="{i}.png"')
    write(root / "annotations.xml", text)


def cvat_of_fiftyone(root, documents, images):
    """``labels.xml`` and ``data/``."""
    cvat(root, {"train": documents["train"]}, images)
    (root / "annotations.xml").rename(root / "labels.xml")
    (root / "images" / "train").rename(root / "data")


def cvat_of_datumaro(root, documents, images):
    """A file for each split, named after it."""
    for split in documents:
        cvat(root / split, {"train": documents[split]}, images)
        text = (root / split / "annotations.xml").read_text()
        (root / "images").mkdir(exist_ok=True)
        write(root / f"{split}.xml", re.sub(' subset="[A-Za-z]+"', "", text))
        shutil.move(root / split / "images" / "train", root / "images" / split)
        shutil.rmtree(root / split)


def label_studio_min(root, documents, images):
    """JSON-MIN: fields by the name of their control, no results."""
    label_studio(root, documents, images)
    (file,) = root.glob("*.json")
    entries = []
    for i, (image, own) in enumerate(objects(documents["train"])):
        labels = []
        for name, a in own:
            sides = (image["width"], image["height"]) * 2
            values = [100 * v / side for v, side in zip(a["bbox"], sides, strict=True)]
            value = dict(zip(("x", "y", "width", "height"), values, strict=True))
            labels.append(value | {"rotation": 0, "rectanglelabels": [name]})
        entry = {"image": f"/data/upload/1/{i:08x}-{image['file_name']}", "id": i, "annotator": 1}
        entries.append(entry | {"annotation_id": i, "label": labels, "lead_time": 1.5})
    write(file, entries)


def createml_of_apple(root, documents, images):
    """As Apple's documentation spells the keys."""
    createml(root, documents, images)
    for file in root.rglob("*.json"):
        text = file.read_text().replace('"annotations"', '"annotation"')
        file.write_text(text.replace('"image"', '"imagefilename"'))


def labelme_apart(root, documents, images):
    """JSON files in a tree of their own, beside others; the picture inside comes first."""
    labelme(root, documents, images)
    for split in documents:
        for file in list((root / split).glob("*.json")):
            text = f'{{"imageData": "{"A" * 5000}", {file.read_text()[1:]}'
            write(root / "labels" / split / file.name, text.replace(', "imageData": null', ""))
            file.unlink()
        write(root / "labels" / split / "AAA.json", {"classes": []})
        shutil.move(root / split, root / "images" / split)


def coco_beside_captions(root, documents, images):
    coco_years(root, documents, images)
    for kind in ("captions", "person_keypoints", "panoptic"):
        write(root / "annotations" / f"{kind}_train2017.json", {"images": [], "annotations": []})


def coco_of_cvat(root, documents, images):
    """Subsets as CVAT names them."""
    for split, document in documents.items():
        subset = "Validation" if split == "val" else "Train"
        write(root / "annotations" / f"instances_{subset}.json", document)
        for image in document["images"]:
            put_image(images, image["file_name"], root / "images" / subset / image["file_name"])


def coco_at_the_top(root, documents, images):
    """``train.json`` beside ``train/``, as many write it themselves."""
    for split, document in documents.items():
        write(root / f"{split}_coco.json", document)
        for image in document["images"]:
            put_image(images, image["file_name"], root / split / image["file_name"])


def coco_in_capitals(root, documents, images):
    for split, document in documents.items():
        write(root / "annotations" / f"{split.upper()}.json", document)
        for image in document["images"]:
            put_image(images, image["file_name"], root / split.upper() / image["file_name"])


def coco_of_one_file(root, documents, images):
    """Any name, pictures in any folder."""
    write(root / "my annotations.json", documents["train"])
    for image in documents["train"]["images"]:
        put_image(images, image["file_name"], root / "photos" / image["file_name"])


VARIANTS = {
    "YOLO of a notebook": yolo_of_a_notebook,
    "YOLO of Windows": yolo_of_windows,
    "YOLO of supervision": yolo_of_supervision,
    "YOLO of Label Studio": yolo_of_label_studio,
    "YOLO of LabelImg": yolo_of_labelimg,
    "YOLO of CVAT": yolo_of_cvat,
    "YOLO of FiftyOne": yolo_of_fiftyone,
    "YOLO unpacked twice": yolo_unpacked_twice,
    "VOC in its devkit": voc_in_its_devkit,
    "VOC of CVAT": voc_of_cvat,
    "VOC of supervision": voc_of_supervision,
    "VOC in capitals": voc_in_capitals,
    "VOC apart by split": voc_apart_by_split,
    "CVAT with same names": cvat_with_same_names,
    "CVAT of FiftyOne": cvat_of_fiftyone,
    "CVAT of Datumaro": cvat_of_datumaro,
    "Label Studio's JSON-MIN": label_studio_min,
    "CreateML of Apple": createml_of_apple,
    "LabelMe apart": labelme_apart,
    "COCO beside captions": coco_beside_captions,
    "COCO of CVAT": coco_of_cvat,
    "COCO at the top": coco_at_the_top,
    "COCO in capitals": coco_in_capitals,
    "COCO of one file": coco_of_one_file,
}
ONLY_TRAIN = {"YOLO of Label Studio", "YOLO of FiftyOne", "VOC of CVAT", "CVAT of FiftyOne"}
ONLY_TRAIN |= {"Label Studio's JSON-MIN", "COCO of one file"}
