"""Whatever a JSON file holds, reading it ends in clean data or in DatasetError."""

import contextlib
import copy
import io
import json
import math
import random

import pytest
from pycocotools.coco import COCO

from libra_umop.data.coco.document import write_coco
from libra_umop.data.datasets import dataset_dicts
from libra_umop.errors import DatasetError
from testing.coco_files import document, load_coco

JUNK = [
    *(None, True, False, 0, 1, -1, 3, 2**63, 10**400, -(10**400), 0.5, 1.0, -0.0, 1e308, -1e308),
    *(math.nan, math.inf, -math.inf, "", "a", "1", "../x", "/x", "\0", "\ud800", "x" * 5000, "名"),
    *([], {}, [[]], [None], [1, 2, 3, 4], [1e308] * 4, {"id": 1}, {"size": 1, "counts": 2}),
]


def places(node, path=()):
    """The paths to all values below ``node``."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))


def mutate(content, rng):
    """Replace, remove or repeat one value anywhere in ``content``."""
    path = rng.choice(list(places(content)))
    parent = content
    for key in path[:-1]:
        parent = parent[key]
    how = rng.choice(("replace", "replace", "remove", "repeat"))
    if how == "remove":
        del parent[path[-1]]
    elif how == "repeat" and isinstance(parent, list):
        parent.append(copy.deepcopy(parent[path[-1]]))
    else:
        parent[path[-1]] = copy.deepcopy(rng.choice(JUNK))


def fuzzed_file(rng):
    """The bytes of a sound file with values or bytes changed at random."""
    content = document()
    for a in content["annotations"]:
        a["segmentation"] = [[8, 8, 48, 8, 48, 38]]
    for _ in range(rng.randint(1, 4)):
        if isinstance(content, dict) and content:
            mutate(content, rng)
    raw = bytearray(json.dumps(content).encode())
    if rng.random() < 0.3:
        for _ in range(rng.randint(1, 3)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
    if rng.random() < 0.1:
        del raw[rng.randrange(len(raw)) :]
    return bytes(raw)


def check_one(path, rng):
    """Whether the fuzzed file is usable; if so, all that follows has to work too."""
    raw = fuzzed_file(rng)
    path.write_bytes(raw)
    try:
        data = load_coco(str(path), [str(path.parent)], masks=rng.random() < 0.5)
    except DatasetError as e:
        assert str(e).startswith(str(path)) and "\n" not in str(e), raw
        return False
    classes = {c["id"]: i for i, c in enumerate(data.categories)}
    assert sum(len(d["annotations"]) for d in dataset_dicts(data, classes)) > 0, raw
    for a in data.annotations:
        assert len(a["bbox"]) == 4 and all(map(math.isfinite, a["bbox"])), raw
        assert min(a["bbox"][2:]) > 0 and math.isfinite(a["area"]) and a["area"] > 0, raw
    clean = path.with_name("clean.json")
    write_coco(data, data.categories, str(clean))
    with contextlib.redirect_stdout(io.StringIO()):
        assert len(COCO(str(clean)).anns) == len(data.annotations), raw
        if data.exact:
            assert COCO(str(path)).anns.keys() == {a["id"] for a in data.annotations}, raw
    return True


@pytest.mark.parametrize("seed", range(4))
def test_fuzzed_file_ends_in_clean_data_or_in_dataset_error(tmp_path, seed):
    rng = random.Random(seed)
    usable = [check_one(tmp_path / "a.json", rng) for _ in range(400)]
    assert 0.1 < sum(usable) / len(usable) < 0.9
