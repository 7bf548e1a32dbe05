"""JSON files as annotation tools leave them; what is read of one is in the table of layouts."""

__all__ = ["createml", "fiftyone", "label_studio", "labelme"]
