"""Boxes of mmdetection 1.x: its anchors and regions, by hand, are those of the keys asked for."""

import math

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_anchor_generator, build_model
from detectron2.structures import Boxes

from libra_umop.config.loading import load_config
from libra_umop.convert.checks import contradictions
from libra_umop.convert.mmdet import from_mmdet
from libra_umop.convert.read import Checkpoint
from libra_umop.convert.run import convert_from, convert_to_mmdet, tensor_shapes
from libra_umop.convert.version import major_version
from libra_umop.errors import ConfigError
from libra_umop.utils.safe_load import safe_torch_load
from testing.shrink import shrink

OFFSET = "MODEL.ANCHOR_GENERATOR.OFFSET"
POOLER = "MODEL.ROI_BOX_HEAD.POOLER_TYPE"
STRIDES = {"faster": (4, 8, 16, 32, 64), "dense": (8, 16, 32, 64, 128)}
OCTAVE = [4 * 2 ** (i / 3) for i in range(3)]
RATIOS = (0.5, 1.0, 2.0)
DETECTORS = {  # config: strides, scales and ratios of mmdetection's config of that detector
    "faster_rcnn_R_50_FPN_1x": (STRIDES["faster"], [8], RATIOS),
    "libra_faster_rcnn_R_50_FPN_1x": (STRIDES["faster"], [8], RATIOS),
    "umop_retinanet_R_50_FPN_1x": (STRIDES["dense"], OCTAVE, RATIOS),
    "umop_atss_R_50_FPN_1x": (STRIDES["dense"], [8], (1.0,)),
}
PEERS = ["libra_faster_rcnn_R_50_FPN_1x", "libra_retinanet_R_50_FPN_1x", "atss_R_50_FPN_1x"]


def anchor_of_1x(stride, scale, ratio, column, row):
    """Its first and last pixel, (x1, y1, x2, y2), before they are rounded."""
    width, height = stride * scale / math.sqrt(ratio), stride * scale * math.sqrt(ratio)
    center = 0.5 * (stride - 1)
    x, y = center + stride * column, center + stride * row
    half_w, half_h = 0.5 * (width - 1), 0.5 * (height - 1)
    return (x - half_w, y - half_h, x + half_w, y + half_h)


def as_edges(box):
    """A box of first and last pixels by its edges: the last pixel ends one further."""
    return torch.tensor([box[0], box[1], box[2] + 1, box[3] + 1])


def config_of(name, *opts):
    return load_config(f"configs/COCO-Detection/{name}.yaml", list(opts))


def legacy_keys(name):
    """KEY and VALUE that the converter asks of a config for a file of 1.x."""
    return " ".join(contradictions(config_of(name), Checkpoint({}, {}), 1)).split()


def test_an_anchor_of_1x_that_can_be_seen():
    """Stride 4, scale 8: 32 pixels around the middle of pixels 0..3, which is 1.5."""
    box = anchor_of_1x(4, 8, 1.0, column=0, row=2)
    assert box == (-14, -6, 17, 25)
    assert as_edges(box).tolist() == [-14, -6, 18, 26]


@pytest.mark.parametrize("name", DETECTORS)
def test_anchors_of_the_keys_asked_for_are_those_of_1x(name, repo, monkeypatch):
    monkeypatch.chdir(repo)
    strides, scales, ratios = DETECTORS[name]
    for opts, shift in ((legacy_keys(name), 0.0), ([], 0.5)):
        shapes = [ShapeSpec(stride=stride) for stride in strides]
        generator = build_anchor_generator(config_of(name, *opts), shapes)
        levels = generator([torch.zeros(1, 1, 3, 4) for _ in strides])
        for stride, level in zip(strides, levels, strict=True):
            ours = level.tensor.view(3, 4, -1, 4)[2, 1]  # row 2, column 1
            theirs = [anchor_of_1x(stride, s, r, 1, 2) for s in scales for r in ratios]
            edges = torch.stack([as_edges(box) for box in theirs])
            torch.testing.assert_close(ours + shift * stride, edges, rtol=0, atol=2e-3 * stride)
            rounded = torch.stack([as_edges([round(x) for x in box]) for box in theirs])
            assert (ours + shift * stride - rounded).abs().max() <= 0.5 + 2e-3 * stride


