"""--dataset and its relatives, as train_net.py uses them."""

import json
import re
from pathlib import Path

import numpy as np
import pycocotools.mask as mask_util
import pytest
from detectron2.data import (
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
)
from detectron2.engine import default_argument_parser
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import BitMasks
from PIL import Image

from libra_umop.config.loading import load_layers
from libra_umop.data.arguments import configure_dataset
from libra_umop.data.check.checking import UNUSABLE, ImageLimits, check_dataset
from libra_umop.data.dataset_args import DataSource, RunOptions, add_dataset_args
from libra_umop.data.layouts.table import find_splits
from libra_umop.data.mapper import OwnDatasetMapper
from libra_umop.errors import ConfigError, DatasetError
from testing.coco_files import document, write_dataset, write_images, write_json

BASE = "MODEL: {META_ARCHITECTURE: GeneralizedRCNN}\nVERSION: 2\n"


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)


def configured(tmp_path, *argv, config=None):
    """The config after ``configure_dataset``, and its lines."""
    parser = default_argument_parser()
    add_dataset_args(parser)
    if config is not None:
        argv = ("--config-file", write_json(tmp_path / "config.yaml", config), *argv)
    args = parser.parse_args([*argv, "OUTPUT_DIR", str(tmp_path / "output")])
    layers = load_layers(args.config_file, args.opts)
    options = RunOptions.by(args)
    return layers.cfg, configure_dataset(layers, DataSource.by(args), options, args.num_gpus)


def num_classes(cfg):
    """Every NUM_CLASSES of a detector."""
    groups = ("ROI_HEADS", "RETINANET", "ATSS", "FCOS")
    return {cfg.MODEL[group].NUM_CLASSES for group in groups if group in cfg.MODEL}


def test_one_argument_sets_datasets_classes_and_metadata(tmp_path):
    cfg, lines = configured(tmp_path, "--dataset", write_dataset(tmp_path / "pets"))
    assert cfg.DATASETS.TRAIN == ("pets_train",) and cfg.DATASETS.TEST == ("pets_val",)
    assert num_classes(cfg) == {2} and cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES == 54
    assert MetadataCatalog.get("pets_train").thing_classes == ["cat", "dog"]
    text = "\n".join(lines)
    assert "train.json: 3 images (0 without objects), 6 boxes, 0 crowd regions" in text
    assert "2 classes: cat, dog" in text and "MODEL.RETINANET.NUM_CLASSES" in text
    assert "batch 16 = 1 x 16, learning rate 0.001, 40000 iterations, warm-up 1000" in text


def test_files_named_one_by_one_are_the_same(tmp_path):
    root = Path(write_dataset(tmp_path / "pets"))
    argv = []
    for split in ("train", "val"):
        argv += [f"--{split}-json", str(root / "annotations" / f"{split}.json")]
        argv += [f"--{split}-images", str(root / "images" / split)]
    cfg, _ = configured(tmp_path, *argv)
    assert cfg.DATASETS.TRAIN == ("own_train",) and cfg.DATASETS.TEST == ("own_val",)
    assert num_classes(cfg) == {2}


def test_without_a_dataset_only_the_solver_is_looked_at(tmp_path):
    cfg, lines = configured(tmp_path, "DATASETS.TRAIN", "('coco_2017_train',)")
    assert cfg.DATASETS.TRAIN == ("coco_2017_train",) and num_classes(cfg) == {80}
    assert len(lines) == 1


def test_datasets_of_the_command_line_stay(tmp_path):
    root = write_dataset(tmp_path / "pets", test=document())
    cfg, _ = configured(tmp_path, "--dataset", root, "DATASETS.TEST", "('pets_test',)")
    assert cfg.DATASETS.TEST == ("pets_test",) and cfg.DATASETS.TRAIN == ("pets_train",)


def test_the_test_split_is_evaluated_if_there_is_no_validation_split(tmp_path):
    root = Path(write_dataset(tmp_path / "pets", test=document()))
    (root / "annotations" / "val.json").unlink()
    assert configured(tmp_path, "--dataset", str(root))[0].DATASETS.TEST == ("pets_test",)
    (root / "annotations" / "test.json").unlink()
    assert configured(tmp_path, "--dataset", str(root))[0].DATASETS.TEST == ()


def test_number_of_classes_on_the_command_line_may_not_contradict(tmp_path):
    root = write_dataset(tmp_path / "pets")
    with pytest.raises(
        ConfigError, match="MODEL.ROI_HEADS.NUM_CLASSES is 5 in the command line, but .* 2 classes"
    ):
        configured(tmp_path, "--dataset", root, "MODEL.ROI_HEADS.NUM_CLASSES", "5")
    cfg, _ = configured(tmp_path, "--dataset", root, "MODEL.ROI_HEADS.NUM_CLASSES", "2")
    assert num_classes(cfg) == {2}


