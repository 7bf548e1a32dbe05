#!/usr/bin/env python
"""Which lever helps on your data, and how sure that is: ``libra-umop study`` in a checkout."""

import sys

from libra_umop.cli.commands.study import main

if __name__ == "__main__":
    sys.exit(main())
