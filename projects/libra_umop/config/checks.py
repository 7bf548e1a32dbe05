"""Configs that cannot train are refused before anything is built.

Here is what keys mean for each other; what each may be by itself is declared with it.
"""

from itertools import pairwise
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode
from detectron2.modeling import (
    META_ARCH_REGISTRY,
    PROPOSAL_GENERATOR_REGISTRY,
    ROI_HEADS_REGISTRY,
    GeneralizedRCNN,
    ProposalNetwork,
    RetinaNet,
)
from detectron2.modeling.roi_heads import CascadeROIHeads

from ..errors import ConfigError
from ..key import KEYS
from ..levers import as_text, family_of, stand_in, switch
from ..modeling.dense.atss import ATSS
from ..modeling.dense.detector import DenseLosses
from ..modeling.dense.fcos import FCOS
from ..modeling.rcnn.roi_heads import BalancedSampling
from ..modeling.rcnn.samplers import (
    NEGATIVE_SAMPLERS,
    POSITIVE_SAMPLERS,
    build_sampler,
    negatives_range,
)
from ..ranges import OneOf, Range
from .assertions import contradictions


class _Chooser(NamedTuple):
    """A key that names a component, where such are registered, and the detectors that have one."""

    key: str
    registry: Any
    users: tuple[type, ...]

    def applies(self, cfg: CfgNode) -> bool:
        """Whether the config's detector has a component that this key names."""
        return _is_a(META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE), self.users)


_DETECTOR = _Chooser("MODEL.META_ARCHITECTURE", META_ARCH_REGISTRY, (object,))
_RPN = _Chooser(
    "MODEL.PROPOSAL_GENERATOR.NAME", PROPOSAL_GENERATOR_REGISTRY, (GeneralizedRCNN, ProposalNetwork)
)
_HEADS = _Chooser("MODEL.ROI_HEADS.NAME", ROI_HEADS_REGISTRY, (GeneralizedRCNN,))


class _BoxLoss(NamedTuple):
    """The keys that choose a box loss, and what computes it."""

    group: str  # of the keys
    beta: str
    chooser: _Chooser
    lever: str = "balanced_l1"  # that switches balanced L1 on


_BOX_LOSSES = (
    _BoxLoss("MODEL.ROI_BOX_HEAD", "SMOOTH_L1_BETA", _HEADS),
    _BoxLoss("MODEL.RPN", "SMOOTH_L1_BETA", _RPN, "rpn_balanced_l1"),
    *(
        _BoxLoss(f"MODEL.{group}", "SMOOTH_L1_LOSS_BETA", _DETECTOR._replace(users=(detector,)))
        for group, detector in {"RETINANET": RetinaNet, "ATSS": ATSS, "FCOS": FCOS}.items()
    ),
)
_DETECTRON2_HEADS = ("StandardROIHeads", "CascadeROIHeads", "Res5ROIHeads")
# A key, what names a component, and components of that kind that do not read the key:
# there it has to have its default, or something would be off that looks on.
_UNREAD = (
    ("MODEL.RETINANET.CLS_LOSS_TYPE", _DETECTOR, ("RetinaNet",)),
    ("MODEL.RETINANET.LOSS_NORMALIZER", _DETECTOR, ("RetinaNet",)),
    ("MODEL.RETINANET.BBOX_REG_LOSS_WEIGHT", _DETECTOR, ("RetinaNet",)),
    ("MODEL.ATSS.BBOX_REG_LOSS_WEIGHT", _DETECTOR, ("VFNet",)),
    ("MODEL.RPN.NEG_POS_RATIO", _RPN, ("RPN",)),
    ("INPUT.IGNORE_REGIONS", _DETECTOR, ("RetinaNet",)),
    ("INPUT.IGNORE_REGIONS", _RPN, ("RPN",)),
    ("INPUT.IGNORE_REGIONS", _HEADS, _DETECTRON2_HEADS),
    ("MODEL.CLASS_WEIGHTS.BETA", _DETECTOR, ("RetinaNet",)),
    ("MODEL.CLASS_WEIGHTS.BETA", _HEADS, _DETECTRON2_HEADS),
    ("MODEL.ROI_BOX_HEAD.CLS_LOSS_TYPE", _HEADS, _DETECTRON2_HEADS),
    ("MODEL.ROI_BOX_CASCADE_HEAD.SAMPLE_EVERY_STAGE", _HEADS, ("CascadeROIHeads",)),
)
_READERS = {  # of what a component does not read
    "RetinaNet": "LibraRetinaNet",
    "RPN": "LibraRPN",
    "StandardROIHeads": "LibraROIHeads",
    "CascadeROIHeads": "LibraCascadeROIHeads",
    "VFNet": "ATSS, and of VFNet MODEL.VFNET.BBOX_REG_LOSS_WEIGHT",
    "Res5ROIHeads": "LibraRes5ROIHeads",
}
_DETECTRON2_BOX_LOSSES = ("smooth_l1", "giou", "diou", "ciou")


