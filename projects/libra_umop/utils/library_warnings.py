"""Warnings of libraries about each other, which nobody who runs a tool can act on.

Each is named here; every other warning is shown.
"""

import logging
import warnings

# (message, as a regular expression from its start; category; module that it is blamed on)
HIDDEN = (
    # torchvision, timm and fvcore decorate functions with it when they are imported.
    (r"`torch\.jit\.\w+` is deprecated", FutureWarning, ""),
    # Detectron2's anchors call it as older versions of torch had it.
    (r"torch\.meshgrid: in an upcoming release", UserWarning, ""),
    # Detectron2's create_ddp_model passes it on; what would take its place is another thing.
    (r"`broadcast_buffers` is deprecated", FutureWarning, ""),
    # Detectron2's model zoo asks setuptools where its files are.
    (r"pkg_resources is deprecated", Warning, ""),
)

# (logger, how the line begins)
HIDDEN_LINES = (
    # Detectron2 asks torch about the environment, for its log.
    ("torch.utils.cpp_extension", "No CUDA runtime is found"),
    # fvcore asks torch whether it is being traced.
    ("torch.fx._symbolic_trace", "is_fx_tracing will return true"),
)


def hide_library_warnings() -> None:
    """Hide what :data:`HIDDEN` and :data:`HIDDEN_LINES` name.

    It is called before the libraries are imported.
    """
    for name, _ in HIDDEN_LINES:
        logging.getLogger(name).addFilter(_is_shown)
    for message, category, module in HIDDEN:
        warnings.filterwarnings("ignore", message=message, category=category, module=module)


def _is_shown(record: logging.LogRecord) -> bool:
    line = record.getMessage()
    return not any(record.name == name and line.startswith(text) for name, text in HIDDEN_LINES)
