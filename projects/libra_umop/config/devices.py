"""Which device a run or a prediction is made on."""

from collections.abc import Collection

import torch
from detectron2.config import CfgNode

from ..errors import ConfigError

__all__ = ["choose_device", "device_of"]


def choose_device(cfg: CfgNode, given: Collection[str] = (), num_gpus: int = 1) -> str:
    """Set ``MODEL.DEVICE`` to "cpu" where it is "cuda", by default, and there is none.

    Args:
        cfg: whose ``MODEL.DEVICE`` may be changed.
        given: the keys that stand on the command line; CUDA that is asked for there is not
            replaced.
        num_gpus: as ``--num-gpus``; neither are several.

    Returns:
        a line to print; "" if nothing was changed.

    Raises:
        ConfigError: CUDA is asked for on the command line and is not there.
    """
    device = torch.device(cfg.MODEL.DEVICE)
    if device.type != "cuda":
        return ""
    if "MODEL.DEVICE" in given:
        device_of(cfg.MODEL.DEVICE, "MODEL.DEVICE")
    if torch.cuda.is_available():
        return ""
    if num_gpus > 1:
        raise ConfigError(
            f"--num-gpus is {num_gpus}, but torch finds no CUDA device here; MODEL.DEVICE cpu"
            " starts as many processes on the CPU"
        )
    cfg.MODEL.DEVICE = "cpu"
    return "MODEL.DEVICE is cpu, as there is no CUDA device"


def device_of(asked: str, option: str) -> str:
    """The device that somebody asked for by ``option``; by "", a GPU where there is one.

    Raises:
        ConfigError: there is no such device.
    """
    if not asked:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(asked)
    except RuntimeError as e:
        raise ConfigError(f"{option} is {asked!r}, should be cpu, cuda or cuda:N") from e
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= found:
        there = f"{found} CUDA devices" if found else "no CUDA device"
        raise ConfigError(f"{option} is {asked!r}, but torch finds {there} here; cpu goes anywhere")
    return asked
