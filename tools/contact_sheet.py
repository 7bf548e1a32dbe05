#!/usr/bin/env python3
"""Validation images, with ground truth and predictions: ``libra-umop sheet`` in a checkout."""

import sys

from libra_umop.cli.commands.sheet import main

if __name__ == "__main__":
    sys.exit(main())
