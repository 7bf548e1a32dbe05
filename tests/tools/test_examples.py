"""The programs of examples/: each does what the predictor does on the same image."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest

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


def onnx_runtime_for_cpp():
    """Folders of ONNX Runtime's headers and library, if they are here."""
    home = Path(os.environ.get("ONNXRUNTIME_HOME", "/usr"))
    for include in (home / "include", home / "include" / "onnxruntime"):
        if (include / "onnxruntime_cxx_api.h").is_file():
            return include, home / "lib"
    return None


@pytest.mark.skipif(not shutil.which("g++"), reason="g++ is absent")
@pytest.mark.skipif(
    not onnx_runtime_for_cpp(), reason="ONNX Runtime's C++ headers are absent (ONNXRUNTIME_HOME)"
)
def test_the_program_in_cpp_finds_what_the_session_in_python_finds(
    repo, checkpoint, photo, tool, tmp_path
):
    onnxruntime = pytest.importorskip("onnxruntime")
    include, lib = onnx_runtime_for_cpp()
    program, file = tmp_path / "detect", tmp_path / "d.onnx"
    source = repo / "examples" / "onnx_inference.cpp"
    command = ["g++", "-std=c++17", "-Wall", "-Werror", source, "-I", include, "-L", lib]
    subprocess.run([*command, "-lonnxruntime", "-o", program], check=True)
    argv = ["--weights", str(checkpoint(ATSS)), "--format", "onnx", "--output", str(file)]
    assert tool("export").main([*argv, "--sizes", "96x128"]) == 0
    (tmp_path / "p.ppm").write_bytes(b"P6 128 96 255\n" + photo[:, :, ::-1].tobytes())
    env = {**os.environ, "LD_LIBRARY_PATH": str(lib)}
    done = subprocess.run(
        [program, file, tmp_path / "p.ppm"], env=env, capture_output=True, text=True, check=True
    )
    rows = np.array([line.split() for line in done.stdout.splitlines()], dtype=float)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    image = photo.transpose(2, 0, 1).astype(np.float32)  # ATSS's configs take BGR
    boxes, scores, classes = session.run(["boxes", "scores", "classes"], {"image": image})
    assert (rows[:, 0] == classes).all() and len(rows) > 5
    assert np.allclose(rows[:, 1], scores, atol=1e-4) and np.allclose(rows[:, 2:], boxes, atol=0.01)
    assert subprocess.run([program, file, file], env=env, capture_output=True).returncode == 2


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
