"""Files: what is refused, what is named, and that nothing is written or run then."""

import pickle
import sys
import types

import pytest
import torch

from libra_umop.convert.read import read_checkpoint
from libra_umop.convert.run import convert_from, convert_to_mmdet
from libra_umop.errors import ConfigError
from libra_umop.utils.safe_load import safe_torch_load

LEGACY = ["MODEL.ANCHOR_GENERATOR.OFFSET", "0.5", "MODEL.ROI_BOX_HEAD.POOLER_TYPE", "ROIAlign"]
FASTER, ATSS = "libra_faster_rcnn_R_50_FPN_1x", "atss_R_50_FPN_1x"


@pytest.fixture
def changed(convert_peer, tmp_path):
    """A function that converts a changed copy of a peer's checkpoint."""

    def convert(name, change, opts=(), **kwargs):
        peer = convert_peer(name)
        content = safe_torch_load(peer.source)
        change(content)
        path, output = str(tmp_path / "changed.pth"), tmp_path / "out.pth"
        torch.save(content, path)
        try:
            lines = convert_from(
                path, peer.config_file, str(output), peer.opts + list(opts), **kwargs
            )
        except ConfigError:
            assert list(tmp_path.iterdir()) == [tmp_path / "changed.pth"]
            raise
        return lines, safe_torch_load(str(output)), safe_torch_load(peer.output)

    return convert


def assert_same_model(content, expected):
    assert content["model"].keys() == expected["model"].keys()
    for key, tensor in expected["model"].items():
        assert torch.equal(content["model"][key], tensor), key


def background_first(content):
    """As mmdetection 1.x wrote it: head names, label 0 is background and has boxes too."""
    state = content["state_dict"]
    for part in ("weight", "bias"):
        labels = state.pop(f"roi_head.bbox_head.fc_cls.{part}")
        boxes = state.pop(f"roi_head.bbox_head.fc_reg.{part}")
        state[f"bbox_head.fc_cls.{part}"] = torch.cat((labels[-1:], labels[:-1]))
        state[f"bbox_head.fc_reg.{part}"] = torch.cat((torch.rand_like(boxes[:4]), boxes))
    for key in [k for k in state if k.startswith("roi_head.")]:
        state[key.replace("roi_head.", "")] = state.pop(key)
    content["meta"] = {"mmdet_version": "1.0rc0", "CLASSES": ("a", "b", "c", "d", "e")}


def test_background_first_checkpoint_is_recognised(changed):
    lines, content, expected = changed(FASTER, background_first, LEGACY)
    assert_same_model(content, expected)
    assert content["class_names"] == ["a", "b", "c", "d", "e"]
    assert "background moved from first to last in roi_head.bbox_head.fc_cls" in lines
    assert any("x2 - x1 + 1" in line for line in lines)


@pytest.mark.parametrize("version, is_first", [("1.2.0", True), ("2.11.0", False), ("", True)])
def test_one_box_for_all_classes_leaves_it_to_the_version_or_the_names(changed, version, is_first):
    def agnostic(content):
        background_first(content)
        content["meta"]["mmdet_version"] = version
        for part in ("weight", "bias"):
            key = f"bbox_head.fc_reg.{part}"
            content["state_dict"][key] = content["state_dict"][key][:4]

    opts = ["MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", "True"] + LEGACY * is_first
    _, content, expected = changed(FASTER, agnostic, opts)
    key = "roi_heads.box_predictor.cls_score.weight"
    same = torch.equal(content["model"][key], expected["model"][key])
    assert same == is_first


def test_missing_and_left_over_tensors_are_all_named_and_nothing_is_written(changed):
    def change(content):
        state = content["state_dict"]
        del state["neck.0.lateral_convs.0.conv.bias"]
        state["rpn_head.rpn_cls.bias"] = torch.rand(7)
        state["roi_head.mask_head.conv_logits.bias"] = torch.rand(5)

    with pytest.raises(ConfigError) as e:
        changed(FASTER, change)
    for words in (
        "2 tensors missing",
        "backbone.fpn_lateral2.bias (there: neck.0.lateral_convs.0.conv.bias)",
        "(there: rpn_head.rpn_cls.bias of shape (7,), wanted (3,))",
        "left over: roi_head.mask_head.conv_logits.bias",
    ):
        assert words in str(e.value)


