#!/usr/bin/env python
"""Time and memory of a training step and of inference: ``libra-umop benchmark`` in a checkout."""

import sys

from libra_umop.cli.commands.benchmark import main

if __name__ == "__main__":
    sys.exit(main())
