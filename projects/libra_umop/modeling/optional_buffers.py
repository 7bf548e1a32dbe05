"""A module whose buffers a checkpoint may lack."""

from torch import nn

__all__ = ["OptionalBuffers"]


class OptionalBuffers(nn.Module):
    """What it learns beside weights is in its checkpoints; one without loads silently.

    So weights of a detector without it start a training with it, and its buffers then stay as they
    were made.
    """

    def _load_from_state_dict(self, state_dict, prefix, metadata, strict, missing, *args):
        """Same interface as :meth:`nn.Module._load_from_state_dict`; own buffers may be missing."""
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, missing, *args)
        for name in self._buffers:
            if prefix + name in missing:
                missing.remove(prefix + name)
