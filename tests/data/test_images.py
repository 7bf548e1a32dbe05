"""Image files of every kind: read as Detectron2 does, read better, or named."""

import threading

import cv2
import numpy as np
import pytest
from detectron2.config import get_cfg
from detectron2.data import DatasetMapper, build_detection_train_loader, detection_utils
from detectron2.data import transforms as T
from detectron2.structures import Instances
from PIL import Image

from libra_umop.config import add_libra_umop_config
from libra_umop.data.coco.parsing import parse_coco
from libra_umop.data.datasets import dataset_dicts
from libra_umop.data.images import decode, for_each_file, read_header, read_image
from libra_umop.data.mapper import OwnDatasetMapper
from libra_umop.errors import DatasetError
from testing.coco_files import document, write_images

EXIF_ORIENTATION = 274


@pytest.fixture
def pixels():
    """A smooth (20, 30, 3) picture, so that lossy formats keep it."""
    y, x = np.mgrid[:20, :30]
    return np.stack([8 * x, 12 * y, 255 - 4 * x - 4 * y], axis=-1).astype(np.uint8)


def exif(orientation):
    data = Image.Exif()
    data[EXIF_ORIENTATION] = orientation
    return data


def a_cfg():
    cfg = get_cfg()
    add_libra_umop_config(cfg)
    cfg.INPUT.MIN_SIZE_TRAIN = (64,)
    cfg.INPUT.MIN_SIZE_TEST = 64
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.SOLVER.IMS_PER_BATCH = 1
    return cfg


@pytest.mark.parametrize(
    "name, mode",
    [
        ("a.png", "RGB"),
        ("a.png", "L"),
        ("a.png", "LA"),
        ("a.png", "RGBA"),
        ("a.png", "P"),
        ("a.png", "1"),
        ("a.jpg", "RGB"),
        ("a.jpg", "L"),
        ("a.jpg", "CMYK"),
        ("a.gif", "P"),
        ("a.bmp", "RGB"),
        ("a.tiff", "RGB"),
        ("a.webp", "RGB"),
    ],
)
@pytest.mark.parametrize("format", ["RGB", "BGR", "L", "YUV-BT.601"])
def test_8_bit_image_is_read_as_detectron2_reads_it(tmp_path, pixels, name, mode, format):
    path = str(tmp_path / name)
    Image.fromarray(pixels).convert(mode).save(path)
    ours, theirs = read_image(path, format), detection_utils.read_image(path, format)
    assert ours.dtype == theirs.dtype and np.array_equal(ours, theirs)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_undone_as_detectron2_does(tmp_path, pixels, orientation):
    path = str(tmp_path / "a.jpg")
    Image.fromarray(pixels).save(path, exif=exif(orientation))
    theirs = detection_utils.read_image(path, "BGR")
    assert np.array_equal(read_image(path, "BGR"), theirs)
    assert read_header(path).shown_size == theirs.shape[1::-1]


def test_rotated_image_stays_as_stored_if_only_that_fits_its_annotations(tmp_path, pixels):
    path = str(tmp_path / "a.png")
    Image.fromarray(pixels).save(path, exif=exif(6))
    assert np.array_equal(read_image(path, "RGB", size=(30, 20)), pixels)
    upright = np.rot90(pixels, k=-1)
    assert np.array_equal(read_image(path, "RGB", size=(20, 30)), upright)
    assert np.array_equal(read_image(path, "RGB"), upright)


def test_tiff_that_pillow_turns_itself_is_not_turned_again(tmp_path, pixels):
    path = str(tmp_path / "a.tiff")
    Image.fromarray(pixels).save(path, exif=exif(6))
    assert np.array_equal(read_image(path, "RGB"), np.rot90(pixels, k=-1))
    assert read_header(path).shown_size == (20, 30)


@pytest.mark.parametrize("name", ["a.png", "a.tiff"])
def test_16_bit_image_keeps_its_contrast(tmp_path, name):
    values = np.linspace(0, 65535, 600).reshape(20, 30).astype(np.uint16)
    path = str(tmp_path / name)
    Image.fromarray(values).save(path)
    image = read_image(path, "RGB")
    assert image.shape == (20, 30, 3) and image.dtype == np.uint8
    assert np.abs(image[..., 0] - values / 257).max() <= 0.5  # only rounding is lost
    assert decode(path).peak == 65535


