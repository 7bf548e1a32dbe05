"""Keys, their ranges, and reading configs without running anything in them."""

from ..utils import needs_detectron2  # noqa: F401
from ..utils.lazy import offer

__all__, __getattr__, __dir__ = offer(
    __name__, {"checks": "check_config", "keys": "add_libra_umop_config", "loading": "load_config"}
)
