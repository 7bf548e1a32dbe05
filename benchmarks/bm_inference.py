"""A trained detector on the CPU in every form that it can be shipped in, on the same images.

    python benchmarks/bm_inference.py --weights output/model_final.pth --size 480x640 --threads 1

Eager, TorchScript, ONNX Runtime and OpenVINO, both of the one ONNX file, take turns; each is first
compared with eager. OpenVINO (pip install openvino) is left out, and said to be, where it is not.
With --image it is a picture of yours, scaled to --size: what a two-stage detector does depends on
what it sees. Where other programs run, CPU time says more than the median of the clock.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import torch

from libra_umop.cli.argument_types import image_size, positive
from libra_umop.export.detector_graph import OUTPUT_NAMES, DetectorGraph
from libra_umop.export.exporter import export_detector, load_exported
from libra_umop.export.verify import sample_image
from libra_umop.inference.predictor import LibraPredictor

WARMUP = 3  # TorchScript rewrites itself in its first passes
CLOCKS = {"wall": time.perf_counter, "CPU": time.process_time}  # CPU: of all threads


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


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the script."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--weights", required=True, help="of a run; its config is in the file")
    parser.add_argument("--size", type=image_size, default=(480, 640), help="height x width")
    parser.add_argument("--iters", type=positive, default=10, help="timed passes of each form")
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads())
    parser.add_argument("--image", type=Path, help="default: one that is drawn")
    return parser


def image_of(args: argparse.Namespace, input_format: str) -> torch.Tensor:
    """(3, H, W) float32, 0..255, of the size that was asked for."""
    if args.image is None:
        return sample_image(args.size, 0)
    picture = cv2.imread(str(args.image))
    if picture is None:
        raise SystemExit(f"--image is {args.image}, should be a picture that can be read")
    picture = cv2.resize(picture, args.size[::-1], interpolation=cv2.INTER_AREA)
    if input_format == "RGB":
        picture = picture[:, :, ::-1]
    return torch.from_numpy(picture.transpose(2, 0, 1).astype("float32"))


@torch.no_grad()
def time_in_turns(forms: dict, image: torch.Tensor, iterations: int) -> dict[str, dict]:
    """Name -> clock -> seconds of each pass; every second round goes backwards."""
    seconds: dict[str, dict] = {name: {clock: [] for clock in CLOCKS} for name in forms}
    for i in range(iterations + WARMUP):
        for name in forms if i % 2 else reversed(forms):
            starts = [now() for now in CLOCKS.values()]
            forms[name](image)
            for (clock, now), start in zip(CLOCKS.items(), starts, strict=True):
                seconds[name][clock] += [now() - start] * (i >= WARMUP)
    return seconds


@torch.no_grad()
def main(argv=None) -> None:
    """Measure and print."""
    args = build_parser().parse_args(argv)
    torch.set_num_threads(args.threads)
    predictor = LibraPredictor.from_weights(args.weights, device="cpu")
    forms = forms_of(predictor, args.size, args.threads)
    if forms["OpenVINO"] is None:
        print("OpenVINO is left out: pip install openvino")
        del forms["OpenVINO"]
    image = image_of(args, predictor.cfg.INPUT.FORMAT)
    found = {name: detect(image) for name, detect in forms.items()}
    seconds = time_in_turns(forms, image, args.iters)
    height, width = args.size
    print(f"torch {torch.__version__}, {args.threads} threads, {args.iters} x {height}x{width}")
    print("| form | median ms | ratio | CPU ms | ratio | against eager |")
    print(f"|{'---|' * 6}")
    for name in forms:
        cells = [name]
        for clock in CLOCKS:
            median, eager = (statistics.median(seconds[x][clock]) for x in (name, "eager"))
            cells += [f"{1e3 * median:.0f}", f"{median / eager:.2f}"]
        print(f"| {' | '.join([*cells, difference(found[name], found['eager'])])} |")


if __name__ == "__main__":
    main()
