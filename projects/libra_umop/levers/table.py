"""The table of levers."""

from collections.abc import Mapping
from typing import NamedTuple

from . import ways
from .families import Family, find_family
from .values import Values
from .ways import Way

__all__ = ["IMBALANCES", "LEVERS", "Lever"]

IMBALANCES = ("sample", "feature", "objective", "level", "class")
"""What can be out of balance, in the order of the report."""


class Lever(NamedTuple):
    """One row.

    Attributes:
        name: on a command line.
        imbalance: the one of :data:`IMBALANCES` that it cures; "" for several together.
        title: what it is.
        source: where it is from.
        ways: by name of the family; a family that is absent has no such lever. Levers whose ways
            cannot be on together switch each other off.
        parts: the levers that a row stands for if it stands for several; it has no ways then.
        needs: levers without which this one changes nothing.
    """

    name: str
    imbalance: str
    title: str
    source: str
    ways: Mapping[str, Way] = {}
    parts: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()

    def is_on(self, cfg: Mapping) -> bool:
        """Whether ``cfg`` trains with it; for several levers, with all that its family has."""
        values = Values(cfg)
        rows = self.parts_in(find_family(values))
        return bool(rows) and all(row.is_on_in(values) for row in rows)

    def is_on_in(self, values: Values) -> bool:
        """Same as :meth:`is_on`, of a single lever in a config with changes on top."""
        way = self.way_in(find_family(values))
        if way is None or way.chooser and values[way.chooser] not in way.classes:
            return False
        return way.is_set(values) and all(LEVERS[name].is_on_in(values) for name in self.needs)

    def way_in(self, family: Family | None) -> Way | None:
        """How a single lever is switched in a family; None where it is not there."""
        return self.ways.get(family.name) if family else None

    def parts_in(self, family: Family | None) -> list["Lever"]:
        """The single levers of this row that a family has."""
        rows = (LEVERS[name] for name in self.parts or (self.name,))
        return [row for row in rows if row.way_in(family)]


_ROWS = (
    Lever(
        "iou_sampling",
        "sample",
        "IoU-balanced negatives",
        "Libra R-CNN, 3.1",
        ways.roi_heads({"NEGATIVE_SAMPLER": "iou_balanced"}, {"NEGATIVE_SAMPLER": "random"}),
    ),
    Lever(
        "instance_sampling",
        "sample",
        "instance-balanced positives",
        "Libra R-CNN, 3.1",
        ways.roi_heads({"POSITIVE_SAMPLER": "instance_balanced"}, {"POSITIVE_SAMPLER": "random"}),
    ),
    Lever(
        "stage_sampling",
        "sample",
        "sampling at every stage of a cascade",
        "Cascade R-CNN's code",
        ways.cascade_head({"SAMPLE_EVERY_STAGE": True}, {"SAMPLE_EVERY_STAGE": False}),
    ),
    Lever(
        "ohem",
        "sample",
        "the hardest examples only",
        "OHEM; RetinaNet, table 1d",
        ways.ohem_heads() | ways.cls_loss("ohem"),
    ),
    Lever(
        "rpn_ratio",
        "sample",
        "at most 5 negatives for each positive anchor of the RPN",
        "Libra R-CNN's code",
        ways.rpn({"NEG_POS_RATIO": 5.0}, {"NEG_POS_RATIO": -1.0}),
    ),
    Lever(
        "bfp",
        "feature",
        "balanced feature pyramid, around any pyramid",
        "Libra R-CNN, 3.2",
        ways.bfp(),
    ),
    Lever(
        "balanced_l1",
        "objective",
        "balanced L1 loss",
        "Libra R-CNN, 3.3",
        ways.balanced_l1(),
    ),
    Lever(
        "rpn_balanced_l1",
        "objective",
        "balanced L1 loss of the RPN",
        "Libra R-CNN, 3.3",
        ways.rpn_balanced_l1(),
    ),
    Lever(
        "qfl",
        "objective",
        "quality focal loss: class scores learn the boxes' overlap",
        "GFL, equation 4",
        ways.quality_loss("quality_focal"),
    ),
    Lever(
        "vfl",
        "objective",
        "varifocal loss: class scores learn the boxes' overlap",
        "VarifocalNet, equation 2",
        ways.quality_loss("varifocal"),
    ),
    Lever(
        "pfl",
        "level",
        "progressive focal loss",
        "UMOP",
        ways.umop({"PROGRESSIVE_FOCUS": True}, {"PROGRESSIVE_FOCUS": False}),
    ),
    Lever(
        "lrp",
        "level",
        "gamma and alpha of each level",
        "UMOP, as released",
        ways.umop({"LEVEL_WISE": True, "LEVEL_REDUCTION": "sum"}, {"LEVEL_WISE": False}),
        needs=("pfl",),  # alone, the sum of the levels' losses is the plain focal loss
    ),
    Lever(
        "lrp_mean",
        "level",
        "normaliser of each level",
        "UMOP, as its equation says",
        ways.umop({"LEVEL_WISE": True, "LEVEL_REDUCTION": "mean"}, {"LEVEL_WISE": False}),
    ),
    Lever(
        "repeat_factor",
        "class",
        "images of rare classes repeated",
        "LVIS, appendix B.2",
        ways.repeat_factor(),
    ),
    Lever(
        "class_weights",
        "class",
        "class weights by the effective number of samples",
        "Cui et al., CVPR 2019",
        ways.class_weights(),
    ),
    Lever(
        "equalized_focal",
        "class",
        "equalised focal loss",
        "Li et al., CVPR 2022",
        ways.cls_loss("equalized_focal"),
    ),
    Lever(
        "seesaw",
        "class",
        "seesaw loss",
        "Wang et al., CVPR 2021",
        ways.seesaw(),
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
LEVERS: dict[str, Lever] = {lever.name: lever for lever in _ROWS}
"""The rows by name: single levers first, then those that stand for several."""
