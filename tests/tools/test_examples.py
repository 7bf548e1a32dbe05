"""The programs of examples/: each does what the predictor does on the same image."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from testing.scripts import load_script

ATSS = "configs/COCO-Detection/atss_R_50_FPN_1x.yaml"


@pytest.fixture
def photo():
    image = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return cv2.resize(image, (128, 96), interpolation=cv2.INTER_NEAREST)


def test_the_service_gives_what_the_predictor_finds(repo, checkpoint, photo, monkeypatch):
    testclient = pytest.importorskip("fastapi.testclient", reason="fastapi is absent")
    from libra_umop import LibraPredictor

    weights = str(checkpoint(ATSS))
    monkeypatch.setenv("WEIGHTS", weights)
    serve = load_script("examples/serve.py")
    client = testclient.TestClient(serve.app)

    body = cv2.imencode(".png", photo)[1].tobytes()
    found = client.post("/detect?threshold=0.3", content=body).json()
    predictor = LibraPredictor.from_weights(weights, threshold=0.3)
    instances = predictor(photo)["instances"]
    assert len(found) == len(instances) > 5
    assert [d["score"] for d in found] == instances.scores.tolist()
    assert [d["box"] for d in found] == instances.pred_boxes.tensor.tolist()
    assert [d["class"] for d in found] == [predictor.class_names[c] for c in instances.pred_classes]
    for content, query in ((b"", ""), (b"no image", ""), (body, "?threshold=2")):
        assert client.post(f"/detect{query}", content=content).status_code == 422


def onnx_runtime_headers() -> Path | None:
    """The folder of ONNX Runtime's C++ headers: of a release, of Debian's package, or none."""
    for home in (os.environ.get("ONNXRUNTIME_HOME"), "/usr/local", "/usr"):
        for folder in (Path(home or "/", "include"), Path(home or "/", "include", "onnxruntime")):
            if home and (folder / "onnxruntime_cxx_api.h").is_file():
                return folder
    return None


def onnx_runtime_library(include: Path, folder: Path) -> Path:
    """The library beside the headers; else that of the Python package, which has no headers."""
    home = next(p for p in include.parents if p.name != "include")
    places = [*home.glob("lib*/libonnxruntime.so"), *home.glob("lib*/*/libonnxruntime.so")]
    for library in places:
        if library.exists():  # a package of headers alone leaves a dangling link
            return library
    package = pytest.importorskip("onnxruntime", reason="onnxruntime (extra export) is absent")
    libraries = list(Path(package.__file__).parent.glob("capi/libonnxruntime.so.*"))
    if not libraries:
        pytest.skip(f"no libonnxruntime.so under {home} or in the Python package")
    for name in ("libonnxruntime.so.1", "libonnxruntime.so"):  # its soname, and what -l looks for
        (folder / name).symlink_to(libraries[0])
    return folder / "libonnxruntime.so"


@pytest.fixture(scope="module")
def program(repo, tmp_path_factory):
    """The example, built as docs/deploy.md says."""
    include = onnx_runtime_headers()
    if not shutil.which("g++"):
        pytest.skip("g++ is absent")
    if include is None:
        pytest.skip("ONNX Runtime's C++ headers are not in /usr, /usr/local, $ONNXRUNTIME_HOME")
    folder = tmp_path_factory.mktemp("cpp")
    library = onnx_runtime_library(include, folder)
    command = ["g++", "-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror"]
    command += [repo / "examples" / "onnx_inference.cpp", "-isystem", include]
    command += ["-L", library.parent, "-lonnxruntime", f"-Wl,-rpath,{library.parent}"]
    subprocess.run([*command, "-o", folder / "detect"], check=True)
    return folder / "detect"


@pytest.mark.parametrize("config", [ATSS, ATSS.replace("atss", "libra_faster_rcnn")])
def test_the_program_in_cpp_finds_what_the_predictor_finds(
    program, checkpoint, photo, tool, tmp_path, config
):
    from libra_umop import LibraPredictor
    from libra_umop.export.verify import compare

    weights, file = str(checkpoint(config)), tmp_path / "d.onnx"
    argv = ["--weights", weights, "--format", "onnx", "--output", str(file), "--sizes", "130x90"]
    assert tool("export").main(argv) == 0
    (tmp_path / "p.ppm").write_bytes(b"P6 128 96 255\n" + photo[:, :, ::-1].tobytes())
    done = subprocess.run(
        [program, file, tmp_path / "p.ppm"], capture_output=True, text=True, check=True
    )
    rows = torch.from_numpy(np.loadtxt(done.stdout.splitlines(), ndmin=2))
    instances = LibraPredictor.from_weights(weights)(photo)["instances"]
    expected = (instances.pred_boxes.tensor, instances.scores, instances.pred_classes)
    found = (rows[:, 2:], rows[:, 1], rows[:, 0])
    agreement = compare(expected, found, size=(96, 128), max_detections=100)
    assert agreement.num_boxes == len(rows) > 5 and agreement.num_unmatched == 0
    assert agreement.box_error_px < 0.02 and agreement.score_error < 1e-3
    (tmp_path / "short.ppm").write_bytes(b"P6 128 96 255\n" + bytes(9))
    short = [file, tmp_path / "short.ppm"]
    wrong = {"usage": [], "PPM": [file, file], "too early": short, "absent": ["absent", file]}
    for says, words in wrong.items():
        done = subprocess.run([program, *words], capture_output=True, text=True)
        # The last line: a library may have its own to say, as Debian's 1.23 does.
        assert done.returncode == 2 and says in done.stderr.splitlines()[-1], done.stderr


def documented(repo, word: str) -> str:
    """The Python of docs/deploy.md that names ``word``."""
    blocks = re.findall(
        r"^```python\n(.*?)^```", (repo / "docs" / "deploy.md").read_text(), re.M | re.S
    )
    (block,) = [b for b in blocks if word in b]
    return block


def test_openvino_reads_the_file_as_the_page_says(
    repo, checkpoint, photo, tool, tmp_path, monkeypatch
):
    pytest.importorskip("openvino", reason="openvino is absent")
    onnxruntime = pytest.importorskip("onnxruntime")
    from libra_umop.export.verify import compare

    weights = str(checkpoint(ATSS.replace("atss", "libra_faster_rcnn")))
    monkeypatch.chdir(tmp_path)
    argv = ["--weights", weights, "--format", "onnx", "--output", "detector.onnx"]
    assert tool("export").main([*argv, "--sizes", "130x90"]) == 0
    names: dict = {}
    exec(documented(repo, "openvino"), names)
    image = photo.transpose(2, 0, 1).astype(np.float32)
    outputs = ["boxes", "scores", "classes"]
    session = onnxruntime.InferenceSession("detector.onnx", providers=["CPUExecutionProvider"])
    expected = [torch.from_numpy(x) for x in session.run(outputs, {"image": image})]
    found = [torch.from_numpy(names["model"](image)[name]) for name in outputs]
    agreement = compare(expected, found, size=(96, 128), max_detections=100)
    assert agreement.num_boxes > 5 and agreement.num_unmatched == 0


@pytest.mark.parametrize("detector", ["atss", "retinanet"])
def test_tracks_keep_their_numbers_as_the_page_says(
    repo, checkpoint, photo, tmp_path, monkeypatch, detector
):
    """Of a clip that stands still, every box is the one of the frame before."""
    for package in ("supervision", "trackers"):
        pytest.importorskip(package, reason=f"{package} is absent")
    monkeypatch.chdir(tmp_path)
    Path("output").mkdir()
    shutil.copy(checkpoint(ATSS.replace("atss", detector)), "output/model_best.pth")
    clip = cv2.VideoWriter("clip.mp4", cv2.VideoWriter_fourcc(*"mp4v"), 5, (128, 96))
    for _ in range(5):
        clip.write(photo)
    clip.release()
    names: dict = {}
    seen = []
    monkeypatch.setitem(names, "print", lambda ids, boxes: seen.append((ids, boxes)))
    exec(documented(repo, "supervision"), names)
    assert len(seen) == 5
    assert len(seen) == 5
    tracks = [{int(i) for i in ids if i >= 0} for ids, _ in seen]
    assert len(tracks[-1]) > 3 and tracks[-1] & tracks[-2] == tracks[-2]


def test_the_notebook_runs_on_drawn_shapes(repo, tmp_path, monkeypatch):
    """Cell by cell in one namespace, as a kernel would; its data and length are made small."""
    from libra_umop.data.shapes import write_shapes

    notebook = json.loads((repo / "examples" / "own_data.ipynb").read_text())
    assert notebook["nbformat"] == 4 and all(not c.get("outputs") for c in notebook["cells"])
    write_shapes(tmp_path / "shapes", num_train=6, num_val=3, size=64, seed=0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    small = {"SOLVER.IMS_PER_BATCH": 2, "DATALOADER.NUM_WORKERS": 0, "MODEL.DEVICE": "cpu"}
    small |= {"INPUT.MIN_SIZE_TRAIN": (64,), "INPUT.MIN_SIZE_TEST": 64}
    names: dict = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), "own_data.ipynb", "exec"), names)
            if "KEYS" in names:
                names["KEYS"].update(small)
    assert names["run"].results["bbox"] and len(names["found"]) == 3
    assert (tmp_path / "output" / "report.html").is_file()
