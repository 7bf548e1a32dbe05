"""Mosaics: boxes, masks and regions to the pixel, seeded by sample alone, drawn as the sampler."""

import copy

import cv2
import numpy as np
import pytest
import torch
from detectron2.data.samplers import TrainingSampler
from detectron2.structures import BitMasks, Boxes, BoxMode, Instances, PolygonMasks
from detectron2.utils.events import EventStorage

from libra_umop.config.checks import check_config
from libra_umop.config.loading import get_config
from libra_umop.data.augmentation.mosaic import Mosaic, cut_out, join
from libra_umop.data.mapper import OwnDatasetMapper
from libra_umop.errors import ConfigError, DatasetError
from libra_umop.modeling.ignore_regions import InstancesWithRegions
from libra_umop.training import loader as loader_module
from libra_umop.training.loader import ResumableTrainLoader, build_train_loader
from libra_umop.utils.rng import sample_rng
from testing.tiny_rcnn import tiny_config, tiny_model

FILL = (7.0, 7.0, 7.0)


def config(*opts):
    cfg = get_config("quick/faster_rcnn_R_18_FPN_shapes.yaml")
    sizes = ["INPUT.MIN_SIZE_TRAIN", [96], "INPUT.MAX_SIZE_TRAIN", 160, "INPUT.FORMAT", "BGR"]
    cfg.merge_from_list([*sizes, "INPUT.RANDOM_FLIP", "none", "INPUT.MOSAIC.PROB", 1.0, *opts])
    return cfg


