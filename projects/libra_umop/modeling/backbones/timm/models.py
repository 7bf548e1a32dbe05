"""Creating timm's feature extractors from ``MODEL.TIMM``, and words for what goes wrong."""

import contextlib
import difflib
import itertools
import logging
import math
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager
from torch import nn

from ....utils.safe_load import safe_safetensors_load, safe_torch_load

__all__ = [
    "create_timm_model",
    "feature_name",
    "indices_of",
    "probe_timm_model",
    "without_pretrained",
]


def without_pretrained(cfg: CfgNode) -> CfgNode:
    """For who loads all weights after building a model: a copy of ``cfg`` that reads none for it.

    ``MODEL.WEIGHTS`` is empty in it, and timm's weights are neither fetched nor read.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = cfg.MODEL.TIMM.WEIGHTS = ""
    cfg.MODEL.TIMM.PRETRAINED = False
    return cfg


def feature_name(stride: int) -> str:
    """Detectron2's name of a feature of this stride: "res2" for 4, "res3" for 8."""
    return f"res{int(math.log2(stride))}"


def probe_timm_model(keys, in_chans: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Arguments that the constructor of ``MODEL.TIMM.NAME`` takes, and the features it has.

    Found on the meta device, without memory. ``keys`` is ``cfg.MODEL.TIMM``.

    Vision transformers with windows take any image size once told so; those arguments are tried in
    turn, as no model of timm says which it takes. Same for the drop path rate.
    """
    timm = _import_timm()
    if not timm.is_model(keys.NAME):
        near = difflib.get_close_matches(keys.NAME, timm.list_models(), n=3)
        raise ValueError(
            f"MODEL.TIMM.NAME is {keys.NAME!r}, should be a model of timm; near: {near}"
        )
    sizes: tuple[dict[str, bool], ...] = (
        {"strict_img_size": False, "always_partition": True},
        {"dynamic_img_size": True},
        {},
    )
    drops = [{"drop_path_rate": keys.DROP_PATH}] + [{}] * (keys.DROP_PATH == 0)
    refusal = None
    for size, drop in itertools.product(sizes, drops):
        kwargs = {"in_chans": in_chans, **size, **drop, **keys.ARGS}
        try:
            with torch.device("meta"):
                net = timm.create_model(keys.NAME, features_only=True, **kwargs)
            return kwargs, net.feature_info.info
        except TypeError as e:  # an unexpected keyword argument
            refusal = e
    raise ValueError(
        f"MODEL.TIMM.NAME {keys.NAME} refuses DROP_PATH {keys.DROP_PATH} or ARGS {dict(keys.ARGS)}:"
        f" {refusal}"
    )


def indices_of(names: Sequence[str], info: list[dict[str, Any]]) -> tuple[int, ...]:
    """The last feature of each of the strides that ``names`` stand for."""
    index_of = {feature_name(i["reduction"]): index for index, i in enumerate(info)}
    missing = [name for name in names if name not in index_of]
    if missing:
        raise ValueError(
            f"MODEL.FPN.IN_FEATURES is {list(names)}, should be of {list(index_of)}, which"
            " MODEL.TIMM.NAME has"
        )
    return tuple(index_of[name] for name in names)


def create_timm_model(keys, kwargs: dict[str, Any], pretrained: bool) -> nn.Module:
    """The feature extractor, with the weights that ``MODEL.TIMM`` names if ``pretrained``.

    Raises:
        ValueError: naming the key whose weights cannot be read.
    """
    timm = _import_timm()
    wanted = bool(keys.PRETRAINED or keys.WEIGHTS)
    if wanted and not pretrained:
        logger = logging.getLogger(__name__)
        logger.info("MODEL.WEIGHTS is given: the weights that MODEL.TIMM names are not read")
    if not (wanted and pretrained):
        return timm.create_model(keys.NAME, features_only=True, **kwargs)
    if keys.WEIGHTS:
        wanted_file = "a timm state dict of this model"
        if not PathManager.exists(keys.WEIGHTS):
            wanted_file += (
                " (tf_efficientnet_lite0's: tools/convert_checkpoint.py --fetch"
                " tf_efficientnet_lite0, from the repository)"
            )
        with _named("MODEL.TIMM.WEIGHTS", keys.WEIGHTS, wanted_file):
            overlay = {"state_dict": _read_weights(keys.WEIGHTS)}
            kwargs = {**kwargs, "pretrained_cfg_overlay": overlay}
            net = timm.create_model(keys.NAME, pretrained=True, features_only=True, **kwargs)
            net.pretrained_cfg.pop("state_dict", None)  # a second copy of all weights
            return net
    hint = "reachable; else set MODEL.TIMM.WEIGHTS to a local file, or False to start from scratch"
    with _named("MODEL.TIMM.PRETRAINED", keys.NAME, hint):
        return timm.create_model(keys.NAME, pretrained=True, features_only=True, **kwargs)


def _read_weights(path: str) -> dict[str, torch.Tensor]:
    """Tensors by name, from a state dict, or from one in a training checkpoint of timm's."""
    path = PathManager.get_local_path(path)
    load = safe_safetensors_load if path.endswith(".safetensors") else safe_torch_load
    content = load(path)
    for key in ("state_dict_ema", "model_ema", "state_dict", "model"):  # timm's order
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    named = content.items() if isinstance(content, dict) else ()
    weights = {k.removeprefix("module."): v for k, v in named if isinstance(v, torch.Tensor)}
    if not weights:
        raise ValueError("it holds no tensors by name")
    return weights


@contextlib.contextmanager
def _named(key: str, value: str, wanted: str):
    """Errors of reading weights, with the key that asked for them."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, AssertionError) as e:
        reason = str(e).strip().split("\n")[0] or type(e).__name__
        raise ValueError(f"{key} is {value!r}, should be {wanted}: {reason}") from e


def _import_timm():
    try:
        import timm
    except ModuleNotFoundError as e:
        raise ImportError("build_timm_backbone needs timm: pip install 'timm>=1.0,<2'") from e
    return timm
