"""torchvision's detectors with random weights, converted: the same detections as torchvision's."""

import re
import shlex
from functools import partial

import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model
from torchvision.models import detection
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

from libra_umop.config.loading import load_config
from libra_umop.convert.run import convert_from, tensor_shapes
from libra_umop.convert.torchvision.names import from_torchvision
from libra_umop.convert.torchvision.settings import (
    RETINANET_SIZES,
    norm_eps_of,
    torchvision_contradictions,
)
from libra_umop.errors import ConfigError
from libra_umop.utils.safe_load import safe_torch_load

CLASSES = 5  # beside the background
SIZE = (160, 224)  # of which 128, P7's stride, divides neither: torchvision's anchors know it
ANCHORS = ["MODEL.ANCHOR_GENERATOR.NAME", "TorchvisionAnchorGenerator"]
RETINANET = [*ANCHORS, "MODEL.ANCHOR_GENERATOR.SIZES", str(RETINANET_SIZES)]
RETINANET += ["TEST.DETECTIONS_PER_IMAGE", "300", "MODEL.FPN.TOP_IN_FEATURE", "p5"]
RCNN = [*ANCHORS, "MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIAlign"]
RCNN += ["MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO", "2"]
FCOS = [*ANCHORS, "MODEL.FCOS.SCORE_THRESH_TEST", "0.2"]
# Detectron2's dense detectors clip boxes to the image after the NMS, torchvision's before it: the
# overlap of boxes that leave the image is another one. So these are compared without an NMS.
NO_NMS = ["MODEL.RETINANET.NMS_THRESH_TEST", "1.0", "MODEL.FCOS.NMS_THRESH_TEST", "1.0"]
CASES = {  # config: torchvision's builder, overrides, key of the number of classes and that number
    "faster_rcnn_R_50_FPN_1x": ("fasterrcnn", RCNN, "MODEL.ROI_HEADS.NUM_CLASSES", CLASSES),
    "retinanet_R_50_FPN_1x": ("retinanet", RETINANET, "MODEL.RETINANET.NUM_CLASSES", CLASSES + 1),
    "umop_retinanet_R_50_FPN_1x": (
        "retinanet",
        RETINANET,
        "MODEL.RETINANET.NUM_CLASSES",
        CLASSES + 1,
    ),
    "fcos_R_50_FPN_1x": ("fcos", FCOS, "MODEL.FCOS.NUM_CLASSES", CLASSES + 1),
    "umop_fcos_R_50_FPN_1x": ("fcos", FCOS, "MODEL.FCOS.NUM_CLASSES", CLASSES + 1),
}
COMMON = ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.FPN.P7_RELU", "True"]
COMMON += NO_NMS


@torch.no_grad()
def randomised(model):
    """Weights and statistics far enough from their start for a mistake to show in a box."""
    generator = torch.Generator().manual_seed(3)
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith("running_mean"):
            tensor.normal_(std=0.1, generator=generator)
        elif name.endswith("bn3.weight"):  # else each block doubles what it adds to
            tensor.uniform_(0.1, 0.3, generator=generator)
        elif name.endswith("bias"):
            tensor.uniform_(-0.1, 0.1, generator=generator)
    features = model.eval().backbone(torch.randn(1, 3, *SIZE, generator=generator))
    for block, feature in zip(model.backbone.fpn.layer_blocks, features.values(), strict=False):
        block[0].weight /= feature.std()
    for name, tensor in model.state_dict().items():
        if name.startswith("head.") and tensor.dim() == 4:
            wide = name.split(".")[-2] in ("cls_logits", "bbox_ctrness")
            tensor.normal_(std=0.04 if wide else 0.02, generator=generator)
        elif name == "head.regression_head.bbox_reg.bias" and len(tensor) == 4:
            tensor.uniform_(0.5, 2, generator=generator)  # FCOS: distances to four sides
        elif name.endswith("cls_score.weight"):
            tensor.normal_(std=0.2, generator=generator)
    return model


@pytest.fixture(scope="module")
def theirs():
    """Their detectors by name; they do not resize images of ``SIZE``."""
    size = {"min_size": min(SIZE), "max_size": 1000}
    done = {}

    def build(name):
        if name not in done:
            torch.manual_seed(0)
            builder = getattr(detection, f"{name}_resnet50_fpn")
            kwargs = {"weights": None, "weights_backbone": None, "num_classes": CLASSES + 1}
            done[name] = randomised(builder(**kwargs, **size))
            done[name].nms_thresh = 1.0  # of the dense ones
        return done[name]

    return build


