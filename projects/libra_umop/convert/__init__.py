"""Checkpoints of other projects to this one and back: tensors by name, shape and layout."""
