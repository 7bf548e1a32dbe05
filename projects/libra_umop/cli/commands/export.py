"""Write a trained detector as one TorchScript or ONNX file, and check that it detects the same.

    %(prog)s --weights output/model_final.pth --format onnx --output detector.onnx

The file takes an image, (3, H, W) float32 with values 0..255, of any size and gives boxes (XYXY
pixels), scores and classes. It is run beside the model on images of two sizes; boxes have to agree
within 0.1 px and scores within 1e-3, or no file is left. Class names, channel order and test sizes
are stored in it. Exit code: 0 the file was written, 2 it was not.
"""

import argparse
from pathlib import Path

from ...export import DEFAULT_OPSET, FORMATS, OPSETS
from ...utils.output_files import check_writable, refuse_to_overwrite, writing
from ..argument_types import add_opts, config_file, image_size, positive
from ..exit_codes import exit_code_of

SUFFIXES = {"torchscript": ".ts", "onnx": ".onnx"}


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", required=True, help="checkpoint, a path or an address")
    parser.add_argument(
        "--config-file", type=config_file, default="", help="default: what the checkpoint carries"
    )
    parser.add_argument("--format", required=True, choices=FORMATS)
    parser.add_argument("--output", type=Path, help="default: the weights' name with .ts or .onnx")
    parser.add_argument(
        "--sizes",
        type=image_size,
        nargs="+",
        metavar="HxW",
        help="of the images that it is traced (the first) and compared at; default: two, landscape "
        "and portrait, with the config's test size as shorter side",
    )
    parser.add_argument(
        "--fixed",
        type=image_size,
        metavar="HxW",
        help="take images of this size only, and give a fixed number of boxes, filled up with score"
        " 0: for engines that want no shape to follow the data",
    )
    parser.add_argument(
        "--batch", type=positive, metavar="N", help="images at once, with --fixed; default 1"
    )
    parser.add_argument(
        "--opset",
        type=int,
        choices=OPSETS,
        default=DEFAULT_OPSET,
        help="of ONNX; default %(default)s",
    )
    add_opts(parser)
    return parser


@exit_code_of
def main(argv=None) -> int:
    """Run the tool; returns its exit code."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.batch and not args.fixed:
        parser.error("--batch goes with --fixed HxW: a file for any size takes one image")
    if args.fixed and args.sizes:
        parser.error("--sizes goes without --fixed, which is the one size")
    file = args.output or Path(args.weights).with_suffix(SUFFIXES[args.format])
    refuse_to_overwrite([file], [args.weights, args.config_file])
    check_writable(file)
    # Not at the top: these take seconds, which --help and a wrong command need not wait for.
    from ...export.exporter import export_detector, shapes_of_data
    from ...inference.predictor import LibraPredictor

    predictor = LibraPredictor.from_weights(
        args.weights, config_file=args.config_file, opts=args.opts, device="cpu"
    )
    short = predictor.cfg.INPUT.MIN_SIZE_TEST or 800  # 0: images keep their size
    sizes = args.sizes or [(short, short * 4 // 3), (short * 5 // 4 + 1, short - 1)]
    with writing(file):
        agreements = export_detector(
            predictor,
            file,
            format=args.format,
            sizes=[args.fixed] if args.fixed else sizes,
            opset=args.opset,
            batch=(args.batch or 1) if args.fixed else 0,
        )
    for agreement in agreements:
        print(f"{args.format} against the model at {agreement}")
    if args.format == "onnx":
        counts = [f"{name} {count}" for name, count in sorted(shapes_of_data(file).items())]
        print(f"operators whose shapes follow the data: {', '.join(counts) or 'none'}")
    print(f"{file}: {file.stat().st_size / 2**20:.1f} MiB")
    return 0
