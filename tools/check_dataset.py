#!/usr/bin/env python
"""What a COCO dataset holds and what is wrong with it: ``libra-umop check`` in a checkout."""

import sys

from libra_umop.cli.commands.check import main

if __name__ == "__main__":
    sys.exit(main())
