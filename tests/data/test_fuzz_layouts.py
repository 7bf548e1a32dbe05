"""Whatever the files of a layout hold, reading them ends in clean data or in DatasetError."""

import json
import math
import random
import re
import shutil

import pytest
from test_fuzz_coco import mutate

from libra_umop.data.check.checking import check_dataset
from libra_umop.data.datasets import dataset_dicts, load_dataset
from libra_umop.data.layouts.reading.pictures import is_picture
from libra_umop.data.layouts.table import find_splits
from libra_umop.errors import DatasetError
from testing.coco_files import document, write_images
from testing.layout_writers import WRITERS

JUNK = [
    "",
    "0",
    "-1",
    "7",
    "1e400",
    "nan",
    "inf",
    "1.5",
    "x",
    "../x",
    "/x",
    "\0",
    "名",
    "null",
    "[]",
]
JUNK += ["{}", "<a>", "&amp;", "\n", " ", '"', "x" * 3000, "\ufeff", "true", "- ", "0 0 0 0 0 0 0"]
WORD = re.compile(r"[\w.+-]+")


def annotation_files(root):
    return sorted(p for p in root.rglob("*") if p.is_file() and not is_picture(p.name))


def damage(path, rng):
    """Replace or remove words or bytes of a file, cut it off, or remove it."""
    raw = path.read_bytes()
    if path.suffix == ".json" and rng.random() < 0.7:
        content = json.loads(raw)
        mutate(content, rng)
        path.write_text(json.dumps(content))
        return
    how = rng.choice(("word", "word", "word", "word", "bytes", "line", "cut", "gone", "binary"))
    if how == "gone":
        path.unlink()
        return
    text = raw.decode(errors="replace")
    words = list(WORD.finditer(text))
    if how == "word" and words:
        for _ in range(rng.randint(1, 3)):
            word = rng.choice(words)
            text = text[: word.start()] + rng.choice(JUNK) + text[word.end() :]
            words = list(WORD.finditer(text)) or words[:1]
        raw = text.encode(errors="replace")
    elif how == "line":
        lines = text.split("\n")
        lines.insert(rng.randrange(len(lines) + 1), rng.choice([*JUNK, rng.choice(lines)]))
        raw = "\n".join(lines).encode(errors="replace")
    elif how == "cut":
        raw = raw[: rng.randrange(len(raw) + 1)]
    elif how == "binary":
        raw = rng.randbytes(200)
    elif raw:
        raw = bytearray(raw)
        for _ in range(rng.randint(1, 3)):
            raw[rng.randrange(len(raw))] = rng.randrange(256)
    path.write_bytes(bytes(raw))


def read(root):
    """Whether the dataset is usable; if so, what is read is."""
    try:
        dataset = load_dataset("x", find_splits(str(root)))
    except DatasetError as e:
        assert str(e).startswith(str(root)) and "\n" not in str(e), e
        return False
    ids = {c["id"]: i for i, c in enumerate(dataset.categories)}
    for data in dataset.splits.values():
        for record in dataset_dicts(data, ids):
            for a in record["annotations"]:
                assert all(map(math.isfinite, a["bbox"])) and min(a["bbox"][2:]) > 0
    return True


@pytest.mark.parametrize("layout", WRITERS)
def test_damaged_files_of_a_layout_end_in_clean_data_or_in_dataset_error(tmp_path, layout):
    rng = random.Random(layout)
    documents = {"train": document(2), "val": document(1)}
    for split, content in documents.items():
        for image in content["images"]:
            image["file_name"] = f"{split}{image['file_name']}"
        write_images(tmp_path / "images", content)
    WRITERS[layout](tmp_path / "sound", documents, tmp_path / "images")
    assert read(tmp_path / "sound")
    usable = []
    for i in range(30):
        root = tmp_path / str(i)
        shutil.copytree(tmp_path / "sound", root)
        damage(rng.choice(annotation_files(root)), rng)
        usable.append(read(root))
        if i % 6 == 0:
            try:
                splits = find_splits(str(root))
            except DatasetError:
                continue
            checked = check_dataset(splits)
            assert (checked.exit_code < 2) == usable[-1] or checked.defects
    assert 0.02 < sum(usable) / len(usable) < 0.98
