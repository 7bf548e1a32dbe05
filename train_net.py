#!/usr/bin/env python
"""Train or evaluate a detector of this project, or any of Detectron2's.

    python train_net.py --config-file CONFIG --dataset DIR [--num-gpus N] [KEY value ...]
    torchrun --nproc-per-node N train_net.py --config-file CONFIG --dataset DIR

Exit codes: 0 done; 2 something in the command, the config, the weights or the data is wrong, said
in one line; 75 stopped by SIGTERM, SIGUSR1 or Ctrl-C with a checkpoint of that iteration written
(``--resume`` goes on); 1 anything else.
"""

import sys

from detectron2.engine import default_argument_parser, default_setup
from detectron2.evaluation import verify_results
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from libra_umop.data.arguments import add_dataset_args, configure_dataset
from libra_umop.engine.checkpoint import LibraCheckpointer
from libra_umop.engine.config_checks import check_config
from libra_umop.engine.config_io import load_config
from libra_umop.engine.errors import EXIT_USER_ERROR, exit_code_of
from libra_umop.engine.launching import choose_device, launch
from libra_umop.engine.trainer import LibraTrainer
from libra_umop.modeling.backbones.timm_models import without_pretrained

CONFIG = "configs/quick/libra_faster_rcnn_R_18_FPN_bccd.yaml"
USAGE = f"""Which config, and which data? For example:

  train on your COCO files        python train_net.py --config-file {CONFIG} --dataset DIR
  go on after a stop              the same with --resume
  evaluate                        the same with --eval-only MODEL.WEIGHTS output/model_best.pth
  on 4 GPUs                       the same with --num-gpus 4
  everything else                 python train_net.py --help

DIR holds images/ and annotations/{{train,val}}.json, or train/ and valid/, each with
_annotations.coco.json. The configs are in configs/."""


def argument_parser():
    """Detectron2's arguments, and those that name a dataset."""
    parser = default_argument_parser()
    add_dataset_args(parser)
    return parser


def setup(args):
    """The frozen config of this run; loggers and ``OUTPUT_DIR`` are there afterwards."""
    cfg = load_config(args.config_file, args.opts)
    lines = [choose_device(cfg), *configure_dataset(cfg, args)]
    check_config(cfg, args.config_file)
    cfg.freeze()
    default_setup(cfg, args)
    logger = setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="libra_umop")
    for line in filter(None, lines):
        logger.info(line)
    return cfg


def main(args):
    """Train, or with ``--eval-only`` evaluate ``MODEL.WEIGHTS``; returns the metrics."""
    cfg = setup(args)
    return evaluate(cfg, args) if args.eval_only else train(cfg, args)


def train(cfg, args):
    """Train to the end, and evaluate with augmentation where ``TEST.AUG`` asks for it."""
    trainer = LibraTrainer(cfg, resume=args.resume)
    trainer.resume_or_load(resume=args.resume)
    results = trainer.train()
    if cfg.TEST.AUG.ENABLED:
        augmented = trainer.test_with_augmentation(cfg, trainer.evaluated_model)
        results = {**(results or {}), **augmented}
    return results


def evaluate(cfg, args):
    """Evaluate ``MODEL.WEIGHTS``, or with ``--resume`` the last checkpoint of ``OUTPUT_DIR``."""
    model = LibraTrainer.build_model(without_pretrained(cfg))
    checkpointer = LibraCheckpointer(model, cfg.OUTPUT_DIR)
    path = checkpointer.last_whole_checkpoint() if args.resume else ""
    checkpointer.load_all(path or cfg.MODEL.WEIGHTS, cfg.DATASETS.TEST)
    results = LibraTrainer.test(cfg, model)
    if cfg.TEST.AUG.ENABLED:
        results.update(LibraTrainer.test_with_augmentation(cfg, model))
    if comm.is_main_process():
        verify_results(cfg, results)
    return results


@exit_code_of
def run(argv=None):
    """The command line; returns its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv:
        print(USAGE)
        return EXIT_USER_ERROR
    args = argument_parser().parse_args(argv)
    cfg = load_config(args.config_file, args.opts)
    choose_device(cfg)
    return launch(main, args, device=cfg.MODEL.DEVICE)


if __name__ == "__main__":
    sys.exit(run())
