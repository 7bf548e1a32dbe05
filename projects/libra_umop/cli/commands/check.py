"""Say what a dataset holds and everything that is wrong with it, before it is trained on.

    %(prog)s --dataset DIR

Exit code: 0 clean (or only notes), 1 defects that training works around or that should be looked
at, 2 unusable: training would refuse it, or there is no such dataset.
"""

import argparse
import json
import sys
from pathlib import Path

from ...data.dataset_args import DataSource, add_dataset_location_args
from ...errors import ConfigError, DatasetError, one_line
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
        "--convert",
        metavar="DIR",
        help="also write what is usable as clean COCO into this new folder; images are hard links,"
        " or copies where these are not to be had",
    )
    parser.add_argument(
        "--gallery",
        type=Path,
        metavar="FILE",
        help="also draw training pictures with their boxes as the augmentation of --config-file"
        " makes them, and a table of the classes (PNG or JPEG)",
    )
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
    check_writable(None if to_stdout else args.json, args.gallery)
    if args.gallery and args.gallery.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ConfigError(f"--gallery is {args.gallery}, should end in .png or .jpg")
    # Not at the top: these take seconds, which --help and a wrong command need not wait for.
    from ...config.loading import load_config
    from ...data.arguments import named_splits
    from ...data.check.checking import ImageLimits, check_dataset, progress_bar
    from ...data.check.clean import refuse_used_folder, write_clean
    from ...data.check.report import as_json, as_text
    from ...data.check.statistics import ResizedTo

    splits = named_splits(DataSource.by(args), needs_train=False)
    refuse_to_overwrite([args.json, args.gallery], [split.source for split in splits.values()])
    if not splits:
        raise DatasetError("no dataset is named; give --dataset DIR or --train-json FILE")
    if args.convert:
        refuse_used_folder(args.convert)
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
    if args.json and not to_stdout:
        with writing(args.json), open(args.json, "w") as f:
            json.dump(as_json(checked, resized_to), f, indent=2)
    if to_stdout:
        print(json.dumps(as_json(checked, resized_to), indent=2))
    else:
        print(as_text(checked, resized_to, args.max_listed))
    lines = write_clean(checked, args.convert) if args.convert else []
    lines += draw_gallery(checked, args) if args.gallery else []
    print(
        "\n".join(map(one_line, lines)),
        file=sys.stderr if to_stdout else sys.stdout,
        end="\n" * bool(lines),
    )
    return checked.exit_code


def draw_gallery(checked, args: argparse.Namespace) -> list[str]:
    """Write the picture that ``--gallery`` asks for; a line for people."""
    from ...config.loading import load_config
    from ...data.augmentation import Mosaic
    from ...data.check.checking import UNUSABLE
    from ...data.datasets import dataset_dicts
    from ...data.mapper import OwnDatasetMapper
    from ...inference.gallery import gallery
    from ...inference.outputs import write_image

    if checked.exit_code == UNUSABLE or not any(d.images for d in checked.splits.values()):
        raise DatasetError("nothing is drawn, as training would refuse the dataset; see above")
    usable = {name: data for name, data in checked.splits.items() if not data.errors}
    ids = {class_id: i for i, class_id in enumerate(checked.class_ids)}
    records = {name: dataset_dicts(data, ids) for name, data in usable.items()}
    shown = next(iter(records.values()))
    refuse_to_overwrite([args.gallery], [record["file_name"] for record in shown])
    cfg = load_config(args.config_file)
    mapper = OwnDatasetMapper(cfg, is_train=True)
    counts = {
        name: [sum(a["category_id"] == c for a in data.objects) for c in checked.class_ids]
        for name, data in usable.items()
    }
    sheet = gallery(
        shown,
        Mosaic.from_config(cfg, mapper, shown) if cfg.INPUT.MOSAIC.PROB else mapper,
        checked.class_names,
        counts,
        bgr=cfg.INPUT.FORMAT == "BGR",
    )
    write_image(sheet, args.gallery)
    return [f"pictures as training sees them, and boxes per class: {args.gallery}"]
