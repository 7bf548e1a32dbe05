#!/usr/bin/env python
"""Train or evaluate a detector of this project, or any of Detectron2's.

    python train_net.py --config-file configs/quick/libra_faster_rcnn_R_18_FPN_bccd.yaml \\
        --dataset path/to/bccd
"""

import importlib.util
import sys

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import default_argument_parser, default_setup, launch
from detectron2.evaluation import verify_results
from detectron2.utils import comm

from libra_umop.engine.config_checks import check_config
from libra_umop.engine.config_io import load_config
from libra_umop.engine.errors import exit_code_of
from libra_umop.engine.trainer import LibraTrainer

USAGE = """Nothing to do without a config. For example:

  python train_net.py --config-file configs/quick/libra_faster_rcnn_R_18_FPN_bccd.yaml --dataset DIR
  python train_net.py --config-file CONFIG --dataset DIR --resume
  python train_net.py --config-file CONFIG --dataset DIR --eval-only MODEL.WEIGHTS output/model_final.pth
  python train_net.py --help
"""


def argument_parser():
    """Detectron2's own arguments and those that name a dataset."""
    parser = default_argument_parser()
    if importlib.util.find_spec("libra_umop.data.arguments"):
        from libra_umop.data.arguments import add_dataset_args

        add_dataset_args(parser)
    return parser


def setup(args):
    """The frozen config of this run, with loggers and ``OUTPUT_DIR`` made."""
    cfg = load_config(args.config_file, args.opts)
    lines = []
    if cfg.MODEL.DEVICE == "cuda" and not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
        lines.append("MODEL.DEVICE is cpu, as no CUDA device is there")
    if importlib.util.find_spec("libra_umop.data.arguments"):
        from libra_umop.data.arguments import configure_dataset

        lines += configure_dataset(cfg, args)
    check_config(cfg, args.config_file)
    cfg.freeze()
    default_setup(cfg, args)
    if comm.is_main_process():
        print("\n".join(lines), flush=True)
    return cfg


def main(args):
    """Train, or with ``--eval-only`` evaluate ``MODEL.WEIGHTS``."""
    cfg = setup(args)
    if args.eval_only:
        model = LibraTrainer.build_model(cfg)
        DetectionCheckpointer(model, save_dir=cfg.OUTPUT_DIR).resume_or_load(
            cfg.MODEL.WEIGHTS, resume=args.resume
        )
        results = LibraTrainer.test(cfg, model)
        if comm.is_main_process():
            verify_results(cfg, results)
        return results
    trainer = LibraTrainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


@exit_code_of
def run(argv=None):
    """The command line; returns its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv:
        print(USAGE)
        return 2
    args = argument_parser().parse_args(argv)
    launch(
        main,
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(args,),
    )
    return 0


if __name__ == "__main__":
    sys.exit(run())
