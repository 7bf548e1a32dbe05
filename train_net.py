#!/usr/bin/env python
"""Train or evaluate a detector of this project, or any of Detectron2's.

    python train_net.py --config-file CONFIG --dataset DIR [--num-gpus N] [KEY value ...]
    torchrun --nproc-per-node N train_net.py --config-file CONFIG --dataset DIR

Exit codes: 0 done; 2 something in the command, the config, the weights or the data is wrong, said
in one line; 75 stopped by SIGTERM, SIGUSR1 or Ctrl-C with a checkpoint of that iteration written
(``--resume`` goes on); 1 anything else.
"""

import shlex
import sys

from libra_umop.cli.train_arguments import argument_parser
from libra_umop.utils.library_warnings import hide_library_warnings

hide_library_warnings()

if __name__ == "__main__":
    argument_parser().parse_args()  # --help and a mistake need not wait for the imports below

from detectron2.evaluation import verify_results
from detectron2.utils import comm

from libra_umop.cli.exit_codes import exit_code_of
from libra_umop.cli.launching import launch
from libra_umop.config.checks import check_config
from libra_umop.config.devices import choose_device
from libra_umop.config.loading import load_config
from libra_umop.data.arguments import check_dataset_names, configure_dataset
from libra_umop.errors import EXIT_USER_ERROR
from libra_umop.modeling.backbones.timm.models import without_pretrained
from libra_umop.training.checkpoint.checkpointer import LibraCheckpointer
from libra_umop.training.setup import one_line_for_the_disk, quiet_console, setup_run
from libra_umop.training.trainer import LibraTrainer
from libra_umop.training.words import USAGE, say, what_came_out, where_it_goes


def setup(args):
    """The frozen config, and lines on what it does; then there are loggers and ``OUTPUT_DIR``."""
    cfg = load_config(args.config_file, args.opts)
    note = choose_device(cfg, args)
    lines = configure_dataset(cfg, args)
    check_dataset_names(cfg, eval_only=args.eval_only)
    check_config(cfg, args.config_file)
    cfg.freeze()
    setup_run(cfg, args)
    return cfg, [*lines, *where_it_goes(cfg, note)]


@one_line_for_the_disk()
def main(args):
    """Train, or with ``--eval-only`` evaluate ``MODEL.WEIGHTS``; returns the metrics."""
    return (evaluate if args.eval_only else train)(*setup(args), args)


def train(cfg, lines, args):
    """Train to the end, and evaluate with augmentation where ``TEST.AUG`` asks for it."""
    with quiet_console():
        trainer = LibraTrainer(
            cfg, resume=args.resume, epochs=args.epochs, headlines=lines
        )
        trainer.resume_or_load(resume=args.resume, overwrite=args.overwrite)
    results = trainer.train()
    if cfg.TEST.AUG.ENABLED:
        augmented = trainer.test_with_augmentation(cfg, trainer.evaluated_model)
        results = {**(results or {}), **augmented}
    say(what_came_out(cfg, trainer.best, args.epochs))
    return results


def evaluate(cfg, lines, args):
    """Evaluate ``MODEL.WEIGHTS``, or with ``--resume`` the last checkpoint of ``OUTPUT_DIR``."""
    say(lines)
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
    args = argument_parser().parse_args(argv)
    cfg = load_config(args.config_file, args.opts)
    if not args.config_file:
        print(USAGE % (shlex.join(argv) or "--dataset DIR"))
        return EXIT_USER_ERROR
    choose_device(cfg, args)
    return launch(main, args, device=cfg.MODEL.DEVICE)


if __name__ == "__main__":
    sys.exit(run())
