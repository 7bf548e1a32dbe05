"""Detectron2 adapters, in the order the data flows; importing this package registers them all."""
