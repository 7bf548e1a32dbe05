"""What tools/predict.py finds, whose id each result gets, and that results outlive what happens."""

import csv
import json
import os
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from libra_umop.data.images import image_suffixes
from libra_umop.inference.image_ids import CocoIds
from libra_umop.inference.inputs import find_inputs, printable

RETINANET = "configs/COCO-Detection/umop_retinanet_R_50_FPN_1x.yaml"
CATEGORIES = [{"id": i + 1, "name": n} for i, n in enumerate(("circle", "square", "star"))]


def write_photo(path, size=(80, 60), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_annotations(path, names, categories=CATEGORIES):
    images = [{"id": 100 + i, "file_name": n, "height": 60, "width": 80}
              for i, n in enumerate(names)]  # fmt: skip
    content = {"images": images, "annotations": [], "categories": categories}
    path.write_text(json.dumps(content), encoding="utf-8-sig")
    return path


def assigned(tmp_path, names, paths):
    """The ids that the inputs get, by path, and the lines about those that get none."""
    ids = CocoIds(["circle"], write_annotations(tmp_path / "val.json", names))
    found = find_inputs([str(write_photo(tmp_path / p)) for p in paths])
    lines = ids.assign(found.images)
    return {str(i.path.relative_to(tmp_path)): ids.image(i.name) for i in found.images}, lines


@pytest.mark.parametrize(
    "names, wanted",
    [
        (["a/1.jpg", "b/1.jpg"], {"a/1.jpg": 100, "b/1.jpg": 101}),
        (["b/1.jpg", "a/1.jpg"], {"a/1.jpg": 101, "b/1.jpg": 100}),
        (["a/1.jpg"], {"b/1.jpg": None}),  # another image of that base name
        (["a/1.jpg"], {"a/1.jpg": 100, "b/1.jpg": None}),
        (["1.jpg"], {"a/1.jpg": None, "b/1.jpg": None}),  # one of them, nobody knows which
        (["1.jpg"], {"a/1.jpg": 100}),
        (["1.jpg", "a/1.jpg"], {"a/1.jpg": 101}),  # the longest tail
        (["x/a/1.jpg"], {"a/1.jpg": None}),
        (["a/1.jpg", "a/1.jpg"], {"a/1.jpg": None}),  # two ids for one name
        (["a\\1.jpg"], {"a/1.jpg": 100}),
        (["./a/1.jpg"], {"a/1.jpg": 100}),
        (["caf\u00e9.jpg"], {"cafe\u0301.jpg": 100}),
        (["2.jpg"], {"a/1.jpg": None}),
    ],
)
def test_the_tail_of_the_path_decides_whose_id_it_is(tmp_path, names, wanted):
    ids, lines = assigned(tmp_path, names, list(wanted))
    assert ids == wanted
    assert len(lines) == list(wanted.values()).count(None)


def test_an_image_of_the_very_name_goes_before_one_that_ends_like_it(tmp_path):
    ids = CocoIds(["circle"], write_annotations(tmp_path / "val.json", ["1.jpg"]))
    for name in ("1.jpg", "b/1.jpg"):
        write_photo(tmp_path / "photos" / name)
    inputs = find_inputs([str(tmp_path / "photos")]).images
    lines = ids.assign(inputs)
    assert [(i.name, ids.image(i.name)) for i in inputs] == [("1.jpg", 100), ("b/1.jpg", None)]
    assert len(lines) == 1 and "b/1.jpg" in lines[0]


def test_of_two_categories_of_one_name_the_used_one_counts(tmp_path):
    file = write_annotations(tmp_path / "val.json", ["1.jpg"])
    content = json.loads(file.read_text("utf-8-sig"))
    content["categories"] = [{"id": 1, "name": "circle"}, {"id": 0, "name": "circle"}]
    content["annotations"] = [{"id": 1, "image_id": 100, "category_id": 1, "bbox": [0, 0, 9, 9]}]
    file.write_text(json.dumps(content))
    assert CocoIds(["circle"], file).category(0) == 1


def test_ids_of_one_base_name_in_the_file(predict, tmp_path):
    photos = [write_photo(tmp_path / n, seed=i) for i, n in enumerate(("a/1.png", "b/1.png"))]
    annotations = write_annotations(tmp_path / "val.json", ["a/1.png", "b/1.png"])
    alone = {}
    for photo in photos:
        out = tmp_path / "alone.json"
        assert predict(photo, "--threshold", 0.06, "--json", out)[0] == 0
        alone[photo] = [r["score"] for r in json.loads(out.read_text())]
    assert alone[photos[0]] != alone[photos[1]]
    out = tmp_path / "results.json"
    code, _, err = predict(
        *photos, "--threshold", 0.06, "--annotations", annotations, "--json", out
    )
    assert code == 0 and not err
    for image_id, photo in zip((100, 101), photos, strict=True):
        scores = [r["score"] for r in json.loads(out.read_text()) if r["image_id"] == image_id]
        assert scores == alone[photo]


def test_annotations_of_other_images_leave_an_empty_list_and_exit_with_1(predict, tmp_path):
    photo = write_photo(tmp_path / "b/1.png")
    annotations = write_annotations(tmp_path / "val.json", ["a/1.png"])
    out = tmp_path / "results.json"
    code, _, err = predict(photo, "--threshold", 0.06, "--annotations", annotations, "--json", out)
    assert code == 1 and json.loads(out.read_text()) == []
    assert "1.png: is none of the images of" in err and "a/1.png" in err
    assert err.count("\n") == 1


def test_csv_and_json_tell_files_of_one_base_name_apart(predict, tmp_path):
    photos = [write_photo(tmp_path / n) for n in ("x/a/1.png", "x/b/1.png", "2.png")]
    files = [tmp_path / "out.csv", tmp_path / "out.json"]
    code, *_ = predict(
        *photos, "--threshold", 0.06, "--csv", files[0], "--json", files[1],
        "--output", tmp_path / "drawn",
    )  # fmt: skip
    assert code == 0
    names = {"a/1.png", "b/1.png", "2.png"}
    assert {row["file_name"] for row in csv.DictReader(files[0].open())} == names
    assert {r["file_name"] for r in json.loads(files[1].read_text())} == names
    assert all((tmp_path / "drawn" / name).is_file() for name in names)


@pytest.mark.parametrize("option", ["--json", "--csv", "--output"])
def test_outputs_are_tried_before_anything_else(predict, tmp_path, option):
    photo = write_photo(tmp_path / "1.png")
    code, out, err = predict(photo, option, photo / "below", weights="nowhere.pth")
    assert code == 2 and not out and err.count("\n") == 1
    assert str(photo) in err and "nowhere" not in err


@pytest.mark.parametrize("option", ["--json", "--csv"])
def test_a_full_disk_is_one_line_before_the_first_image(predict, tmp_path, option):
    code, out, err = predict(write_photo(tmp_path / "1.png"), option, "/dev/full")
    assert code == 2 and not out
    assert "/dev/full" in err and "No space left" in err and err.count("\n") == 1


def test_no_input_is_overwritten(predict, tmp_path):
    photo = write_photo(tmp_path / "photos" / "1.png")
    before = photo.read_bytes()
    for outputs in (["--output", photo.parent], ["--csv", photo]):
        code, _, err = predict(photo, *outputs)
        assert code == 2 and str(photo) in err and err.count("\n") == 1
        assert photo.read_bytes() == before


def test_ctrl_c_keeps_what_was_done(repo, checkpoint, tmp_path):
    for i in range(150):
        write_photo(tmp_path / "photos" / f"{i:03d}.png", seed=i)
    files = {key: tmp_path / f"out.{key}" for key in ("json", "csv")}
    argv = [sys.executable, str(repo / "tools" / "predict.py"), str(tmp_path / "photos")]
    argv += ["--weights", str(checkpoint(RETINANET)), "--device", "cpu", "--threshold", "0.06"]
    argv += ["--json", str(files["json"]), "--csv", str(files["csv"])]
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}  # lines as they are made, not all at the end
    process = subprocess.Popen(
        argv,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
        # A background job, which these tests may be, ignores SIGINT, and its children with it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for _ in range(3):
        assert "detections" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err and "kept" in err
    results = json.loads(files["json"].read_text())
    rows = list(csv.DictReader(files["csv"].open()))
    assert 150 > len({r["file_name"] for r in results}) >= 3 and len(rows) == len(results)


def test_a_picture_that_the_detector_cannot_take_costs_only_itself(predict, tmp_path):
    write_photo(tmp_path / "photos" / "1.png")
    write_photo(tmp_path / "photos" / "2.png", size=(3000, 4))
    write_photo(tmp_path / "photos" / "3.png", seed=3)
    code, out, err = predict(
        tmp_path / "photos", "--batch-size", 3, "--output", tmp_path / "drawn",
        "--csv", tmp_path / "out.csv", "--threshold", 0.06,
    )  # fmt: skip
    assert code == 1 and err.count("\n") == 1
    assert "2.png" in err and "3000 x 4 px" in err
    assert "2 images" in out and "1 skipped" in out
    assert {p.name for p in (tmp_path / "drawn").iterdir()} == {"1.png", "3.png"}
    names = {row["file_name"] for row in csv.DictReader((tmp_path / "out.csv").open())}
    assert names == {"1.png", "3.png"}


def test_a_name_that_is_not_utf_8_is_predicted_on(predict, tmp_path):
    folder = tmp_path / "photos"
    write_photo(folder / "a.png")
    os.rename(folder / "a.png", os.fsencode(folder) + b"/caf\xe9.png")
    write_photo(folder / "b.png", seed=1)
    files = {key: tmp_path / f"out.{key}" for key in ("json", "csv")}
    code, out, err = predict(
        folder, "--threshold", 0.06, "--output", tmp_path / "drawn",
        "--json", files["json"], "--csv", files["csv"],
    )  # fmt: skip
    assert code == 0, err
    assert "2 images" in out and "caf\\xe9.png" in out
    names = {"caf\\xe9.png", "b.png"}
    assert {r["file_name"] for r in json.loads(files["json"].read_text())} == names
    assert {r["file_name"] for r in csv.DictReader(files["csv"].open(encoding="utf-8"))} == names
    assert {p.name for p in (tmp_path / "drawn").iterdir()} == names


def test_a_video_whose_name_is_not_utf_8_is_skipped(predict, tmp_path):
    """OpenCV ends the process at such a name."""
    path = os.fsencode(tmp_path) + b"/clip\xe9.mp4"
    with open(path, "wb") as f:
        f.write(bytes(100))
    code, _, err = predict(write_photo(tmp_path / "1.png"), os.fsdecode(path))
    assert code == 1 and "clip\\xe9.mp4" in err and "UTF-8" in err


def test_folders_give_every_image_that_pillow_reads_and_count_the_rest(tmp_path):
    names = ["a.JPG", "b.jfif", "c.jp2", "d.avif", "e.tga", "f.webp"]
    for name in names:
        if os.path.splitext(name)[1].lower() in image_suffixes():  # AVIF: if Pillow has it
            write_photo(tmp_path / name)
    for name in ("notes.txt", "more.txt", "clip.mp4", "scan.pdf", "data.h5", "README"):
        (tmp_path / name).touch()
    found = find_inputs([str(tmp_path)])
    assert {".jfif", ".jp2", ".tga", ".webp"} <= image_suffixes()
    assert len(found.images) >= 5 and not found.videos and not found.problems
    (note,) = found.notes
    assert "6 files that are no images" in note and ".txt 2" in note and ".mp4 1" in note


def test_a_plugin_of_pillow_is_used_where_it_is_there(tmp_path):
    """A stand-in for pillow-heif, which registers a suffix when it is asked to."""
    (tmp_path / "pillow_heif.py").write_text(
        "from PIL import Image\n"
        "def register_heif_opener():\n"
        "    Image.register_open('HEIF', Image.Image, lambda head: False)\n"
        "    Image.register_extension('HEIF', '.heic')\n"
    )
    code = "from libra_umop.data.images import image_suffixes; print('.heic' in image_suffixes())"
    for path, answer in ((str(tmp_path), "True"), ("", None)):
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([path, *sys.path])}
        out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
        assert answer is None or out.stdout.split()[-1] == answer, out.stderr