def test_12_bit_image_becomes_as_bright_as_its_white_level_says(tmp_path):
    values = np.linspace(0, 4095, 600).reshape(20, 30).astype(np.uint16)
    path = str(tmp_path / "a.png")
    Image.fromarray(values).save(path)
    image = read_image(path, "RGB", white_16bit=4095)
    assert np.abs(image[..., 0] - values / 4095 * 255).max() <= 0.5
    assert decode(path).peak == 4095


def test_16_bit_colour_image_keeps_its_contrast(tmp_path):
    values = np.linspace(0, 65535, 1800).reshape(20, 30, 3).astype(np.uint16)
    path = str(tmp_path / "a.png")
    cv2.imwrite(path, values)
    assert np.abs(read_image(path, "BGR") - values / 257).max() <= 1


def spoil(path, how):
    """Break an image file."""
    raw = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "folder":
        path.unlink()
        path.mkdir()
    else:
        content = {"empty": b"", "text": b"no image", "truncated": raw[: len(raw) // 2]}
        path.write_bytes(content[how])


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.gif", "a.bmp", "a.webp"])
@pytest.mark.parametrize("how", ["missing", "folder", "empty", "text", "truncated"])
def test_broken_image_is_named(tmp_path, pixels, name, how):
    path = tmp_path / name
    Image.fromarray(np.tile(pixels, (20, 20, 1))).save(path)
    spoil(path, how)
    for read in (read_image, decode):
        with pytest.raises(DatasetError, match=f"^{path}: ") as e:
            read(str(path))
        assert "\n" not in str(e.value)
    if how != "truncated" or name.endswith(("jpg", "png")):
        with pytest.raises(DatasetError, match=f"^{path}: "):
            read_header(str(path))


def test_a_pointer_in_place_of_an_image_is_named(tmp_path):
    path = tmp_path / "1.jpg"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n")
    with pytest.raises(DatasetError, match=f"^{path}: is a pointer of Git LFS; `git lfs pull`"):
        read_header(str(path))


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_whole_image_with_something_behind_its_end_is_whole(tmp_path, pixels, name):
    path = tmp_path / name
    Image.fromarray(pixels).save(path)
    path.write_bytes(path.read_bytes() + b"a camera's own data")
    assert read_header(str(path)).size == (30, 20)


@pytest.mark.filterwarnings("ignore")  # Pillow's about the damage
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tiff", "a.webp", "a.gif"])
def test_image_with_random_damage_is_read_or_named(tmp_path, pixels, name):
    path = tmp_path / name
    Image.fromarray(pixels).save(path)
    sound, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(40):
        damaged = bytearray(sound)
        for place in rng.integers(0, len(sound), 4):
            damaged[place] = rng.integers(0, 256)
        path.write_bytes(damaged)
        for read in (read_header, read_image, decode):
            try:
                read(str(path))
            except DatasetError as e:
                assert str(e).startswith(f"{path}: ") and "\n" not in str(e)


@pytest.mark.parametrize("dtype, said", [(np.float32, "floating-point"), (np.int32, "32-bit")])
def test_image_of_more_than_16_bits_is_refused(tmp_path, dtype, said):
    path = str(tmp_path / "a.tiff")
    Image.fromarray((np.arange(600).reshape(20, 30) * 1000).astype(dtype)).save(path)
    for read in (read_header, read_image, decode):
        with pytest.raises(DatasetError, match=said):
            read(path)


@pytest.mark.filterwarnings("error")  # Pillow warns from its limit on, and refuses from twice that
@pytest.mark.parametrize("read", [read_header, read_image, decode])
@pytest.mark.parametrize("pillows_limit", [100, 500])
def test_own_limit_of_pixels_holds_and_not_pillows(
    tmp_path, pixels, monkeypatch, read, pillows_limit
):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillows_limit)
    path = str(tmp_path / "a.png")
    Image.fromarray(pixels).save(path)  # 600 pixels
    read(path, max_pixels=600)
    with pytest.raises(DatasetError, match="30 x 20 are more than INPUT.MAX_IMAGE_PIXELS 599"):
        read(path, max_pixels=599)
    assert pillows_limit == Image.MAX_IMAGE_PIXELS


def test_pillows_limit_is_back_after_many_threads_have_read(tmp_path, pixels):
    limit, path = Image.MAX_IMAGE_PIXELS, str(tmp_path / "a.png")
    Image.fromarray(pixels).save(path)
    assert all(header.size == (30, 20) for header in for_each_file(read_header, [path] * 400))
    assert limit == Image.MAX_IMAGE_PIXELS


def test_an_image_of_200_megapixels_is_read_and_a_smaller_limit_is_a_key(tmp_path):
    path = str(tmp_path / "a.png")
    Image.new("1", (20000, 10000)).save(path)
    assert read_header(path).size == (20000, 10000)
    cfg = a_cfg()
    cfg.INPUT.MAX_IMAGE_PIXELS = 10**8
    with pytest.raises(DatasetError, match="20000 x 10000 are more than INPUT.MAX_IMAGE_PIXELS"):
        OwnDatasetMapper(cfg, False)({"file_name": path, "width": 20000, "height": 10000})


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_data_is_ignored(tmp_path, pixels):
    path = str(tmp_path / "a.jpg")
    Image.fromarray(pixels).save(path, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert read_image(path, "RGB").shape == (20, 30, 3)


def records(tmp_path, content=None):
    content = content or document()
    write_images(tmp_path, content)
    data = parse_coco(content, "train.json", [str(tmp_path)])
    return dataset_dicts(data, {3: 0, 7: 1})


@pytest.mark.parametrize("is_train", [True, False])
def test_mapper_equals_detectron2s_on_ordinary_images(tmp_path, is_train):
    cfg = a_cfg()
    cfg.INPUT.RANDOM_FLIP = "none"
    record = records(tmp_path)[0]
    ours = OwnDatasetMapper(cfg, is_train)(record)
    theirs = DatasetMapper(cfg, is_train)(record)
    assert ours.keys() == theirs.keys() and ours["image"].equal(theirs["image"])
    if is_train:
        assert ours["instances"].gt_boxes.tensor.equal(theirs["instances"].gt_boxes.tensor)
        assert ours["instances"].gt_classes.equal(theirs["instances"].gt_classes)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_loader_names_the_broken_image_in_one_line_also_from_a_worker(tmp_path, num_workers):
    dicts = records(tmp_path)
    for record in dicts:
        spoil(tmp_path / f"{record['image_id']}.png", "truncated")
    cfg = a_cfg()
    cfg.DATALOADER.NUM_WORKERS = num_workers
    mapper = OwnDatasetMapper(cfg, True)
    loader = build_detection_train_loader(cfg, dataset=dicts, mapper=mapper)
    with pytest.raises(DatasetError, match=rf"^{tmp_path}/\d\.png: cannot be read") as e:
        next(iter(loader))
    assert "\n" not in str(e.value)


def test_mapper_names_an_image_of_another_size_than_annotated(tmp_path):
    record = {**records(tmp_path)[0], "width": 200}
    with pytest.raises(DatasetError, match="1.png: is 96 x 64 pixels, but 200 x 64 in the annot"):
        OwnDatasetMapper(a_cfg(), True)(record)


@pytest.mark.parametrize("masks", [False, True])
def test_images_without_objects_are_kept_and_cropped(tmp_path, masks):
    content = document()
    content["annotations"] = []
    cfg = a_cfg()
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    cfg.INPUT.CROP.ENABLED = True
    cfg.MODEL.MASK_ON = masks
    dicts = records(tmp_path, content)
    loader = build_detection_train_loader(cfg, dataset=dicts, mapper=OwnDatasetMapper(cfg, True))
    (item,) = next(iter(loader))
    assert len(item["instances"]) == 0 and item["instances"].gt_boxes.tensor.shape == (0, 4)
    assert item["instances"].gt_classes.shape == (0,)


def test_mapper_leaves_crowds_out_of_training_but_their_image_in(tmp_path):
    content = document()
    for annotation in content["annotations"][:2]:
        annotation["iscrowd"] = 1
    item = OwnDatasetMapper(a_cfg(), True)(records(tmp_path, content)[0])
    assert len(item["instances"]) == 0


@pytest.mark.parametrize("objects", [True, False])
def test_mapper_keeps_crowd_regions_through_the_augmentations(tmp_path, objects):
    content = document()
    content["annotations"] = [
        {"id": 1, "image_id": 1, "category_id": 3, "bbox": [10, 20, 30, 40], "iscrowd": 1},
        {"id": 2, "image_id": 1, "category_id": 3, "bbox": [90, 2, 6, 4], "ignore": 1},
        {"id": 3, "image_id": 1, "category_id": 3, "bbox": [50, 30, 8, 8]},
    ][: 3 if objects else 2]
    cfg = a_cfg()
    cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN = (128,), 500  # twice 96 x 64
    cfg.INPUT.RANDOM_FLIP = "horizontal"
    cfg.INPUT.IGNORE_REGIONS = True
    record = records(tmp_path, content)[0]
    mapper = OwnDatasetMapper(cfg, True)
    mapper.augmentations.augs[-1].prob = 1.0
    instances = mapper(record)["instances"]
    regions = [[112.0, 40.0, 172.0, 120.0], [0.0, 4.0, 12.0, 12.0]]
    assert instances.ignore_boxes.tensor.tolist() == regions
    boxes = [[76.0, 60.0, 92.0, 76.0]] if objects else []
    assert instances.gt_boxes.tensor.tolist() == boxes

    upper_half = [T.CropTransform(0, 0, 96, 32)]
    mapper = OwnDatasetMapper(
        True, augmentations=upper_half, image_format="BGR", ignore_regions=True
    )
    regions = [[10.0, 20.0, 40.0, 32.0], [90.0, 2.0, 96.0, 6.0]]
    assert mapper(record)["instances"].ignore_boxes.tensor.tolist() == regions


def test_mapper_gives_no_regions_unless_asked(tmp_path):
    instances = OwnDatasetMapper(a_cfg(), True)(records(tmp_path)[0])["instances"]
    assert type(instances) is Instances


def test_mapper_reads_16_bit_images_by_the_configs_white_level(tmp_path):
    record = records(tmp_path)[0]
    Image.fromarray(np.full((64, 96), 4095, np.uint16)).save(record["file_name"])
    cfg = a_cfg()
    assert OwnDatasetMapper(cfg, False)(record)["image"].max() == round(4095 / 257)
    cfg.INPUT.WHITE_16BIT = 4095
    assert OwnDatasetMapper(cfg, False)(record)["image"].min() == 255


@pytest.mark.parametrize("white", [0, -1, 65536])
def test_white_level_out_of_range_is_refused_with_its_key(white):
    with pytest.raises(ValueError, match=f"INPUT.WHITE_16BIT is {white}, should be within"):
        OwnDatasetMapper(True, white_16bit=white, augmentations=[], image_format="BGR")


def test_mapper_transforms_proposals_like_detectron2s(tmp_path):
    record = {
        **records(tmp_path)[0],
        "proposal_boxes": np.array([[4.0, 4, 50, 40], [10, 10, 30, 30]]),
        "proposal_objectness_logits": np.array([2.0, 1.0]),
        "proposal_bbox_mode": 0,
    }
    arguments = dict(
        augmentations=[T.Resize((32, 48))], image_format="BGR", precomputed_proposal_topk=1
    )
    ours = OwnDatasetMapper(False, **arguments)(record)["proposals"]
    theirs = DatasetMapper(False, **arguments)(record)["proposals"]
    assert ours.proposal_boxes.tensor.equal(theirs.proposal_boxes.tensor) and len(ours) == 1


def test_no_thread_is_left_when_all_files_are_done():
    """One that is still ending when runs are forked would be lost in them."""
    before = set(threading.enumerate())
    for _ in range(20):
        assert list(for_each_file(len, ["name"] * 50)) == [4] * 50
        assert set(threading.enumerate()) <= before
