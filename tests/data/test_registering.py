"""One's own dataset in Detectron2's catalogs, and its truth as COCOEvaluator sees it."""

import json
import math
from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.datasets import load_coco_json
from detectron2.evaluation import COCOEvaluator
from detectron2.structures import Boxes, BoxMode, Instances

from libra_umop.data.check.checking import CLEAN, DEFECTS, UNUSABLE, check_dataset
from libra_umop.data.datasets import load_dataset, register
from libra_umop.data.defects import DROPPED
from libra_umop.data.layouts.table import find_splits
from libra_umop.errors import DatasetError
from testing.coco_files import document, write_dataset, write_json

SPLITS = ("train", "val")


def registered(root, name="mine", **kwargs):
    """The dataset in ``root``, registered, and its catalog names."""
    dataset = load_dataset(name, find_splits(root), **kwargs)
    return dataset, register(dataset, str(Path(root) / "clean"))


def ap_of_the_truth(name, tmp_path):
    """COCO AP of the registered boxes themselves as detections."""
    evaluator = COCOEvaluator(name, distributed=False, output_dir=str(tmp_path / "inference"))
    evaluator.reset()
    for record in DatasetCatalog.get(name):
        objects = [a for a in record["annotations"] if not a["iscrowd"]]
        boxes = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in objects]
        instances = Instances((record["height"], record["width"]))
        instances.pred_boxes = Boxes(torch.tensor(boxes).reshape(-1, 4))
        instances.scores = torch.ones(len(objects))
        instances.pred_classes = torch.tensor([a["category_id"] for a in objects]).long()
        evaluator.process([record], [{"instances": instances}])
    return evaluator.evaluate()["bbox"]


@pytest.mark.parametrize("name", ["bccd", "coco_tiny"])
def test_real_sets_are_registered_as_detectron2_would(shared_data, tmp_path, name):
    dataset = load_dataset(name, find_splits(str(shared_data / name)))
    for split, catalog_name in register(dataset, str(tmp_path)).items():
        theirs = load_coco_json(
            dataset.splits[split].source, dataset.splits[split].image_root, "coco_reference"
        )
        ours = DatasetCatalog.get(catalog_name)
        for record in theirs:
            for annotation in record["annotations"]:
                annotation.pop("segmentation", None)
        assert ours == theirs
        metadata = MetadataCatalog.get(catalog_name)
        reference = MetadataCatalog.get("coco_reference")
        assert metadata.thing_classes == reference.thing_classes
        assert (
            metadata.thing_dataset_id_to_contiguous_id
            == reference.thing_dataset_id_to_contiguous_id
        )
        assert metadata.json_file == dataset.splits[split].source  # nothing had to be repaired
        MetadataCatalog.remove("coco_reference")


@pytest.mark.parametrize("name", ["bccd", "coco_tiny"])
def test_the_truth_of_real_sets_has_ap_100(shared_data, tmp_path, name):
    dataset = load_dataset(name, find_splits(str(shared_data / name)))
    names = register(dataset, str(tmp_path))
    assert ap_of_the_truth(names["val"], tmp_path)["AP"] == pytest.approx(100)


def defective():
    """Two sound images and one with each kind of defect that is repaired."""
    content = document(3)
    first, second = content["annotations"][4], content["annotations"][5]
    content["annotations"] += [
        {**first, "id": 90, "bbox": [math.nan, 0, 5, 5]},
        {**first, "id": 91, "bbox": [0, 0, -5, 5]},
        {**first, "id": 92, "bbox": [300, 0, 5, 5]},
        {**second, "id": 93, "bbox": [80, 30, 60, 60], "area": 3600},
    ]
    return content


def test_training_and_evaluation_see_the_same_repaired_truth(tmp_path):
    root = write_dataset(tmp_path / "data", val=defective())
    dataset, names = registered(root)
    metadata = MetadataCatalog.get(names["val"])
    assert metadata.json_file != dataset.splits["val"].source
    written = json.loads(Path(metadata.json_file).read_text())
    assert [a["id"] for a in written["annotations"]] == [10, 11, 20, 21, 30, 31, 93]
    assert written["annotations"][-1]["bbox"] == [80, 30, 16, 34]
    assert ap_of_the_truth(names["val"], tmp_path)["AP"] == pytest.approx(100)
    (line,) = [line for line in dataset.lines if "left out" in line]
    assert "4 of 10 annotations" in line and "1 dropped bbox_nan" in line
    assert "1 clipped bbox_clipped" in line and "image id 3, annotation id 90" in line


def test_strict_refuses_what_would_be_repaired(tmp_path):
    root = write_dataset(tmp_path, val=defective())
    with pytest.raises(DatasetError, match="val.json: image id 3, annotation id 90.*and 3 more"):
        load_dataset("mine", find_splits(root), strict=True)