def test_left_over_tensors_alone_are_named_in_the_report(changed):
    def change(content):
        content["state_dict"]["roi_head.mask_head.conv_logits.bias"] = torch.rand(5)

    lines, content, expected = changed(FASTER, change)
    assert "left over, not converted: roi_head.mask_head.conv_logits.bias" in lines
    assert_same_model(content, expected)


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("", "MODEL.FPN.P7_RELU False"),
        ("dict(mean=[1.0, 2.0, 3.0], std=[1.0, 1.0, 1.0], to_rgb=False)", "FORMAT BGR"),
        ("dict(mean=[1.0, 2.0, 3.0], std=[1.0, 1.0, 1.0])", "PIXEL_MEAN '[1.0,2.0,3.0]'"),
        ("backbone=dict(style='caffe')", "MODEL.RESNETS.STRIDE_IN_1X1 True"),
    ],
)
def test_contradiction_between_config_and_training_is_refused(changed, text, wanted):
    def change(content):
        content["meta"]["cfg"] = text

    with pytest.raises(ConfigError, match="treats these tensors otherwise") as e:
        changed(ATSS, change, ["MODEL.FPN.P7_RELU", "True"])
    assert wanted in str(e.value)
    lines, content, expected = changed(ATSS, change, ["MODEL.FPN.P7_RELU", "True"], force=True)
    assert_same_model(content, expected)


def test_agreeing_training_config_is_accepted(changed):
    def change(content):
        content["meta"]["config"] = (
            "data_preprocessor = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375],"
            " bgr_to_rgb=True)\nmodel = dict(backbone=dict(style='pytorch'))"
            "\ncoder = dict(target_means=[0.0, 0.0, 0.0, 0.0], target_stds=[0.1, 0.1, 0.2, 0.2])"
        )

    lines, content, expected = changed(ATSS, change)
    assert_same_model(content, expected)
    assert not any("does not say how its input" in line for line in lines)


def test_objects_of_their_packages_are_read_as_blanks_without_them(tmp_path, monkeypatch):
    """mmengine keeps log histories in a checkpoint; the package is not here and need not be."""
    path = tmp_path / "with_history.pth"
    module = types.ModuleType("mmengine.logging.history_buffer")

    class HistoryBuffer:
        def __init__(self):
            self.values = [1.0, 2.0]

    HistoryBuffer.__module__, HistoryBuffer.__qualname__ = module.__name__, "HistoryBuffer"
    module.HistoryBuffer = HistoryBuffer
    with monkeypatch.context() as m:
        for name in ("mmengine", "mmengine.logging", module.__name__):
            m.setitem(sys.modules, name, module)
        content = {"state_dict": {"module.a": torch.ones(2)}, "message_hub": HistoryBuffer()}
        torch.save({**content, "meta": {"mmdet_version": "3.3.0"}}, path)
    assert "mmengine" not in sys.modules
    checkpoint = read_checkpoint(str(path))
    assert torch.equal(checkpoint.tensors["a"], torch.ones(2))
    assert checkpoint.version == "3.3.0" and "mmengine" not in sys.modules


class Exploit:
    """Writes a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path, zipped):
    path, trace = tmp_path / "exploit.pth", tmp_path / "trace"
    content = {"state_dict": {"a": torch.ones(1)}, "meta": Exploit(trace)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ConfigError, match="exploit.pth"):
        read_checkpoint(str(path))
    assert not trace.exists()


@pytest.mark.parametrize(
    "content", [b"", b"not a checkpoint", pickle.dumps([1, 2]), pickle.dumps({"a": 1})]
)
def test_file_without_tensors_is_named(tmp_path, content):
    path = tmp_path / "other.pth"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="other.pth"):
        read_checkpoint(str(path))


def test_only_a_checkpoint_of_ours_goes_to_mmdet(convert_peer, tmp_path):
    peer = convert_peer(ATSS)
    with pytest.raises(ConfigError, match="is it a checkpoint of this project"):
        convert_to_mmdet(peer.source, peer.config_file, str(tmp_path / "x.pth"), peer.opts)
    short = safe_torch_load(peer.output)
    del short["model"]["head.cls_score.bias"]
    short["model"]["head.more"] = torch.rand(1)
    torch.save(short, tmp_path / "short.pth")
    with pytest.raises(ConfigError, match="head.cls_score.bias.*left over: head.more"):
        convert_to_mmdet(
            str(tmp_path / "short.pth"), peer.config_file, str(tmp_path / "x.pth"), peer.opts
        )
    assert not (tmp_path / "x.pth").exists()
