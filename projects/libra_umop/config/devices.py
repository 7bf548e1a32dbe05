"""Which device a run or a prediction is made on."""

from typing import Any

import torch
from detectron2.config import CfgNode

from ..errors import ConfigError

__all__ = ["choose_device", "device_of"]


def choose_device(cfg: CfgNode, args: Any = None) -> str:
    """Set ``MODEL.DEVICE`` to "cpu" where it is "cuda", by default, and there is none.

    Args:
        cfg: whose ``MODEL.DEVICE`` may be changed.
        args: the command line, with ``opts`` and ``num_gpus``; CUDA that is asked for there is not
            replaced.

    Returns:
        a line to print; "" if nothing was changed.

    Raises:
        ConfigError: CUDA is asked for on the command line and is not there.
    """
    device = torch.device(cfg.MODEL.DEVICE)
    if device.type != "cuda":
        return ""
    if args is not None and "MODEL.DEVICE" in (args.opts or [])[::2]:
        device_of(cfg.MODEL.DEVICE, "MODEL.DEVICE")
    if torch.cuda.is_available():
        return ""
    if args is not None and args.num_gpus > 1:
        raise ConfigError(
            f"--num-gpus is {args.num_gpus}, but torch finds no CUDA device here; MODEL.DEVICE cpu"
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
