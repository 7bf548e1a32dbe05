"""Every detector trains, is evaluated, resumes and predicts on a GPU, with what goes beside it."""

import copy
import json
from pathlib import Path

import cv2
import pytest
import torch
from detectron2.utils.events import EventStorage

from libra_umop.config.loading import Layers, load_config
from libra_umop.data.arguments import DataSource, RunOptions, configure_dataset
from libra_umop.data.shapes import write_shapes
from libra_umop.inference.predictor import LibraPredictor
from libra_umop.training.trainer import LibraTrainer
from testing.shrink import shrink

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
DETECTORS = [
    "COCO-Detection/faster_rcnn_R_50_FPN_1x",
    "COCO-Detection/libra_faster_rcnn_R_50_FPN_1x",
    "COCO-Detection/libra_cascade_rcnn_R_50_FPN_1x",
    "ablations/ohem_R_50_FPN_1x",
    "COCO-Detection/retinanet_R_50_FPN_1x",
    "COCO-Detection/libra_retinanet_R_50_FPN_1x",
    "ablations/ohem_retinanet_R_50_FPN_1x",
    "COCO-Detection/umop_retinanet_R_50_FPN_1x",
    "COCO-Detection/atss_R_50_FPN_1x",
    "COCO-Detection/umop_atss_R_50_FPN_1x",
    "COCO-Detection/fcos_R_50_FPN_1x",
    "COCO-Detection/umop_fcos_R_50_FPN_1x",
    "COCO-Detection/umop_gfl_R_50_FPN_1x",
    "COCO-Detection/vfnet_R_50_FPN_1x",
    "ablations/qfl_atss_R_50_FPN_1.5x",
    "COCO-InstanceSegmentation/libra_mask_rcnn_R_50_FPN_1x",
]
# One part of a batch for each image, clipping of all gradients as one, averaged weights, losses on
# the validation set between the steps, and the collector of imbalances: what a run can have.
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
    assert "bbox/AP" in metrics and metrics["val/total_loss"] > 0 and metrics["grad_norm"] > 0

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
    torch.manual_seed(0)
    model = LibraTrainer.build_model(cfg).train()
    batch = next(iter(LibraTrainer.build_train_loader(cfg)))
    totals = []
    for enabled in (False, True):
        torch.manual_seed(0)
        fresh = copy.deepcopy(model)  # a step moves the running normalisers
        amp_dtype = getattr(torch, precision(device, dtype))
        with EventStorage(), torch.autocast(device, dtype=amp_dtype, enabled=enabled):
            totals.append(sum(fresh(batch).values()).item())
    assert totals[1] == pytest.approx(totals[0], rel=0.05)
