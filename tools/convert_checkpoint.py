#!/usr/bin/env python
"""Checkpoints of mmdetection, and ImageNet weights, here and back: ``libra-umop convert``."""

import sys

from libra_umop.cli.commands.convert import main

if __name__ == "__main__":
    sys.exit(main())
