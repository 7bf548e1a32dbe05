"""What Detectron2 asserts of a config while it builds or trains, said with the keys beforehand."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from detectron2.config import CfgNode
from detectron2.modeling import (
    META_ARCH_REGISTRY,
    PROPOSAL_GENERATOR_REGISTRY,
    ROI_HEADS_REGISTRY,
    GeneralizedRCNN,
    ProposalNetwork,
    RetinaNet,
)
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import CascadeROIHeads, StandardROIHeads

from ..errors import ConfigError
from ..modeling.dense.atss import ATSS


class Contradiction(NamedTuple):
    """A key whose value does not go with another's."""

    key: str
    value: Any
    expected: str

    def __str__(self) -> str:
        return f"{self.key} is {self.value!r}, should be {self.expected}"


def contradictions(cfg: CfgNode) -> Iterator[Contradiction]:
    """The keys of ``cfg`` that Detectron2 would stop at, one by one.

    Keys that the detector does not read may have any value; each value by itself is within its
    range.
    """
    yield from _train_sizes(cfg)
    yield from _crop(cfg)
    yield from _boxes_only(cfg)
    yield from _learning_rate(cfg)
    yield from _pixels(cfg)
    detector = _class(META_ARCH_REGISTRY, cfg.MODEL.META_ARCHITECTURE)
    if issubclass(detector, (GeneralizedRCNN, ProposalNetwork)):
        generator = _class(PROPOSAL_GENERATOR_REGISTRY, cfg.MODEL.PROPOSAL_GENERATOR.NAME)
        if issubclass(generator, RPN):
            yield from _thresholds(cfg, "RPN")
            yield from _anchors(cfg, "MODEL.RPN.IN_FEATURES", cfg.MODEL.RPN.IN_FEATURES)
    if issubclass(detector, GeneralizedRCNN):
        yield from _roi_heads(cfg, _class(ROI_HEADS_REGISTRY, cfg.MODEL.ROI_HEADS.NAME))
    if issubclass(detector, RetinaNet):
        yield from _thresholds(cfg, "RETINANET")
        yield from _anchors(cfg, "MODEL.RETINANET.IN_FEATURES", cfg.MODEL.RETINANET.IN_FEATURES)
    if issubclass(detector, ATSS):
        yield from _anchors(cfg, "MODEL.ATSS.IN_FEATURES", cfg.MODEL.ATSS.IN_FEATURES)
    if cfg.MODEL.LOAD_PROPOSALS:
        yield from _proposal_files(cfg)


@contextlib.contextmanager
def refused_by_components(cfg: CfgNode) -> Iterator[None]:
    """What a component refuses of ``cfg`` while a model is built becomes a ConfigError.

    A value, a feature that the network below does not give, or an assertion that names a key.
    """
    try:
        yield
    except ValueError as e:
        raise ConfigError(str(e)) from e
    except KeyError as e:
        keys = list(_feature_keys(cfg.MODEL, "MODEL", e.args[0]))
        if not keys:
            raise
        is_given = "which the network below does not give"
        raise ConfigError(f"{' and '.join(keys)} names {e.args[0]!r}, {is_given}") from e
    except AssertionError as e:
        if "MODEL." not in str(e):
            raise
        raise ConfigError(str(e)) from e


def _feature_keys(node: CfgNode, path: str, feature: Any) -> Iterator[str]:
    """The keys below ``path`` that name features, ``feature`` among them."""
    for key, value in node.items():
        if isinstance(value, CfgNode):
            yield from _feature_keys(value, f"{path}.{key}", feature)
        elif key.endswith("IN_FEATURES") and feature in value:
            yield f"{path}.{key}"


def _class(registry: Any, name: str) -> type:
    """The registered class; ``object`` for a function, which may read any key."""
    component = registry.get(name) if name in registry else object
    return component if isinstance(component, type) else object


