"""A trained detector on the CPU in every form that it can be shipped in, on the same images.

    python benchmarks/bm_inference.py --weights output/model_final.pth --size 480x640 --threads 1

Eager, TorchScript, ONNX Runtime and OpenVINO, both of the one ONNX file, take turns; each is first
compared with eager. OpenVINO (pip install openvino) is left out, and said to be, where it is not.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from libra_umop.cli.argument_types import image_size, positive
from libra_umop.export.detector_graph import OUTPUT_NAMES, DetectorGraph
from libra_umop.export.exporter import export_detector, load_exported
from libra_umop.export.verify import sample_image
from libra_umop.inference.predictor import LibraPredictor

WARMUP = 3  # TorchScript rewrites itself in its first passes


def load_openvino(file: Path, threads: int):
    """The ONNX file under OpenVINO, in float32, as a function of an image; None without it."""
    try:
        import openvino
    except ImportError:
        return None
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    model = openvino.Core().compile_model(str(file), "CPU", options)

    def detect(image: torch.Tensor):
        outputs = model(image.numpy())
        return tuple(torch.from_numpy(outputs[name]) for name in OUTPUT_NAMES)

    return detect


def difference(ours, expected) -> str:
    """Number of boxes, and of the best-scored ones the largest difference in px."""
    count = min(len(ours[1]), len(expected[1]))
    apart = (ours[0][:count] - expected[0][:count]).abs()
    return f"{len(ours[1])} boxes, {float(apart.max()) if count else 0.0:.1g} px"


def forms_of(predictor: LibraPredictor, size: tuple[int, int], threads: int) -> dict:
    """Name -> detector, a function of a (3, H, W) float32 image."""
    eager = DetectorGraph(predictor.model)
    forms = {"eager": torch.no_grad()(eager)}
    with tempfile.TemporaryDirectory() as folder:
        for format, name in (("torchscript", "TorchScript"), ("onnx", "ONNX Runtime")):
            file = Path(folder, f"detector.{format}")
            export_detector(predictor, file, format=format, sizes=[size])
            forms[name] = load_exported(file, format)
        forms["OpenVINO"] = load_openvino(file, threads)
    return forms


@torch.no_grad()
def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--weights", required=True, help="of a run; its config is in the file")
    parser.add_argument("--size", type=image_size, default=(480, 640), help="height x width")
    parser.add_argument("--iters", type=positive, default=10, help="timed passes of each form")
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads())
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    predictor = LibraPredictor.from_weights(args.weights, device="cpu")
    forms = forms_of(predictor, args.size, args.threads)
    if forms["OpenVINO"] is None:
        print("OpenVINO is left out: pip install openvino")
        del forms["OpenVINO"]
    image = sample_image(args.size, 0)
    found = {name: detect(image) for name, detect in forms.items()}
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for i in range(args.iters + WARMUP):
        for name in forms if i % 2 else reversed(forms):
            start = time.perf_counter()
            forms[name](image)
            if i >= WARMUP:
                seconds[name].append(time.perf_counter() - start)
    height, width = args.size
    print(f"torch {torch.__version__}, {args.threads} threads, {args.iters} x {height}x{width}")
    print("| form | median ms | ratio | fastest ms | ratio | against eager |")
    print(f"|{'---|' * 6}")
    for name, times in seconds.items():
        cells = [name]
        for reduce in (statistics.median, min):
            cells += [
                f"{1e3 * reduce(times):.0f}",
                f"{reduce(times) / reduce(seconds['eager']):.2f}",
            ]
        print(f"| {' | '.join([*cells, difference(found[name], found['eager'])])} |")


if __name__ == "__main__":
    main()