def test_number_of_classes_in_the_config_file_may_not_contradict_but_gives_way_in_a_base(tmp_path):
    root = write_dataset(tmp_path / "pets")
    own = BASE + "_BASE_: base.yaml\n"
    write_json(tmp_path / "base.yaml", BASE.replace("NN}", "NN, RETINANET: {NUM_CLASSES: 7}}"))
    cfg, _ = configured(tmp_path, "--dataset", root, config=own)
    assert cfg.MODEL.RETINANET.NUM_CLASSES == 2
    own = own.replace("NN}", "NN, RETINANET: {NUM_CLASSES: 7}}")
    with pytest.raises(
        ConfigError, match="MODEL.RETINANET.NUM_CLASSES is 7 in .*config.yaml, but .* has 2 classes"
    ):
        configured(tmp_path, "--dataset", root, config=own)


def test_epochs_count_the_images_that_are_trained_on(tmp_path):
    content = document(6)
    content["annotations"] = content["annotations"][:8]  # two images without objects
    root = write_dataset(tmp_path / "pets", content)
    argv = ("--dataset", root, "--epochs", "3", "SOLVER.IMS_PER_BATCH", "2")
    cfg, lines = configured(tmp_path, *argv)
    assert cfg.SOLVER.MAX_ITER == 6 and "--epochs 3 of 4 images: 6 iterations" in lines
    cfg, lines = configured(tmp_path, *argv, "DATALOADER.FILTER_EMPTY_ANNOTATIONS", "False")
    assert cfg.SOLVER.MAX_ITER == 9 and "--epochs 3 of 6 images: 9 iterations" in lines


def test_solver_scales_with_the_processes_of_the_arguments(tmp_path):
    config = BASE + "SOLVER: {IMS_PER_BATCH: 16, BASE_LR: 0.02, REFERENCE_WORLD_SIZE: 8}\n"
    cfg, lines = configured(tmp_path, "--num-gpus", "4", config=config)
    assert cfg.SOLVER.IMS_PER_BATCH == 8 and cfg.SOLVER.BASE_LR == 0.01
    assert cfg.SOLVER.MAX_ITER == 80000 and cfg.SOLVER.REFERENCE_WORLD_SIZE == 4
    assert "learning rate x 0.5 and iterations x 2, as the batch is 8 instead of 16" in lines[0]
    assert lines[1].startswith("batch 8 = 4 x 2, learning rate 0.01, 80000 iterations")


@pytest.mark.parametrize(
    "what, said",
    [
        ("missing", "image id 1, 1.png: there is no such image file"),
        ("text", "image id 1, 1.png: is no image"),
        ("size", "image id 1, 1.png: is 96 x 64 pixels, but 50 x 64 in the annotations"),
    ],
)
def test_broken_images_are_found_before_anything_is_built(tmp_path, what, said):
    content = document()
    if what == "size":
        content["images"][0]["width"] = 50
        content["annotations"] = content["annotations"][2:]
    root = write_dataset(tmp_path / "pets", content)
    write_images(Path(root) / "images" / "train", document())
    image = Path(root) / "images" / "train" / "1.png"
    if what == "missing":
        image.unlink()
    elif what == "text":
        image.write_text("no image")
    with pytest.raises(DatasetError, match=said):
        configured(tmp_path, "--dataset", root)


@pytest.mark.parametrize(
    "what, said",
    [
        ("too long", "is 20000 x 8 pixels; less than one of the shorter side is left when .* 1333"),
        ("floats", "cannot be read as an image: holds floating-point pixels"),
        ("too many pixels", "96 x 64 are more than INPUT.MAX_IMAGE_PIXELS 6143"),
    ],
)
@pytest.mark.parametrize("quick", [True, False])
def test_pictures_that_cannot_be_trained_on_are_found_first_and_by_the_check(
    tmp_path, what, said, quick
):
    content = document()
    if what == "too long":
        content["images"][0].update(width=20000, height=8)
        content["annotations"][0]["bbox"] = [100, 0, 400, 8]
        content["annotations"][1]["bbox"] = [900, 0, 400, 8]
    root = write_dataset(tmp_path / "pets", content)
    if what == "floats":
        content["images"][0]["file_name"] = "1.tiff"
        write_json(Path(root) / "annotations" / "train.json", content)
        path = Path(root) / "images" / "train" / "1.tiff"
        Image.fromarray(np.zeros((64, 96), np.float32)).save(path)
    opts = ("INPUT.MAX_IMAGE_PIXELS", "6143") if what == "too many pixels" else ()
    with pytest.raises(DatasetError, match=f"train.json: image id 1, 1.*{said}"):
        configured(tmp_path, "--dataset", root, *opts)
    limits = ImageLimits(max_pixels=6143) if opts else ImageLimits()
    checked = check_dataset(find_splits(root), decode_images=not quick, limits=limits)
    assert checked.exit_code == UNUSABLE
    assert re.search(said, str(checked.defects["train"][0]))