@pytest.mark.parametrize("suffix, codec", [("wmv", "WMV2"), ("flv", "FLV1"), ("", "mp4v")])
def test_a_video_is_what_opencv_opens(predict, tmp_path, suffix, codec):
    made = tmp_path / f"made.{suffix or 'mp4'}"
    writer = cv2.VideoWriter(str(made), cv2.VideoWriter_fourcc(*codec), 10, (80, 64))
    if not writer.isOpened():
        pytest.skip(f"this OpenCV cannot write {codec}")
    for i in range(3):
        writer.write(np.full((64, 80, 3), 60 * i, np.uint8))
    writer.release()
    clip = made.rename(tmp_path / ("clip." + suffix if suffix else "clip"))
    code, out, err = predict(clip, "--csv", tmp_path / "out.csv", "--threshold", 0.06)
    assert code == 0, err
    assert "3 frames" in out


def test_neither_text_nor_an_image_is_taken_for_a_video(tmp_path):
    """FFmpeg opens a text as a film of a terminal, and a playlist as what it names."""
    (tmp_path / "notes.txt").write_text("hello\n" * 100)
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nhttp://localhost/x.ts\n")
    (tmp_path / "weights.pth").write_bytes(bytes(range(256)) * 20)
    write_photo(tmp_path / "photo.png").rename(tmp_path / "photo")
    found = find_inputs([str(p) for p in tmp_path.iterdir()])
    assert len(found.images) == 4 and not found.videos


