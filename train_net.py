#!/usr/bin/env python
"""Train or evaluate a detector of this project, or any of Detectron2's.

    python train_net.py --config-file CONFIG --dataset DIR [--num-gpus N] [KEY value ...]
    torchrun --nproc-per-node N train_net.py --config-file CONFIG --dataset DIR

Exit codes: 0 done; 2 something in the command, the config, the weights or the data is wrong, said
in one line; 75 stopped by SIGTERM, SIGUSR1 or Ctrl-C with a checkpoint of that iteration written
(``--resume`` goes on); 1 anything else. ``libra-umop train`` is the same command; the run itself is
``libra_umop.cli.training_run``, whose functions are to be had from here too.
"""

import sys

from libra_umop.cli.commands.train import main as run
from libra_umop.cli.train_arguments import argument_parser  # noqa: F401

if __name__ == "__main__":
    sys.exit(run())  # --help and a mistake need not wait for the imports below

from libra_umop.cli.training_run import evaluate, main, setup, train  # noqa: F401
