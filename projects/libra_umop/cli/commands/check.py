"""Say what a COCO dataset holds and everything that is wrong with it, before it is trained on.

    %(prog)s --dataset DIR

Exit code: 0 clean (or only notes), 1 defects that training works around or that should be looked
at, 2 unusable: training would refuse it, or there is no such dataset.
"""

import argparse
import json

from ...data.dataset_args import add_dataset_location_args
from ...errors import DatasetError
from ...utils.output_files import check_writable, refuse_to_overwrite, writing
from ..argument_types import config_file, positive
from ..exit_codes import exit_code_of


def argument_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_dataset_location_args(parser)
    parser.add_argument(
        "--quick", action="store_true", help="read only the headers and ends of images"
    )
    parser.add_argument(
        "--masks",
        action="store_true",
        help="masks will be trained on: an object without a usable one counts as dropped (without,"
        " broken masks are only named)",
    )
    parser.add_argument(
        "--config-file",
        type=config_file,
        default="",
        metavar="FILE",
        help="take the size of images, which decides the pyramid levels, their limits and whether"
        " masks are trained on from this config (default: shorter side 800, longer side at most"
        " 1333, no masks)",
    )
    parser.add_argument("--json", metavar="FILE", help="also write all findings here; - for stdout")
    parser.add_argument(
        "--max-listed",
        type=positive,
        default=10,
        metavar="N",
        help="defects listed of each kind (%(default)s)",
    )
    return parser


@exit_code_of
def main(argv=None) -> int:
    """Check the dataset that the command line names; returns the exit code."""
    args = argument_parser().parse_args(argv)
    to_stdout = args.json == "-"
    check_writable(None if to_stdout else args.json)
    # Not at the top: these take seconds, which --help and a wrong command need not wait for.
    from ...config.loading import load_config
    from ...data.arguments import named_splits
    from ...data.check.checking import ImageLimits, check_dataset, progress_bar
    from ...data.check.report import as_json, as_text
    from ...data.check.statistics import ResizedTo

    splits = named_splits(args)
    refuse_to_overwrite([args.json], [split.source for split in splits.values()])
    if not splits:
        raise DatasetError("no dataset is named; give --dataset DIR or --train-json FILE")
    resized_to, limits, masks = ResizedTo(), ImageLimits(), args.masks
    if args.config_file:
        cfg = load_config(args.config_file)
        resized_to, limits = ResizedTo.from_config(cfg), ImageLimits.from_config(cfg)
        masks = masks or cfg.MODEL.MASK_ON
    checked = check_dataset(
        splits,
        decode_images=not args.quick,
        masks=masks,
        limits=limits,
        progress=progress_bar,
    )
    if to_stdout:
        print(json.dumps(as_json(checked, resized_to), indent=2))
        return checked.exit_code
    if args.json:
        with writing(args.json), open(args.json, "w") as f:
            json.dump(as_json(checked, resized_to), f, indent=2)
    print(as_text(checked, resized_to, args.max_listed))
    return checked.exit_code
