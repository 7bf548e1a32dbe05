"""The same data in every layout, as the tools that people use write them.

A writer takes an empty folder, COCO documents by split and the folder of their images. Numbers are
written in full, so that what is read back is what was written.
"""

import json
import shutil
from pathlib import Path
from xml.sax.saxutils import escape

import yaml


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if isinstance(text, str) else json.dumps(text), encoding="utf-8")


def put_image(images, name, target):
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(Path(images) / name, target)


def objects(document):
    """``(image, [(class name, annotation)])`` of each image."""
    names = {c["id"]: c["name"] for c in document["categories"]}
    for image in document["images"]:
        own = [a for a in document["annotations"] if a["image_id"] == image["id"]]
        yield image, [(names[a["category_id"]], a) for a in own]


def corners(annotation):
    x, y, w, h = annotation["bbox"]
    return x, y, x + w, y + h


def class_names(documents):
    return [c["name"] for c in documents["train"]["categories"]]


def coco_years(root, documents, images):
    for split, document in documents.items():
        write(root / "annotations" / f"instances_{split}2017.json", document)
        for image in document["images"]:
            put_image(images, image["file_name"], root / f"{split}2017" / image["file_name"])


def coco_fiftyone(root, documents, images):
    write(root / "labels.json", documents["train"])
    for image in documents["train"]["images"]:
        put_image(images, image["file_name"], root / "data" / image["file_name"])


def coco_label_studio(root, documents, images):
    document = json.loads(json.dumps(documents["train"]))
    for image in document["images"]:
        put_image(images, image["file_name"], root / "images" / image["file_name"])
        image["file_name"] = f"images/{image['file_name']}"
    write(root / "result.json", document)


def yolo_line(name, annotation, image, names):
    x, y, w, h = annotation["bbox"]
    width, height = image["width"], image["height"]
    numbers = ((x + w / 2) / width, (y + h / 2) / height, w / width, h / height)
    return " ".join([str(names.index(name)), *map(repr, numbers)])


def yolo_labels(documents, images, image_path, label_path, names):
    for split, document in documents.items():
        for image, own in objects(document):
            stem = Path(image["file_name"]).stem
            put_image(images, image["file_name"], image_path(split) / image["file_name"])
            lines = [yolo_line(name, a, image, names) for name, a in own]
            write(label_path(split) / f"{stem}.txt", "".join(f"{line}\n" for line in lines))


def yolo_ultralytics(root, documents, images):
    """``images/train`` and ``labels/train``; ``path`` is of another machine."""
    names = class_names(documents)
    config = {"path": "/home/somebody/datasets/x", "names": dict(enumerate(names))}
    config |= {split: f"images/{split}" for split in documents}
    write(root / "data.yaml", yaml.safe_dump(config, sort_keys=False))
    paths = (lambda s: root / "images" / s, lambda s: root / "labels" / s)
    yolo_labels(documents, images, *paths, names)


def yolo_roboflow(root, documents, images):
    """``train/images``, of which the YAML file says ``../train/images``, and ``valid``."""
    names = class_names(documents)
    folder = {"train": "train", "val": "valid", "test": "test"}
    config = {split: f"../{folder[split]}/images" for split in documents}
    config |= {"nc": len(names), "names": names, "roboflow": {"version": 1}}
    write(root / "data.yaml", yaml.safe_dump(config, sort_keys=False))
    paths = (lambda s: root / folder[s] / "images", lambda s: root / folder[s] / "labels")
    yolo_labels(documents, images, *paths, names)


def yolo_lists(root, documents, images):
    """Text files of paths, some of them of another machine."""
    names = class_names(documents)
    config = {split: f"{split}.txt" for split in documents}
    write(root / "data.yaml", yaml.safe_dump(config | {"names": names}))
    for split, document in documents.items():
        prefixes = ["./images/", "images/", "/content/datasets/x/images/"]
        listed = [
            prefixes[i % 3] + image["file_name"] for i, image in enumerate(document["images"])
        ]
        write(root / f"{split}.txt", "\n".join(listed))
    yolo_labels(documents, images, lambda s: root / "images", lambda s: root / "labels", names)


