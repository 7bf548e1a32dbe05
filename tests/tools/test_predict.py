"""tools/predict.py on files of every kind: what it writes, what it skips, how it ends."""

import csv
import json

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from libra_umop.export.verify import compare


def test_a_folder_is_predicted_drawn_and_written(predict, photos, tmp_path):
    files = {key: tmp_path / f"out.{key}" for key in ("json", "csv")}
    code, out, err = predict(
        photos, "--threshold", 0.06, "--output", tmp_path / "drawn", "--json", files["json"],
        "--csv", files["csv"],
    )  # fmt: skip
    assert code == 0, err
    folder = tmp_path / "drawn"
    drawn = {p.relative_to(folder).as_posix() for p in folder.rglob("*.*")}
    assert drawn == {"a.jpg", "b.png", "more/a.jpg"}
    assert "3 images" in out and "images/s" in out

    results = json.loads(files["json"].read_text())
    rows = list(csv.DictReader(files["csv"].open()))
    assert len(rows) == len(results) > 0
    assert {r["image_id"] for r in results} == {1, 2, 3}
    assert {r["category_id"] for r in results} <= {1, 2, 3}
    for row, result in zip(rows, results, strict=True):
        assert row["file_name"] == result["file_name"]
        assert row["class"] == result["category_name"] in ("circle", "square", "star")
        x, y, w, h = result["bbox"]
        assert [float(row[k]) for k in ("x1", "y1", "x2", "y2")] == pytest.approx(
            [x, y, x + w, y + h], abs=0.01
        )
        assert x >= 0 and y >= 0 and x + w <= 80.001 and y + h <= 60.001
        assert float(row["score"]) == pytest.approx(result["score"], abs=1e-4)
        assert result["score"] >= 0.06


def test_json_takes_the_ids_of_the_annotations(predict, photos, tmp_path):
    from pycocotools.coco import COCO

    annotations = tmp_path / "val.json"
    categories = [{"id": i, "name": n} for i, n in ((7, "star"), (30, "circle"), (4, "square"))]
    images = [{"id": 50 + i, "file_name": n, "height": 60, "width": 80}
              for i, n in enumerate(("b.png", "more/a.jpg"))]  # fmt: skip
    annotations.write_text(
        json.dumps({"images": images, "categories": categories, "annotations": []})
    )
    out = tmp_path / "results.json"
    code, _, err = predict(photos, "--threshold", 0.06, "--annotations", annotations, "--json", out)
    assert code == 1 and "a.jpg: is none of the images of" in err, err
    results = json.loads(out.read_text())
    ids = {"circle": 30, "square": 4, "star": 7}
    assert {r["image_id"] for r in results} == {50, 51}  # photos/a.jpg is not in the file
    assert all(r["category_id"] == ids[r["category_name"]] for r in results)
    loaded = COCO(str(annotations)).loadRes(str(out))
    assert len(loaded.getAnnIds()) == len(results)


def test_annotations_of_other_classes_are_refused(predict, photos, tmp_path):
    (tmp_path / "x.json").write_text('{"images": [], "categories": [{"id": 1, "name": "dog"}]}')
    code, _, err = predict(photos, "--annotations", tmp_path / "x.json")
    assert code == 2
    assert "circle" in err and "dog" in err and err.count("\n") == 1


def test_unreadable_files_are_named_and_skipped(predict, photos, tmp_path):
    (photos / "empty.jpg").touch()
    (photos / "text.png").write_text("no photo")
    (photos / "half.jpg").write_bytes((photos / "a.jpg").read_bytes()[:900])
    code, out, err = predict(photos, tmp_path / "missing.jpg", "--batch-size", 2)
    assert code == 1
    for name in ("empty.jpg", "text.png", "half.jpg", "missing.jpg"):
        assert name in err
    assert "3 images" in out and "3 skipped" in out


def test_nothing_readable_exits_with_2(predict, tmp_path):
    (tmp_path / "empty.jpg").touch()
    code, _, err = predict(tmp_path / "empty.jpg")
    assert code == 2 and "empty.jpg" in err


def test_nothing_found_exits_with_2_before_the_model_is_built(predict, tmp_path):
    code, _, err = predict(tmp_path / "*.jpg", tmp_path, weights="nowhere.pth")
    assert code == 2 and str(tmp_path / "*.jpg") in err and "nothing to predict on" in err


@pytest.mark.parametrize(
    "arguments", [["--threshold", "2"], ["--batch-size", "0"], ["--weights", "nowhere.pth"]]
)
def test_a_wrong_command_line_exits_with_2(predict, photos, arguments):
    code, _, err = predict(photos, *arguments)
    assert code == 2 and arguments[1] in err and "Traceback" not in err