@pytest.mark.parametrize("name", ["faster_rcnn_R_50_FPN_1x"])
def test_a_decoded_box_of_1x_is_the_same_box(name, repo, monkeypatch):
    """1.x by hand: widths with + 1, the centre between first and last pixel."""
    monkeypatch.chdir(repo)
    model = build_model(shrink(config_of(name, *legacy_keys(name))))
    x1, y1, x2, y2 = anchor = anchor_of_1x(8, 8, 2.0, column=3, row=1)
    dx, dy, dw, dh = deltas = (0.1, -0.2, 0.3, -0.4)
    width, height = x2 - x1 + 1, y2 - y1 + 1
    center_x, center_y = 0.5 * (x1 + x2) + dx * width, 0.5 * (y1 + y2) + dy * height
    half_w, half_h = 0.5 * width * math.exp(dw), 0.5 * height * math.exp(dh)
    theirs = (center_x - half_w + 0.5, center_y - half_h + 0.5)
    theirs += (center_x + half_w - 0.5, center_y + half_h - 0.5)
    transform = model.proposal_generator.box2box_transform
    ours = transform.apply_deltas(torch.tensor([deltas]), as_edges(anchor)[None])[0]
    torch.testing.assert_close(ours, as_edges(theirs))


@pytest.mark.parametrize("name", ["faster_rcnn_R_50_FPN_1x", "libra_faster_rcnn_R_50_FPN_1x"])
def test_regions_are_pooled_as_in_1x(name, repo, monkeypatch):
    """By hand: on a map whose value is its column, a bin has the mean of where it is sampled."""
    monkeypatch.chdir(repo)
    last_pixels = (16.0, 24.0, 79.0, 71.0)  # first and last pixel, a region of P2, stride 4
    sizes = [(64, 64), (32, 32), (16, 16), (8, 8)]
    features = [torch.arange(float(w)).expand(1, 32, h, w) for h, w in sizes]
    pooled = {}
    for pooler, opts in (("legacy", legacy_keys(name)), ("here", [])):
        head = build_model(shrink(config_of(name, *opts))).roi_heads
        out = head.box_pooler(features, [Boxes(as_edges(last_pixels)[None])])
        pooled[pooler] = out[0, 0, 0]
    bins = len(pooled["legacy"])
    start, end = 16 / 4, (79 + 1) / 4
    expected = torch.tensor([start + (end - start) * (i + 0.5) / bins for i in range(bins)])
    torch.testing.assert_close(pooled["legacy"], expected)
    torch.testing.assert_close(pooled["here"], expected - 0.5)


@pytest.mark.parametrize(
    "meta, names, version",
    [
        ({"mmdet_version": "1.0rc0+c3e6cda"}, ["roi_head.bbox_head.fc_cls.weight"], 1),
        ({"mmdet_version": "0.6.0"}, [], 1),
        ({"mmdet_version": "2.11.0"}, ["bbox_head.fc_cls.weight"], 2),
        ({"mmdet_version": "v3.3.0"}, [], 3),
        ({"mmdet_version": "dev"}, [], None),
        ({"mmengine_version": "0.10.4"}, [], 3),
        ({}, ["bbox_head.fc_cls.weight"], 1),
        ({}, ["bbox_head.2.fc_cls.weight"], 1),
        ({}, ["roi_head.bbox_head.fc_cls.weight"], 2),
        ({}, ["bbox_head.retina_cls.weight"], None),
        ({"config": "bbox_head=dict(type='RetinaHead', anchor_strides=[8, 16])"}, [], 1),
        ({"config": "anchor_generator=dict(type='AnchorGenerator')"}, [], 2),
        ({"cfg": "data_preprocessor = dict(bgr_to_rgb=True)\nanchor_generator=dict()"}, [], 3),
        ({"mmdet_version": 2}, [], 2),
    ],
)
def test_the_version_is_read_from_meta_names_or_training_config(meta, names, version):
    assert major_version(Checkpoint({name: torch.zeros(1) for name in names}, meta)) == version


