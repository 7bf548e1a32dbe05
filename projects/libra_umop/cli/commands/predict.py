"""Detect objects in images and videos.

    %(prog)s --weights output/model_final.pth photos/ 'more/*.png' clip.mp4 --output drawn

A checkpoint of this project carries its config and class names; for any other one add
--config-file. Results are written image by image, so what is done is kept however it ends. Exit
code: 0 all files were read; 1 some were skipped, or --annotations lacks some (each is named on
stderr); 2 there was nothing to predict on, something in the command is wrong or an output cannot be
written; 130 Ctrl-C.
"""

import argparse
import sys
from pathlib import Path

from ...errors import EXIT_INTERRUPTED, EXIT_USER_ERROR
from ...utils.output_files import check_writable, check_writable_folder, refuse_to_overwrite
from ..argument_types import add_opts, config_file, positive, score
from ..exit_codes import exit_code_of


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "inputs", nargs="+", help="images, folders (with those below), globs in quotes, videos"
    )
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
        type=positive,
        default=0,
        metavar="PX",
        help="see large images in tiles of PX pixels",
    )
    parser.add_argument(
        "--tile-overlap", type=score, default=0.2, help="of neighbouring tiles; default 0.2"
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
    from ...inference.inputs import find_inputs

    inputs = find_inputs(args.inputs)
    problems = [f"skipped {problem}" for problem in inputs.problems]
    print("".join(f"{note}\n" for note in inputs.notes), end="")
    print_problems(problems)
    if not inputs.images and not inputs.videos:
        print("nothing to predict on", file=sys.stderr)
        return EXIT_USER_ERROR
    return predict(args, inputs, problems)


def predict(args: argparse.Namespace, inputs, problems) -> int:
    """Predict on what was found; ``problems`` are those so far."""
    from ...inference.image_ids import CocoIds
    from ...inference.outputs import CocoResultsFile, CsvFile
    from ...inference.predictor import LibraPredictor
    from ...inference.run import PredictionRun
    from ...inference.sliced import TiledPredictor

    keep_what_is_read(args, inputs)
    predictor: LibraPredictor | TiledPredictor
    predictor = whole = LibraPredictor.from_weights(
        args.weights,
        config_file=args.config_file,
        opts=args.opts,
        device=args.device,
        threshold=args.threshold,
        tta=args.tta,
    )
    if args.tiles:
        predictor = TiledPredictor(whole, size=args.tiles, overlap=args.tile_overlap)
    ids = CocoIds(predictor.class_names, args.annotations)
    lacking = [f"no id: {line}" for line in ids.assign(inputs.images)]
    print_problems(lacking)
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
    return 1 if run.skipped or problems or lacking else 0


def keep_what_is_read(args: argparse.Namespace, inputs) -> None:
    """Refuse outputs that would be written over an input."""
    items = (*inputs.images, *inputs.videos)
    read = [item.path for item in items]
    read += [Path(p) for p in (args.annotations, args.config_file, args.weights) if p]
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
    print("".join(f"{line}\n" for line in shown), end="", file=sys.stderr)