def test_names_grow_until_they_differ(tmp_path):
    paths = ["x/a/1.png", "y/a/1.png", "y/b/1.png", "2.png"]
    found = find_inputs([str(write_photo(tmp_path / p)) for p in paths])
    names = [item.name for item in found.images]
    assert names == ["x/a/1.png", "y/a/1.png", "b/1.png", "2.png"]


def test_a_name_with_a_line_break_stays_on_one_line(predict, tmp_path):
    folder = tmp_path / "photos"
    write_photo(folder / "a\nb.png")
    (folder / "c\r\x1b[31md.png").write_text("no image")
    out = tmp_path / "out.json"
    code, printed, err = predict(folder, "--threshold", 0.06, "--json", out)
    assert code == 1
    assert printed.startswith("a\\nb.png: ") and printed.count("\n") == 2  # and the summary
    assert "c\\r\\x1b[31md.png: " in err and err.count("\n") == 1 and "\x1b" not in err
    assert {r["file_name"] for r in json.loads(out.read_text())} == {"a\nb.png"}


def test_a_pattern_with_a_line_break_that_matches_nothing_is_one_line(predict):
    code, _, err = predict("no\nsuch.png")
    assert code == 2 and err.splitlines()[0] == "skipped no\\nsuch.png: no such file, and no file" \
        " matches it"  # fmt: skip


def test_printable_names_are_utf_8():
    assert printable(os.fsdecode(b"caf\xe9/\xc3\xa9.png")) == "caf\\xe9/\u00e9.png"