def voc_xml(image, own, *, shift=0, source="Unknown", path="", size=True):
    parts = [f"<filename>{escape(image['file_name'])}</filename><path>{escape(path)}</path>"]
    parts += [f"<source><database>{source}</database></source>"]
    width, height = (image["width"], image["height"]) if size else (0, 0)
    parts += [f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"]
    for name, a in own:
        x1, y1, x2, y2 = corners(a)
        numbers = zip(
            ("xmin", "ymin", "xmax", "ymax"), (x1 + shift, y1 + shift, x2, y2), strict=True
        )
        box = "".join(f"<{key}>{value!r}</{key}>" for key, value in numbers)
        parts.append(
            f"<object>\n<name>{escape(name)}</name><pose>Unspecified</pose>"
            f"<difficult>{a['iscrowd']}</difficult><bndbox>{box}</bndbox></object>"
        )
    return "<annotation>\n" + "\n".join(parts) + "\n</annotation>\n"


def voc_devkit(root, documents, images):
    """VOC's own folders; pixels counted from 1."""
    for split, document in documents.items():
        stems = []
        for image, own in objects(document):
            stems.append(Path(image["file_name"]).stem)
            put_image(images, image["file_name"], root / "JPEGImages" / image["file_name"])
            text = voc_xml(image, own, shift=1, source="The VOC2007 Database")
            write(root / "Annotations" / f"{stems[-1]}.xml", text)
        write(root / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{s}\n" for s in stems))
        write(root / "ImageSets" / "Main" / f"cat_{split}.txt", "".join(f"{s}  1\n" for s in stems))


def voc_labelimg(root, documents, images):
    """XML beside the pictures, with paths of another machine and without sizes."""
    for image, own in objects(documents["train"]):
        put_image(images, image["file_name"], root / image["file_name"])
        path = f"C:\\Users\\somebody\\Desktop\\{image['file_name']}"
        text = voc_xml(image, own, path=path, size=False)
        write(root / f"{Path(image['file_name']).stem}.xml", text)


def voc_apart(root, documents, images):
    """XML in one folder, pictures in another."""
    for image, own in objects(documents["train"]):
        put_image(images, image["file_name"], root / "images" / image["file_name"])
        stem = Path(image["file_name"]).stem
        write(root / "annotations" / f"{stem}.xml", voc_xml(image, own))


def voc_roboflow(root, documents, images):
    """A folder for each split, XML beside the pictures."""
    folder = {"train": "train", "val": "valid", "test": "test"}
    for split, document in documents.items():
        for image, own in objects(document):
            target = root / folder[split] / image["file_name"]
            put_image(images, image["file_name"], target)
            write(target.with_suffix(".xml"), voc_xml(image, own, source="roboflow.com"))


def cvat(root, documents, images):
    """For images 1.1, with subsets."""
    names = class_names(documents)
    labels = "".join(f"<label><name>{escape(n)}</name></label>" for n in names)
    text = f"<annotations><version>1.1</version><meta><task><labels>{labels}</labels></task></meta>"
    subset = {"train": "Train", "val": "Validation", "test": "Test"}
    for split, document in documents.items():
        for i, (image, own) in enumerate(objects(document)):
            put_image(images, image["file_name"], root / "images" / split / image["file_name"])
            size = f'width="{image["width"]}" height="{image["height"]}"'
            name = escape(image["file_name"], {'"': "&quot;"})
            text += f'\n<image id="{i}" name="{name}" subset="{subset[split]}" {size}>'
            for name, a in own:
                numbers = zip(("xtl", "ytl", "xbr", "ybr"), corners(a), strict=True)
                box = " ".join(f'{key}="{value!r}"' for key, value in numbers)
                text += f'\n<box label="{escape(name)}" occluded="0" {box} z_order="0"></box>'
            text += "</image>"
    write(root / "annotations.xml", text + "</annotations>")


def label_studio(root, documents, images):
    tasks = []
    for i, (image, own) in enumerate(objects(documents["train"])):
        put_image(images, image["file_name"], root / "images" / image["file_name"])
        results = []
        for name, a in own:
            sides = (image["width"], image["height"]) * 2
            values = [100 * v / side for v, side in zip(a["bbox"], sides, strict=True)]
            value = dict(zip(("x", "y", "width", "height"), values, strict=True)) | {"rotation": 0}
            value["rectanglelabels"] = [name]
            results.append({"type": "rectanglelabels", "value": value, "to_name": "image"})
        address = f"/data/upload/1/{i:08x}-{image['file_name']}"
        annotation = {"was_cancelled": False, "result": results}
        tasks.append({"id": i, "data": {"image": address}, "annotations": [annotation]})
    write(root / "project-1-at-2026-01-01.json", tasks)


def fractions(annotation, image):
    sides = (image["width"], image["height"]) * 2
    return [v / side for v, side in zip(annotation["bbox"], sides, strict=True)]


def fiftyone(root, documents, images):
    samples = []
    for split, document in documents.items():
        for image, own in objects(document):
            put_image(images, image["file_name"], root / "data" / image["file_name"])
            found = [
                {"_cls": "Detection", "label": name, "bounding_box": fractions(a, image)}
                for name, a in own
            ]
            tags = ["validation" if split == "val" else split]
            sample = {"filepath": f"data/{image['file_name']}", "tags": tags}
            samples.append(sample | {"ground_truth": {"_cls": "Detections", "detections": found}})
    write(root / "samples.json", {"samples": samples})
    write(root / "metadata.json", {"name": "x"})


def fiftyone_labels(root, documents, images):
    names, labels = class_names(documents), {}
    for image, own in objects(documents["train"]):
        put_image(images, image["file_name"], root / "data" / image["file_name"])
        labels[Path(image["file_name"]).stem] = [
            {"label": names.index(name), "bounding_box": fractions(a, image)} for name, a in own
        ]
    write(root / "labels.json", {"classes": names, "labels": labels})


def labelme(root, documents, images):
    for split, document in documents.items():
        for image, own in objects(document):
            put_image(images, image["file_name"], root / split / image["file_name"])
            shapes = [
                {
                    "label": name,
                    "points": [list(corners(a)[:2]), list(corners(a)[2:])],
                    "group_id": None,
                    "shape_type": "rectangle",
                }
                for name, a in own
            ]
            content = {"version": "5.0.1", "flags": {}, "shapes": shapes, "imageData": None}
            content |= {"imagePath": f"..\\pictures\\{image['file_name']}"}
            write(root / split / f"{Path(image['file_name']).stem}.json", content)


def createml(root, documents, images):
    for split, document in documents.items():
        entries = []
        for image, own in objects(document):
            put_image(images, image["file_name"], root / split / image["file_name"])
            boxes = []
            for name, a in own:
                x, y, w, h = a["bbox"]
                centre = {"x": x + w / 2, "y": y + h / 2, "width": w, "height": h}
                boxes.append({"label": name, "coordinates": centre})
            entries.append({"image": image["file_name"], "annotations": boxes})
        write(root / split / "_annotations.createml.json", entries)


# Name of the layout: what writes it.
WRITERS = {
    "COCO's own folders": coco_years,
    "COCO of FiftyOne": coco_fiftyone,
    "COCO of Label Studio": coco_label_studio,
    "YOLO": yolo_ultralytics,
    "YOLO of Roboflow": yolo_roboflow,
    "YOLO with lists": yolo_lists,
    "VOC": voc_devkit,
    "VOC of LabelImg": voc_labelimg,
    "VOC with XML apart": voc_apart,
    "VOC of Roboflow": voc_roboflow,
    "CVAT": cvat,
    "Label Studio": label_studio,
    "FiftyOne": fiftyone,
    "FiftyOne's detections": fiftyone_labels,
    "LabelMe": labelme,
    "CreateML": createml,
}
# Whose classes have an order; those of the others are sorted.
WITH_LIST_OF_NAMES = [name for name in WRITERS if name.startswith(("COCO", "YOLO", "CVAT"))]
WITH_LIST_OF_NAMES += ["FiftyOne's detections"]
