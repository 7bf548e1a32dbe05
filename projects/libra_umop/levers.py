"""The levers: what this project can switch on in a detector, each in one row of one table.

A lever cures one imbalance. A row says for each family of detectors which keys switch it on and
off, and which classes know it, so that config checks, findings, documents and comparisons say the
same. One lever is one difference: :func:`switch` changes the named lever and no other one, though
the class that it needs may bring others along that are on by default.

Configs are read as nested mappings, a ``CfgNode`` or the dicts of a ``config.yaml``, with this
project's keys in them.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

__all__ = [
    "FAMILIES",
    "LEVERS",
    "Family",
    "Lever",
    "Way",
    "active",
    "as_text",
    "baseline",
    "family_of",
    "levers_for",
    "stand_in",
    "switch",
]

IMBALANCES = ("sample", "feature", "objective", "level")

Pairs = list[tuple[str, Any]]
Value = str | bool | float | Callable[["_Values"], Any]

_ARCHITECTURE = "MODEL.META_ARCHITECTURE"
_BACKBONE = "MODEL.BACKBONE.NAME"
_PYRAMID = "MODEL.BFP.PYRAMID"
_HEADS = "MODEL.ROI_HEADS.NAME"
_RPN = "MODEL.PROPOSAL_GENERATOR.NAME"
_UMOP_CLASSES = ("UMOPRetinaNet", "UMOPATSS", "UMOPFCOS")
_DENSE = {"retinanet": "LibraRetinaNet", "atss": "ATSS", "fcos": "FCOS"}


class _Values:
    """A config by dotted keys, with changes on top."""

    def __init__(self, cfg: Mapping, changes: dict[str, Any] | None = None):
        self.cfg, self.changes = cfg, dict(changes or {})

    def __getitem__(self, key: str) -> Any:
        """The value of ``key``, as the detector reads it; None where the config has no such key."""
        value = self._written(key)
        is_plain = key.endswith(".CLS_LOSS_TYPE") and value in ("focal", None)
        if is_plain and self._written(_ARCHITECTURE) in _UMOP_CLASSES:
            return "progressive_focal"
        return value

    def _written(self, key: str) -> Any:
        if key in self.changes:
            return self.changes[key]
        node: Any = self.cfg
        for part in key.split("."):
            if not isinstance(node, Mapping) or part not in node:
                return None
            node = node[part]
        return node

    def change(self, keys: Mapping[str, Value]) -> None:
        """Set keys; a function is asked for the value, and heard if that is another one."""
        asked = {k: v(self) for k, v in keys.items() if callable(v)}
        self.changes.update({k: v for k, v in keys.items() if k not in asked})
        self.changes.update({k: v for k, v in asked.items() if self[k] != v})


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


_TWO_STAGE = ("GeneralizedRCNN", "PanopticFPN")


def _dense_family(name: str, title: str, *classes: str) -> Family:
    plain = {f"MODEL.{name.upper()}.CLS_LOSS_TYPE": "focal"}
    return Family(name, title, classes, _ARCHITECTURE, classes, _DENSE[name], plain)


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            "standard",
            "Faster and Mask R-CNN",
            _TWO_STAGE,
            _HEADS,
            ("StandardROIHeads", "LibraROIHeads", "OHEMROIHeads"),
            "LibraROIHeads",
        ),
        Family(
            "cascade",
            "Cascade R-CNN",
            _TWO_STAGE,
            _HEADS,
            ("CascadeROIHeads", "LibraCascadeROIHeads"),
            "LibraCascadeROIHeads",
        ),
        Family("rpn", "RPN", ("ProposalNetwork",), _RPN, ("RPN", "LibraRPN"), "LibraRPN"),
        _dense_family("retinanet", "RetinaNet", "RetinaNet", "LibraRetinaNet", "UMOPRetinaNet"),
        _dense_family("atss", "ATSS", "ATSS", "UMOPATSS"),
        _dense_family("fcos", "FCOS", "FCOS", "UMOPFCOS"),
    )
}


class Way(NamedTuple):
    """How one lever is switched in one family.

    Attributes:
        on, off: key to value, or to a function of the config that gives it; the value that makes
            the lever is never a function.
        chooser: the key that names the component, "" where any will do.
        classes: the values of ``chooser`` that know the lever; the first is taken where the
            config's is none of them.
    """

    on: Mapping[str, Value]
    off: Mapping[str, Value]
    chooser: str = ""
    classes: tuple[str, ...] = ()


class Lever(NamedTuple):
    """One row.

    Attributes:
        name: on a command line.
        imbalance: the one of :data:`IMBALANCES` that it cures; "" for several together.
        title: what it is.
        source: where it is from.
        ways: by name of the family; a family that is absent has no such lever.
        parts: the levers that a row stands for if it stands for several; it has no ways then.
        excludes: levers that are switched off by switching this one on.
        needs: levers without which this one changes nothing.
    """

    name: str
    imbalance: str
    title: str
    source: str
    ways: Mapping[str, Way] = {}
    parts: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()

    def is_on(self, cfg: Mapping) -> bool:
        """Whether ``cfg`` trains with it; for several levers, with all that its family has."""
        values = _Values(cfg)
        rows = [LEVERS[name] for name in _parts(self, _family(values))]
        return bool(rows) and all(_is_on(row, values) for row in rows)


def _the_pyramid(values: _Values) -> str:
    """The pyramid that a config has, whether it is inside a BFP already or not."""
    name = values[_BACKBONE]
    return values[_PYRAMID] if name == "build_bfp_backbone" else name


def _keep_if_positive(key: str, beta: float) -> Callable[[_Values], float]:
    """Balanced L1 needs a transition point: the config's own, or ``beta`` where it has none."""
    return lambda values: values[key] if (values[key] or 0) > 0 else beta