def check_config(cfg: CfgNode, source: str = "") -> None:
    """Refuse a config that cannot train, before anything is built.

    Args:
        cfg: a merged config.
        source: the file that it came from, for the message.

    Raises:
        ConfigError: one line with the key, its value, what it should be, and for a name the
            nearest one that exists.
    """
    check_values(cfg, source)
    check_together(cfg, source)


def check_values(cfg: CfgNode, source: str = "") -> None:
    """Refuse a key whose value is wrong by itself, as :func:`check_config` does."""
    where = f"{source}: " if source else ""
    for name, key in KEYS.items():
        value = _get(cfg, name)
        if value is not None:
            _check(where, name, value, key.values)


def check_together(cfg: CfgNode, source: str = "") -> None:
    """Refuse keys, each right by itself, that do not go together, as :func:`check_config` does."""
    where = f"{source}: " if source else ""
    _check_steps(cfg, where)
    _check_device(cfg, where)
    for box_loss in _BOX_LOSSES:
        _check_box_loss(cfg, where, box_loss)
    _check_unread(cfg, where)
    _check_samplers(cfg, where)
    _check_cls_loss(cfg, where)
    _check_scales(cfg, where)
    for contradiction in contradictions(cfg):
        raise ConfigError(f"{where}{contradiction}")


def _get(cfg: CfgNode, key: str) -> Any | None:
    node: Any = cfg
    for part in key.split("."):
        if not isinstance(node, CfgNode) or part not in node:
            return None
        node = node[part]
    return node


def _check(where: str, name: str, value: Any, values: Range | OneOf) -> None:
    refusal = values.refusal(value)
    if refusal:
        raise ConfigError(f"{where}{name} is {value!r}{refusal}")


def _check_steps(cfg: CfgNode, where: str) -> None:
    """STEPS are read by the multi-step schedule only; there one past the end never happens."""
    steps, max_iter = cfg.SOLVER.STEPS, cfg.SOLVER.MAX_ITER
    if cfg.SOLVER.LR_SCHEDULER_NAME != "WarmupMultiStepLR":
        return
    ok = all(0 < s < max_iter for s in steps)
    if not ok or any(a >= b for a, b in pairwise(steps)):
        raise ConfigError(
            f"{where}SOLVER.STEPS is {tuple(steps)!r}, should be increasing and inside"
            f' (0, SOLVER.MAX_ITER) = (0, {max_iter}); "()" for none'
        )


def _check_device(cfg: CfgNode, where: str) -> None:
    try:
        torch.device(cfg.MODEL.DEVICE)
    except RuntimeError as e:
        raise ConfigError(
            f"{where}MODEL.DEVICE is {cfg.MODEL.DEVICE!r}, should be cpu, cuda or cuda:N"
        ) from e


def _check_box_loss(cfg: CfgNode, where: str, box_loss: _BoxLoss) -> None:
    """Detectron2's components find a loss that they do not know in the first iteration only."""
    chooser, name = box_loss.chooser, _get(cfg, box_loss.chooser.key)
    if not chooser.applies(cfg) or name not in chooser.registry:
        return
    key = f"{box_loss.group}.BBOX_REG_LOSS_TYPE"
    value = _get(cfg, key)
    component = chooser.registry.get(name)
    if component.__module__.startswith("detectron2.") and value == "balanced_l1":
        better = stand_in(box_loss.lever, chooser.key, str(name))
        raise ConfigError(
            f"{where}{key} is {value!r}, which {chooser.key} {name} does not know;"
            f" {better} does{_alone(cfg, box_loss)}"
        )
    if component.__module__.startswith(("detectron2.", "libra_umop.")):
        _check(where, key, value, OneOf(_DETECTRON2_BOX_LOSSES, ("balanced_l1",)))
    beta: Any = _get(cfg, f"{box_loss.group}.{box_loss.beta}")
    if value == "balanced_l1" and beta <= 0:
        raise ConfigError(
            f"{where}{box_loss.group}.{box_loss.beta} is {beta!r}, should be > 0 where {key} is"
            f" {value!r}, whose transition point it is"
        )


