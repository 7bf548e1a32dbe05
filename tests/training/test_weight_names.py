"""A detector's weights in the same detector with a lever more or less, in every checkpointer."""

import pickle
from pathlib import Path

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode, get_cfg
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model

from libra_umop.config import add_libra_umop_config
from libra_umop.config.loading import load_config
from libra_umop.convert.run import tensor_shapes
from libra_umop.training.checkpoint.checkpointer import LibraCheckpointer
from testing.shrink import shrink

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
PLAIN = {  # what Detectron2 trains: config, and the keys that make it Detectron2's own
    "faster_rcnn": ("COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml", ()),
    "cascade_rcnn": ("COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml", (
        "MODEL.ROI_HEADS.NAME", "CascadeROIHeads", "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", True,
    )),
    "retinanet": ("COCO-Detection/retinanet_R_50_FPN_1x.yaml", ()),
    "atss": ("COCO-Detection/atss_R_50_FPN_1x.yaml", ()),
    "fcos": ("COCO-Detection/fcos_R_50_FPN_1x.yaml", ()),
}  # fmt: skip
BFP = ("MODEL.BACKBONE.NAME", "build_bfp_backbone")
ON = {  # name: the plain detector, and the levers
    "libra_faster_rcnn": ("faster_rcnn", (*BFP, "MODEL.ROI_HEADS.NAME", "LibraROIHeads")),
    "ohem": ("faster_rcnn", (*BFP, "MODEL.ROI_HEADS.NAME", "OHEMROIHeads")),
    "libra_rpn": ("faster_rcnn", ("MODEL.PROPOSAL_GENERATOR.NAME", "LibraRPN")),
    "libra_cascade": ("cascade_rcnn", (*BFP, "MODEL.ROI_HEADS.NAME", "LibraCascadeROIHeads")),
    "libra_retinanet": ("retinanet", (*BFP, "MODEL.META_ARCHITECTURE", "LibraRetinaNet")),
    "umop_retinanet": ("retinanet", ("MODEL.META_ARCHITECTURE", "UMOPRetinaNet")),
    "umop_retinanet_bfp": ("retinanet", (*BFP, "MODEL.META_ARCHITECTURE", "UMOPRetinaNet")),
    "umop_atss": ("atss", (*BFP, "MODEL.META_ARCHITECTURE", "UMOPATSS")),
    "umop_fcos": ("fcos", (*BFP, "MODEL.META_ARCHITECTURE", "UMOPFCOS")),
}
CHECKPOINTERS = (LibraCheckpointer, DetectionCheckpointer)


def config(plain, levers=()):
    cfg = get_cfg()
    add_libra_umop_config(cfg)
    path, keys = PLAIN[plain]
    cfg.merge_from_other_cfg(CfgNode(CfgNode.load_yaml_with_base(str(CONFIGS / path))))
    pyramid = cfg.MODEL.BACKBONE.NAME
    shrink(cfg).merge_from_list([*keys, *levers])
    cfg.MODEL.BFP.PYRAMID = pyramid
    cfg.MODEL.BFP.REFINE_LEVEL = "p4"
    return cfg


@pytest.fixture(scope="module")
def models():
    """A plain model and the same with levers, of other weights and in eval mode; built once."""
    made = {}

    def get(name):
        if name not in made:
            plain, levers = ON[name]
            torch.manual_seed(1)
            pair = build_model(config(plain)).eval(), build_model(config(plain, levers)).eval()
            made[name] = pair
        return made[name]

    return get


def write(model, path):
    """As Detectron2 writes a ``.pth``, or as its zoo keeps a ``.pkl``."""
    state = model.state_dict()
    if path.suffix == ".pkl":
        content = {"model": {k: v.numpy() for k, v in state.items()}, "__author__": "zoo"}
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save({"model": state}, path)
    return str(path)


def forget(model):
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point():
            tensor.data.uniform_(0.1, 0.9)


def levels(backbone, image):
    with torch.no_grad():
        return getattr(backbone, "pyramid", backbone)(image)


def heads(model):
    other = ("backbone.", "loss_normalizer.", "pixel_")
    return {k: v for k, v in model.state_dict().items() if not k.startswith(other)}


