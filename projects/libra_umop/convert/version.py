"""Which mmdetection wrote a checkpoint; where its anchors lie depends on it."""

import re

from .read import Checkpoint

__all__ = ["major_version"]

# Words of a training config that only one generation has, the newest first.
WORDS = (
    (3, r"\bdata_preprocessor\b|\bbgr_to_rgb\b"),
    (2, r"\banchor_generator\b|\bbbox_coder\b"),
    (1, r"\banchor_(scales|ratios|strides|base_sizes)\b"),
)


def major_version(checkpoint: Checkpoint) -> int | None:
    """1, 2 or 3, by the file's meta, the names of its tensors or its training config.

    None where none of them tells. What came before 1.0 counts as 1.
    """
    stated = re.match(r"v?(\d+)", checkpoint.version)
    if stated:
        return max(int(stated.group(1)), 1)
    if checkpoint.meta.get("mmengine_version"):
        return 3
    if any(name.startswith("roi_head.") for name in checkpoint.tensors):
        return 2
    if any(re.match(r"bbox_head\.(\d\.)?fc_cls\.", name) for name in checkpoint.tensors):
        return 1
    text = checkpoint.config_text
    return next((version for version, words in WORDS if re.search(words, text)), None)
