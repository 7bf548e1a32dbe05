"""Every detector trains, is evaluated, resumes and predicts on a GPU, with what goes beside it."""

import copy
import itertools
import json
from pathlib import Path

import cv2
import pytest
import torch
from detectron2.utils.events import EventStorage

from libra_umop.config.loading import Layers, load_config
from libra_umop.data.arguments import configure_dataset
from libra_umop.data.dataset_args import DataSource, RunOptions
from libra_umop.data.shapes import write_shapes
from libra_umop.inference.predictor import LibraPredictor
from libra_umop.modeling.compiling import compile_parts
from libra_umop.training.trainer import LibraTrainer
from testing.batches import make_input
from testing.dense_models import tiny_model
from testing.detectors import DETECTORS
from testing.shrink import shrink
from testing.sync_counter import no_waiting

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
# One part of a batch for each image, clipping of all gradients as one, averaged weights, losses on
# the validation set between the steps, the collector of imbalances, pinned batches: what a run can
# have.
EVERYTHING = [
    *("SOLVER.GRADIENT_ACCUMULATION", "2"),
    *("SOLVER.CLIP_GRADIENTS.ENABLED", "True"),
    *("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "full_model"),
    *("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "35.0"),
    *("SOLVER.EMA.ENABLED", "True"),
    *("TEST.VAL_LOSS.ENABLED", "True"),
    *("TEST.EVAL_PERIOD", "2"),
    *("ANALYSIS.ENABLED", "True"),
    *("ANALYSIS.PERIOD", "2"),
    *("DATALOADER.PIN_MEMORY", "True"),
]

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="session")
def shapes(tmp_path_factory):
    """Folder with images/ and annotations/ of a few drawn images; a box is its object's mask."""
    folder = tmp_path_factory.mktemp("data") / "shapes"
    write_shapes(folder, num_train=8, num_val=3, size=192, seed=0)
    for file in (folder / "annotations").iterdir():
        content = json.loads(file.read_text())
        for annotation in content["annotations"]:
            x, y, w, h = annotation["bbox"]
            annotation["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        file.write_text(json.dumps(content))
    return folder


def config_of(name, device, data, output, *opts):
    # At 64 pixels P7 is one pixel, where the weight gradients of torch's own bfloat16 convolution
    # on a CPU are numbers such as 1e32 or NaN (torch 2.11 and 2.14).
    cfg = shrink(load_config(str(CONFIGS / f"{name}.yaml")), image_size=192)
    cfg.merge_from_list(list(opts))
    cfg.MODEL.DEVICE = device
    cfg.OUTPUT_DIR = str(output)
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    cfg.SOLVER.MAX_ITER = 4
    configure_dataset(Layers(cfg, cfg.clone()), DataSource(dataset=str(data)), RunOptions())
    return cfg


def precision(device, dtype):
    """Half precision with loss scaling is a GPU's alone."""
    return "bfloat16" if device == "cpu" else dtype


def last_metrics(folder):
    lines = [json.loads(line) for line in (Path(folder) / "metrics.json").read_text().splitlines()]
    return {key: value for line in lines for key, value in line.items()}


@pytest.mark.parametrize("name", DETECTORS)
def test_a_run_with_everything_trains_resumes_and_predicts(name, device, shapes, tmp_path):
    amp = ["SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.DTYPE", precision(device, "float16")]
    cfg = config_of(name, device, shapes, tmp_path, *EVERYTHING, *amp)
    trainer = LibraTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert all(p.isfinite().all() for p in trainer.model.parameters())
    metrics = last_metrics(tmp_path)
    assert "bbox/AP" in metrics and metrics["val/total_loss"] > 0
    # The scale of float16 begins too high: a step that overflows is left out, and halves it.
    scaler = trainer._trainer.grad_scaler
    assert metrics["grad_norm"] > 0 or scaler.is_enabled() and scaler.get_scale() < 2**16

    cfg.SOLVER.MAX_ITER = 6
    resumed = LibraTrainer(cfg)
    resumed.resume_or_load(resume=True)
    assert resumed.start_iter == 4
    for a, b in zip(
        trainer.model.state_dict().values(), resumed.model.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b)
    resumed.train()

    predictor = LibraPredictor.from_weights(
        str(tmp_path / "model_final.pth"), threshold=0.0, device=device
    )
    image = cv2.imread(str(shapes / "images" / "val_00000.png"))
    assert predictor(image)["instances"].pred_boxes.device.type == device


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_losses_are_near_those_of_fp32(name, dtype, device, shapes, tmp_path):
    cfg = config_of(name, device, shapes, tmp_path)
    cfg.SEED = 0
    model = LibraTrainer.build_model(cfg).train()
    amp_dtype = getattr(torch, precision(device, dtype))
    totals = [0.0, 0.0]
    # A two-stage detector draws other regions from rounded proposals, up to 9 % in one batch.
    for batch in itertools.islice(LibraTrainer.build_train_loader(cfg), 6):
        for enabled in (False, True):
            torch.manual_seed(0)
            fresh = copy.deepcopy(model)  # a step moves the running normalisers
            with EventStorage(), torch.autocast(device, dtype=amp_dtype, enabled=enabled):
                totals[enabled] += sum(fresh(batch).values()).item()
    assert totals[1] == pytest.approx(totals[0], rel=0.05)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_pinned_batches_are_there_when_the_model_asks_and_nobody_waited(
    num_workers, device, shapes, tmp_path
):
    cfg = config_of(DETECTORS[-1], device, shapes, tmp_path)
    cfg.DATALOADER.NUM_WORKERS = num_workers
    streams = []
    for cfg.DATALOADER.PIN_MEMORY in (False, True):
        loader = LibraTrainer.build_train_loader(cfg)
        loader.seed = 3
        streams.append(iter(loader))
    next(streams[1])  # the allocator's first pinned memory may wait
    for expected in itertools.islice(streams[0], 1, 4):
        with no_waiting(device):
            batch = next(streams[1])
        for ours, theirs in zip(batch, expected, strict=True):
            assert ours["image"].device.type == device
            assert torch.equal(ours["image"].cpu(), theirs["image"])
            a, b = (x["instances"].gt_boxes.tensor for x in (ours, theirs))
            assert a.device.type == device and torch.equal(a.cpu(), b)


def test_a_compiled_step_is_that_of_eager_at_every_size(device, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    if device == "cpu":
        pytest.skip("a rehearsal: MODEL.COMPILE on a CPU has tests of its own")
    eager, compiled = (tiny_model("UMOPRetinaNet").to(device) for _ in range(2))
    compile_parts(compiled)
    for size in ((160, 192), (256, 160), (224, 288)):
        batch = [make_input([[10, 10, 90, 80]], [1], size=size, seed=0)]
        results = []
        for model in (eager, compiled):
            model.zero_grad()
            with EventStorage():
                losses = model(batch)
            sum(losses.values()).backward()
            results.append((losses, [p.grad for p in model.parameters() if p.requires_grad]))
        torch.testing.assert_close(*results, rtol=1e-3, atol=1e-3)
