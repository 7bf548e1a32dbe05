"""Every YAML of configs/ loads safely, builds, trains a step and detects, at its smallest size."""

from pathlib import Path

import pytest
import torch
import yaml
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from libra_umop.config.checks import check_config
from libra_umop.config.loading import load_config
from libra_umop.training.optimizer import build_optimizer
from testing.shrink import shrink

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
ALL = sorted(str(p.relative_to(CONFIGS)) for p in CONFIGS.rglob("*.yaml"))
NAMED = [name for name in ALL if not Path(name).name.startswith("Base")]


def a_batch(cfg):
    """Two images of different sizes, one with a large and a small box, one empty."""
    height, width = 64, 96
    boxes = torch.tensor([[8.0, 8.0, 60.0, 50.0], [70.0, 10.0, 84.0, 26.0]])
    batch = []
    for boxes_i, width_i in ((boxes, width), (boxes[:0], width - 32)):
        instances = Instances((height, width_i), gt_boxes=Boxes(boxes_i))
        instances.gt_classes = torch.zeros(len(boxes_i), dtype=torch.int64)
        if cfg.MODEL.MASK_ON:
            from detectron2.structures import BitMasks

            instances.gt_masks = BitMasks(torch.ones(len(boxes_i), height, width_i))
        image = torch.randint(0, 256, (3, height, width_i), dtype=torch.uint8)
        batch.append({"image": image, "instances": instances})
    return batch


@pytest.mark.parametrize("name", ALL)
def test_config_needs_no_unsafe_loading_and_is_in_range(name):
    content = yaml.safe_load((CONFIGS / name).read_text())
    assert isinstance(content, dict)
    check_config(load_config(str(CONFIGS / name)), name)


@pytest.mark.parametrize("name", NAMED)
def test_config_states_only_what_differs_from_its_base(name):
    """A key that repeats the base's value is noise, and goes stale when the base changes."""
    content = yaml.safe_load((CONFIGS / name).read_text())
    base = content.pop("_BASE_")
    inherited = load_config(str((CONFIGS / name).parent / base))

    def repeated(node, base_node, prefix=""):
        for key, value in node.items():
            if isinstance(value, dict):
                yield from repeated(value, base_node[key], f"{prefix}{key}.")
            elif base_node[key] == (tuple(value) if isinstance(base_node[key], tuple) else value):
                yield prefix + key

    assert list(repeated(content, inherited)) == []


@pytest.mark.parametrize("name", NAMED)
def test_config_trains_a_step_and_detects(name):
    cfg = shrink(load_config(str(CONFIGS / name)))
    model = build_model(cfg)
    optimizer = build_optimizer(cfg, model)
    batch = a_batch(cfg)
    model.train()
    with EventStorage():
        losses = model(batch)
    total = sum(losses.values())
    assert torch.isfinite(total), losses
    total.backward()
    learned = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    without_gradient = [n for n, p in learned if p.grad is None]
    assert without_gradient == []
    optimizer.step()
    model.eval()
    with torch.no_grad():
        (output,) = model([{"image": batch[0]["image"], "height": 128, "width": 192}])
    assert output["instances"].image_size == (128, 192)
