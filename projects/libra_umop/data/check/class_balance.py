"""How often the classes are in the training data, and what the levers between classes make of it.

Letters: K classes. Dicts are Detectron2's dataset dicts; crowd regions are left out.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog, get_detection_dataset_dicts

from .repeat_factors import repeat_factors

__all__ = [
    "count_boxes",
    "with_class_counts",
    "with_repeat_threshold",
]

RFS = "RepeatFactorTrainingSampler"


def count_boxes(dicts: Iterable[dict[str, Any]], num_classes: int) -> list[int]:
    """Boxes of each class, K numbers."""
    counts = Counter(
        a["category_id"] for d in dicts for a in d.get("annotations", ()) if not a.get("iscrowd", 0)
    )
    return [counts[i] for i in range(num_classes)]


def with_repeat_threshold(cfg: CfgNode, dicts: Sequence[dict[str, Any]]) -> tuple[CfgNode, str]:
    """A config whose repeat-factor sampling has a threshold, and what to say of it.

    Args:
        cfg: a config; as it is and "" with another sampler. A ``DATALOADER.REPEAT_THRESHOLD`` of 0,
            at which no image would be repeated, is replaced by that of the data.
        dicts: what is trained on.
    """
    if cfg.DATALOADER.SAMPLER_TRAIN != RFS:
        return cfg, ""
    # As Detectron2's sampler counts: with crowd regions.
    classes = [{a["category_id"] for a in d.get("annotations", ())} for d in dicts]
    given = cfg.DATALOADER.REPEAT_THRESHOLD
    threshold, factors = repeat_factors(classes, given or None)
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATALOADER.REPEAT_THRESHOLD = threshold
    cfg.freeze()
    chosen = "" if given else ", the median class's part of the images"
    repeated, most = sum(f > 1 for f in factors), max(factors, default=1.0)
    return cfg, (
        f"DATALOADER.REPEAT_THRESHOLD {threshold:.4g}{chosen}: {repeated} of {len(factors)} images"
        f" are repeated, {most:.2f} times at most; an epoch has {sum(factors):.0f}"
    )


def with_class_counts(cfg: CfgNode) -> tuple[CfgNode, list[str]]:
    """A config that knows how many boxes each class has, where it weighs classes by that.

    Returns:
        ``cfg`` as it is where ``MODEL.CLASS_WEIGHTS.BETA`` is 0 or ``COUNTS`` are there, else a
        frozen copy with ``COUNTS`` of ``DATASETS.TRAIN``; and lines for people.
    """
    node = cfg.MODEL.CLASS_WEIGHTS
    if node.BETA == 0 or len(node.COUNTS) or not cfg.DATASETS.TRAIN:
        return cfg, []
    dicts = get_detection_dataset_dicts(
        cfg.DATASETS.TRAIN,
        filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
        check_consistency=False,  # it is logged once only, and that should be by the loader
    )
    names = MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).get("thing_classes", [])
    counts = count_boxes(dicts, len(names))
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.CLASS_WEIGHTS.COUNTS = counts
    cfg.freeze()
    return cfg, [
        f"MODEL.CLASS_WEIGHTS.COUNTS {min(counts)} to {max(counts)} boxes a class, from"
        f" {', '.join(cfg.DATASETS.TRAIN)}"
    ]
