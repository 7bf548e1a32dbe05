"""Libra-UMOP: cures for the four imbalances of detector training, for Detectron2.

This file stays empty of imports so that ``libra_umop.functional`` needs nothing but torch;
``import libra_umop.config`` registers every backbone, head and meta-architecture.
"""

__version__ = "0.1.0"
