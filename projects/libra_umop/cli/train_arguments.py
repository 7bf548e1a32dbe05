"""The arguments of train_net.py. Apart from what they lead to, so that --help is quick."""

import argparse
import os

from ..data.dataset_args import add_dataset_args
from .argument_types import config_file


def argument_parser() -> argparse.ArgumentParser:
    """The arguments of a training: Detectron2's, ``--overwrite``, and those that name a dataset.

    Detectron2's are repeated here: importing :func:`detectron2.engine.default_argument_parser`
    takes seconds.
    """
    parser = argparse.ArgumentParser(
        usage="%(prog)s --config-file FILE --dataset DIR [options] [KEY value ...]",
        description="Train a detector, or evaluate it.",
    )
    add = parser.add_argument
    add(
        "--config-file",
        type=config_file,
        default="",
        metavar="FILE",
        help="one of configs/, or your own",
    )
    add("--resume", action="store_true", help="go on with the run that is in OUTPUT_DIR")
    add("--overwrite", action="store_true", help="replace the run that is in OUTPUT_DIR")
    add("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS, train nothing")
    group = parser.add_argument_group("several processes")
    add = group.add_argument
    add("--num-gpus", type=int, default=1, metavar="N", help="of each machine (%(default)s)")
    add("--num-machines", type=int, default=1, metavar="N", help="of all (%(default)s)")
    add("--machine-rank", type=int, default=0, metavar="N", help="of this one, from 0 on")
    add("--dist-url", default=_free_url(), metavar="URL", help="where they meet (%(default)s)")
    add_dataset_args(parser)
    parser.add_argument(
        "opts",
        nargs=argparse.REMAINDER,
        default=None,
        metavar="KEY value",
        help="keys of the config and their values, last on the line, as SOLVER.IMS_PER_BATCH 8",
    )
    return parser


def _free_url() -> str:
    """On this machine, at a port of the ephemeral range that two users hardly share."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    return f"tcp://127.0.0.1:{49152 + user % 16384}"
