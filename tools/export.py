#!/usr/bin/env python
"""A trained detector as one TorchScript or ONNX file: ``libra-umop export`` in a checkout."""

import sys

from libra_umop.cli.commands.export import main

if __name__ == "__main__":
    sys.exit(main())