def converted(model, config, opts, tmp_path, **kwargs):
    source, output = str(tmp_path / "in.pth"), str(tmp_path / "out.pth")
    torch.save(model.state_dict(), source)
    lines = convert_from(source, config, output, opts, **kwargs)
    ours = build_model(load_config(config, opts)).eval()
    result = ours.load_state_dict(safe_torch_load(output)["model"], strict=False)
    assert result.unexpected_keys == []
    assert all(
        key.startswith(("loss_normalizer", "backbone.balance")) for key in result.missing_keys
    )
    return ours, lines


def config_of(repo, name):
    return str(repo / "configs" / "COCO-Detection" / f"{name}.yaml")


@torch.no_grad()
def assert_same_detections(ours, model, has_background):
    image = torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(1))
    expected = model([image])[0]
    found = ours([{"image": image * 255, "height": SIZE[0], "width": SIZE[1]}])[0]["instances"]
    assert len(expected["scores"]) == len(found) > 20
    order, mine = expected["scores"].argsort(descending=True), found.scores.argsort(descending=True)
    close = partial(torch.testing.assert_close, atol=1e-4, rtol=1e-4)
    close(found.scores[mine], expected["scores"][order])
    close(found.pred_boxes.tensor[mine], expected["boxes"][order])
    labels = found.pred_classes[mine] + (1 if has_background else 0)
    assert labels.tolist() == expected["labels"][order].tolist()


@pytest.mark.parametrize("name", CASES)
def test_detections_are_torchvisions(name, repo, theirs, tmp_path):
    builder, opts, key, num_classes = CASES[name]
    opts = [*COMMON, *opts, key, str(num_classes)]
    model = theirs(builder)
    ours, lines = converted(model, config_of(repo, name), opts, tmp_path)
    assert not any("left over" in line for line in lines)
    assert_same_detections(ours, model, builder == "fasterrcnn")


def test_libra_form_takes_the_same_tensors_and_starts_its_own(repo, theirs, tmp_path):
    opts = [*COMMON, *RCNN, "MODEL.ROI_HEADS.NUM_CLASSES", str(CLASSES)]
    plain, _ = converted(
        theirs("fasterrcnn"), config_of(repo, "faster_rcnn_R_50_FPN_1x"), opts, tmp_path
    )
    libra, lines = converted(
        theirs("fasterrcnn"), config_of(repo, "libra_faster_rcnn_R_50_FPN_1x"), opts, tmp_path
    )
    assert any(line.endswith("tensors of BFP start as they are initialised") for line in lines)
    weights, there = plain.state_dict(), libra.state_dict()
    assert set(weights) <= set(there)
    assert all(torch.equal(tensor, there[name]) for name, tensor in weights.items())


def frozen_faster_rcnn(num_labels):
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d
    )
    size = {"min_size": min(SIZE), "max_size": 1000}
    return randomised(detection.FasterRCNN(backbone, num_labels, **size))


def test_epsilon_of_frozen_norms_goes_into_the_variances(repo, tmp_path):
    eps = 0.0
    torch.manual_seed(0)
    model = frozen_faster_rcnn(CLASSES + 1)
    stem = model.backbone.body.bn1
    stem.running_var.fill_(1e-5)  # so that the epsilon halves what it lets through
    stem.weight.fill_(3e-3)
    overwrite_eps(model, eps)
    opts = [*COMMON, *RCNN, "MODEL.ROI_HEADS.NUM_CLASSES", str(CLASSES)]
    config = config_of(repo, "faster_rcnn_R_50_FPN_1x")
    with pytest.raises(ConfigError, match="--norm-eps 0 if"):
        converted(model, config, opts, tmp_path)
    ours, _ = converted(model, config, opts, tmp_path, norm_eps=eps)
    assert_same_detections(ours, model, has_background=True)


