"""What training says to people before the first step and after the last one."""

import logging
import os
import shlex
import sys
from collections.abc import Iterable

import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.utils import comm
from torch import nn

from ..errors import one_line
from .hooks import BestCheckpointHook

NOT_EVALUATED = (
    "nothing will be evaluated: there is no validation set with objects, so there will be no AP and"
    " no model_best.pth. Give one with --val-json FILE --val-images DIR, or split yours:"
    " --split 0.8"
)

MOST_FROZEN = 6  # layers that are named

logger = logging.getLogger("libra_umop")

CONFIG = "configs/quick/libra_faster_rcnn_R_18_FPN_bccd.yaml"
_SCRIPTS = {"train": "train_net.py"}  # those of the others are tools/NAME.py


def program(name: str) -> str:
    """What to type for a command: as this process was started, by libra-umop or by a script."""
    if sys.argv[0].startswith("libra-umop "):
        return f"libra-umop {name}"
    return f"python {_SCRIPTS.get(name, f'tools/{name}.py')}"


def usage(words: str) -> str:
    """What to type where no config was named; ``words``: the rest of that command line."""
    train = program("train")
    return f"""Which config, and which data? For example:

  train on your data              {train} --config-file {CONFIG} {words}
  go on after a stop              the same with --resume
  evaluate                        the same with --eval-only MODEL.WEIGHTS output/model_best.pth
  on 4 GPUs                       the same with --num-gpus 4
  everything else                 {train} --help

DIR is a dataset as COCO, YOLO, Pascal VOC, CVAT, Label Studio, FiftyOne, LabelMe or
CreateML lay it out. The configs are in configs/."""


def say(lines: Iterable[str]) -> None:
    """To the console and to ``log.txt``."""
    for line in lines:
        logger.info(one_line(line))


def where_it_goes(cfg: CfgNode, device_note: str = "") -> list[str]:
    """Lines on the device and the folder of results, and on data without a validation set."""
    device = torch.device(cfg.MODEL.DEVICE)
    name = f" ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else ""
    processes = comm.get_world_size()
    lines = [] if len(cfg.DATASETS.TEST) else [NOT_EVALUATED]
    lines.append(
        device_note or f"device: {device}{name}" + (f", {processes} processes" * (processes > 1))
    )
    log = os.path.join(cfg.OUTPUT_DIR, "log.txt")
    return [*lines, f"results: {cfg.OUTPUT_DIR} (environment and config are in {log})"]


def what_is_frozen(model: nn.Module) -> list[str]:
    """A line on the layers that are not trained, as by ``FREEZE_AT``; [] if all are."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    trained, total = sum(n for n, trains in sizes if trains), sum(n for n, _ in sizes)
    frozen = [name.removeprefix("module.") for name in _frozen_in(model)]
    if not frozen:
        return []
    names = ", ".join(frozen[:MOST_FROZEN])
    names += f" and {len(frozen) - MOST_FROZEN} more" if len(frozen) > MOST_FROZEN else ""
    return [
        f"{trained / 1e6:.1f} of {total / 1e6:.1f} million weights are trained, all but {names}"
    ]


def _frozen_in(module: nn.Module, name: str = "") -> list[str]:
    """The largest parts of a module of which nothing is trained."""
    trains = [p.requires_grad for p in module.parameters()]
    if trains and not any(trains):
        return [name]
    children = module.named_children() if trains and not all(trains) else ()
    return [n for child, m in children for n in _frozen_in(m, f"{name}.{child}".lstrip("."))]


def what_came_out(cfg: CfgNode, best: BestCheckpointHook, epochs: float | None = None) -> list[str]:
    """Lines on the best evaluation, the weights to use, and what to do with them next."""
    weights = weights_to_use(cfg, best)
    if best.best is None:
        said = f"no evaluation gave {best.metric} a value" if best.seen else "nothing was evaluated"
    else:
        iterations = best.best_iter + 1
        at = f"after {iterations} of {cfg.SOLVER.MAX_ITER} iterations"
        if epochs is not None:
            at = f"after epoch {epochs * iterations / cfg.SOLVER.MAX_ITER:.3g}, {at[6:]}"
        said = f"best {best.metric}: {best.best:.2f}, {at}"
    boxes = " --opts MODEL.MASK_ON False" if cfg.MODEL.MASK_ON else ""
    q = shlex.quote
    drawn, onnx = (q(os.path.join(cfg.OUTPUT_DIR, name)) for name in ("drawn", "model.onnx"))
    return [
        said,
        f"weights to use: {weights}",
        "what next:",
        f"  {program('predict')} --weights {q(weights)} {q(_images(cfg))} --output {drawn}",
        f"  {program('report')} {q(cfg.OUTPUT_DIR)}",
        f"  {program('export')} --weights {q(weights)} --format onnx --output {onnx}{boxes}",
    ]


def weights_to_use(cfg: CfgNode, best: BestCheckpointHook) -> str:
    """The checkpoint of the best evaluation; of the last iteration where there was none."""
    name = best.file if best.best is not None and best.file else "model_final"
    return os.path.join(cfg.OUTPUT_DIR, f"{name}.pth")


def _images(cfg: CfgNode) -> str:
    """A folder of images that the detector is for."""
    for name in (*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN):
        root = MetadataCatalog.get(name).get("image_root")
        if root:
            return root
    return "IMAGES"
