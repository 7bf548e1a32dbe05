"""A config as the levers read it: by dotted keys, with changes on top."""

from collections.abc import Callable, Mapping
from typing import Any

__all__ = [
    "ARCHITECTURE",
    "BACKBONE",
    "BETA",
    "HEADS",
    "PYRAMID",
    "RPN",
    "SAMPLER",
    "UMOP_CLASSES",
    "Value",
    "Values",
]

ARCHITECTURE = "MODEL.META_ARCHITECTURE"
BACKBONE = "MODEL.BACKBONE.NAME"
BETA = "MODEL.CLASS_WEIGHTS.BETA"
PYRAMID = "MODEL.BFP.PYRAMID"
SAMPLER = "DATALOADER.SAMPLER_TRAIN"
HEADS = "MODEL.ROI_HEADS.NAME"
RPN = "MODEL.PROPOSAL_GENERATOR.NAME"
UMOP_CLASSES = {"retinanet": "UMOPRetinaNet", "atss": "UMOPATSS", "fcos": "UMOPFCOS"}
# What CLS_LOSS_TYPE "focal", the default, means to a class of its own.
OWN_CLS_LOSSES = dict.fromkeys(UMOP_CLASSES.values(), "progressive_focal")
OWN_CLS_LOSSES |= {"GFL": "quality_focal", "VFNet": "varifocal"}

Value = str | bool | float | Callable[["Values"], Any]  # or a function of the config that gives it


class Values:
    """A config by dotted keys, with changes on top.

    Args:
        cfg: nested mappings; it stays as it is.
    """

    def __init__(self, cfg: Mapping):
        self.cfg = cfg
        self.changes: dict[str, Any] = {}

    def __getitem__(self, key: str) -> Any:
        """The value of ``key``, as the detector reads it; None where the config has no such key."""
        value = self._written(key)
        if key.endswith(".CLS_LOSS_TYPE") and value in ("focal", None):
            return OWN_CLS_LOSSES.get(self._written(ARCHITECTURE), value)
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
