"""How a lever is switched in each family of detectors: one function for each place it can sit in.

Each returns a :class:`Way` by the name of its family, for a row of the table.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from .families import FAMILIES
from .values import (
    ARCHITECTURE,
    BACKBONE,
    BETA,
    HEADS,
    PYRAMID,
    RPN,
    SAMPLER,
    UMOP_CLASSES,
    Value,
    Values,
)

__all__ = [
    "Way",
    "balanced_l1",
    "bfp",
    "cascade_head",
    "class_weights",
    "cls_loss",
    "ohem_heads",
    "quality_loss",
    "repeat_factor",
    "roi_heads",
    "rpn",
    "rpn_balanced_l1",
    "seesaw",
    "umop",
]


class Way(NamedTuple):
    """How one lever is switched in one family.

    Attributes:
        on, off: key to value, or to a function of the config that gives it; the value that makes
            the lever is never a function.
        chooser: the key that names the component, "" where any will do.
        classes: the values of ``chooser`` that know the lever; the first is taken where the
            config's is none of them.
        above_0: a key that makes the lever with any number above 0, and not with that of ``on``
            alone; "" for none.
        needs_0: such a key of a lever that cannot be on beside this one; "" for none.
    """

    on: Mapping[str, Value]
    off: Mapping[str, Value]
    chooser: str = ""
    classes: tuple[str, ...] = ()
    above_0: str = ""
    needs_0: str = ""

    def is_set(self, values: Values) -> bool:
        """Whether a config has the keys as they are when the lever is on."""
        return all(
            (values[key] or 0) > 0 if key == self.above_0 else callable(v) or values[key] == v
            for key, v in self.on.items()
        )

    def excludes(self, other: "Way") -> bool:
        """Whether both cannot be on: no class knows both, or a key would need two values."""
        same_component = bool(self.chooser) and self.chooser == other.chooser
        if same_component and not set(self.classes) & set(other.classes):
            return True
        if (
            self.above_0
            and self.above_0 == other.needs_0
            or self.needs_0
            and (self.needs_0 == other.above_0)
        ):
            return True
        values = ((value, other.on.get(key, value)) for key, value in self.on.items())
        return any(a != b and not callable(a) and not callable(b) for a, b in values)


Ways = dict[str, Way]
_BALANCED_HEADS = {
    "standard": "LibraROIHeads",
    "cascade": "LibraCascadeROIHeads",
    "c4": "LibraRes5ROIHeads",
}
_SOFTMAX_HEADS = {  # whose losses are chosen by key
    "standard": ("LibraROIHeads", "OHEMROIHeads"),
    "cascade": ("LibraCascadeROIHeads",),
    "c4": ("LibraRes5ROIHeads",),
}
_WITH_RPN = (*_BALANCED_HEADS, "rpn")


def roi_heads(on: Mapping[str, Value], off: Mapping[str, Value]) -> Ways:
    """Keys of ``MODEL.ROI_HEADS`` that the heads with balanced sampling know."""
    on, off = _below("ROI_HEADS", on), _below("ROI_HEADS", off)
    return {family: Way(on, off, HEADS, (name,)) for family, name in _BALANCED_HEADS.items()}


def cascade_head(on: Mapping[str, Value], off: Mapping[str, Value]) -> Ways:
    """Keys of ``MODEL.ROI_BOX_CASCADE_HEAD`` that the heads with balanced sampling know."""
    on, off = _below("ROI_BOX_CASCADE_HEAD", on), _below("ROI_BOX_CASCADE_HEAD", off)
    return {"cascade": Way(on, off, HEADS, (_BALANCED_HEADS["cascade"],))}


def ohem_heads() -> Ways:
    """The class of the heads alone."""
    return {"standard": Way({}, {HEADS: "LibraROIHeads"}, HEADS, ("OHEMROIHeads",))}


def rpn(on: Mapping[str, Value], off: Mapping[str, Value]) -> Ways:
    """Keys of ``MODEL.RPN`` that LibraRPN knows."""
    way = Way(_below("RPN", on), _below("RPN", off), RPN, ("LibraRPN",), "MODEL.RPN.NEG_POS_RATIO")
    return dict.fromkeys(_WITH_RPN, way)


def cls_loss(name: str) -> Ways:
    """A registered classification loss in the place of the focal loss, which weighs no classes."""
    ways = {}
    for family in UMOP_CLASSES:
        on, off = _cls_loss_types(family, name)
        classes = (FAMILIES[family].baseline,)
        ways[family] = Way(on, off, ARCHITECTURE, classes, needs_0=BETA)
    return ways


def repeat_factor() -> Ways:
    """Detectron2's sampler, whatever is trained; an RPN knows no classes."""
    way = Way({SAMPLER: "RepeatFactorTrainingSampler"}, {SAMPLER: "TrainingSampler"})
    return {family: way for family in FAMILIES if family != "rpn"}


def class_weights() -> Ways:
    """The weights of the classes in the classification losses that know them."""
    on: dict[str, Value] = {BETA: 0.999}
    off: dict[str, Value] = {BETA: 0.0}
    heads = {
        family: Way(on, off, HEADS, classes, BETA) for family, classes in _SOFTMAX_HEADS.items()
    }
    return heads | {
        family: Way(on, off, ARCHITECTURE, (FAMILIES[family].baseline, umop_name), BETA)
        for family, umop_name in UMOP_CLASSES.items()
    }


