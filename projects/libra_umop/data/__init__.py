"""Datasets of one's own in COCO form: finding, checking and registering them."""

from ..utils.lazy import offer

__all__, __getattr__, __dir__ = offer(
    __name__,
    {
        "arguments": "configure_dataset",
        "dataset_args": "DataSource RunOptions",
        "check.checking": "check_dataset",
        "layouts.reading.layout": "Split",
        "layouts.table": "find_splits",
        "mapper": "OwnDatasetMapper",
        "images": "read_image",
        "shapes": "write_shapes",
    },
)
