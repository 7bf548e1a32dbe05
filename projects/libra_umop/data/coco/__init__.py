"""Reading COCO files as people write them."""

from ...utils.lazy import offer

__all__, __getattr__, __dir__ = offer(__name__, {"document": "read_json", "parsing": "parse_split"})
