"""Train or evaluate a detector of this project, or any of Detectron2's."""

import functools
import shlex
import sys

from ...errors import EXIT_USER_ERROR
from ..exit_codes import exit_code_of
from ..train_arguments import argument_parser


@exit_code_of
def main(argv=None) -> int:
    """The command line, in one process or as the start of several; returns its exit code."""
    argv = sys.argv[1:] if argv is None else argv
    args = argument_parser().parse_args(argv)
    # Not at the top: these take seconds, which --help and a wrong command need not wait for.
    from ...config.devices import choose_device
    from ...config.loading import load_layers
    from ...data.dataset_args import DataSource, RunOptions
    from ...training.words import usage
    from ..launching import launch
    from ..training_run import main as run

    layers = load_layers(args.config_file, args.opts)
    if not args.config_file:
        print(usage(shlex.join(argv) or "--dataset DIR"))
        return EXIT_USER_ERROR
    note = choose_device(layers.cfg, layers.given, args.num_gpus)
    options = RunOptions.by(args, command=shlex.join(argv))
    run_of_process = functools.partial(run, layers, DataSource.by(args), options, note)
    return launch(run_of_process, args, device=layers.cfg.MODEL.DEVICE)
