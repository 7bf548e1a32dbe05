"""What the trainer makes of the model that the config describes."""

import torch
from detectron2.utils.events import EventStorage
from torch import nn

from libra_umop.benchmark.inputs import Workload, synthetic_batch
from libra_umop.config.loading import load_config
from libra_umop.training.trainer import LibraTrainer
from libra_umop.training.words import what_is_frozen
from testing.shrink import shrink


def test_channels_last_is_another_layout_of_the_same_model(repo):
    path = repo / "configs" / "COCO-Detection" / "umop_retinanet_R_50_FPN_1x.yaml"
    weights, losses = [], []
    for channels_last in (False, True):
        cfg = shrink(load_config(str(path), ["MODEL.CHANNELS_LAST", str(channels_last)]))
        torch.manual_seed(0)
        model = LibraTrainer.build_model(cfg).train()
        convolution = model.head.cls_subnet[0].weight
        assert convolution.is_contiguous(memory_format=torch.channels_last) == channels_last
        weights.append({name: x.clone() for name, x in model.state_dict().items()})
        with EventStorage():
            losses.append(model(synthetic_batch(cfg, Workload((96, 128), 2))))
    torch.testing.assert_close(weights[1], weights[0], rtol=0, atol=0)
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-5, atol=1e-6)


def test_what_is_not_trained_is_named_by_its_largest_parts():
    model = nn.ModuleDict({"a": nn.Sequential(*(nn.Linear(1000, 1000) for _ in range(3)))})
    model["b"] = nn.Linear(1000, 1000, bias=False)
    assert what_is_frozen(model) == []
    model["a"][0].requires_grad_(False)
    assert what_is_frozen(model) == ["3.0 of 4.0 million weights are trained, all but a.0"]
    model["a"].requires_grad_(False)
    assert what_is_frozen(model) == ["1.0 of 4.0 million weights are trained, all but a"]


def test_frozen_stages_of_a_backbone_are_said(repo):
    path = repo / "configs" / "COCO-Detection" / "retinanet_R_50_FPN_1x.yaml"
    cfg = shrink(load_config(str(path), ["MODEL.BACKBONE.FREEZE_AT", "2"]))
    (line,) = what_is_frozen(LibraTrainer.build_model(cfg))
    assert line.endswith("all but backbone.bottom_up.stem, backbone.bottom_up.res2")
