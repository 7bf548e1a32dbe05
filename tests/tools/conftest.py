"""Tiny checkpoints of every exported detector, as training writes them."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
import torch

from testing.scripts import load_script
from testing.shrink import shrink

CLASS_NAMES = ["circle", "square", "star"]
RETINANET = "configs/COCO-Detection/umop_retinanet_R_50_FPN_1x.yaml"


@pytest.fixture(scope="session")
def tool() -> Callable[[str], ModuleType]:
    """A command-line tool as a module, by its name below tools/."""

    return lambda name: load_script(f"tools/{name}.py")


@pytest.fixture(scope="session")
def checkpoint(repo, tmp_path_factory) -> Callable[..., Path]:
    """A checkpoint of a shrunken config, by the config's path; made once for each."""
    folder = tmp_path_factory.mktemp("checkpoints")

    def make(config_file: str, *opts: str) -> Path:
        path = folder / f"{'_'.join((Path(config_file).stem, *opts)).replace('/', '_')}.pth"
        if not path.exists():
            write_checkpoint(repo / config_file, opts, path)
        return path

    return make


@pytest.fixture
def predict(tool, checkpoint, capsys):
    """Runs the tool on the tiny checkpoint; gives exit code, stdout and stderr."""

    def run(*args, weights=None):
        argv = ["--weights", weights or checkpoint(RETINANET), "--device", "cpu", *args]
        try:
            code = tool("predict").main([str(a) for a in argv])
        except SystemExit as e:
            code = e.code
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def photos(tmp_path):
    """Three photos, one of them in a folder below, and a text file."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    random = np.random.default_rng(0)
    for name in ("a.jpg", "b.png", "more/a.jpg"):
        cv2.imwrite(str(folder / name), random.integers(0, 256, (60, 80, 3), dtype=np.uint8))
    (folder / "notes.txt").write_text("no photo")
    return folder


def write_checkpoint(config_file: Path, opts, path: Path) -> None:
    """Random weights that detect: normalised features, spread scores, a refinement that acts."""
    from detectron2.modeling import build_model

    from libra_umop.config.loading import load_config, merge_opts

    cfg = shrink(load_config(str(config_file)), image_size=96)
    for head in ("ROI_HEADS", "RETINANET", "ATSS", "FCOS"):
        cfg.MODEL[head].NUM_CLASSES = len(CLASS_NAMES)
    cfg.MODEL.FPN.OUT_CHANNELS = 64  # group norm wants 2 of each of its 32 groups on a 1x1 level
    merge_opts(cfg, opts)
    torch.manual_seed(0)
    model = build_model(cfg)
    _calibrate_norms(model, cfg)
    _spread_outputs(model)
    content = {"model": model.state_dict(), "config": cfg.dump(), "class_names": CLASS_NAMES}
    torch.save(content, path)


@torch.no_grad()
def _calibrate_norms(model, cfg) -> None:
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # a plain average over the passes
    model.backbone.train()
    model.backbone(torch.randn(2, 3, 128, 128))
    model.eval()


@torch.no_grad()
def _spread_outputs(model) -> None:
    """Class logits of deviation 2 and box deltas of 0.2, by what the layers give on noise."""
    deviations = {}

    def note(module, inputs, output):
        deviations[module] = max(float(output.std()), deviations.get(module, 0.0))

    targets = {"cls_score": 2, "cls_logits": 2, "objectness_logits": 2, "bbox_pred": 0.2}
    layers = {m: targets.get(n.split(".")[-1]) for n, m in model.named_modules()}
    hooks = []
    for name, module in model.named_modules():
        if name.endswith("refine.out"):
            torch.nn.init.normal_(module.weight, std=0.1)
        if "subnet" in name and isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
        if layers[module]:
            hooks.append(module.register_forward_hook(note))
    model([{"image": 255 * torch.rand(3, 128, 128)}])
    for hook in hooks:
        hook.remove()
    for module, deviation in deviations.items():
        module.weight.mul_(layers[module] / deviation)
        module.bias.zero_()