def _train_sizes(cfg: CfgNode) -> Iterator[Contradiction]:
    key, sizes = "INPUT.MIN_SIZE_TRAIN", _sequence(cfg.INPUT.MIN_SIZE_TRAIN)
    if cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING != "range":
        if not sizes:
            yield Contradiction(key, tuple(sizes), "one size or more")
    elif len(sizes) != 2 or sizes[0] > sizes[1] or any(int(v) != v for v in sizes):
        want = "two sizes, smallest and largest, where INPUT.MIN_SIZE_TRAIN_SAMPLING is 'range'"
        yield Contradiction(key, tuple(sizes), want)


def _crop(cfg: CfgNode) -> Iterator[Contradiction]:
    crop = cfg.INPUT.CROP
    if not crop.ENABLED:
        if crop.OBJECT_PROB:
            want = "0 where INPUT.CROP.ENABLED is False"
            yield Contradiction("INPUT.CROP.OBJECT_PROB", crop.OBJECT_PROB, want)
        return
    size, kind = tuple(crop.SIZE), crop.TYPE
    if kind.startswith("relative"):
        right = len(size) == 2 and all(0 < v <= 1 for v in size)
        want = "two parts of height and width in (0, 1]"
    else:
        right = len(size) == 2 and all(v >= 1 and int(v) == v for v in size)
        want = "two whole numbers of pixels, 1 or more"
    if right and kind == "absolute_range":
        right, want = size[0] <= size[1], "the smallest and the largest side"
    if not right:
        yield Contradiction("INPUT.CROP.SIZE", size, f"{want}, as INPUT.CROP.TYPE is {kind!r}")


def _boxes_only(cfg: CfgNode) -> Iterator[Contradiction]:
    """What this project's mosaics and tiles would lose without a word."""
    cannot = {
        "INPUT.MOSAIC.PROB": ("MODEL.KEYPOINT_ON", "MODEL.LOAD_PROPOSALS"),
        "TEST.TILES.SIZE": ("MODEL.MASK_ON", "MODEL.KEYPOINT_ON", "MODEL.LOAD_PROPOSALS"),
    }
    for key, others in cannot.items():
        group, name, leaf = key.split(".")
        for other in others:
            if cfg[group][name][leaf] and cfg.MODEL[other.removeprefix("MODEL.")]:
                yield Contradiction(key, cfg[group][name][leaf], f"0 where {other} is True")


def _learning_rate(cfg: CfgNode) -> Iterator[Contradiction]:
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME == "WarmupCosineLR" and solver.BASE_LR_END > solver.BASE_LR:
        want = f"at most SOLVER.BASE_LR {solver.BASE_LR!r}"
        yield Contradiction("SOLVER.BASE_LR_END", solver.BASE_LR_END, want)


def _pixels(cfg: CfgNode) -> Iterator[Contradiction]:
    mean, std = cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD
    channels = 1 if cfg.INPUT.FORMAT == "L" else 3
    for key, values in (("MODEL.PIXEL_MEAN", mean), ("MODEL.PIXEL_STD", std)):
        if len(values) != channels:
            want = f"{channels} numbers, as INPUT.FORMAT is {cfg.INPUT.FORMAT!r}"
            yield Contradiction(key, values, want)


AXIS_PARALLEL = ("DefaultAnchorGenerator", "TorchvisionAnchorGenerator")


def _thresholds(cfg: CfgNode, group: str) -> Iterator[Contradiction]:
    """Of Detectron2's Matcher."""
    thresholds, labels = cfg.MODEL[group].IOU_THRESHOLDS, cfg.MODEL[group].IOU_LABELS
    key = f"MODEL.{group}.IOU_THRESHOLDS"
    if not thresholds or thresholds[0] <= 0:
        yield Contradiction(key, thresholds, "one threshold or more, the first above 0")
    if len(labels) != len(thresholds) + 1 or any(label not in (-1, 0, 1) for label in labels):
        want = f"{len(thresholds) + 1} of -1, 0 and 1, as {key} is {thresholds!r}"
        yield Contradiction(f"MODEL.{group}.IOU_LABELS", labels, want)


