"""Losses over a validation set: what they are, and that the model does not notice."""

import copy

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from detectron2.modeling import build_model

from libra_umop.config.loading import load_config
from libra_umop.evaluation.validation_losses import validation_losses
from libra_umop.modeling.dense.losses.normalizers import get_normalizers
from testing.engine_runs import LIBRA, RETINANET, write_config, write_dataset  # noqa: E402

NAME = "validation_losses_test"


UMOP = {**RETINANET, "MODEL": {**RETINANET["MODEL"], "META_ARCHITECTURE": "UMOPRetinaNet"}}


@pytest.fixture(params=[RETINANET, UMOP, LIBRA], ids=["retinanet", "umop", "libra"])
def cfg(request, tmp_path):
    data = write_dataset(tmp_path / "data")
    DatasetCatalog.register(
        NAME,
        lambda: load_coco_json(str(data / "annotations" / "val.json"), str(data / "images"), NAME),
    )
    cfg = load_config(str(write_config(tmp_path / "c.yaml", request.param)))
    cfg.DATASETS.TEST = (NAME,)
    yield cfg
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def test_losses_are_repeatable_finite_and_leave_the_model_as_it_was(cfg):
    model = build_model(cfg).eval()
    model.backbone.train()
    modes = [module.training for module in model.modules()]
    state, normalizers = copy.deepcopy(model.state_dict()), get_normalizers(model)
    is_umop = cfg.MODEL.META_ARCHITECTURE == "UMOPRetinaNet"
    assert ("loss_normalizer.average" in state) == is_umop  # that losses move it in training
    torch.manual_seed(5)
    losses = validation_losses(cfg, model)
    drawn = torch.rand(1).item()
    torch.manual_seed(99)
    assert validation_losses(cfg, model) == losses
    parts = [value for name, value in losses.items() if name != "total_loss"]
    assert losses["total_loss"] == pytest.approx(sum(parts)) and losses["total_loss"] > 0
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert get_normalizers(model) == normalizers
    torch.manual_seed(5)
    assert torch.rand(1).item() == drawn
