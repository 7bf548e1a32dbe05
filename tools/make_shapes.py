#!/usr/bin/env python3
"""The small set of shapes that the demo trains on: ``libra-umop shapes`` in a checkout."""

import sys

from libra_umop.cli.commands.shapes import main

if __name__ == "__main__":
    sys.exit(main())
