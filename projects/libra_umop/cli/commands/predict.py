"""Detect objects in images and videos.

    %(prog)s --weights output/model_final.pth photos/ 'more/*.png' clip.mp4 --output drawn
    %(prog)s --weights output/model_final.pth --dataset DIR --json found.json

A checkpoint of this project carries its config and class names; for any other one add
--config-file. Results are written image by image, so what is done is kept however it ends. Exit
code: 0 all files were read; 1 some were skipped, or --annotations lacks some (each is named on
stderr); 2 there was nothing to predict on, something in the command is wrong or an output cannot be
written; 130 Ctrl-C.
"""

import argparse
import sys
from pathlib import Path

from ...data.dataset_args import DataSource, add_split_args
from ...data.layouts.reading.split_names import SPLITS
from ...errors import EXIT_INTERRUPTED, EXIT_USER_ERROR, ConfigError, DatasetError, one_line
from ...utils.output_files import check_writable, check_writable_folder, refuse_to_overwrite
from ..argument_types import add_opts, config_file, count, positive, score
from ..exit_codes import exit_code_of


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "inputs", nargs="*", help="images, folders (with those below), globs in quotes, videos"
    )
    parser.add_argument(
        "--dataset",
        metavar="DIR",
        help="instead: the images of a dataset, as for training; --json has the ids by which its"
        " evaluation counts",
    )
    parser.add_argument(
        "--on",
        choices=SPLITS,
        help="split of --dataset; default: its validation images, else its test images, else those"
        " of training",
    )
    add_split_args(parser)
    parser.add_argument("--weights", required=True, help="checkpoint, a path or an address")
    parser.add_argument(
        "--config-file", type=config_file, default="", help="default: what the checkpoint carries"
    )
    parser.add_argument("--threshold", type=score, default=0.5, help="lowest score; default 0.5")
    parser.add_argument("--device", default="", help="cpu, cuda, cuda:1; default: a GPU if any")
    parser.add_argument("--batch-size", type=positive, default=1, help="images per pass; default 1")
    parser.add_argument("--tta", action="store_true", help="average over the views of TEST.AUG")
    parser.add_argument(
        "--tiles",
        type=count,
        metavar="PX",
        help="see large images in tiles of PX pixels, 0: whole; default: TEST.TILES.SIZE",
    )
    parser.add_argument(
        "--tile-overlap", type=score, help="of neighbouring tiles; default: TEST.TILES.OVERLAP"
    )
    parser.add_argument("--output", type=Path, help="folder for drawn images and videos")
    parser.add_argument("--json", type=Path, help="file for COCO results")
    parser.add_argument("--csv", type=Path, help="file for one line per detection, XYXY pixels")
    parser.add_argument(
        "--annotations", type=Path, help="COCO file whose image and category ids --json takes"
    )
    add_opts(parser)
    return parser


@exit_code_of
def main(argv=None) -> int:
    """Run the tool; returns its exit code."""
    args = build_parser().parse_args(argv)
    check_writable(args.json, args.csv)
    check_writable_folder(args.output)
    # Not at the top: these take seconds, which --help and a wrong command need not wait for.
    from ...inference.image_ids import CocoIds
    from ...inference.inputs import find_inputs

    if args.dataset or args.split:
        return predict_dataset(args)
    if args.on:
        raise ConfigError("--on is for --dataset, and none is given")
    inputs = find_inputs(args.inputs)
    problems = [f"skipped {problem}" for problem in inputs.problems]
    print("".join(f"{one_line(note)}\n" for note in inputs.notes), end="")
    print_problems(problems)
    if not inputs.images and not inputs.videos:
        print("nothing to predict on; name images or --dataset DIR", file=sys.stderr)
        return EXIT_USER_ERROR
    keep_what_is_read(args, inputs)
    predictor = build_predictor(args)
    ids = CocoIds(predictor.class_names, args.annotations)
    lacking = [f"no id: {line}" for line in ids.assign(inputs.images)]
    print_problems(lacking)
    return predict(args, predictor, inputs, ids, problems + lacking)