def _balanced_l1(group: str, beta_key: str, beta: float, off: Mapping, chooser: str, *classes: str):
    loss, beta_key = f"MODEL.{group}.BBOX_REG_LOSS_TYPE", f"MODEL.{group}.{beta_key}"
    on = {loss: "balanced_l1", beta_key: _keep_if_positive(beta_key, beta)}
    return Way(on, {loss: "smooth_l1", **off}, chooser, classes)


def _sampler(key: str, value: str) -> dict[str, Way]:
    on, off = {f"MODEL.ROI_HEADS.{key}": value}, {f"MODEL.ROI_HEADS.{key}": "random"}
    heads = {"standard": "LibraROIHeads", "cascade": "LibraCascadeROIHeads"}
    return {family: Way(on, off, _HEADS, (name,)) for family, name in heads.items()}


def _umop(on: Mapping[str, Value], off: Mapping[str, Value]) -> dict[str, Way]:
    ways = {}
    for (family, name), umop_name in zip(_DENSE.items(), _UMOP_CLASSES, strict=True):
        gamma = f"MODEL.{family.upper()}.FOCAL_LOSS_GAMMA"
        on_keys = {f"MODEL.{family.upper()}.CLS_LOSS_TYPE": "progressive_focal"}
        on_keys.update({f"MODEL.UMOP.{k}": v for k, v in on.items()})
        if "PROGRESSIVE_FOCUS" in on:
            on_keys[gamma] = _room_to_move(gamma)
        off_keys = {f"MODEL.UMOP.{k}": v for k, v in off.items()}
        ways[family] = Way(on_keys, off_keys, _ARCHITECTURE, (name, umop_name))
    return ways


def _dense_ohem() -> dict[str, Way]:
    keys = {family: f"MODEL.{family.upper()}.CLS_LOSS_TYPE" for family in _DENSE}
    return {
        family: Way({keys[family]: "ohem"}, {keys[family]: "focal"}, _ARCHITECTURE, (name,))
        for family, name in _DENSE.items()
    }


