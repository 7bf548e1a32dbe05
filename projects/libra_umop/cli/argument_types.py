"""Types for argparse that the tools share; a bad value is answered with what would be right."""

import argparse

from ..utils.shipped_configs import find_config

config_file = find_config  # a file, or the name below configs/ of one that comes with the project


def score(text: str) -> float:
    """A number in [0, 1]."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not in [0, 1]")
    return value


def positive(text: str) -> int:
    """A whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


def count(text: str) -> int:
    """A whole number of at least 0."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return value


def image_size(text: str) -> tuple[int, int]:
    """HxW in pixels, each at least 32, the stride of a backbone."""
    height, _, width = text.partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text} is not HEIGHTxWIDTH in pixels, as in 800x1333")
    if min(int(height), int(width)) < 32:
        raise argparse.ArgumentTypeError(f"{text} is too small: sides of at least 32 are needed")
    return int(height), int(width)


def add_opts(parser: argparse.ArgumentParser) -> None:
    """``--opts``: changes of the config, in pairs."""
    parser.add_argument(
        "--opts", nargs="+", default=[], metavar="KEY VALUE", help="config keys to change"
    )