def test_object_of_id_0_is_evaluated_though_pycocotools_would_miss_it(tmp_path):
    content = document()
    content["annotations"][0]["id"] = 0
    root = write_dataset(tmp_path / "data", val=content)
    dataset, names = registered(root)
    assert ap_of_the_truth(names["val"], tmp_path)["AP"] == pytest.approx(100)
    metadata = MetadataCatalog.get(names["val"])
    del metadata.json_file
    metadata.json_file = dataset.splits["val"].source
    assert ap_of_the_truth(names["val"], tmp_path)["AP"] < 99  # the file itself, as a control


def test_files_without_area_and_iscrowd_can_be_evaluated(tmp_path):
    content = document()
    for annotation in content["annotations"]:
        del annotation["area"], annotation["iscrowd"]
    _, names = registered(write_dataset(tmp_path / "data", val=content))
    assert ap_of_the_truth(names["val"], tmp_path)["AP"] == pytest.approx(100)


def test_crowds_stay_for_evaluation(tmp_path):
    content = document()
    content["annotations"][0]["iscrowd"] = 1
    del content["annotations"][1]["area"]  # so that the file is written anew
    _, names = registered(write_dataset(tmp_path / "data", val=content))
    written = json.loads(Path(MetadataCatalog.get(names["val"]).json_file).read_text())
    assert [a["iscrowd"] for a in written["annotations"]] == [1, 0, 0, 0]
    assert [a["iscrowd"] for a in DatasetCatalog.get(names["val"])[0]["annotations"]] == [1, 0]


def test_a_validation_set_may_lack_classes(tmp_path):
    content = document()
    content["categories"] = content["categories"][1:]
    content["annotations"] = [a for a in content["annotations"] if a["category_id"] == 7]
    _, names = registered(write_dataset(tmp_path / "data", val=content))
    metadata = MetadataCatalog.get(names["val"])
    assert metadata.thing_classes == ["cat", "dog"]
    assert DatasetCatalog.get(names["val"])[0]["annotations"][0]["category_id"] == 1
    results = ap_of_the_truth(names["val"], tmp_path)
    assert results["AP-dog"] == pytest.approx(100) and math.isnan(results["AP-cat"])


@pytest.mark.parametrize(
    "change, said",
    [
        ({"name": "wolf"}, "category id 7 is 'wolf', but is 'dog' in .*train.json"),
        ({"id": 8}, "category id 8 is 'dog', but is not declared in .*train.json"),
    ],
)
def test_splits_that_disagree_about_classes_are_refused(tmp_path, change, said):
    content = document()
    content["categories"][1].update(change)
    for annotation in content["annotations"]:
        annotation["category_id"] = content["categories"][1]["id"]
    with pytest.raises(DatasetError, match=f"val.json: {said}"):
        load_dataset("mine", find_splits(write_dataset(tmp_path, val=content)))


def roboflow(content, group="animals", used=False):
    """The document as Roboflow exports it: the project's name is category 0."""
    for category in content["categories"]:
        category["supercategory"] = group
    content["categories"].insert(0, {"id": 0, "name": group, "supercategory": "none"})
    if used:
        content["annotations"][0]["category_id"] = 0
    return content


def test_roboflows_grouping_category_is_no_class(tmp_path):
    root = write_dataset(tmp_path / "data", roboflow(document()), roboflow(document()))
    dataset, names = registered(root)
    assert dataset.class_names == ["cat", "dog"]
    assert any("'animals' only groups the others" in line for line in dataset.lines)
    assert MetadataCatalog.get(names["val"]).thing_dataset_id_to_contiguous_id == {3: 0, 7: 1}
    assert ap_of_the_truth(names["val"], tmp_path)["AP"] == pytest.approx(100)


def test_category_0_that_any_split_uses_is_a_class(tmp_path):
    root = write_dataset(tmp_path, roboflow(document()), roboflow(document(), used=True))
    assert load_dataset("mine", find_splits(root)).class_names == ["animals", "cat", "dog"]


def test_a_class_without_boxes_stays_a_class(tmp_path):
    content = document(3)
    content["annotations"] = [a for a in content["annotations"] if a["category_id"] == 3]
    root = write_dataset(tmp_path, content, content)
    assert load_dataset("mine", find_splits(root)).class_names == ["cat", "dog"]


def test_images_without_objects_are_kept_if_asked_for(tmp_path):
    content = document(3)
    content["annotations"] = content["annotations"][:2]
    _, names = registered(write_dataset(tmp_path, content))
    assert len(get_detection_dataset_dicts([names["train"]], filter_empty=True)) == 1
    assert len(get_detection_dataset_dicts([names["train"]], filter_empty=False)) == 3


def test_a_broken_test_split_is_left_out_and_said(tmp_path):
    root = write_dataset(tmp_path, test=document())
    write_json(Path(root) / "annotations" / "test.json", "{")
    dataset, names = registered(root)
    assert set(names) == {"train", "val"}
    assert any("test split is left out" in line and "not JSON" in line for line in dataset.lines)