def predict_dataset(args: argparse.Namespace) -> int:
    """Predict on the images of a split of ``--dataset``."""
    from ...data.arguments import named_splits
    from ...data.datasets import load_dataset
    from ...data.layouts.table import dataset_name
    from ...inference.image_ids import CocoIds, inputs_of_split
    from ...inference.inputs import Inputs
    from ...training.checkpoint.weight_fit import require_classes_of

    if args.inputs or args.annotations:
        other = "--annotations" if args.annotations else args.inputs[0]
        raise ConfigError(f"--dataset and {other} are given; should be one of them")
    splits = named_splits(DataSource.by(args), needs_train=False)
    dataset = load_dataset(dataset_name(args.dataset), splits)
    key = args.on or next(name for name in ("val", "test", "train") if name in dataset.splits)
    if key not in dataset.splits:
        there = ", ".join(dataset.splits)
        raise DatasetError(f"{args.dataset}: has no {key} split, but {there}")
    data = dataset.splits[key]
    inputs = Inputs(inputs_of_split(data), [], [], [])
    keep_what_is_read(args, inputs, data.source)
    predictor = build_predictor(args)
    names = predictor.class_names
    require_classes_of(dataset.categories, names, path=args.weights, dataset=args.dataset)
    print(one_line(f"{data.source}: {len(data.images)} images of the {key} split"))
    ids = CocoIds.of_split(dataset.class_names, data, dataset.categories)
    return predict(args, predictor, inputs, ids, [])


def build_predictor(args: argparse.Namespace):
    """The detector that the arguments name, on tiles where they or its config ask for it."""
    from ...inference.predictor import LibraPredictor
    from ...inference.sliced import with_tiles

    whole = LibraPredictor.from_weights(
        args.weights,
        config_file=args.config_file,
        opts=args.opts,
        device=args.device,
        threshold=args.threshold,
        tta=args.tta,
    )
    return with_tiles(whole, size=args.tiles, overlap=args.tile_overlap)


def predict(args: argparse.Namespace, predictor, inputs, ids, problems) -> int:
    """Predict on what was found; ``problems`` are those so far."""
    from ...inference.outputs import CocoResultsFile, CsvFile
    from ...inference.run import PredictionRun

    files: list[CocoResultsFile | CsvFile] = []
    files += [CocoResultsFile(args.json)] if args.json else []
    files += [CsvFile(args.csv)] if args.csv else []
    run = PredictionRun(
        predictor, ids=ids, files=files, output_dir=args.output, batch_size=args.batch_size
    )
    is_whole = predict_all(run, inputs)
    for file in files:
        file.close()
    print(run.summary())
    if not is_whole:
        print("stopped by Ctrl-C; what was done until then is kept", file=sys.stderr)
        return EXIT_INTERRUPTED
    if not run.num_images:
        return EXIT_USER_ERROR
    return 1 if run.skipped or problems else 0


def keep_what_is_read(args: argparse.Namespace, inputs, *others) -> None:
    """Refuse outputs that would be written over an input."""
    items = (*inputs.images, *inputs.videos)
    read = [item.path for item in items]
    read += [Path(p) for p in (args.annotations, args.config_file, args.weights, *others) if p]
    refuse_to_overwrite([p for p in (args.json, args.csv) if p], read)
    if args.output:
        refuse_to_overwrite([args.output / item.name for item in items], read)


def predict_all(run, inputs) -> bool:
    """Predict on all; whether nobody stopped it."""
    try:
        run.predict_images(inputs.images)
        for video in inputs.videos:
            run.predict_video(video)
    except KeyboardInterrupt:
        return False
    return True


def print_problems(lines, most=20) -> None:
    """The lines on stderr, as far as a person reads them."""
    shown = lines if len(lines) <= most else [*lines[:most], f"... and {len(lines) - most} more"]
    print("".join(f"{one_line(line)}\n" for line in shown), end="", file=sys.stderr)
