"""The commands, a file each: ``libra-umop NAME``, and the scripts of the checkout of their names.

What ``--help`` and a mistake in the arguments do not need is imported after they are read.
"""

__all__ = [
    "benchmark",
    "check",
    "convert",
    "export",
    "predict",
    "report",
    "shapes",
    "sheet",
    "study",
    "train",
]
