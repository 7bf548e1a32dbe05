"""What the layouts share: what one is, making COCO documents, finding pictures, reading values."""

from ....utils.lazy import offer

__all__, __getattr__, __dir__ = offer(
    __name__,
    {
        "builder": "DocumentBuilder",
        "layout": "Content Layout Split",
        "pictures": "Pictures",
        "xml": "read_xml",
    },
)
