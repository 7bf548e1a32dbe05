"""A validation split that is made: the same every time, and no picture on both sides."""

import json

import numpy as np
import pytest
from PIL import Image, ImageDraw

from libra_umop.data.coco.parsing import parse_split
from libra_umop.data.datasets import load_dataset
from libra_umop.data.layouts.table import find_splits
from libra_umop.data.splitting.division import divide, keep_record, read_record
from libra_umop.data.splitting.groups import Groups, look_alike, same_name
from libra_umop.errors import ConfigError, DatasetError
from testing.coco_files import document, write_dataset, write_images, write_json
from testing.layout_writers import WRITERS


def names_of(parts):
    return {name: [i["file_name"] for i in parse_split(s).images] for name, s in parts.items()}


def only_train(tmp_path, names, pictures=None):
    """A dataset without a validation split; returns its training split."""
    content = document(len(names))
    for image, name in zip(content["images"], names, strict=True):
        image["file_name"] = name
    write_json(tmp_path / "annotations" / "train.json", content)
    write_images(tmp_path / "images", content)
    for name, picture in (pictures or {}).items():
        picture.save(tmp_path / "images" / name)
    return find_splits(str(tmp_path))["train"]


def test_a_division_is_the_same_every_time_and_another_for_another_seed(tmp_path):
    split = only_train(tmp_path, [f"picture {chr(97 + i)}.png" for i in range(20)])
    first, again, other = (names_of(divide(split, 0.8, seed)[0]) for seed in (0, 0, 1))
    assert first == again != other
    assert {name: len(own) for name, own in first.items()} == {"train": 16, "val": 4}
    assert sorted(first["train"] + first["val"]) == [
        f"picture {chr(97 + i)}.png" for i in range(20)
    ]


def test_annotations_go_with_their_images_and_ids_stay(tmp_path):
    split = only_train(tmp_path, [f"{chr(97 + i)}.png" for i in range(10)])
    whole = parse_split(split)
    parts = {name: parse_split(part) for name, part in divide(split, 0.7)[0].items()}
    for part in parts.values():
        ids = {image["id"] for image in part.images}
        assert part.annotations == [a for a in whole.annotations if a["image_id"] in ids]
        assert part.categories == whole.categories and not part.exact
    assert sum(len(part.annotations) for part in parts.values()) == len(whole.annotations)


def test_the_order_of_the_file_does_not_matter(tmp_path):
    split = only_train(tmp_path, [f"{chr(97 + i)}.png" for i in range(12)])
    before = names_of(divide(split, 0.75)[0])
    file = tmp_path / "annotations" / "train.json"
    content = json.loads(file.read_text())
    content["images"].reverse()
    file.write_text(json.dumps(content))
    after = names_of(divide(split, 0.75)[0])
    assert {name: sorted(own) for name, own in before.items()} == {
        name: sorted(own) for name, own in after.items()
    }


COPIES = [f"{kind}_jpg.rf.{code:032x}.jpg" for kind in "abcdefghij" for code in (1, 22, 333)]
FRAMES = [
    f"clips/{clip}_{i:05d}.png" for clip in ("pier", "beach", "dock", "boat") for i in range(9)
]
SINGLE = [f"BloodImage_{i:05d}.jpg" for i in range(40)]


@pytest.mark.parametrize("names, key_of", [(COPIES, lambda n: n[0]), (FRAMES, lambda n: n[6:9])])
def test_what_shares_a_name_is_on_one_side(tmp_path, names, key_of):
    parts = names_of(divide(only_train(tmp_path, names), 0.75)[0])
    train, val = ({key_of(name) for name in parts[part]} for part in ("train", "val"))
    assert train and val and not train & val


@pytest.mark.parametrize(
    "names, groups",
    [
        (COPIES, 10),
        (FRAMES, 4),
        (SINGLE, 40),  # one name for all is none
        ([f"{i:012d}.jpg" for i in range(9)], 9),  # COCO's
        (["a/1.jpg", "b/1.jpg", "c/1.jpg"], 3),
    ],
)
def test_names_tell_groups_only_where_they_mean_some(names, groups):
    assert len(set(same_name(names)[0])) == groups