def test_the_longest_image_that_can_be_trained_on_is_that_of_the_config(tmp_path):
    content = document()
    content["images"][0].update(width=800, height=8)
    content["annotations"] = content["annotations"][2:]
    root = write_dataset(tmp_path / "pets", content)
    configured(tmp_path, "--dataset", root)
    with pytest.raises(DatasetError, match="when the longer one is resized to 99"):
        configured(tmp_path, "--dataset", root, "INPUT.MAX_SIZE_TRAIN", "99")


def rle_masks(content, counts=None):
    """The document with RLE masks."""
    for a in content["annotations"]:
        mask = np.zeros((64, 96), np.uint8, order="F")
        x, y, w, h = map(int, a["bbox"])
        mask[y : y + h, x : x + w] = 1
        text = mask_util.encode(mask)["counts"].decode()
        a["segmentation"] = {"size": [64, 96], "counts": counts or text}
    return content


def test_the_format_of_masks_follows_from_the_data(tmp_path):
    root = write_dataset(tmp_path / "pets", rle_masks(document()), rle_masks(document()))
    argv = ("--dataset", root, "MODEL.MASK_ON", "True")
    cfg, lines = configured(tmp_path, *argv, "DATALOADER.NUM_WORKERS", "0")
    assert cfg.INPUT.MASK_FORMAT == "bitmask"
    assert any("INPUT.MASK_FORMAT = bitmask, as" in line for line in lines)
    loader = build_detection_train_loader(cfg, mapper=OwnDatasetMapper(cfg, True))
    (item, *_) = next(iter(loader))
    assert isinstance(item["instances"].gt_masks, BitMasks)
    with pytest.raises(ConfigError, match="INPUT.MASK_FORMAT is polygon in the command line, but"):
        configured(tmp_path, *argv, "INPUT.MASK_FORMAT", "polygon")
    with pytest.raises(ConfigError, match="INPUT.MASK_FORMAT is polygon in .*config.yaml, but"):
        config = BASE + "INPUT: {MASK_FORMAT: polygon}\n"
        configured(tmp_path, *argv, config=config)
    assert configured(tmp_path, "--dataset", root)[0].INPUT.MASK_FORMAT == "polygon"


def test_images_of_the_set_that_is_evaluated_are_looked_at(tmp_path):
    root = write_dataset(tmp_path / "pets", test=document())
    (Path(root) / "images" / "test" / "2.png").unlink()
    configured(tmp_path, "--dataset", root)
    with pytest.raises(DatasetError, match="test.json: image id 2, 2.png: there is no such image"):
        configured(tmp_path, "--dataset", root, "DATASETS.TEST", "('pets_test',)")


def test_evaluation_does_not_need_the_training_images(tmp_path):
    root = write_dataset(tmp_path / "pets")
    (Path(root) / "images" / "train" / "1.png").unlink()
    cfg, _ = configured(tmp_path, "--dataset", root, "--eval-only")
    assert cfg.DATASETS.TEST == ("pets_val",)


def test_a_set_without_any_object_is_refused_with_its_file_and_count(tmp_path):
    content = document()
    content["annotations"] = []
    root = write_dataset(tmp_path / "pets", content)
    with pytest.raises(DatasetError, match="train.json: none of its 2 images has an object"):
        configured(tmp_path, "--dataset", root)


@pytest.mark.parametrize("crowds", [False, True])
@pytest.mark.parametrize("split", ["val", "test"])
def test_a_set_to_evaluate_on_may_be_without_objects_and_nothing_is_evaluated(
    tmp_path, split, crowds
):
    content = document()
    content["annotations"] = [{**a, "iscrowd": 1} for a in content["annotations"] if crowds]
    root = write_dataset(tmp_path / "pets", **{split: content})
    if split != "val":
        Path(root, "annotations", "val.json").unlink()
    cfg, lines = configured(tmp_path, "--dataset", root)
    assert cfg.DATASETS.TRAIN == ("pets_train",) and cfg.DATASETS.TEST == ()
    said = f"{root}/annotations/{split}.json: has no objects; nothing can be evaluated on it"
    assert said in lines and lines[-1].endswith("no evaluation")
    with pytest.raises(ConfigError, match=f"DATASETS.TEST is .*; {said}"):
        configured(tmp_path, "--dataset", root, "--eval-only")


def test_strict_reaches_the_reader(tmp_path):
    content = document()
    content["annotations"][0]["bbox"] = [0, 0, 0, 0]
    root = write_dataset(tmp_path / "pets", content)
    _, lines = configured(tmp_path, "--dataset", root)
    assert any("1 dropped bbox_zero" in line for line in lines)
    with pytest.raises(DatasetError, match="annotation id 10: bbox is"):
        configured(tmp_path, "--dataset", root, "--strict")


