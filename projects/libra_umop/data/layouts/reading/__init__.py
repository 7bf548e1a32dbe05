"""What the layouts share: making a COCO document, finding pictures, reading XML and values."""

from ....utils.lazy import offer

__all__, __getattr__, __dir__ = offer(
    __name__,
    {
        "builder": "DocumentBuilder",
        "pictures": "Pictures",
        "xml": "read_xml",
    },
)
