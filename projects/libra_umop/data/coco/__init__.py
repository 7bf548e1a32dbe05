"""Reading COCO files as people write them."""
