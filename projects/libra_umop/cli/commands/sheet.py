"""Draw validation images with their ground truth and a detector's predictions side by side."""

import argparse
import os
import sys
from pathlib import Path

from ...data.dataset_args import DataSource, add_split_args
from ...errors import EXIT_USER_ERROR, DatasetError, one_line
from ...utils.output_files import check_writable, refuse_to_overwrite
from ..argument_types import config_file, positive, score
from ..exit_codes import exit_code_of

__all__ = ["build_parser", "main"]


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the tool."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", required=True, help="a checkpoint that training wrote")
    parser.add_argument(
        "--config-file", type=config_file, default="", help="default: what the checkpoint carries"
    )
    parser.add_argument("--dataset", required=True, help="its folder, as for training")
    add_split_args(parser)
    parser.add_argument("--output", type=Path, required=True, help="PNG or JPEG to write")
    parser.add_argument("--num-images", type=positive, default=9, help="how many (%(default)s)")
    parser.add_argument("--threshold", type=score, default=0.5, help="lowest score (%(default)s)")
    return parser


@exit_code_of
def main(argv=None) -> int:
    """Run the tool; returns its exit code."""
    args = build_parser().parse_args(argv)
    refuse_to_overwrite([args.output], [args.weights, args.config_file])
    check_writable(args.output)
    # Not at the top: these take seconds, which --help and a wrong command need not wait for.
    from ...data.arguments import named_splits
    from ...data.datasets import load_dataset
    from ...data.layouts.table import dataset_name
    from ...inference.contact_sheet import contact_sheet
    from ...inference.outputs import drawn_name, write_image
    from ...inference.predictor import LibraPredictor
    from ...inference.sliced import with_tiles

    if drawn_name(args.output.name) != args.output.name:
        print(f"--output is {args.output}, should end in .png or .jpg", file=sys.stderr)
        return EXIT_USER_ERROR
    dataset = load_dataset(dataset_name(args.dataset), named_splits(DataSource.by(args)))
    for split in dataset.splits.values():
        images = [os.path.join(split.image_root, image["file_name"]) for image in split.images]
        refuse_to_overwrite([args.output], images)
    predictor = with_tiles(
        LibraPredictor.from_weights(
            args.weights, config_file=args.config_file, threshold=args.threshold
        )
    )
    sheet = contact_sheet(
        records_to_show(args, dataset, predictor.class_names),
        lambda image: predictor(image)["instances"],
        dataset.class_names,
        white_16bit=predictor.cfg.INPUT.WHITE_16BIT,
        max_pixels=predictor.cfg.INPUT.MAX_IMAGE_PIXELS,
    )
    write_image(sheet, args.output)
    print(one_line(f"ground truth and predictions side by side: {args.output}"))
    return 0


def records_to_show(args: argparse.Namespace, dataset, class_names) -> list[dict]:
    """Images evenly through the validation set, which has to be of the detector's classes."""
    from ...data.datasets import dataset_dicts
    from ...training.checkpoint.weight_fit import require_classes_of

    require_classes_of(dataset.categories, class_names, path=args.weights, dataset=args.dataset)
    split = dataset.splits.get("val") or dataset.splits["train"]
    records = dataset_dicts(split, {c["id"]: i for i, c in enumerate(dataset.categories)})
    if not records:
        raise DatasetError(f"{split.source}: has no image to show")
    step = max(len(records) // args.num_images, 1)
    return records[::step][: args.num_images]