def _room_to_move(key: str) -> Callable[[_Values], float]:
    """PFL moves gamma by delta and keeps alpha = w / gamma <= 1: the config's own, or 2."""

    def gamma(values: _Values) -> float:
        lowest = values[key] - values["MODEL.UMOP.DELTA"]
        return values[key] if lowest >= values["MODEL.UMOP.W"] else 2.0

    return gamma


_BFP = Way({_BACKBONE: "build_bfp_backbone", _PYRAMID: _the_pyramid}, {_BACKBONE: _the_pyramid})

LEVERS: dict[str, Lever] = {
    lever.name: lever
    for lever in (
        Lever(
            "iou_sampling",
            "sample",
            "IoU-balanced negatives",
            "Libra R-CNN, 3.1",
            _sampler("NEGATIVE_SAMPLER", "iou_balanced"),
            excludes=("ohem",),
        ),
        Lever(
            "instance_sampling",
            "sample",
            "instance-balanced positives",
            "Libra R-CNN, 3.1",
            _sampler("POSITIVE_SAMPLER", "instance_balanced"),
            excludes=("ohem",),
        ),
        Lever(
            "ohem",
            "sample",
            "the hardest examples only",
            "OHEM; RetinaNet, table 1d",
            {
                "standard": Way({}, {_HEADS: "LibraROIHeads"}, _HEADS, ("OHEMROIHeads",)),
                **_dense_ohem(),
            },
            excludes=("iou_sampling", "instance_sampling", "pfl", "lrp", "lrp_mean"),
        ),
        Lever(
            "rpn_ratio",
            "sample",
            "at most 5 negatives for each positive anchor of the RPN",
            "Libra R-CNN's code",
            dict.fromkeys(
                ("standard", "cascade", "rpn"),
                Way(
                    {"MODEL.RPN.NEG_POS_RATIO": 5.0},
                    {"MODEL.RPN.NEG_POS_RATIO": -1.0},
                    _RPN,
                    ("LibraRPN",),
                ),
            ),
        ),
        Lever(
            "bfp",
            "feature",
            "balanced feature pyramid, around any pyramid",
            "Libra R-CNN, 3.2",
            dict.fromkeys(FAMILIES, _BFP),
        ),
        Lever(
            "balanced_l1",
            "objective",
            "balanced L1 loss",
            "Libra R-CNN, 3.3",
            {
                "standard": _balanced_l1(
                    "ROI_BOX_HEAD",
                    "SMOOTH_L1_BETA",
                    1.0,
                    {},
                    _HEADS,
                    "LibraROIHeads",
                    "OHEMROIHeads",
                ),
                "cascade": _balanced_l1(
                    "ROI_BOX_HEAD", "SMOOTH_L1_BETA", 1.0, {}, _HEADS, "LibraCascadeROIHeads"
                ),
                "retinanet": _balanced_l1(
                    "RETINANET",
                    "SMOOTH_L1_LOSS_BETA",
                    0.11,  # the released Libra RetinaNet's
                    {"MODEL.RETINANET.SMOOTH_L1_LOSS_BETA": 0.0},
                    _ARCHITECTURE,
                    "LibraRetinaNet",
                    "UMOPRetinaNet",
                ),
            },
        ),
        Lever(
            "rpn_balanced_l1",
            "objective",
            "balanced L1 loss of the RPN",
            "Libra R-CNN, 3.3",
            dict.fromkeys(
                ("standard", "cascade", "rpn"),
                _balanced_l1("RPN", "SMOOTH_L1_BETA", 0.1111, {}, _RPN, "LibraRPN"),
            ),
        ),
        Lever(
            "pfl",
            "level",
            "progressive focal loss",
            "UMOP",
            _umop({"PROGRESSIVE_FOCUS": True}, {"PROGRESSIVE_FOCUS": False}),
            excludes=("ohem",),
        ),
        Lever(
            "lrp",
            "level",
            "gamma and alpha of each level",
            "UMOP, as released",
            _umop({"LEVEL_WISE": True, "LEVEL_REDUCTION": "sum"}, {"LEVEL_WISE": False}),
            excludes=("ohem", "lrp_mean"),
            needs=("pfl",),  # alone, the sum of the levels' losses is the plain focal loss
        ),
        Lever(
            "lrp_mean",
            "level",
            "normaliser of each level",
            "UMOP, as its equation says",
            _umop({"LEVEL_WISE": True, "LEVEL_REDUCTION": "mean"}, {"LEVEL_WISE": False}),
            excludes=("ohem", "lrp"),
        ),
        Lever(
            "sampling",
            "sample",
            "IoU-balanced negatives, instance-balanced positives",
            "Libra R-CNN, 3.1",
            parts=("iou_sampling", "instance_sampling"),
        ),
        Lever(
            "pfl_lrp",
            "level",
            "progressive focal loss, per level",
            "UMOP, as released",
            parts=("pfl", "lrp"),
        ),
        Lever(
            "pfl_lrp_mean",
            "level",
            "progressive focal loss and normaliser, per level",
            "UMOP, as its equation says",
            parts=("pfl", "lrp_mean"),
        ),
        Lever(
            "libra",
            "",
            "balanced sampling, feature pyramid and box loss",
            "Libra R-CNN",
            parts=("iou_sampling", "instance_sampling", "bfp", "balanced_l1"),
        ),
        Lever(
            "all",
            "",
            "balanced sampling, feature pyramid and losses",
            "Libra R-CNN and UMOP",
            parts=("iou_sampling", "instance_sampling", "bfp", "balanced_l1", "pfl", "lrp"),
        ),
    )
}