def test_two_datasets_and_keypoints_are_refused(tmp_path):
    root = write_dataset(tmp_path / "pets")
    with pytest.raises(DatasetError, match="name two datasets"):
        configured(tmp_path, "--dataset", root, "--train-json", "a.json")
    with pytest.raises(ConfigError, match="MODEL.KEYPOINT_ON"):
        configured(tmp_path, "--dataset", root, "MODEL.KEYPOINT_ON", "True")


@pytest.mark.parametrize("name, classes, empty", [("bccd", 3, 0), ("coco_tiny", 80, 1)])
def test_real_sets_load_with_detectron2s_loaders(shared_data, tmp_path, name, classes, empty):
    cfg, lines = configured(
        tmp_path,
        *("--dataset", str(shared_data / name), "--strict"),
        *("SOLVER.IMS_PER_BATCH", "2", "DATALOADER.NUM_WORKERS", "0"),
        *("INPUT.MIN_SIZE_TRAIN", "(64,)", "DATALOADER.FILTER_EMPTY_ANNOTATIONS", "False"),
    )
    assert num_classes(cfg) == {classes} and f"({empty} without objects)" in lines[0]
    loader = build_detection_train_loader(cfg, mapper=OwnDatasetMapper(cfg, True))
    batch = next(iter(loader))
    assert len(batch) == 2 and batch[0]["image"].shape[0] == 3
    COCOEvaluator(cfg.DATASETS.TEST[0], distributed=False, output_dir=str(tmp_path))
    loader = build_detection_test_loader(
        cfg, cfg.DATASETS.TEST[0], mapper=OwnDatasetMapper(cfg, False)
    )
    assert "annotations" not in next(iter(loader))[0]


def test_cleaned_truth_is_written_below_the_output_folder(tmp_path):
    content = document()
    del content["annotations"][0]["area"]
    configured(tmp_path, "--dataset", write_dataset(tmp_path / "pets", val=content))
    written = tmp_path / "output" / "annotations" / "pets_val.json"
    assert len(json.loads(written.read_text())["annotations"]) == 4


def test_steps_beyond_max_iter_of_the_command_line_are_left_out_with_a_line(tmp_path):
    config = BASE + "SOLVER: {MAX_ITER: 100, STEPS: [60, 80], REFERENCE_WORLD_SIZE: 8}\n"
    cfg, lines = configured(tmp_path, "SOLVER.MAX_ITER", "70", config=config)
    assert cfg.SOLVER.STEPS == ()  # 1 of 8 processes: the steps are 480 and 640
    config = config.replace("_SIZE: 8", "_SIZE: 1")
    cfg, lines = configured(tmp_path, "SOLVER.MAX_ITER", "70", config=config)
    assert cfg.SOLVER.STEPS == (60,)
    assert any(
        "SOLVER.STEPS is (60,): of (60, 80) in the config file, those beyond SOLVER.MAX_ITER 70"
        in line
        for line in lines
    )
    _, lines = configured(tmp_path, "SOLVER.MAX_ITER", "90", config=config)
    assert not any("left out" in line for line in lines)


def test_steps_that_scaling_brings_back_inside_are_kept(tmp_path):
    config = BASE + "SOLVER: {MAX_ITER: 100, STEPS: [60, 80], IMS_PER_BATCH: 1}\n"
    config = config.replace("STEPS", "REFERENCE_WORLD_SIZE: 1, STEPS")
    argv = ("--num-gpus", "2", "SOLVER.MAX_ITER", "50")
    assert configured(tmp_path, *argv, config=config)[0].SOLVER.STEPS == (30, 40)


def test_names_of_datasets_that_are_not_there_are_refused_with_the_reason(tmp_path):
    root = write_dataset(tmp_path / "strays", test=document())
    write_json(Path(root) / "annotations" / "test.json", "{")
    argv = ("--dataset", root, "DATASETS.TEST")
    said = "DATASETS.TEST names 'strays_test', which is not registered.*the test split is left out"
    with pytest.raises(ConfigError, match=said):
        configured(tmp_path, *argv, "('strays_test',)")
    with pytest.raises(ConfigError, match="names 'strays_vall', .*; did you mean strays_val?"):
        configured(tmp_path, *argv, "('strays_vall',)")
    with pytest.raises(ConfigError, match=r"DATASETS.TRAIN is \(\), should name a dataset"):
        configured(tmp_path, "--epochs", "3")
    with pytest.raises(ConfigError, match=r"DATASETS.TEST is \(\), should name a dataset"):
        configured(tmp_path, "--eval-only", *argv, "()")
