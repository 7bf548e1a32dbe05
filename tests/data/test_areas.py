"""Small, medium and large objects are counted in one way, by the limits of COCO's evaluation."""

import json

import numpy as np
from pycocotools.cocoeval import Params

from libra_umop.data.check.areas import count_areas
from libra_umop.data.check.statistics import ResizedTo, describe_split
from libra_umop.data.coco.parsing import parse_coco
from libra_umop.imbalance.measures.data import measure_data


def coco_ranges():
    params = Params(iouType="bbox")
    return dict(zip(params.areaRngLbl, params.areaRng, strict=True))


def test_areas_between_the_limits_are_counted_as_pycocotools_takes_them():
    areas = np.random.default_rng(0).uniform(1, 200**2, size=500)
    ranges = coco_ranges()
    for name, count in count_areas(areas).items():
        low, high = ranges[name]
        assert count == sum(low <= area <= high for area in areas) > 0


def test_an_object_on_a_limit_which_pycocotools_takes_twice_counts_once_as_the_larger():
    ranges = coco_ranges()
    assert [name for name, (low, high) in ranges.items() if low <= 32**2 <= high][1:] == [
        "small",
        "medium",
    ]
    assert count_areas([32**2]) == {"small": 0, "medium": 1, "large": 0}
    assert count_areas([96**2]) == {"small": 0, "medium": 0, "large": 1}
    assert count_areas([]) == {"small": 0, "medium": 0, "large": 0}


def test_check_dataset_and_the_report_count_one_file_alike():
    """At the limits, and where a mask's area is not that of its box."""
    sizes = (32, 96, 100, 20, 96)
    areas = [32**2, 96**2, 90**2, 20**2, 31]
    annotations = [
        {"id": i, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [0, 0, s, s], "area": a}
        for i, (s, a) in enumerate(zip(sizes, areas, strict=True), start=1)
    ]
    image = {"id": 1, "file_name": "1.png", "width": 200, "height": 200}
    content = {
        "images": [image],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cat"}],
    }
    report = measure_data(json.loads(json.dumps(content)))["areas"]
    split = describe_split(parse_coco(content, "x.json", ["."]), [1], ResizedTo(min_size=0))
    assert report == split["boxes_per_area"] == {"small": 2, "medium": 2, "large": 1}