def _anchors(cfg: CfgNode, features_key: str, features: Sequence[str]) -> Iterator[Contradiction]:
    """One list for all levels, or one for each, and of equal numbers."""
    if cfg.MODEL.ANCHOR_GENERATOR.NAME not in AXIS_PARALLEL:
        return
    numbers: list[list[int]] = []
    for name in ("SIZES", "ASPECT_RATIOS"):
        key, values = f"MODEL.ANCHOR_GENERATOR.{name}", cfg.MODEL.ANCHOR_GENERATOR[name]
        levels = [v for v in values if isinstance(v, (list, tuple))]
        flat = levels if levels else [values]
        if len(flat) not in (1, len(features)):
            want = f"one list, or one for each of the {len(features)} levels of {features_key}"
            yield Contradiction(key, values, f"{want} {features!r}")
            return
        numbers.append([len(v) for v in flat] * (len(features) if len(flat) == 1 else 1))
    per_level = {sizes * ratios for sizes, ratios in zip(*numbers, strict=True)}
    if len(per_level) > 1:
        sizes_key = "MODEL.ANCHOR_GENERATOR.SIZES"
        want = f"as many as make the same number of anchors on each level, not {sorted(per_level)}"
        yield Contradiction(sizes_key, cfg.MODEL.ANCHOR_GENERATOR.SIZES, want)


def _roi_heads(cfg: CfgNode, heads: type) -> Iterator[Contradiction]:
    if issubclass(heads, CascadeROIHeads):
        yield from _cascade(cfg)
    else:
        yield from _thresholds(cfg, "ROI_HEADS")
    box_head = cfg.MODEL.ROI_BOX_HEAD
    if box_head.USE_FED_LOSS and not box_head.USE_SIGMOID_CE:
        want = "True, as MODEL.ROI_BOX_HEAD.USE_FED_LOSS is True"
        yield Contradiction("MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE", False, want)
    if not issubclass(heads, StandardROIHeads):
        return
    if box_head.NAME == "FastRCNNConvFCHead" and box_head.NUM_CONV + box_head.NUM_FC < 1:
        want = "at least 1, or MODEL.ROI_BOX_HEAD.NUM_CONV"
        yield Contradiction("MODEL.ROI_BOX_HEAD.NUM_FC", box_head.NUM_FC, want)


def _cascade(cfg: CfgNode) -> Iterator[Contradiction]:
    ious = cfg.MODEL.ROI_BOX_CASCADE_HEAD.IOUS
    weights = cfg.MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS
    key = "MODEL.ROI_BOX_CASCADE_HEAD.IOUS"
    thresholds = cfg.MODEL.ROI_HEADS.IOU_THRESHOLDS
    if not ious or any(not 0 < iou <= 1 for iou in ious):
        yield Contradiction(key, ious, "one number in (0, 1] or more")
    elif len(ious) != len(weights):
        want = f"as many as MODEL.ROI_BOX_CASCADE_HEAD.BBOX_REG_WEIGHTS, {len(weights)}"
        yield Contradiction(key, ious, want)
    elif list(thresholds)[:1] != [ious[0]]:
        want = f"[{ious[0]!r}], the first of {key}"
        yield Contradiction("MODEL.ROI_HEADS.IOU_THRESHOLDS", thresholds, want)
    if not cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG:
        want = "True for cascaded heads"
        yield Contradiction("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", False, want)


def _proposal_files(cfg: CfgNode) -> Iterator[Contradiction]:
    for split in ("TRAIN", "TEST"):
        names, files = cfg.DATASETS[split], cfg.DATASETS[f"PROPOSAL_FILES_{split}"]
        if len(names) != len(files):
            want = f"one file for each of DATASETS.{split} {tuple(names)!r}"
            yield Contradiction(f"DATASETS.PROPOSAL_FILES_{split}", tuple(files), want)


def _sequence(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)