def scene(seed, shift=0, light=1.0):
    """A picture with something in it, 96 x 64."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (96, 64), tuple(rng.integers(60, 120, 3).tolist()))
    draw = ImageDraw.Draw(image)
    for _ in range(25):
        x, y, r = rng.integers(0, 96), rng.integers(0, 64), rng.integers(4, 16)
        draw.ellipse((x - r, y - r, x + r, y + r), tuple(rng.integers(0, 256, 3).tolist()))
    draw.rectangle((30 + shift, 20, 36 + shift, 26), "white")
    return image.point(lambda v: min(255, round(v * light)))


def test_pictures_that_look_alike_are_on_one_side(tmp_path):
    names = [f"{chr(97 + i)}.png" for i in range(12)]
    # Six scenes twice: in other light, and with something that moved.
    pictures = {
        n: scene(i // 2, shift=2 * (i % 2), light=1 - 0.2 * (i % 2)) for i, n in enumerate(names)
    }
    parts, division = divide(only_train(tmp_path, names, pictures), 0.67)
    assert "6 that look alike" in division.words
    val = names_of(parts)["val"]
    assert len(val) == 4
    assert {(ord(n[0]) - 97) // 2 for n in val}.isdisjoint(
        (ord(n[0]) - 97) // 2 for n in names_of(parts)["train"]
    )


def test_pictures_of_one_scene_are_divided_and_that_is_said(tmp_path):
    names = [f"{chr(97 + i)}.png" for i in range(10)]
    split = only_train(tmp_path, names, {n: scene(3, shift=i) for i, n in enumerate(names)})
    parts, division = divide(split, 0.8)
    assert "too many look alike" in division.words and len(names_of(parts)["val"]) == 2


def only_some_alike(folder, count, copies):
    """``count`` scenes, and ``copies`` of the first: ``a``, ``b``, ... and ``copy a``, ..."""
    pictures = {f"{chr(97 + i)}.png": scene(i).resize((192, 128)) for i in range(count)}
    first = pictures["a.png"]
    for i in range(copies):
        cut = first.crop((i + 3, 2 * i + 1, 192 - 4 * (i % 3), 128 - i))
        pictures[f"copy {chr(97 + i)}.png"] = cut if i % 2 else cut.resize((90, 60))
    return only_train(folder, list(pictures), pictures)


@pytest.mark.parametrize("seed", range(3))
def test_resized_and_cropped_copies_are_on_the_side_of_their_picture(tmp_path, seed):
    parts, division = divide(only_some_alike(tmp_path, 14, 4), 0.75, seed)
    assert "4 that look alike" in division.words
    sides = [{n for n in own if n == "a.png" or "copy" in n} for own in names_of(parts).values()]
    assert sorted(map(len, sides)) == [0, 5]


def test_duplicates_stay_together_also_where_another_group_is_too_large(tmp_path):
    pictures = {f"fixed {i}.png": scene(99, shift=i) for i in range(7)}
    pictures |= {"a.png": scene(1), "b.png": scene(1, light=0.8), "c.png": scene(2)}
    split = only_train(tmp_path, list(pictures), pictures)
    for seed in range(4):
        parts, division = divide(split, 0.6, seed)
        assert "1 that look alike, too many look alike to keep those together (7)" in division.words
        for own in names_of(parts).values():
            assert ("a.png" in own) == ("b.png" in own)


def test_a_class_of_one_image_is_for_training(tmp_path):
    names = [f"{chr(97 + i)}.png" for i in range(5)]
    only_train(tmp_path, names)
    file = tmp_path / "annotations" / "train.json"
    content = json.loads(file.read_text())
    for a in content["annotations"]:
        a["category_id"] = 7 if a["image_id"] == 3 else 3
    file.write_text(json.dumps(content))
    split = find_splits(str(tmp_path))["train"]
    for seed in range(8):
        assert "c.png" in names_of(divide(split, 0.6, seed)[0])["train"]


def test_three_images_of_three_classes_are_divided_all_the_same(tmp_path):
    only_train(tmp_path, ["a.png", "b.png", "c.png"])
    file = tmp_path / "annotations" / "train.json"
    content = json.loads(file.read_text())
    content["categories"].append({"id": 9, "name": "eel"})
    for a in content["annotations"]:
        a["category_id"] = (3, 7, 9)[a["image_id"] - 1]
    file.write_text(json.dumps(content))
    parts = names_of(divide(find_splits(str(tmp_path))["train"], 0.8)[0])
    assert (len(parts["train"]), len(parts["val"])) == (2, 1)


def test_copies_of_a_single_picture_cannot_be_divided(tmp_path):
    split = only_train(tmp_path, [f"dog_jpg.rf.{i:032x}.jpg" for i in range(5)])
    with pytest.raises(DatasetError, match="no image for val: .*together: 4 copies by their names"):
        divide(split, 0.8)


def test_flat_and_broken_pictures_are_like_nothing(tmp_path):
    paths = [str(tmp_path / f"{i}.png") for i in range(4)]
    for path in paths[:2]:
        Image.new("RGB", (50, 40), "grey").save(path)
    (tmp_path / "2.png").write_text("no picture")
    groups = Groups(4)
    assert look_alike(paths, groups) == 0 and groups.count == 4


def test_pictures_of_real_data_are_told_apart(shared_data):
    for name, alike in (("bccd", 1), ("coco_tiny", 0), ("aquarium", 4)):
        paths = sorted(map(str, (shared_data / name / "images").glob("*.jpg")))
        groups = Groups(len(paths))
        assert look_alike(paths, groups) == alike
    # 37 and 38 of bccd are one view of the microscope in another focus; of the aquarium set two
    # pairs and three pictures of one rock are alike, and blue water is not.


def test_a_record_gives_the_division_back_and_new_images_are_trained_on(tmp_path):
    names = [f"{chr(97 + i)}.png" for i in range(10)]
    parts, division = divide(only_train(tmp_path / "a", names), 0.8)
    keep_record(division, str(tmp_path / "out"), replace_other=False)
    record = str(tmp_path / "out" / "split.json")
    more = only_train(tmp_path / "b", [*names[1:], "new.png"])
    again, told = divide(more, record)
    assert names_of(again)["val"] == [n for n in names_of(parts)["val"] if n != "a.png"]
    assert "new.png" in names_of(again)["train"]
    assert "1 that it does not name are for training" in told.words
    assert "1 that it names are not here, as 'a.png'" in told.words


def test_another_division_is_not_written_over_the_first(tmp_path):
    split = only_train(tmp_path, [f"{chr(97 + i)}.png" for i in range(10)])
    first, other = (divide(split, 0.8, seed)[1] for seed in (0, 1))
    keep_record(first, str(tmp_path), replace_other=False)
    keep_record(first, str(tmp_path), replace_other=False)
    with pytest.raises(ConfigError, match="split.json: is of another division"):
        keep_record(other, str(tmp_path), replace_other=False)
    assert read_record(str(tmp_path / "split.json"), first.train + first.val).val == first.val
    keep_record(other, str(tmp_path), replace_other=True)


@pytest.mark.parametrize("text", ["{}", "[]", '{"val": [1]}', '{"val": "a"}'])
def test_a_file_that_is_no_record_is_refused(tmp_path, text):
    file = write_json(tmp_path / "x.json", text)
    with pytest.raises(ConfigError, match="has no list val of file names"):
        read_record(file, ["a", "b"])


def test_too_few_images_are_refused(tmp_path):
    with pytest.raises(DatasetError, match="has 1 images, too few for --split"):
        divide(only_train(tmp_path, ["a.png"]), 0.8)


@pytest.mark.parametrize("change", ["images", "annotations", "list", "image", "id"])
def test_a_broken_document_is_refused_as_without_a_split(tmp_path, change):
    content = document(4)
    if change == "list":
        content = []
    elif change == "image":
        content["images"][1] = 3
    elif change == "id":
        content["images"][1]["id"] = [1]
    else:
        content[change] = 3
    root = write_dataset(tmp_path)
    write_json(tmp_path / "annotations" / "train.json", content)
    with pytest.raises(DatasetError, match="^[^\n]*train.json"):
        load_dataset("x", divide(find_splits(root)["train"], 0.5)[0])


@pytest.mark.parametrize("layout", WRITERS)
def test_every_layout_can_be_divided(tmp_path, layout):
    content = document(6)
    write_images(tmp_path / "images", content)
    (tmp_path / "own").mkdir()
    WRITERS[layout](tmp_path / "own", {"train": content}, tmp_path / "images")
    split = find_splits(str(tmp_path / "own"))["train"]
    dataset = load_dataset("x", divide(split, 0.67)[0])
    assert {n: len(d.images) for n, d in dataset.splits.items()} == {"train": 4, "val": 2}
    assert all(len(d.objects) == 2 * len(d.images) for d in dataset.splits.values())
