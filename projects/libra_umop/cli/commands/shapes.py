"""Draw the small COCO-form set of shapes that the demo trains on."""

import argparse
import sys
from pathlib import Path

from ...errors import EXIT_USER_ERROR, DatasetError
from ..exit_codes import exit_code_of

__all__ = ["build_parser", "main"]


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the tool."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="folder to write the set to")
    parser.add_argument("--num-train", type=int, default=600, help="training images (%(default)s)")
    parser.add_argument("--num-val", type=int, default=100, help="validation images (%(default)s)")
    parser.add_argument("--size", type=int, default=192, help="image side in pixels (%(default)s)")
    parser.add_argument(
        "--largest",
        type=float,
        metavar="PX",
        help="longest side of an object (default: most of the image)",
    )
    parser.add_argument(
        "--objects", type=int, default=6, metavar="N", help="of an image at most (%(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed (%(default)s)")
    return parser


@exit_code_of
def main(argv=None) -> int:
    """Run the tool; returns its exit code."""
    args = build_parser().parse_args(argv)
    files = [args.output / "annotations" / f"{split}.json" for split in ("train", "val")]
    if all(file.is_file() for file in files):
        print(f"keeping the set at {args.output}")
        return 0
    from ...data.shapes import CLASSES, write_shapes

    for file in files:
        if file.is_file() and not _is_drawn(file, CLASSES):
            print(f"{file}: is of another set, and would be replaced", file=sys.stderr)
            return EXIT_USER_ERROR
    try:
        write_shapes(
            args.output,
            num_train=args.num_train,
            num_val=args.num_val,
            size=args.size,
            largest=args.largest,
            most_objects=args.objects,
            seed=args.seed,
        )
    except ValueError as error:
        print(f"shapes: error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
    print(f"drew {args.num_train} training and {args.num_val} validation images: {args.output}")
    return 0


def _is_drawn(file: Path, classes) -> bool:
    """Whether the annotations are of such a set, as an interrupted run leaves them."""
    from ...data.coco.document import read_json

    try:
        return [c["name"] for c in read_json(str(file))["categories"]] == list(classes)
    except (DatasetError, LookupError, TypeError):
        return False
