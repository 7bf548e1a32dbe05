"""ImageNet classifiers into a Detectron2 ResNet, against the classifier's own features."""

import pytest
import torch
import torchvision
from detectron2.modeling import build_model

from libra_umop.config.loading import load_config
from libra_umop.convert.run import convert_from
from libra_umop.errors import ConfigError
from libra_umop.utils.safe_load import safe_torch_load

BGR = ["INPUT.FORMAT", "BGR", "MODEL.PIXEL_MEAN", "[103.53,116.28,123.675]"]
BGR += ["MODEL.PIXEL_STD", "[1.0,1.0,1.0]"]


@pytest.fixture
def config_file(repo):
    return str(repo / "configs" / "COCO-Detection" / "faster_rcnn_R_50_FPN_1x.yaml")


def resnet50(library):
    if library == "torchvision":
        return torchvision.models.resnet50(weights=None).eval()
    timm = pytest.importorskip("timm", reason="timm, an optional dependency, is not installed")
    return timm.create_model("resnet50").eval()


@pytest.mark.parametrize("library, suffix", [("torchvision", "pth"), ("timm", "safetensors")])
@torch.no_grad()
def test_features_are_the_classifiers(library, suffix, config_file, tmp_path):
    classifier = resnet50(library)
    path, output = str(tmp_path / f"in.{suffix}"), str(tmp_path / "out.pth")
    if suffix == "pth":
        torch.save(classifier.state_dict(), path)
    else:
        reason = "safetensors is not installed"
        safetensors = pytest.importorskip("safetensors.torch", reason=reason)
        safetensors.save_file(classifier.state_dict(), path)
    lines = convert_from(path, config_file, output, ["MODEL.DEVICE", "cpu"])
    assert "the classifier is not used: backbone.fc.bias, backbone.fc.weight" in lines
    assert not any("left over" in line for line in lines)
    model = build_model(load_config(config_file, ["MODEL.DEVICE", "cpu"])).eval()
    model.load_state_dict(safe_torch_load(output)["model"], strict=False)
    pixels = torch.rand(3, 64, 64) * 255  # RGB
    image = model.preprocess_image([{"image": pixels}]).tensor
    normalised = torchvision.transforms.functional.normalize(
        pixels / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    )
    children = list(classifier.children())
    expected = torch.nn.Sequential(*children[: len(children) - 2])(normalised[None])
    features = model.backbone.bottom_up(image)["res5"]
    torch.testing.assert_close(features, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    "opts, wanted",
    [
        (BGR, ["INPUT.FORMAT RGB", "MODEL.PIXEL_MEAN '[123.675,116.28,103.53]'"]),
        (BGR, ["MODEL.PIXEL_STD '[58.395,57.12,57.375]'"]),
        (["MODEL.RESNETS.STRIDE_IN_1X1", "True"], ["MODEL.RESNETS.STRIDE_IN_1X1 False"]),
    ],
)
def test_other_normalisation_is_refused_with_the_right_one(config_file, tmp_path, opts, wanted):
    path = tmp_path / "resnet50.pth"
    torch.save(resnet50("torchvision").state_dict(), path)
    with pytest.raises(ConfigError) as e:
        convert_from(str(path), config_file, str(tmp_path / "out.pth"), opts)
    assert all(words in str(e.value) for words in wanted)
    assert not (tmp_path / "out.pth").exists()


def test_network_of_another_depth_is_refused(config_file, tmp_path):
    path = tmp_path / "resnet18.pth"
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), path)
    with pytest.raises(ConfigError, match="res2.0.conv3.weight"):
        convert_from(str(path), config_file, str(tmp_path / "out.pth"))
