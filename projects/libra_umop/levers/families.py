"""Families: detectors that take the same levers by the same keys."""

from collections.abc import Mapping
from typing import NamedTuple

from .values import ARCHITECTURE, HEADS, PYRAMID, RPN, Values

__all__ = ["FAMILIES", "Family", "family_of", "find_family"]


class Family(NamedTuple):
    """Detectors that take the same levers by the same keys.

    Attributes:
        name: as in :attr:`Lever.ways`.
        title: as people call it.
        architectures: values of ``MODEL.META_ARCHITECTURE``.
        chooser: the key that names the component which most levers change.
        classes: the values of ``chooser`` that belong to the family.
        baseline: the one that all levers are compared with, at its levers off.
        plain: what else several levers have in common and the baseline does not, key to value.
    """

    name: str
    title: str
    architectures: tuple[str, ...]
    chooser: str
    classes: tuple[str, ...]
    baseline: str
    plain: Mapping[str, str] = {}


def _two_stage(name: str, title: str, baseline: str, *others: str) -> Family:
    architectures = ("GeneralizedRCNN", "PanopticFPN")
    return Family(name, title, architectures, HEADS, (*others, baseline), baseline)


def _dense(
    name: str, title: str, baseline: str, *others: str, group: str = "", loss: str = "focal"
) -> Family:
    """``loss`` is the plain classification loss; ``group`` has the keys, if it is not ``name``."""
    classes, plain = (baseline, *others), {f"MODEL.{group or name.upper()}.CLS_LOSS_TYPE": loss}
    return Family(name, title, classes, ARCHITECTURE, classes, baseline, plain)


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        _two_stage(
            "standard",
            "Faster and Mask R-CNN",
            "LibraROIHeads",
            "StandardROIHeads",
            "OHEMROIHeads",
        ),
        _two_stage("cascade", "Cascade R-CNN", "LibraCascadeROIHeads", "CascadeROIHeads"),
        _two_stage("c4", "C4 R-CNN", "LibraRes5ROIHeads", "Res5ROIHeads"),
        Family("rpn", "RPN", ("ProposalNetwork",), RPN, ("RPN", "LibraRPN"), "LibraRPN"),
        _dense("retinanet", "RetinaNet", "LibraRetinaNet", "RetinaNet", "UMOPRetinaNet"),
        _dense("atss", "ATSS", "ATSS", "UMOPATSS"),
        _dense("fcos", "FCOS", "FCOS", "UMOPFCOS"),
        _dense("gfl", "GFL", "GFL", group="ATSS", loss="quality_focal"),
        _dense("vfnet", "VFNet", "VFNet", group="ATSS", loss="varifocal"),
    )
}
"""By name: detectors that the same keys switch."""


def family_of(cfg: Mapping) -> Family | None:
    """The family that ``cfg`` belongs to; None for a class that the table does not know."""
    return find_family(Values(cfg))


def find_family(values: Values) -> Family | None:
    """Same as :func:`family_of`, of a config with changes on top."""
    if values[PYRAMID] is None:  # a config without this project's keys
        return None
    for family in FAMILIES.values():
        fits = values[ARCHITECTURE] in family.architectures
        if fits and values[family.chooser] in family.classes:
            return family
    return None
