"""Say which lever helps on your data, by how much, and how sure that is.

    %(prog)s --dataset DIR --config-file BASE --levers sampling,bfp,balanced_l1 --seeds 5
    %(prog)s --collect --output output/study      (the answer so far, on any machine)

Every lever is trained against the same detector with its levers off, under the same seeds. The same
command goes on where it was stopped. Exit code: 0 all runs are over, 75 some are left, 2 something
in the command, the config or the data is wrong; failed runs are rows of the answer.
"""

import argparse
import os
import sys
from pathlib import Path

from ...data.dataset_args import add_split_args
from ...errors import EXIT_PREEMPTED, EXIT_USER_ERROR
from ..argument_types import config_file
from ..exit_codes import exit_code_of

TABLE = "the table of levers, libra_umop.levers.LEVERS"


def argument_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--dataset",
        action="append",
        default=[],
        metavar="DIR",
        help="as in train_net.py; may be given several times",
    )
    parser.add_argument(
        "--config-file", type=config_file, metavar="BASE", help="the detector; its levers go off"
    )
    parser.add_argument(
        "--levers",
        default="",
        metavar="A,B+C,FILE.yaml",
        help=f"rows to compare with the baseline: names of {TABLE}, '+' for several at once, or"
        " YAML files of rows NAME: {levers: A+B, KEY: value} (default: all the detector has)",
    )
    parser.add_argument(
        "--as-is", action="store_true", help="the baseline is BASE as it is, its levers kept"
    )
    _add_run_args(parser)
    _add_data_args(parser)
    _add_slurm_args(parser)
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="override BASE, in all runs")
    return parser


def _add_run_args(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seeds", type=_positive, default=3, metavar="N", help="%(default)s")
    parser.add_argument("--first-seed", type=_positive, default=1, metavar="K", help="%(default)s")
    parser.add_argument(
        "--output", default="output/study", metavar="STUDY", help="its folder (%(default)s)"
    )
    parser.add_argument(
        "--jobs", type=_positive, default=1, metavar="N", help="runs at once (%(default)s)"
    )
    parser.add_argument(
        "--minutes", type=float, metavar="M", help="start no run that cannot end by then"
    )
    parser.add_argument("--retry-failed", action="store_true", help="make failed runs once more")
    parser.add_argument("--collect", action="store_true", help="make no run, only the answer")


def _add_data_args(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("as in train_net.py")
    group.add_argument("--epochs", type=float, metavar="N")
    group.add_argument("--strict", action="store_true")
    add_split_args(group)
    group.add_argument("--fit-anchors", action="store_true")
    group.add_argument("--fit-image-size", action="store_true")


def _add_slurm_args(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("on Slurm")
    group.add_argument(
        "--slurm",
        action="store_true",
        help="submit the runs as a job array, --jobs at once; --collect makes the answer",
    )
    group.add_argument(
        "--sbatch", action="append", default=[], metavar="OPTION", help="of sbatch; repeatable"
    )
    group.add_argument("--task", action="store_true", help=argparse.SUPPRESS)
    group.add_argument("--resume", action="store_true", help=argparse.SUPPRESS)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"is {value}, should be 1 or more")
    return value


@exit_code_of
def main(argv=None) -> int:
    """Run, submit or collect a study; returns the exit code."""
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = argument_parser()
    args = parser.parse_intermixed_args(argv)
    if args.collect:
        return collect(Path(args.output))
    if not (args.dataset and args.config_file):
        parser.print_usage(sys.stderr)
        print("--dataset and --config-file are needed, or --collect", file=sys.stderr)
        return EXIT_USER_ERROR
    # Its threads would not live on in the processes that are made as copies of this one.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # asks the driver, starts no CUDA
    from ...study.command import make_one, make_runs, submit_runs

    if args.task:
        return make_one(args)
    if args.slurm:
        return submit_runs(args, [word for word in argv if word != "--slurm"])
    is_complete = make_runs(args)
    code = collect(Path(args.output), if_possible=True)
    return code or (0 if is_complete else EXIT_PREEMPTED)


def collect(folder: Path, if_possible: bool = False) -> int:
    """Write and print the answer; ``if_possible``: without it where a package is missing."""
    from ...errors import ConfigError
    from ...study.answer.files import write_answer

    try:
        text, files = write_answer(folder)
    except ConfigError as e:
        if not if_possible:
            raise
        print(f"the runs are kept, their answer is not made here: {e}", file=sys.stderr)
        return 0
    print(f"\n{text}\n\nwritten: {', '.join(map(str, files))}")
    return 0