def test_a_test_split_needs_no_annotations_beside_a_validation_split(tmp_path):
    content = document()
    del content["annotations"]
    _, names = registered(write_dataset(tmp_path, test=content))
    assert len(DatasetCatalog.get(names["test"])) == 2


def test_registering_again_replaces_and_spares_what_is_not_ours(tmp_path):
    first = registered(write_dataset(tmp_path / "a"), name="twice")[1]
    second = registered(write_dataset(tmp_path / "b", document(1)), name="twice")[1]
    assert first == second and len(DatasetCatalog.get(first["train"])) == 1
    assert registered(write_dataset(tmp_path / "c"), name="coco_2017")[1] == {
        "train": "own_coco_2017_train",
        "val": "own_coco_2017_val",
    }


def test_masks_reach_the_mapper_and_the_evaluator(tmp_path):
    content = document()
    for annotation in content["annotations"]:
        x, y, w, h = annotation["bbox"]
        annotation["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    content["annotations"][3]["segmentation"] = []
    dataset, names = registered(write_dataset(tmp_path, content, content), masks=True)
    assert any("1 dropped mask" in line for line in dataset.lines)
    annotations = DatasetCatalog.get(names["train"])[0]["annotations"]
    assert annotations[0]["segmentation"] == content["annotations"][0]["segmentation"]
    written = json.loads(Path(MetadataCatalog.get(names["val"]).json_file).read_text())
    assert len(written["annotations"]) == 3 and written["annotations"][0]["segmentation"]


def project_named_like_its_class(content, used=False):
    """The document as Roboflow exports it: category 0 is the project, named like category 1."""
    content["categories"] = [
        {"id": 0, "name": "cat", "supercategory": "none"},
        {"id": 1, "name": "cat", "supercategory": "cat"},
    ]
    for annotation in content["annotations"]:
        annotation["category_id"] = 1
    if used:
        content["annotations"][0]["category_id"] = 0
    return content


def test_a_roboflow_project_may_be_named_like_its_class(tmp_path):
    train, val = (project_named_like_its_class(document()) for _ in range(2))
    root = write_dataset(tmp_path / "data", train, val)
    dataset, names = registered(root)
    assert dataset.class_names == ["cat"]
    assert MetadataCatalog.get(names["val"]).thing_dataset_id_to_contiguous_id == {1: 0}
    assert ap_of_the_truth(names["val"], tmp_path)["AP"] == pytest.approx(100)
    assert check_dataset(find_splits(root)).class_names == ["cat"]


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("bbox", [[8.0, 8, 40, 30], [math.nan, 8, 40, 30]])
def test_but_not_if_both_have_a_box_in_any_split_usable_or_not(tmp_path, split, bbox):
    contents = {key: project_named_like_its_class(document(), key == split) for key in SPLITS}
    contents[split]["annotations"][0]["bbox"] = bbox
    splits = find_splits(write_dataset(tmp_path, **contents))
    with pytest.raises(DatasetError, match="category id 1: is named 'cat' like category id 0"):
        load_dataset("mine", splits)
    assert check_dataset(splits).exit_code == UNUSABLE


@pytest.mark.parametrize("test", ["{", {"images": []}, "wolf", "parent", "bbox", "unannotated"])
@pytest.mark.parametrize("with_val", [True, False])
def test_check_and_training_agree_about_a_test_split_and_about_the_classes(
    tmp_path, test, with_val
):
    """Beside a validation split a broken one is left out; alone it is what is evaluated."""
    contents = {key: roboflow(document()) for key in (*SPLITS, "test")}
    if test == "wolf":
        contents["test"]["categories"][1]["name"] = "wolf"
    elif test == "parent":
        contents["test"]["annotations"][0]["category_id"] = 0
    elif test == "bbox":
        contents["test"]["annotations"][0]["bbox"] = [1, 2, 3]
    elif test == "unannotated":
        del contents["test"]["annotations"]
    root = write_dataset(tmp_path, **contents)
    if test in ("{", {"images": []}):
        write_json(Path(root) / "annotations" / "test.json", test)
    if not with_val:
        (Path(root) / "annotations" / "val.json").unlink()
    splits = find_splits(root)
    checked = check_dataset(splits)
    try:
        dataset = load_dataset("mine", splits)
    except DatasetError:
        assert checked.exit_code == UNUSABLE and not with_val
        return
    assert checked.exit_code in (CLEAN, DEFECTS) and checked.class_names == dataset.class_names
    left_out = any("test split is left out" in line for line in dataset.lines)
    assert left_out == ("test" not in dataset.splits)
    assert left_out == any(d.severity == DROPPED for d in checked.defects["test"])
    assert with_val or test == "parent"
