"""The signals by which a run is asked to stop."""

import signal

__all__ = ["SIGNALS"]

_NAMES = ("SIGTERM", "SIGUSR1", "SIGINT")
SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))  # Windows