def scene(k, size):
    """An image of the grey k and three objects of colours that no other scene has.

    Returns (H, W, 3) uint8 and, for each object, XYXY and its colour.
    """
    height, width = size
    image = np.full((height, width, 3), 10 * k, dtype=np.uint8)
    boxes = [(2, 3, width // 3, height // 2), (width // 2, height // 3, width - 4, height // 2)]
    boxes.append((width // 4, 2 * height // 3, width // 4 + 12, 2 * height // 3 + 9))
    objects = []
    for i, (x0, y0, x1, y1) in enumerate(boxes):
        colour = (60 + 60 * i, 100 + k, 200)
        image[y0:y1, x0:x1] = colour
        objects.append(((x0, y0, x1, y1), colour))
    return image, objects


def sample_of(image, objects, masks=None, regions=None):
    instances = Instances(image.shape[:2])
    boxes = torch.tensor([box for box, _ in objects], dtype=torch.float32)
    instances.gt_boxes = Boxes(boxes.reshape(-1, 4))
    instances.gt_classes = torch.arange(len(objects))
    corners = [[x0, y0, x1, y0, x1, y1, x0, y1] for (x0, y0, x1, y1), _ in objects]
    if masks == "polygon":
        instances.gt_masks = PolygonMasks([[np.array(c, dtype=float)] for c in corners])
    if masks == "bitmask":
        drawn = [np.all(image == colour, axis=2) for _, colour in objects]
        instances.gt_masks = BitMasks(np.stack(drawn))
    if regions is not None:
        instances = InstancesWithRegions(
            instances.image_size, ignore_boxes=Boxes(regions), **instances.get_fields()
        )
    return {"image": torch.as_tensor(image.transpose(2, 0, 1).copy()), "instances": instances}


def seen_boxes(canvas, scenes):
    """By colour: what a mosaic shows of each object, XYXY."""
    found = {}
    pixels = canvas.permute(1, 2, 0).numpy()
    for _, objects in scenes:
        for box, colour in objects:
            ys, xs = np.nonzero(np.all(pixels == colour, axis=2))
            if len(xs):
                seen = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
                found[tuple(map(int, seen))] = (box, colour)
    return found


SIZES = {
    "equal": [(90, 120)] * 4,
    "larger": [(90, 120), (200, 150), (140, 260), (91, 121)],
    "smaller": [(90, 120), (24, 30), (40, 20), (33, 140)],
}


@pytest.mark.parametrize("masks", [None, "polygon", "bitmask"])
@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("seed", range(8))
def test_boxes_and_masks_are_where_the_objects_are(sizes, seed, masks):
    scenes = [scene(k + 1, size) for k, size in enumerate(SIZES[sizes])]
    np.random.seed(seed)
    middle = (int(np.random.randint(24, 96)), int(np.random.randint(18, 72)))
    canvas, instances = join([sample_of(*s, masks) for s in scenes], middle, FILL)
    assert canvas.shape == (3, 90, 120) and instances.image_size == (90, 120)
    seen = seen_boxes(canvas, scenes)
    wanted = set()
    for (x0, y0, x1, y1), (whole, _) in seen.items():
        area, of = (x1 - x0) * (y1 - y0), (whole[2] - whole[0]) * (whole[3] - whole[1])
        if area == of or (min(x1 - x0, y1 - y0) >= 2 and area >= of / 10):
            wanted.add((x0, y0, x1, y1))
    got = [tuple(map(int, box)) for box in instances.gt_boxes.tensor.tolist()]
    assert set(got) == wanted and len(got) == len(wanted) == len(instances.gt_classes)
    if masks:
        bits = instances.gt_masks
        if masks == "polygon":
            bits = BitMasks.from_polygon_masks(bits, 90, 120)
        for (x0, y0, x1, y1), mask in zip(got, bits.tensor.numpy(), strict=True):
            full = np.zeros((90, 120), dtype=bool)
            full[y0:y1, x0:x1] = True
            assert np.array_equal(mask.astype(bool), full)


def test_the_fill_is_where_no_image_reaches_and_images_meet_in_the_middle():
    scenes = [scene(k + 1, (20, 20)) for k in range(4)]
    big = np.full((90, 120, 3), 5, dtype=np.uint8)
    np.random.seed(0)
    samples = [sample_of(big, []), *(sample_of(*s) for s in scenes[1:])]
    canvas, instances = join(samples, (50, 40), FILL)
    assert (canvas[:, :40, :50] == 5).all()
    assert torch.equal(canvas[:, 20:40, 50:70], samples[1]["image"])
    assert torch.equal(canvas[:, 40:60, 30:50], samples[2]["image"])
    assert torch.equal(canvas[:, 40:60, 50:70], samples[3]["image"])
    assert (canvas[:, 60:] == 7).all() and (canvas[:, :, 70:] == 7).all()
    assert len(instances) == 9


@pytest.mark.parametrize(
    "box, kept",
    [
        ((0, 0, 20, 20), (0, 0, 20, 20)),
        ((40, 10, 60, 30), (40, 10, 50, 30)),  # half of it
        ((48, 0, 67, 20), (48, 0, 50, 20)),  # 2 of 19: over a tenth
        ((48, 0, 69, 20), None),  # 2 of 21: less than a tenth
        ((49, 0, 58, 20), None),  # over a tenth, but 1 pixel
        ((48.5, 0, 49.4, 1), (48.5, 0, 49.4, 1)),  # as small, but not cut
        ((60, 0, 70, 20), None),
        ((50, 0, 70, 20), None),  # it only touches
    ],
)
def test_what_a_border_leaves_of_a_box_by_hand(box, kept):
    objects = Instances((100, 100), gt_boxes=Boxes(torch.tensor([box])))
    objects.gt_classes = torch.tensor([3])
    left = cut_out(objects, (0, 0, 50, 50), (0, 0), (200, 200))
    wanted = [list(map(float, kept))] if kept else []
    assert torch.allclose(left.gt_boxes.tensor, torch.tensor(wanted).reshape(-1, 4))


def test_a_cut_mask_has_the_box_of_what_is_left_of_it():
    triangle = np.array([0.0, 0, 40, 0, 0, 40])
    objects = Instances((50, 50), gt_boxes=Boxes(torch.tensor([[0.0, 0, 40, 40]])))
    objects.gt_classes = torch.tensor([0])
    objects.gt_masks = PolygonMasks([[triangle]])
    left = cut_out(objects, (10, 0, 50, 50), (100, 60), (200, 200))
    # Right of x = 10 the triangle is 30 high; a box alone would still be 40 high.
    assert left.gt_boxes.tensor.tolist() == [[100.0, 60.0, 130.0, 90.0]]
    assert left.gt_masks.area().item() == 30 * 30 / 2


def test_regions_to_ignore_are_cut_and_moved_along():
    scenes = [scene(k + 1, (90, 120)) for k in range(4)]
    region = torch.tensor([[0.0, 0.0, 120.0, 90.0]])
    samples = [sample_of(*s, regions=region) for s in scenes]
    samples[1]["instances"] = samples[1]["instances"][torch.zeros(3, dtype=torch.bool)]
    _, instances = join(samples, (50, 40), FILL)
    assert isinstance(instances, InstancesWithRegions)
    wanted = [[0, 0, 50, 40], [50, 0, 120, 40], [0, 40, 50, 90], [50, 40, 120, 90]]
    assert instances.ignore_boxes.tensor.tolist() == wanted


def test_images_without_objects_have_no_masks_and_do_no_harm():
    scenes = [scene(k + 1, (90, 120)) for k in range(4)]
    empty = np.zeros((90, 120, 3), dtype=np.uint8)
    for place in range(4):
        samples = [sample_of(*s, "polygon") for s in scenes]
        samples[place] = sample_of(empty, [])
        _, instances = join(samples, (60, 45), FILL)
        assert len(instances) and len(instances.gt_masks) == len(instances)
    _, nothing = join([sample_of(empty, [])] * 4, (60, 45), FILL)
    assert len(nothing) == 0 and nothing.gt_boxes.tensor.shape == (0, 4)


@pytest.fixture
def records(tmp_path):
    found = []
    for k in range(6):
        image, objects = scene(k + 1, [(90, 120), (120, 90)][k % 2])
        path = tmp_path / f"{k}.png"
        cv2.imwrite(str(path), image)
        annotations = [
            {"bbox": list(box), "bbox_mode": BoxMode.XYXY_ABS, "category_id": i, "iscrowd": i == 2}
            for i, (box, _) in enumerate(objects)
        ]
        size = {"width": image.shape[1], "height": image.shape[0], "image_id": k}
        found.append({"file_name": str(path), **size, "annotations": annotations})
    return found


def mosaic(cfg, records, **kwargs):
    return Mosaic.from_config(cfg, OwnDatasetMapper(cfg, is_train=True), records, **kwargs)


CROP = ["INPUT.CROP.ENABLED", True, "INPUT.CROP.TYPE", "absolute", "INPUT.CROP.SIZE", [60, 60]]
KEYS = {
    "alone": [],
    "regions": ["INPUT.IGNORE_REGIONS", True],
    "crop": [*CROP, "INPUT.CROP.OBJECT_PROB", 0.5],
    "scales": ["INPUT.SCALE_JITTER", [0.3, 2.0]],
    "colour": ["INPUT.COLOR_JITTER", 0.4],
    "flip": ["INPUT.RANDOM_FLIP", "horizontal"],
}


@pytest.mark.parametrize("name", KEYS)
def test_with_every_other_key_a_sample_is_the_seeds_and_has_the_size_of_the_first(name, records):
    cfg = config(*KEYS[name])
    alone = OwnDatasetMapper(cfg, is_train=True)
    joined = mosaic(cfg, records)
    shown = []
    for seed in (1, 1, 2):
        with sample_rng(seed):
            first = alone(records[0])
        with sample_rng(seed):
            out = joined(records[0])
        assert out["image"].shape == first["image"].shape and out["image"].dtype == torch.uint8
        assert out["file_name"].count(" + ") == 3 and out["image_id"] == 0
        height, width = out["image"].shape[1:]
        boxes = out["instances"].gt_boxes.tensor
        assert (boxes >= 0).all() and (boxes[:, 2:] <= torch.tensor([width, height])).all()
        shown.append(out["image"])
    assert shown[0].equal(shown[1])
    assert shown[0].shape != shown[2].shape or not shown[0].equal(shown[2])


def test_at_probability_0_a_sample_is_the_mappers(records):
    cfg = config("INPUT.MOSAIC.PROB", 0.0, *KEYS["flip"])
    with sample_rng(4):
        wanted = OwnDatasetMapper(cfg, is_train=True)(records[0])
    with sample_rng(4):
        got = mosaic(cfg, records)(records[0])
    assert got["image"].equal(wanted["image"]) and got["file_name"] == wanted["file_name"]


def test_records_are_left_as_they_are(records):
    before = copy.deepcopy(records)
    mosaic(config(), records)(records[0])
    assert records == before


def test_a_broken_image_is_named_as_everywhere(records):
    with open(records[3]["file_name"], "wb") as f:
        f.write(b"no image")
    drawn = mosaic(config(), records[3:4])
    with pytest.raises(DatasetError, match=r"3\.png"):
        drawn(records[0])


def test_images_are_drawn_as_often_as_their_weights_say(records):
    weights = [1.0, 2.0, 3.5, 1.0, 0.5, 4.0]
    drawn = mosaic(config(), records, weights=weights)
    np.random.seed(0)
    ids = [drawn._draw()["image_id"] for _ in range(6000)]
    counts, wanted = np.bincount(ids, minlength=6), 6000 * np.array(weights) / sum(weights)
    assert ((counts - wanted) ** 2 / wanted).sum() < 20.5  # 99.9 % at 5 degrees of freedom


def stream(records, cfg, *, workers=0, until=10**6, seed=5):
    return ResumableTrainLoader(
        records,
        OwnDatasetMapper(cfg, is_train=True),
        lambda: TrainingSampler(len(records), seed=1),
        batch_size=2,
        num_workers=workers,
        mosaic=mosaic(cfg, records),
        mosaic_until=until,
        seed=seed,
    )


def taken(loader, number):
    batches = iter(loader)
    return [[d["image"] for d in next(batches)] for _ in range(number)]


def equal(a, b):
    return all(
        x.shape == y.shape and x.equal(y)
        for xs, ys in zip(a, b, strict=True)
        for x, y in zip(xs, ys, strict=True)
    )


def test_a_resumed_stream_and_any_number_of_workers_give_the_same_mosaics(records):
    cfg = config(*KEYS["scales"], *KEYS["colour"])
    whole = taken(stream(records, cfg), 8)
    assert equal(whole, taken(stream(records, cfg, workers=2), 8))
    resumed = stream(records, cfg)
    resumed.load_state_dict({**resumed.state_dict(), "batches_given": 3})
    assert equal(whole[3:], taken(resumed, 5))
    assert not equal(whole, taken(stream(records, cfg, seed=6), 8))


def test_mosaics_end_where_the_key_says_also_after_a_resumption(records):
    cfg = config()

    def names(loader, number):
        batches = iter(loader)
        return [all(" + " in d["file_name"] for d in next(batches)) for _ in range(number)]

    assert names(stream(records, cfg, until=3), 6) == [True] * 3 + [False] * 3
    resumed = stream(records, cfg, until=3)
    resumed.load_state_dict({**resumed.state_dict(), "batches_given": 2})
    assert names(resumed, 3) == [True, False, False]
    another = stream(
        records, cfg, until=3
    )  # another batch: the stream starts anew, the run goes on
    another.load_state_dict({**another.state_dict(), "batches_given": 2, "batch_size": 4})
    assert names(another, 3) == [True, False, False]
    again = stream(records, cfg, until=3)
    again.load_state_dict({**another.state_dict(), "batch_size": 8})
    assert names(again, 2) == [False, False]


@pytest.mark.parametrize("sampler", ["TrainingSampler", "RepeatFactorTrainingSampler"])
def test_the_others_are_drawn_as_the_sampler_draws(records, monkeypatch, sampler):
    """Repeat factors by hand: class 2 is in two of six images, t = 1, so sqrt(1 / (2 / 6))."""
    for record in records:
        for annotation in record["annotations"]:
            annotation["iscrowd"] = 0
        if record["image_id"] > 1:
            del record["annotations"][2]
    monkeypatch.setattr(
        "detectron2.data.build.get_detection_dataset_dicts", lambda *args, **kwargs: records
    )
    given = {}
    monkeypatch.setattr(
        loader_module.Mosaic, "from_config", lambda *args, **kwargs: given.update(kwargs)
    )
    keys = ["DATALOADER.SAMPLER_TRAIN", sampler, "DATALOADER.REPEAT_THRESHOLD", 1.0]
    cfg = config(*keys, "DATALOADER.NUM_WORKERS", 0, "SOLVER.IMS_PER_BATCH", 2, "SEED", 3)
    build_train_loader(cfg, OwnDatasetMapper(cfg, is_train=True))
    if sampler == "TrainingSampler":
        assert given["weights"] is None
    else:
        assert given["weights"] == pytest.approx([3**0.5] * 2 + [1.0] * 4)


@pytest.mark.parametrize(
    "opts, said",
    [
        (["INPUT.MOSAIC.PROB", 1.5], "INPUT.MOSAIC.PROB is 1.5, should be in"),
        (["INPUT.MOSAIC.UNTIL", -1.0], "INPUT.MOSAIC.UNTIL is -1.0, should be in"),
        (["MODEL.KEYPOINT_ON", True], "should be 0 where MODEL.KEYPOINT_ON is True"),
        (["INPUT.CROP.OBJECT_PROB", 0.5], "should be 0 where INPUT.CROP.ENABLED is False"),
        (["INPUT.CROP.OBJECT_PROB", 2.0], "INPUT.CROP.OBJECT_PROB is 2.0, should be in"),
    ],
)
def test_what_cannot_be_is_refused(opts, said):
    with pytest.raises(ConfigError, match=said):
        check_config(config(*opts), "x.yaml")


def test_off_by_default():
    assert get_config("quick/faster_rcnn_R_18_FPN_shapes.yaml").INPUT.MOSAIC.PROB == 0


@pytest.mark.parametrize("masks", ["polygon", "bitmask"])
def test_masks_of_mosaics_train_a_mask_head(masks, records):
    for record in records[1:]:  # the first one has no objects
        for annotation in record["annotations"]:
            x0, y0, x1, y1 = annotation["bbox"]
            annotation["segmentation"] = [[x0, y0, x1, y0, x1, y1, x0, y1]]
    records[0]["annotations"] = []
    keys = ["MODEL.MASK_ON", True, "INPUT.MASK_FORMAT", masks, "INPUT.MOSAIC.PROB", 1.0]
    keys += [
        "MODEL.ROI_MASK_HEAD.NAME",
        "MaskRCNNConvUpsampleHead",
        "MODEL.ROI_MASK_HEAD.NUM_CONV",
        1,
    ]
    cfg = tiny_config(options=[*keys, *CROP])
    np.random.seed(0)
    batch = [mosaic(cfg, records)(record) for record in records[:3]]
    assert all(s["instances"].has("gt_masks") for s in batch)
    with EventStorage():
        losses = tiny_model(cfg)(batch)
    assert losses["loss_mask"] > 0 and all(torch.isfinite(v) for v in losses.values())
