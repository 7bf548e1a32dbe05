"""Datasets of one's own in COCO form: finding, checking and registering them."""