@pytest.mark.parametrize("back", [False, True], ids=["into levers", "back"])
@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
@pytest.mark.parametrize("checkpointer", CHECKPOINTERS)
@pytest.mark.parametrize("name", list(ON))
def test_pyramid_and_heads_are_the_other_detectors(
    name, checkpointer, suffix, back, models, tmp_path
):
    source, target = models(name)[::-1] if back else models(name)
    forget(target)
    checkpointer(target).load(write(source, tmp_path / f"w{suffix}"), checkpointables=[])
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected, got = levels(source.backbone, image), levels(target.backbone, image)
    assert expected.keys() == got.keys() and len(got) == 5
    for level in expected:
        assert torch.equal(got[level], expected[level])
    expected, got = heads(source), heads(target)
    assert expected.keys() == got.keys() and len(got) >= 8
    for key in expected:
        assert torch.equal(got[key], expected[key]), key


@pytest.mark.parametrize(
    "plain, levers",
    [
        ("faster_rcnn", "libra_faster_rcnn"),
        ("cascade_rcnn", "libra_cascade_rcnn"),
        ("retinanet", "libra_retinanet"),
        ("retinanet", "umop_retinanet"),
        ("atss", "umop_atss"),
        ("fcos", "umop_fcos"),
    ],
)
def test_published_configs_differ_by_the_refinement_alone(plain, levers):
    """Their weights at full size, name by name and shape by shape."""
    folder = CONFIGS / "COCO-Detection"
    plain, levers = (
        tensor_shapes(load_config(str(folder / f"{name}_R_50_FPN_1x.yaml")))
        for name in (plain, levers)
    )
    assert all(name.startswith("backbone.balance.") for name in plain.keys() ^ levers.keys())
    assert all(levers[name] == shape for name, shape in plain.items())


@pytest.mark.parametrize("checkpointer", CHECKPOINTERS)
def test_imagenet_weights_of_the_zoo_find_the_network_under_every_lever(
    checkpointer, models, tmp_path
):
    """Their names begin at the stem and are matched by their ends."""
    for name in ("libra_faster_rcnn", "libra_retinanet", "umop_retinanet"):
        plain, target = models(name)
        weights = {k: v.numpy() for k, v in plain.backbone.bottom_up.state_dict().items()}
        path = tmp_path / "R-50.pkl"
        content = {"model": weights, "__author__": "torchvision", "matching_heuristics": True}
        path.write_bytes(pickle.dumps(content))
        forget(target)
        checkpointer(target).load(str(path), checkpointables=[])
        for key, value in target.backbone.bottom_up.state_dict().items():
            assert torch.equal(value, torch.as_tensor(weights[key])), key


def test_default_predictor_detects_with_a_plain_detectors_weights_under_the_levers(
    models, tmp_path
):
    plain, _ = models("libra_retinanet")
    cfg = config(*ON["libra_retinanet"])
    cfg.MODEL.WEIGHTS = write(plain, tmp_path / "plain.pth")
    model = DefaultPredictor(cfg).model
    lateral = "fpn_lateral3.weight"
    got = model.backbone.pyramid.state_dict()[lateral]
    assert torch.equal(got, plain.backbone.state_dict()[lateral])


def names_of_0_1_0(state):
    """As a detector with BFP was written by version 0.1.0."""
    kept = "backbone.balance."
    return {
        k if k.startswith(kept) else k.replace("backbone.", "backbone.pyramid.", 1): v
        for k, v in state.items()
    }


@pytest.mark.parametrize("checkpointer", CHECKPOINTERS)
def test_names_of_version_0_1_0_load_into_a_balanced_pyramid(checkpointer, models, tmp_path):
    _, model = models("libra_retinanet")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    torch.save({"model": names_of_0_1_0(before)}, tmp_path / "old.pth")
    forget(model)
    checkpointer(model).load(str(tmp_path / "old.pth"), checkpointables=[])
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_names_of_version_0_1_0_load_into_a_plain_detector(models, tmp_path):
    plain, _ = models("libra_retinanet")
    before = {k: v.clone() for k, v in plain.state_dict().items()}
    torch.save({"model": names_of_0_1_0(before)}, tmp_path / "old.pth")
    forget(plain)
    LibraCheckpointer(plain).load(str(tmp_path / "old.pth"), checkpointables=[])
    for key, value in plain.state_dict().items():
        assert torch.equal(value, before[key]), key


@pytest.mark.parametrize("checkpointer", CHECKPOINTERS)
def test_a_tensor_of_another_shape_inside_the_pyramid_is_left_out(checkpointer, models, tmp_path):
    _, model = models("libra_retinanet")
    state = {k: v.clone() for k, v in model.state_dict().items()}
    state["backbone.fpn_lateral3.weight"] = torch.zeros(1, 2, 3, 3)
    torch.save({"model": state}, tmp_path / "w.pth")
    checkpointer(model).load(str(tmp_path / "w.pth"), checkpointables=[])
    assert model.backbone.pyramid.fpn_lateral3.weight.shape != (1, 2, 3, 3)
