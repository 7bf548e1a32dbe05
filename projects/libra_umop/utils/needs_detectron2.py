"""Imported first by the rooms that stand on Detectron2: says how to get it where it is not."""

from importlib.util import find_spec

from ..errors import NO_DETECTRON2

if find_spec("detectron2") is None:
    raise ModuleNotFoundError(NO_DETECTRON2, name="detectron2")
