"""Time and memory of a config's training step and inference, also as a ratio to another config's.

    %(prog)s --config-file A.yaml --versus B.yaml --size 320x544 --markdown

Inputs are drawn up and weights are random, so neither a data set nor a checkpoint is needed; only
data loading, which is measured with --dataset, needs one. The steps of all configs take turns.
--compile adds the first config with its backbone, heads and dense losses under torch.compile.
"""

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from ...benchmark import STEPS
from ...data.dataset_args import add_dataset_args
from ...utils.output_files import check_writable, refuse_to_overwrite, writing
from ..argument_types import config_file, image_size, positive
from ..exit_codes import exit_code_of


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", type=config_file, required=True)
    parser.add_argument(
        "--versus", type=config_file, metavar="CONFIG", help="the baseline of the ratios"
    )
    parser.add_argument("--compile", action="store_true", help="also under torch.compile")
    parser.add_argument(
        "--size", type=image_size, default=(320, 544), metavar="HxW", help="default 320x544"
    )
    parser.add_argument("--batch-size", type=positive, default=1, help="default %(default)s")
    parser.add_argument("--iterations", type=positive, default=10, help="timed rounds; default 10")
    parser.add_argument("--warmup", type=positive, default=2, help="rounds before; default 2")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument(
        "--own-proposals",
        action="store_true",
        help="two-stage models train on what their random RPN proposes, not on the drawn regions",
    )
    parser.add_argument("--no-memory", action="store_true", help="do not measure memory")
    parser.add_argument("--threads", type=positive, help="of PyTorch on the CPU")
    parser.add_argument("--device", default="", help="cpu or cuda; default: a GPU if any")
    parser.add_argument("--json", type=Path, help="file for all figures, with every single time")
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY VALUE", help="for all")
    add_dataset_args(parser)
    return parser


def contenders_of(args: argparse.Namespace) -> list:
    """What is compared, :class:`Contender`; the last is the baseline."""
    from ...benchmark.bench import Contender
    from ...config.devices import device_of

    device = device_of(args.device, "--device")
    opts = (*args.opts, "MODEL.DEVICE", device)
    name = Path(args.config_file).stem
    contenders = [Contender(name, args.config_file, opts)]
    if args.compile:
        contenders.insert(0, Contender(f"{name} compiled", args.config_file, opts, compiled=True))
    if args.versus:
        other = Path(args.versus).stem
        label = other if other != name else f"{other} (baseline)"
        contenders.append(Contender(label, args.versus, opts))
    return contenders


@exit_code_of
def main(argv=None) -> int:
    """Run the tool; returns its exit code."""
    args = build_parser().parse_args(argv)
    refuse_to_overwrite([args.json], [args.config_file, args.versus])
    check_writable(args.json)
    # Not at the top: these take seconds, which --help and a wrong command need not wait for.
    import torch

    from ...benchmark.inputs import Workload
    from ...benchmark.table import environment, markdown, write_json

    if args.threads:
        torch.set_num_threads(args.threads)
    workload = Workload(args.size, args.batch_size)
    if args.own_proposals:
        workload = workload._replace(num_proposals=0)
    report: dict[str, Any] = {
        "command": shlex.join(["tools/benchmark.py", *(sys.argv[1:] if argv is None else argv)]),
        "environment": environment(),
        "workload": {**workload._asdict(), "iterations": args.iterations},
        "figures": figures_of(args, workload),
    }
    if args.json:
        with writing(args.json):
            write_json(report, args.json)
    print(markdown(report) if args.markdown else json.dumps(report["figures"], indent=2))
    return 0


def figures_of(args: argparse.Namespace, workload) -> dict[str, Any]:
    """What every contender costs, by its label; with data of one's own, its loading too."""
    from ...benchmark.measure import loading_speed, measure
    from ...config.loading import load_layers
    from ...data.arguments import configure_dataset
    from ...data.dataset_args import DataSource, RunOptions

    contenders = contenders_of(args)
    figures: dict[str, Any] = measure(
        contenders,
        workload,
        steps=args.steps,
        iterations=args.iterations,
        warmup=args.warmup,
        memory=not args.no_memory,
    )
    if args.dataset or args.train_json:
        for contender in contenders:
            layers = load_layers(contender.config_file, contender.opts)
            configure_dataset(layers, DataSource.by(args), RunOptions.by(args))
            figures[contender.label]["loading"] = loading_speed(layers.cfg, args.iterations)
    return figures
