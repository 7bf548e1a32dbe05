"""Warnings of libraries about each other, which nobody who runs a tool can act on.

Each is named here; every other warning is shown.
"""

import warnings

# (message, as a regular expression from its start; category; module that it is blamed on)
HIDDEN = (
    # torchvision, timm and fvcore decorate functions with it when they are imported.
    (r"`torch\.jit\.script", Warning, ""),
    # Detectron2's model zoo asks setuptools where its files are.
    (r"pkg_resources is deprecated", Warning, ""),
)


def hide_library_warnings() -> None:
    """Hide the warnings of :data:`HIDDEN`; call it before the libraries are imported."""
    for message, category, module in HIDDEN:
        warnings.filterwarnings("ignore", message=message, category=category, module=module)
