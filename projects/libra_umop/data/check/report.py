"""What :func:`libra_umop.data.check.checking.check_dataset` found, for people and for machines."""

from collections import Counter
from typing import Any

from ...errors import one_line
from ..defects import SEVERITIES, Defect
from .checking import CLEAN, DEFECTS, UNUSABLE, CheckedDataset
from .fitting import proposal
from .statistics import ResizedTo, describe_split

STATUS = {CLEAN: "clean", DEFECTS: "defects", UNUSABLE: "unusable"}
WHAT_IT_MEANS = {
    "error": "training refuses the dataset",
    "dropped": "left out of training and evaluation",
    "clipped": "cut at the image's edge",
    "repaired": "read as it is meant",
    "kept": "used as it is",
    "note": "in order",
}
_LEVELS = {
    "rcnn_pooler": "R-CNN heads pool from",
    "retinanet_anchors": "RetinaNet's nearest anchor",
    "atss_anchors": "ATSS's nearest anchor",
}


def as_json(checked: CheckedDataset, resized_to: ResizedTo) -> dict[str, Any]:
    """All of it, of plain values."""
    return {
        "status": STATUS[checked.exit_code],
        "exit_code": checked.exit_code,
        "classes": checked.class_names,
        "resized_to": {"min_size": resized_to.min_size, "max_size": resized_to.max_size},
        "splits": {
            name: {
                **describe_split(data, checked.class_ids, resized_to),
                "image_modes": checked.modes[name],
                "defects": dict(Counter(d.kind for d in checked.defects[name])),
            }
            for name, data in checked.splits.items()
        },
        "proposal": proposal(checked.splits["train"]) if "train" in checked.splits else {},
        "defects": [
            {"split": name, **defect.as_dict()}
            for name, defects in checked.defects.items()
            for defect in defects
        ],
    }


def as_text(checked: CheckedDataset, resized_to: ResizedTo, max_listed: int = 10) -> str:
    """A summary of each split, then at most ``max_listed`` defects of each kind."""
    report = as_json(checked, resized_to)
    lines = []
    if resized_to.min_size > 0:
        shorter, longer = resized_to.min_size, resized_to.max_size
        lines += [f"levels are for images resized to {shorter}, at most {longer}, pixels", ""]
    for name, split in report["splits"].items():
        lines += _split_lines(name, split) + [""]
    lines += _class_lines(report) + [""]
    if report["proposal"]:
        lines += [*report["proposal"]["lines"], ""]
    for name, defects in checked.defects.items():
        lines += _defect_lines(name, defects, max_listed)
    total = sum(len(defects) for defects in checked.defects.values())
    lines.append(f"{STATUS[checked.exit_code]}: {total} findings, exit code {checked.exit_code}")
    return "\n".join(map(one_line, lines))


def _split_lines(name: str, split: dict[str, Any]) -> list[str]:
    area, spread = split["boxes_per_area"], split["boxes_per_image"]
    lines = [
        f"{name}: {split['source']}",
        f"  {split['images']} images ({split['images_without_objects']} without objects),"
        f" {split['boxes']} boxes, {split['crowd_regions']} crowd regions",
        f"  {_some(area)} by COCO's areas",
    ]
    if split["images"]:
        small, large = split["image_sizes"]["smallest"], split["image_sizes"]["largest"]
        lines += [
            "  {min} to {max} boxes an image, median {median:g}, mean {mean:g}".format(**spread),
            "  images of {} x {} to {} x {} pixels; ".format(*small, *large)
            + _some(split["image_modes"]),
        ]
    for key, title in _LEVELS.items():
        lines.append(f"  {title + ':':<28} {_some(split['boxes_per_level'][key])}")
    return lines


def _class_lines(report: dict[str, Any]) -> list[str]:
    """A table of boxes per class and split."""
    splits = report["splits"]
    width = max([len(name) for name in report["classes"]], default=0) + 2
    width = max(width, len(f"{len(report['classes'])} classes") + 2)
    header = f"{len(report['classes'])} classes"
    lines = [header.ljust(width) + "".join(f"{name:>10}" for name in splits)]
    for name in report["classes"]:
        counts = [split["boxes_per_class"].get(name, 0) for split in splits.values()]
        lines.append(name.ljust(width) + "".join(f"{count:>10}" for count in counts))
    return lines


def _defect_lines(name: str, defects: list[Defect], max_listed: int) -> list[str]:
    lines = []
    order = sorted(defects, key=lambda d: SEVERITIES.index(d.severity))
    kinds = dict.fromkeys((d.severity, d.kind) for d in order)
    for severity, kind in kinds:
        those = [d for d in order if (d.severity, d.kind) == (severity, kind)]
        lines.append(f"{name}: {len(those)} {kind} ({WHAT_IT_MEANS[severity]})")
        lines += [f"  {defect}" for defect in those[:max_listed]]
        if len(those) > max_listed:
            lines.append(f"  ... and {len(those) - max_listed} more")
    return lines + [""] if lines else []


def _some(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())
