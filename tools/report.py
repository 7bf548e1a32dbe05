#!/usr/bin/env python
"""What is out of balance in runs: ``libra-umop report`` in a checkout."""

import sys

from libra_umop.cli.commands.report import main

if __name__ == "__main__":
    sys.exit(main())