def test_batches_give_what_single_images_give(predict, photos, tmp_path):
    results = []
    for size in (1, 3):
        file = tmp_path / f"{size}.json"
        code, *_ = predict(photos, "--threshold", 0.06, "--batch-size", size, "--json", file)
        assert code == 0
        results.append(json.loads(file.read_text()))
    # Convolutions of other batch sizes round differently, so near scores may change places.
    assert compare(as_detections(results[0]), as_detections(results[1]), size=(60, 80)) == (
        (60, 80), len(results[0]), pytest.approx(0, abs=1e-2), pytest.approx(0, abs=1e-4), 0,
    )  # fmt: skip


def as_detections(results):
    """Of all images together; the image goes where the class is."""
    boxes = torch.tensor([r["bbox"] for r in results])
    labels = torch.tensor([10 * r["image_id"] + r["category_id"] for r in results])
    return boxes, torch.tensor([r["score"] for r in results]), labels


def test_globs_and_names_given_twice_count_once(predict, photos):
    code, out, _ = predict(photos / "*.jpg", photos / "a.jpg", str(photos / "**" / "a.jpg"))
    assert code == 0 and "2 images" in out


def test_tta_runs(predict, photos):
    code, out, err = predict(
        photos / "a.jpg", "--tta",
        "--opts", "TEST.AUG.MIN_SIZES", "(64,)", "TEST.AUG.MAX_SIZE", "128",
    )  # fmt: skip
    assert code == 0, err
    assert "1 images" in out


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10, (80, 64))
    for i in range(5):
        frame = np.full((64, 80, 3), 40 * i, np.uint8)
        writer.write(cv2.circle(frame, (20 + 8 * i, 30), 12, (0, 0, 255), -1))
    writer.release()
    return path


def test_a_video_is_drawn_frame_by_frame(predict, video, tmp_path):
    code, out, err = predict(
        video, "--threshold", 0.06, "--batch-size", 2, "--output", tmp_path / "drawn",
        "--json", tmp_path / "v.json",
    )  # fmt: skip
    assert code == 0, err
    assert "5 frames" in out and "clip.mp4: 100%" in err
    drawn = cv2.VideoCapture(str(tmp_path / "drawn" / "clip.mp4"))
    assert drawn.get(cv2.CAP_PROP_FRAME_COUNT) == 5 and drawn.get(cv2.CAP_PROP_FPS) == 10
    assert drawn.read()[1].shape == (64, 80, 3)
    names = {r["file_name"] for r in json.loads((tmp_path / "v.json").read_text())}
    assert names <= {f"clip.mp4#{i:06d}" for i in range(1, 6)}


def test_a_video_that_is_none_is_skipped(predict, photos, tmp_path):
    (tmp_path / "broken.mp4").write_text("no video")
    code, _, err = predict(photos / "a.jpg", tmp_path / "broken.mp4")
    assert code == 1 and "broken.mp4" in err


def test_files_are_read_as_training_reads_them(predict, tmp_path):
    """The same photo upright and grey, with 16 bits whose white is 4095, and stored on its side."""
    grey = np.random.default_rng(0).integers(0, 256, (60, 80), dtype=np.uint8)
    exif = Image.Exif()
    exif[274] = 6  # shown turned by a quarter
    Image.fromarray(grey).save(tmp_path / "1.png")
    Image.fromarray(np.rint(grey * (4095 / 255)).astype(np.uint16)).save(tmp_path / "2.png")
    Image.fromarray(np.ascontiguousarray(np.rot90(grey))).save(tmp_path / "3.png", exif=exif)
    code, _, err = predict(
        tmp_path, "--threshold", 0.06, "--json", tmp_path / "r.json",
        "--opts", "INPUT.WHITE_16BIT", 4095,
    )  # fmt: skip
    assert code == 0, err
    found = {i: [] for i in (1, 2, 3)}
    for r in json.loads((tmp_path / "r.json").read_text()):
        found[r["image_id"]].append((*r["bbox"], r["score"], r["category_id"]))
    assert found[1] and found[1] == found[2] == found[3]


def test_files_of_one_name_from_two_folders_are_both_drawn(predict, photos, tmp_path):
    code, *_ = predict(photos / "a.jpg", photos / "more/a.jpg", "--output", tmp_path / "drawn")
    assert code == 0
    drawn = tmp_path / "drawn"
    assert {p.relative_to(drawn).as_posix() for p in drawn.rglob("*.jpg")} == {
        "photos/a.jpg", "more/a.jpg",
    }  # fmt: skip
