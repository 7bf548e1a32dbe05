"""Every config key that this project adds to Detectron2, declared once, a file for each room.

``add_libra_umop_config(cfg)`` adds them to a :func:`detectron2.config.get_cfg` node. Importing this
package also registers every component that the keys name. What Detectron2 already has a key for
(``SMOOTH_L1_BETA``, ``BBOX_REG_LOSS_TYPE``, ``FOCAL_LOSS_GAMMA``, ``DEFORM_ON_PER_STAGE`` ...) is
read from that key. At its defaults no key here changes what a Detectron2 config builds.
"""

import copy

from detectron2.config import CfgNode

from ... import modeling  # noqa: F401  (registers the components)
from ...key import DETECTRON2S, KEYS
from . import backbones, dense, detectron2s, rcnn, run  # noqa: F401  (declare the keys)

__all__ = ["add_libra_umop_config"]


def add_libra_umop_config(cfg: CfgNode) -> None:
    """Add the keys of this project to ``cfg``, in place.

    Args:
        cfg: the node that :func:`detectron2.config.get_cfg` returns.
    """
    for name, key in KEYS.items():
        if key.default is DETECTRON2S:
            continue
        *groups, leaf = name.split(".")
        node = cfg
        for group in groups:
            node = node.setdefault(group, CfgNode())
        is_group = isinstance(key.default, dict)
        node[leaf] = CfgNode(new_allowed=True) if is_group else copy.deepcopy(key.default)
