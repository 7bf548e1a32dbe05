#!/usr/bin/env python
"""Convert checkpoints: mmdetection detectors and ImageNet ResNets to this project, or back.

    tools/convert_checkpoint.py IN --config-file CONFIG --output OUT [KEY VALUE ...]
    tools/convert_checkpoint.py IN --config-file CONFIG --output OUT --to mmdet [KEY VALUE ...]

IN is a .pth of mmdetection 1.x, 2.x, 3.x or a fork that keeps its heads' names; or a .pth or
.safetensors of a torchvision or timm ResNet. CONFIG and KEY VALUE are those the model is used with.
"""

import argparse
from typing import List, Optional

from libra_umop.convert.run import convert_from, convert_to_mmdet
from libra_umop.engine.errors import exit_code_of


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input", metavar="IN", help="the file to convert; nothing in it is run")
    parser.add_argument("--config-file", required=True, metavar="CONFIG", help="of configs/")
    parser.add_argument("--output", required=True, metavar="OUT", help="the file to write")
    parser.add_argument("--to", choices=["here", "mmdet"], default="here", help="direction")
    parser.add_argument(
        "--force",
        action="store_true",
        help="write although the config contradicts what IN says of its training",
    )
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="override the config")
    return parser


@exit_code_of
def main(argv: Optional[List[str]] = None) -> None:
    args = build_parser().parse_intermixed_args(argv)
    if args.to == "mmdet":
        lines = convert_to_mmdet(args.input, args.config_file, args.output, args.opts)
    else:
        lines = convert_from(args.input, args.config_file, args.output, args.opts, args.force)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