def family_of(cfg: Mapping) -> Family | None:
    """The family that ``cfg`` belongs to; None for a class that the table does not know."""
    return _family(_Values(cfg))


def levers_for(cfg: Mapping) -> list[Lever]:
    """The rows that ``cfg`` can be switched to, in the table's order.

    A row of several levers is among them where its family has two of its parts or more and no
    other row stands for the same; one that needs another lever, where that is on.
    """
    values = _Values(cfg)
    rows: dict[tuple[str, ...], Lever] = {}
    for lever in LEVERS.values():
        if not _why_not(lever, values):
            rows.setdefault(tuple(_parts(lever, _family(values))), lever)
    return list(rows.values())


def active(cfg: Mapping) -> list[str]:
    """The names of the single levers that ``cfg`` trains with."""
    return _active(_Values(cfg))


def switch(cfg: Mapping, name: str, on: bool = True) -> Pairs:
    """What switches one row of the table on or off, and leaves all other levers as they are.

    Args:
        cfg: a whole config.
        name: of the row.
        on: False for off.

    Returns:
        (KEY, value) pairs to merge into ``cfg``: the lever's own keys, whether or not they change
        anything; where ``cfg`` has another one, the class that knows it, and what it cannot do
        without, such as a transition point; and what keeps the levers off that this class brings
        along.

    Raises:
        ValueError: there is no such lever, or not in this detector.
    """
    values = _Values(cfg)
    lever = _lever(name, values)
    before = _active(values)
    parts = [LEVERS[part] for part in _parts(lever, _family(values))]
    wanted = {part.name for part in parts} if on else set()
    unwanted = {name for part in parts for name in part.excludes} if on else {p.name for p in parts}
    # Now, as the class that the wanted ones need may not know what these are switched with.
    _switch_off_others(values, keep=set(before) - unwanted)
    for part in parts:
        _apply(_way(part, _family(values)), values, on)
    _switch_off_others(values, keep=(set(before) | wanted) - unwanted)
    return list(values.changes.items())