@pytest.mark.parametrize("kind", ["fasterrcnn", "retinanet", "fcos"])
def test_epsilon_is_that_of_the_published_weights(kind):
    build = getattr(detection, f"{kind}_resnet50_fpn")
    with torch.device("meta"):
        names = build(weights=None, weights_backbone=None, num_classes=91).state_dict()
    frozen = {name: t for name, t in names.items() if "num_batches_tracked" not in name}
    assert norm_eps_of(names, None, "x.pth") == 1e-5
    assert norm_eps_of(frozen, None, "x.pth") == (1e-5 if kind == "fcos" else 0.0)


@pytest.mark.parametrize("config", ["faster_rcnn_R_50_FPN_1x", "retinanet_R_50_FPN_1x"])
def test_80_classes_are_coco_s_out_of_91_labels(config, repo):
    cfg = load_config(config_of(repo, config), COMMON)
    ids = sorted(MetadataCatalog.get("coco_2017_val").thing_dataset_id_to_contiguous_id)
    head = ("roi_heads.box_predictor.cls_score", "head.cls_score")["retina" in config]
    there = {"head.cls_score": "head.classification_head.cls_logits"}.get(head, head)
    per_label = 9 if "retina" in config else 1  # anchors of a location
    theirs = torch.arange(91.0).repeat(per_label)  # each row is its label
    shapes = {f"{head}.bias": torch.Size([80 * per_label + ("retina" not in config)])}
    result = from_torchvision(cfg, shapes, {f"{there}.bias": theirs}, 1e-5)
    expected = ids * 9 if "retina" in config else [*ids, 0]
    assert result.tensors[f"{head}.bias"].tolist() == expected


def test_names_of_before_torchvision_0_13_are_read(repo, theirs, tmp_path):
    config, opts = config_of(repo, "retinanet_R_50_FPN_1x"), [*COMMON, *RETINANET]
    opts += ["MODEL.RETINANET.NUM_CLASSES", str(CLASSES + 1)]
    new, old = theirs("retinanet").state_dict(), {}
    for name, tensor in new.items():
        name = re.sub(r"(inner_blocks|layer_blocks)\.(\d)\.0\.", r"\1.\2.", name)
        name = re.sub(r"_head\.conv\.(\d)\.0\.", lambda m: f"_head.conv.{2 * int(m[1])}.", name)
        old[name] = tensor
    cfg = load_config(config, opts)
    weights = [
        from_torchvision(cfg, tensor_shapes(cfg), state, 1e-5).tensors for state in (new, old)
    ]
    assert set(old) != set(new)
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0] | weights[1])


def test_configs_for_fine_tuning_are_what_torchvision_computes(repo):
    for path in (repo / "configs" / "quick").glob("*_finetune.yaml"):
        assert torchvision_contradictions(load_config(str(path))) == [], path


@pytest.mark.parametrize(
    "name", ["faster_rcnn_R_50_FPN_1x", "retinanet_R_50_FPN_1x", "fcos_R_50_FPN_1x"]
)
def test_another_number_of_classes_is_said_with_the_right_one(name, repo, theirs, tmp_path):
    builder, opts, key, _ = CASES[name]
    opts = [*COMMON, *opts, key, str(CLASSES + 4)]
    said = f"{key} is {CLASSES + 4}, should be {CLASSES}; nothing was written"
    with pytest.raises(ConfigError, match=said):
        converted(theirs(builder), config_of(repo, name), opts, tmp_path)


def test_keys_that_contradict_torchvision_are_named(repo, theirs, tmp_path):
    for kind, config, key in [
        ("retinanet", "retinanet_R_50_FPN_1x", "MODEL.RETINANET.NUM_CLASSES"),
        ("fcos", "fcos_R_50_FPN_1x", "MODEL.FCOS.NUM_CLASSES"),
    ]:
        opts = [*COMMON, "INPUT.FORMAT", "BGR", key, str(CLASSES)]
        with pytest.raises(ConfigError) as refused:
            converted(theirs(kind), config_of(repo, config), opts, tmp_path)
        words = str(refused.value).split("used: ")[1].removesuffix(" (or --force)")
        assert "INPUT.FORMAT RGB" in words
        assert "MODEL.ANCHOR_GENERATOR.NAME TorchvisionAnchorGenerator" in words
        assert not (tmp_path / "out.pth").exists()
        converted(theirs(kind), config_of(repo, config), [*opts, *shlex.split(words)], tmp_path)
        (tmp_path / "out.pth").unlink()