def _alone(cfg: CfgNode, box_loss: _BoxLoss) -> str:
    """What else to set so that no other lever comes along; empty if nothing."""
    if family_of(cfg) is None:
        return ""
    said = (box_loss.chooser.key, f"{box_loss.group}.BBOX_REG_LOSS_TYPE")
    rest = [(k, v) for k, v in switch(cfg, box_loss.lever) if k not in said and _get(cfg, k) != v]
    return f", with {as_text(rest)}" if rest else ""


def _check_unread(cfg: CfgNode, where: str) -> None:
    """A lever that the chosen component does not have would be off without a word."""
    for key, chooser, components in _UNREAD:
        name, value, default = _get(cfg, chooser.key), _get(cfg, key), KEYS[key].default
        if chooser.applies(cfg) and name in components and value != default:
            raise ConfigError(
                f"{where}{key} is {value!r}, which {chooser.key} {name} does not read;"
                f" {_READERS[str(name)]} does (or leave it at {default!r})"
            )


def _check_samplers(cfg: CfgNode, where: str) -> None:
    """The range of a sampler's numbers may depend on the IoUs that background has."""
    heads, key = cfg.MODEL.ROI_HEADS, "ROI_HEADS.IOU_THRESHOLDS"
    component = ROI_HEADS_REGISTRY.get(heads.NAME)
    if not _HEADS.applies(cfg) or not _is_a(component, (BalancedSampling,)):
        return
    matchers = [(heads.IOU_THRESHOLDS, heads.IOU_LABELS)]
    if _is_a(component, (CascadeROIHeads,)):
        cascade, key = cfg.MODEL.ROI_BOX_CASCADE_HEAD, "ROI_BOX_CASCADE_HEAD.IOUS"
        sampling = cascade.IOUS if cascade.SAMPLE_EVERY_STAGE else cascade.IOUS[:1]
        matchers = [([iou], [0, 1]) for iou in sampling]
    try:
        for thresholds, labels in matchers:
            background = negatives_range(thresholds, labels)
            build_sampler(NEGATIVE_SAMPLERS, heads.NEGATIVE_SAMPLER, cfg).check(background)
            build_sampler(POSITIVE_SAMPLERS, heads.POSITIVE_SAMPLER, cfg).check(background)
    except ValueError as e:
        raise ConfigError(f"{where}{e} (MODEL.{key})") from e


def _check_cls_loss(cfg: CfgNode, where: str) -> None:
    """The range of UMOP's numbers depends on the detector's focal loss, which has the last word."""
    detector = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
    if not _is_a(detector, (DenseLosses,)):
        return
    try:
        detector.build_cls_loss(cfg)
    except ValueError as e:
        raise ConfigError(f"{where}{e} (MODEL.{detector.keys})") from e


def _check_scales(cfg: CfgNode, where: str) -> None:
    """They are used after training only, which would be late to learn of a mistake."""
    aug = cfg.TEST.AUG
    if not aug.ENABLED:
        return
    of_each = {"MAX_SIZES": "size", "SCALE_RANGES": "pair"}
    for name, what in of_each.items():
        if not aug.MIN_SIZES or aug[name] and len(aug[name]) != len(aug.MIN_SIZES):
            raise ConfigError(
                f"{where}TEST.AUG.{name} is {tuple(aug[name])!r}, should be empty or one {what}"
                f" for each of TEST.AUG.MIN_SIZES {tuple(aug.MIN_SIZES)!r}, of which there is at"
                " least one"
            )


def _is_a(component: Any, kinds: tuple[type, ...]) -> bool:
    return isinstance(component, type) and issubclass(component, kinds)
