"""Show what is out of balance in one or more runs, as text, JSON and one HTML page.

%(prog)s output/plain output/libra --output report.html
%(prog)s --dataset path/to/bccd --config-file CONFIG --iterations 50
"""

import argparse
import sys
from pathlib import Path

from ...data.dataset_args import DataSource, add_split_args
from ...errors import ConfigError
from ...utils.output_files import check_writable, refuse_to_overwrite, writing
from ..argument_types import config_file, positive, score
from ..exit_codes import exit_code_of


def argument_parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "runs", nargs="*", metavar="OUTPUT_DIR", help="runs; the others are compared with the first"
    )
    parser.add_argument("--names", nargs="+", metavar="NAME", help="what to call the runs")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="the page; JSON and text are written beside it (report.html in the"
        " OUTPUT_DIR of a single run, else here)",
    )
    parser.add_argument(
        "--min-score",
        type=score,
        default=0.5,
        metavar="P",
        help="detections from here on count in the confusion matrix and on images (%(default)s)",
    )
    data = parser.add_argument_group(
        "data", "where runs were evaluated, if they do not say; with --config-file, train on"
    )
    data.add_argument("--dataset", metavar="DIR", help="as in train_net.py")
    add_split_args(data)
    _add_collect_args(parser)
    return parser


def _add_collect_args(parser: argparse.ArgumentParser) -> None:
    collect = parser.add_argument_group("collect without a full run")
    collect.add_argument(
        "--config-file", type=config_file, metavar="FILE", help="config to measure on --dataset"
    )
    collect.add_argument(
        "--iterations",
        type=positive,
        default=50,
        metavar="N",
        help="training steps, each of them measured (%(default)s)",
    )
    collect.add_argument(
        "--opts",
        nargs=argparse.REMAINDER,
        default=[],
        metavar="KEY VALUE",
        help="config keys, last on the line, as in train_net.py: OUTPUT_DIR, MODEL.WEIGHTS ...",
    )


def lend_dataset(runs, source: DataSource) -> None:
    """Tell the runs that do not know it themselves where their images and annotations are."""
    from ...data.arguments import named_splits

    splits = named_splits(source, needs_train=False)
    test = splits.get("val") or splits.get("test")
    for run in runs:
        if run.ground_truth is None and test is not None:
            run.ground_truth = test
        if run.train_set is None:
            run.train_set = splits.get("train")


def _check_output(args: argparse.Namespace) -> None:
    """See that the page, and the JSON and the text beside it, can be written and are not read.

    Raises:
        ConfigError, OutputError: one of them is read, or cannot be written.
    """
    if args.output is None:
        return
    if args.output.suffix in (".json", ".txt"):
        raise ConfigError(
            f"--output is {args.output}, should end in .html: JSON and text stand beside it"
        )
    written = [args.output, args.output.with_suffix(".json"), args.output.with_suffix(".txt")]
    read = [Path(run) / name for run in args.runs for name in ("metrics.json", "log.txt")]
    refuse_to_overwrite(written, [args.config_file, *read])
    check_writable(args.output)


@exit_code_of
def main(argv=None) -> int:
    """Run the command on these arguments; returns its exit code."""
    args = argument_parser().parse_args(argv)
    folders = list(args.runs)
    if not folders and not args.config_file:
        argument_parser().print_help()
        return 2
    _check_output(args)
    try:
        from ...imbalance.report.report import Report
    except ModuleNotFoundError as error:
        print(f"{error}; install the extra: pip install -e '.[plots]'", file=sys.stderr)
        return 2
    from ...imbalance.report.run import load_runs

    if args.config_file:
        from ...training.measuring_run import collect, configured

        cfg = configured(args.config_file, DataSource.by(args), args.opts)
        folders.append(collect(cfg, args.iterations))
    try:
        runs = load_runs(folders, args.names)
        if args.dataset or args.split:
            lend_dataset(runs, DataSource.by(args))
        report = Report(runs, min_score=args.min_score)
    except (ValueError, ModuleNotFoundError) as error:
        print(f"report: {error}", file=sys.stderr)
        return 2
    output = args.output or Path(folders[0] if len(folders) == 1 else ".") / "report.html"
    with writing(output):
        files = report.write(output)
    print(report.text())
    print(
        f"\nThe report is {files[0].resolve()};"
        f" its numbers are in {files[1]}, its text in {files[2]}"
    )
    return 0
