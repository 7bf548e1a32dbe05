"""The console command ``libra-umop``, also ``python -m libra_umop.cli``."""

import difflib
import sys
from importlib import import_module

from .. import __version__
from ..errors import EXIT_USER_ERROR

PROGRAM = "libra-umop"
COMMANDS = {
    "train": "train a detector, or evaluate it",
    "predict": "detect objects in images and videos",
    "check": "say what a dataset holds, and everything that is wrong with it",
    "report": "show what is out of balance in runs",
    "export": "write a trained detector as one TorchScript or ONNX file",
    "convert": "convert checkpoints of mmdetection, and ImageNet weights, to here and back",
    "benchmark": "measure what a training step and inference cost",
    "study": "say which lever helps on your data, by how much, and how sure that is",
    "sheet": "draw validation images with ground truth and predictions side by side",
    "shapes": "draw a small dataset to try all this on",
}
"""Name -> what it does, in the order of the help."""


def main(argv=None) -> int:
    """Run the command that the first argument names on the others; returns its exit code."""
    name, *rest = (sys.argv[1:] if argv is None else list(argv)) or [""]
    if name in ("-h", "--help"):
        print(usage())
        return 0
    if name == "--version":
        print(f"{PROGRAM} {__version__}")
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        problem = f"no command is named {name!r}{hint}" if name else "which command?"
        print(f"{usage()}\n\n{PROGRAM}: {problem}", file=sys.stderr)
        return EXIT_USER_ERROR
    sys.argv = [f"{PROGRAM} {name}", *rest]  # its first word is what argparse calls the program
    return import_module(f".commands.{name}", __package__).main(rest)


def usage() -> str:
    """What there is, a line for each."""
    lines = [f"  {name:<10} {words}" for name, words in COMMANDS.items()]
    head = f"usage: {PROGRAM} COMMAND ...    ({PROGRAM} COMMAND --help says more)"
    return "\n".join([head, "", *lines])


if __name__ == "__main__":
    sys.exit(main())
