#!/usr/bin/env python
"""Objects in images and videos: ``libra-umop predict`` in a checkout."""

import sys

from libra_umop.cli.commands.predict import main

if __name__ == "__main__":
    sys.exit(main())