def baseline(cfg: Mapping) -> Pairs:
    """What makes of ``cfg`` the detector that its levers are to be compared with.

    It is of the class that knows the levers, all of them off: RetinaNet's is LibraRetinaNet, whose
    clipping and normaliser the levers have too; with its levers off it trains as Detectron2's.

    Raises:
        ValueError: the table does not know the detector.
    """
    values = _Values(cfg)
    family = _family(values)
    if family is None:
        raise ValueError(_unknown(values))
    values.change({family.chooser: family.baseline})
    values.change({k: v for k, v in family.plain.items() if values[k] not in (v, None)})
    _switch_off_others(values, keep=set())
    return list(values.changes.items())


def stand_in(name: str, chooser: str, component: str) -> str:
    """The class that knows a lever, for a component that does not.

    Args:
        name: of the lever.
        chooser: the key that names the component.
        component: its value, of this table or not.
    """
    ways = LEVERS[name].ways
    families = sorted(FAMILIES.values(), key=lambda family: component not in family.classes)
    known = [ways[family.name] for family in families if family.name in ways]
    return next(way.classes[0] for way in known if way.chooser == chooser)


def as_text(pairs: Pairs) -> str:
    """Pairs as they stand on a command line, KEY value KEY value."""
    return " ".join(f"{key} {value}" for key, value in pairs)


def _family(values: _Values) -> Family | None:
    if values[_PYRAMID] is None:  # a config without this project's keys
        return None
    for family in FAMILIES.values():
        fits = values[_ARCHITECTURE] in family.architectures
        if fits and values[family.chooser] in family.classes:
            return family
    return None


def _way(lever: Lever, family: Family | None) -> Way | None:
    return lever.ways.get(family.name) if family else None


def _parts(lever: Lever, family: Family | None) -> list[str]:
    """The single levers of a row that a family has."""
    names = lever.parts or (lever.name,)
    return [name for name in names if _way(LEVERS[name], family)]


def _is_on(lever: Lever, values: _Values) -> bool:
    way = _way(lever, _family(values))
    if way is None or way.chooser and values[way.chooser] not in way.classes:
        return False
    as_set = all(callable(v) or values[key] == v for key, v in way.on.items())
    return as_set and all(_is_on(LEVERS[name], values) for name in lever.needs)


def _active(values: _Values) -> list[str]:
    return [name for name, lever in LEVERS.items() if lever.ways and _is_on(lever, values)]


def _apply(way: Way, values: _Values, on: bool) -> None:
    if on and way.chooser and values[way.chooser] not in way.classes:
        values.change({way.chooser: way.classes[0]})
    values.change(way.on if on else way.off)


def _switch_off_others(values: _Values, keep: set) -> None:
    for name in _active(values):
        lever = LEVERS[name]
        if name not in keep and _is_on(lever, values):
            _apply(_way(lever, _family(values)), values, on=False)


def _lever(name: str, values: _Values) -> Lever:
    lever = LEVERS.get(name)
    why_not = _why_not(lever, values) if lever else "no such lever"
    if why_not:
        known = ", ".join(row.name for row in LEVERS.values() if not _why_not(row, values))
        raise ValueError(f"lever is {name!r}: {why_not}; should be one of {known or 'none'}")
    return lever


def _why_not(lever: Lever, values: _Values) -> str:
    """Why a row cannot be switched in this config; "" where it can."""
    family = _family(values)
    if family is None:
        return _unknown(values)
    if len(_parts(lever, family)) < min(2, len(lever.parts) or 1):
        return f"{family.title} has no such lever"
    missing = [name for name in lever.needs if not _is_on(LEVERS[name], values)]
    return f"it changes nothing without {missing[0]}" if missing else ""


def _unknown(values: _Values) -> str:
    names = f"{_ARCHITECTURE} {values[_ARCHITECTURE]} and {_HEADS} {values[_HEADS]}"
    return f"no levers are known for {names}"