def seesaw() -> Ways:
    """The classification loss of the ROI heads, which weighs classes itself."""
    key = "MODEL.ROI_BOX_HEAD.CLS_LOSS_TYPE"
    on: dict[str, Value] = {key: "seesaw"}
    off: dict[str, Value] = {key: "cross_entropy"}
    return {
        family: Way(on, off, HEADS, classes, needs_0=BETA)
        for family, classes in _SOFTMAX_HEADS.items()
    }


def quality_loss(name: str) -> Ways:
    """A classification loss whose score is the box's quality, in the place of the focal loss."""
    ways = cls_loss(name)
    # FCOS has its threshold on the root of a product; of the class score alone it would be high.
    key = "MODEL.FCOS.SCORE_THRESH_TEST"
    fcos = ways["fcos"]
    on, off = {**fcos.on, key: _at_most(key, 0.05)}, {**fcos.off, key: 0.2}
    return ways | {"fcos": fcos._replace(on=on, off=off)}


def umop(on: Mapping[str, Value], off: Mapping[str, Value]) -> Ways:
    """Keys of ``MODEL.UMOP``, read by the progressive focal loss of the dense detectors."""
    ways = {}
    for family in (FAMILIES[name] for name in FAMILIES if FAMILIES[name].plain):
        ((key, plain),) = family.plain.items()
        keys = {key: f"progressive_{plain}"} | _below("UMOP", on)
        if "PROGRESSIVE_FOCUS" in on:
            gamma = key.replace("CLS_LOSS_TYPE", "FOCAL_LOSS_GAMMA")
            keys[gamma] = _room_to_move(gamma)
        umop_class = [UMOP_CLASSES[family.name]] if family.name in UMOP_CLASSES else []
        classes = (family.baseline, *umop_class)
        ways[family.name] = Way(keys, _below("UMOP", off), ARCHITECTURE, classes)
    return ways


def bfp() -> Ways:
    """Around whatever pyramid a config has, or off it again; C4 models have none."""
    on: dict[str, Value] = {BACKBONE: "build_bfp_backbone", PYRAMID: _the_pyramid}
    way = Way(on, {BACKBONE: _the_pyramid})
    return {family: way for family in FAMILIES if family != "c4"}


def balanced_l1() -> Ways:
    """The box loss of the ROI heads and of RetinaNet."""
    box_head = _balanced_l1("ROI_BOX_HEAD", "SMOOTH_L1_BETA", 1.0)
    # The released Libra RetinaNet's transition point; Detectron2's RetinaNet has none.
    on, off = _balanced_l1("RETINANET", "SMOOTH_L1_LOSS_BETA", 0.11)
    off = {**off, "MODEL.RETINANET.SMOOTH_L1_LOSS_BETA": 0.0}
    return {
        **{family: Way(*box_head, HEADS, names) for family, names in _SOFTMAX_HEADS.items()},
        "retinanet": Way(on, off, ARCHITECTURE, ("LibraRetinaNet", "UMOPRetinaNet")),
    }


def rpn_balanced_l1() -> Ways:
    """The box loss of the RPN."""
    way = Way(*_balanced_l1("RPN", "SMOOTH_L1_BETA", 0.1111), RPN, ("LibraRPN",))
    return dict.fromkeys(_WITH_RPN, way)


def _below(group: str, keys: Mapping[str, Value]) -> dict[str, Value]:
    return {f"MODEL.{group}.{key}": value for key, value in keys.items()}


def _cls_loss_types(family: str, name: str) -> tuple[dict[str, Value], dict[str, Value]]:
    ((key, plain),) = FAMILIES[family].plain.items()
    return {key: name}, {key: plain}


def _balanced_l1(
    group: str, beta_key: str, beta: float
) -> tuple[dict[str, Value], dict[str, Value]]:
    """On and off; the transition point is the config's own, or ``beta`` where it has none."""
    loss, key = f"MODEL.{group}.BBOX_REG_LOSS_TYPE", f"MODEL.{group}.{beta_key}"

    def positive(values: Values) -> float:
        return values[key] if (values[key] or 0) > 0 else beta

    return {loss: "balanced_l1", key: positive}, {loss: "smooth_l1"}


def _at_most(key: str, limit: float) -> Callable[[Values], float]:
    """The config's own value, or ``limit`` where that is smaller."""
    return lambda values: min(values[key], limit)


def _the_pyramid(values: Values) -> str:
    """The pyramid that a config has, whether it is inside a BFP already or not."""
    name = values[BACKBONE]
    return values[PYRAMID] if name == "build_bfp_backbone" else name


def _room_to_move(key: str) -> Callable[[Values], float]:
    """PFL moves gamma by delta and keeps alpha = w / gamma <= 1: the config's own, or 2."""

    def gamma(values: Values) -> float:
        lowest = values[key] - values["MODEL.UMOP.DELTA"]
        return values[key] if lowest >= values["MODEL.UMOP.W"] else 2.0

    return gamma