@pytest.mark.parametrize(
    "version, text, wanted",
    [
        (1, "", [f"{OFFSET} 0.5", f"{POOLER} ROIAlign"]),
        (2, "", []),
        (3, "", []),
        (
            2,
            "LegacyAnchorGenerator', center_offset=0.5), roi_layer=dict(aligned = False)",
            [f"{OFFSET} 0.5", f"{POOLER} ROIAlign"],
        ),
        (
            1,
            "roi_layer=dict(type='RoIAlign', out_size=7, sample_num=2)",
            [f"{OFFSET} 0.5", f"{POOLER} ROIAlign", "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO 2"],
        ),
    ],
)
def test_keys_of_the_geometry(version, text, wanted, repo, monkeypatch):
    monkeypatch.chdir(repo)
    checkpoint = Checkpoint({}, {"config": text})
    cfg = config_of("faster_rcnn_R_50_FPN_1x")
    assert contradictions(cfg, checkpoint, version) == wanted
    cfg.merge_from_list(" ".join(wanted).split())
    assert contradictions(cfg, checkpoint, version) == []
    back = contradictions(cfg, Checkpoint({}, {}), 3)
    assert (f"{OFFSET} 0.0" in back) == (f"{POOLER} ROIAlignV2" in back) == bool(wanted)


def test_masks_are_pooled_as_boxes_are(repo):
    cfg = load_config(str(repo / "configs/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml"))
    wanted = contradictions(cfg, Checkpoint({}, {}), 1)
    assert "MODEL.ROI_MASK_HEAD.POOLER_TYPE ROIAlign" in wanted


def copy_without_version(peer, folder, **meta):
    content = safe_torch_load(peer.source)
    content["meta"] = meta
    path = folder / "changed.pth"
    torch.save(content, path)
    return str(path)


@pytest.mark.parametrize("name", PEERS)
def test_a_file_of_1x_is_refused_until_the_keys_are_there(convert_peer, tmp_path, name):
    peer = convert_peer(name)
    path = copy_without_version(peer, tmp_path, mmdet_version="1.2.0")
    output = tmp_path / "out.pth"
    with pytest.raises(ConfigError, match=f"{OFFSET} 0.5") as e:
        convert_from(path, peer.config_file, str(output), peer.opts)
    assert (f"{POOLER} ROIAlign " in str(e.value)) == ("rcnn" in name)
    assert not output.exists()
    keys = [OFFSET, "0.5"] + [POOLER, "ROIAlign"] * ("rcnn" in name)
    lines = convert_from(path, peer.config_file, str(output), peer.opts + keys)
    assert any("x2 - x1 + 1, which is the same box" in line for line in lines)
    lines = convert_to_mmdet(
        str(output), peer.config_file, str(tmp_path / "back.pth"), peer.opts + keys
    )
    assert any("center_offset=0.5" in line for line in lines)


@pytest.mark.parametrize("name", PEERS)
def test_where_nothing_tells_the_version_it_is_asked_for(convert_peer, tmp_path, name):
    peer, output = convert_peer(name), str(tmp_path / "out.pth")
    path = copy_without_version(peer, tmp_path)
    if "rcnn" in name:  # the names tell
        convert_from(path, peer.config_file, output, peer.opts)
    else:
        with pytest.raises(ConfigError, match="say --mmdet-version 1, 2 or 3") as e:
            convert_from(path, peer.config_file, output, peer.opts)
        assert "\n" not in str(e.value)
        convert_from(path, peer.config_file, output, peer.opts, mmdet_version=2)
    expected, written = safe_torch_load(peer.output)["model"], safe_torch_load(output)["model"]
    assert all(torch.equal(written[key], expected[key]) for key in expected)
    with pytest.raises(ConfigError, match=f"{OFFSET} 0.5"):
        convert_from(path, peer.config_file, output, peer.opts, mmdet_version=1)


def test_heads_renamed_by_their_own_tool_have_the_background_last_already(repo):
    opts = ["MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", "True"]
    config_file = str(repo / "configs/COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml")
    cfg = shrink(load_config(config_file, opts))
    shapes = {k: s for k, s in tensor_shapes(cfg).items() if "box_predictor" in k}
    theirs = {
        f"roi_head.bbox_head.{part}.{kind}": torch.rand(
            shapes[f"roi_heads.box_predictor.{ours}.{kind}"]
        )
        for part, ours in (("fc_cls", "cls_score"), ("fc_reg", "bbox_pred"))
        for kind in ("weight", "bias")
    }
    converted = from_mmdet(cfg, shapes, Checkpoint(theirs, {"mmdet_version": "1.2.0"}))
    scores = converted.tensors["roi_heads.box_predictor.cls_score.bias"]
    assert torch.equal(scores, theirs["roi_head.bbox_head.fc_cls.bias"])
