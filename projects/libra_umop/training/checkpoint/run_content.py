"""What a checkpoint holds beside weights: the config of its run and what its labels stand for."""

from typing import Any

from detectron2.config import CfgNode, get_cfg

from ...config.keys import add_libra_umop_config
from ...config.loading import merge_text
from ...utils.safe_load import safe_torch_load
from .weight_fit import Classes

__all__ = ["about_run", "read_run"]


def read_run(weights_path: str) -> tuple[CfgNode | None, list[str] | None]:
    """The config and the class names that a checkpoint of this project holds.

    Args:
        weights_path: a local checkpoint; nothing in it is executed.

    Returns:
        ``(cfg, class_names)``, each None where the file does not hold it.

    Raises:
        ConfigError: the file is refused or not whole.
    """
    if weights_path.endswith(".pkl"):
        return None, None
    checkpoint = safe_torch_load(weights_path)
    cfg = None
    if isinstance(checkpoint, dict) and isinstance(checkpoint.get("config"), str):
        cfg = get_cfg()
        add_libra_umop_config(cfg)
        merge_text(cfg, checkpoint["config"], weights_path)
    classes = Classes.of_checkpoint(checkpoint)
    return cfg, list(classes.names) if classes else None


def about_run(cfg: CfgNode | None) -> dict[str, Any]:
    """What predicting needs to know beside the weights."""
    if cfg is None:
        return {}
    about: dict[str, Any] = {"config": cfg.dump()}
    classes = Classes.of_dataset(cfg.DATASETS.TRAIN[0]) if cfg.DATASETS.TRAIN else None
    if classes:
        about["class_names"] = list(classes.names)
        if classes.ids:
            about["class_ids"] = list(classes.ids)
    return about
