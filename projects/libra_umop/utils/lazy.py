"""The door of a room: names that are imported when they are asked for, not with the room."""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def offer(
    room: str, names: Mapping[str, str]
) -> tuple[list[str], Callable[[str], Any], Callable[[], list[str]]]:
    """What an ``__init__`` assigns to ``__all__, __getattr__, __dir__``.

    A room that imported its modules would cost seconds where one of them imports torch, and would
    need Detectron2, plotly or scipy though nothing of theirs is used.

    Args:
        room: ``__name__`` of the package.
        names: the modules below it, and the names that each offers, parted by spaces. No name may
            be that of a module beside it, which would hide it once it is imported.
    """
    module_of = {name: module for module, offered in names.items() for name in offered.split()}
    here: Sequence[str] = dir(sys.modules[room])

    def get(name: str) -> Any:
        if name not in module_of:
            raise AttributeError(f"module {room!r} has no attribute {name!r}")
        return getattr(import_module(f"{room}.{module_of[name]}"), name)

    return sorted(module_of), get, lambda: sorted({*here, *module_of})
