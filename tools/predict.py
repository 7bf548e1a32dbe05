#!/usr/bin/env python
"""Detect objects in images and videos.

    tools/predict.py --weights output/model_final.pth photos/ 'more/*.png' clip.mp4 --output drawn

A checkpoint of this project carries its config and class names; for any other one add
--config-file. Exit code: 0 all files were read, 1 some were skipped (each is named on stderr),
2 there was nothing to predict on, or the command line is wrong.
"""

import argparse
import sys
from pathlib import Path

from libra_umop.engine.argument_types import positive, score
from libra_umop.engine.errors import exit_code_of
from libra_umop.engine.predict_inputs import find_inputs
from libra_umop.engine.predict_outputs import CocoIds, write_coco_results, write_csv
from libra_umop.engine.predict_run import PredictionRun
from libra_umop.engine.predictor import LibraPredictor


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "inputs", nargs="+", help="images, folders (with those below), globs in quotes, videos"
    )
    parser.add_argument("--weights", required=True, help="checkpoint, a path or an address")
    parser.add_argument("--config-file", default="", help="default: what the checkpoint carries")
    parser.add_argument("--threshold", type=score, default=0.5, help="lowest score; default 0.5")
    parser.add_argument("--device", default="", help="cpu, cuda, cuda:1; default: a GPU if any")
    parser.add_argument("--batch-size", type=positive, default=1, help="images per pass; default 1")
    parser.add_argument("--tta", action="store_true", help="average over the views of TEST.AUG")
    parser.add_argument("--output", type=Path, help="folder for drawn images and videos")
    parser.add_argument("--json", type=Path, help="file for COCO results")
    parser.add_argument("--csv", type=Path, help="file for one line per detection, XYXY pixels")
    parser.add_argument(
        "--annotations", type=Path, help="COCO file whose image and category ids --json takes"
    )
    parser.add_argument(
        "--opts", nargs="+", default=[], metavar="KEY VALUE", help="config keys to change"
    )
    return parser


@exit_code_of
def main(argv=None) -> int:
    """Run the tool; returns its exit code."""
    args = build_parser().parse_args(argv)
    images, videos, problems = find_inputs(args.inputs)
    for problem in problems:
        print(f"skipped {problem}", file=sys.stderr)
    if not images and not videos:
        print("nothing to predict on", file=sys.stderr)
        return 2
    predictor = LibraPredictor.from_weights(
        args.weights,
        config_file=args.config_file,
        opts=args.opts,
        device=args.device,
        threshold=args.threshold,
        tta=args.tta,
    )
    ids = CocoIds(predictor.class_names, args.annotations)
    run = PredictionRun(predictor, ids=ids, output_dir=args.output, batch_size=args.batch_size)
    run.predict_images(images)
    for video in videos:
        run.predict_video(video)
    if args.json:
        write_coco_results(run.records, args.json)
    if args.csv:
        write_csv(run.records, args.csv)
    print(run.summary())
    if not run.num_images:
        return 2
    return 1 if run.skipped or problems else 0


if __name__ == "__main__":
    sys.exit(main())
