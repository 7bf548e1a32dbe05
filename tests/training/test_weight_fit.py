"""Weights that are not those of the model or of the data: one line that says so, or a loud word."""

import logging

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from torch import nn

from libra_umop.config import add_libra_umop_config
from libra_umop.errors import ConfigError
from libra_umop.training.checkpoint.checkpointer import LibraCheckpointer
from libra_umop.training.checkpoint.weight_fit import Classes
from libra_umop.training.hooks import EMAHook


class Detector(nn.Module):
    """Rooms and names of a two-stage detector in a few numbers."""

    def __init__(self, num_classes=2, mask=False, levels=2):
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.bottom_up = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(3)))
        self.backbone.fpn = nn.Sequential(*(nn.Conv2d(3, 3, 1) for _ in range(levels)))
        self.roi_heads = nn.Module()
        self.roi_heads.box_head = nn.Linear(3, 3)
        self.roi_heads.box_predictor = nn.Module()
        self.roi_heads.box_predictor.cls_score = nn.Linear(3, num_classes + 1)
        if mask:
            self.roi_heads.mask_head = nn.Linear(3, 1)


def write(path, model, **content):
    torch.save({"model": model.state_dict(), **content}, path)
    return str(path)


def error(function, *args, **kwargs) -> str:
    with pytest.raises(ConfigError) as info:
        function(*args, **kwargs)
    assert "\n" not in str(info.value)
    return str(info.value)


@pytest.fixture
def dataset():
    """Registers a dataset of these classes, {category id: name} in label order."""
    names = []

    def register(**categories):
        name = f"weight_fit_{len(names)}"
        ids = [int(key[1:]) for key in categories]
        DatasetCatalog.register(name, lambda: [])
        MetadataCatalog.get(name).set(
            thing_classes=list(categories.values()),
            thing_dataset_id_to_contiguous_id={id_: i for i, id_ in enumerate(ids)},
        )
        names.append(name)
        return name

    yield register
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def config(train):
    cfg = get_cfg()
    add_libra_umop_config(cfg)
    cfg.DATASETS.TRAIN = (train,)
    return cfg


def load_all(path, model=None, datasets=()):
    return LibraCheckpointer(model or Detector()).load_all(path, datasets)


# --- every tensor, or none of it


def test_another_number_of_classes_names_the_first_tensor(tmp_path):
    line = error(load_all, write(tmp_path / "w.pth", Detector(num_classes=80)))
    first = "roi_heads.box_predictor.cls_score.weight"
    assert f"(another number of classes): {first} is (81, 3)" in line
    assert "in the file and (3, 3) in the model; 2 tensors differ" in line
    assert str(tmp_path / "w.pth") in line and "config that trained these" in line


def test_a_tensor_that_the_file_lacks_is_named(tmp_path):
    model = Detector()
    del model.backbone.fpn[1]
    line = error(load_all, write(tmp_path / "w.pth", model))
    assert "backbone.fpn.1.weight is missing in the file; 2 tensors differ" in line


def test_a_part_that_the_config_left_out_is_named(tmp_path):
    """The weights were trained with it: without it they are another detector."""
    line = error(load_all, write(tmp_path / "w.pth", Detector(levels=3)))
    assert "backbone.fpn.2.weight is in the file and not in the model" in line


def test_boxes_can_be_had_from_a_detector_of_masks(tmp_path):
    load_all(write(tmp_path / "w.pth", Detector(mask=True)))


def test_counters_and_constants_are_no_weights(tmp_path):
    state = Detector().state_dict()
    state["pixel_mean"] = state["loss_normalizer.average"] = torch.zeros(3)
    state["bn.num_batches_tracked"] = torch.zeros(())
    torch.save({"model": state}, tmp_path / "w.pth")
    load_all(str(tmp_path / "w.pth"))


def test_no_weights_are_none_to_predict_with():
    assert "MODEL.WEIGHTS is ''" in error(load_all, "")


RESNET = {"conv1.weight": torch.zeros(3, 3, 1, 1), "layer1.0.conv1.weight": torch.zeros(3, 3, 1, 1)}


@pytest.mark.parametrize("method", ["load", "load_all"])
def test_a_file_of_which_nothing_fits_names_the_converter(method, tmp_path):
    """Raw torchvision: for training too, which would start at random and say nothing."""
    torch.save(RESNET, tmp_path / "resnet.pth")
    line = error(getattr(LibraCheckpointer(Detector()), method), str(tmp_path / "resnet.pth"))
    assert "nothing of it fits the model, which wants backbone.bottom_up.0.weight" in line
    assert "the file has conv1.weight" in line and "tools/convert_checkpoint.py" in line


@pytest.mark.parametrize(
    "content",
    [{"state_dict": RESNET, "meta": {"epoch": 3}}, [1, 2], torch.zeros(2), {"model": {"a": 1}}, 3],
    ids=["mmdetection", "list", "tensor", "numbers", "number"],
)
def test_a_file_without_weights_by_name_is_one_line(content, tmp_path):
    torch.save(content, tmp_path / "w.pth")
    line = error(LibraCheckpointer(Detector()).load, str(tmp_path / "w.pth"))
    assert "holds no weights by name" in line and "tools/convert_checkpoint.py" in line


def test_training_starts_from_what_fits(tmp_path):
    source, target = Detector(num_classes=80), Detector()
    LibraCheckpointer(target).load(write(tmp_path / "w.pth", source), checkpointables=[])
    assert torch.equal(target.roi_heads.box_head.weight, source.roi_heads.box_head.weight)


# --- little of it, and loudly


def last_warning(caplog, path, model) -> str:
    caplog.clear()
    with caplog.at_level(logging.INFO):
        LibraCheckpointer(model).load(path, checkpointables=[])
    last = caplog.records[-1]
    return last.getMessage() if "less than half" in last.getMessage() else ""


def test_modules_of_which_less_than_half_loads_are_the_last_line(caplog, tmp_path):
    state = {k: v for k, v in Detector().state_dict().items() if not k.startswith("backbone.b")}
    state["backbone.bottom_up.0.bias"] = torch.zeros(3)
    torch.save({"model": state}, tmp_path / "w.pth")
    line = last_warning(caplog, str(tmp_path / "w.pth"), Detector())
    assert line.endswith("less than half is used of backbone.bottom_up 1 of 6 tensors")
    assert caplog.records[-1].levelno == logging.WARNING


def test_layers_that_start_anew_are_said_with_their_sizes(caplog, tmp_path):
    path = write(tmp_path / "w.pth", Detector(num_classes=80))
    with caplog.at_level(logging.INFO):
        LibraCheckpointer(Detector()).load(path, checkpointables=[])
    wanted = len(Detector().state_dict())
    line = next(r.getMessage() for r in caplog.records if "start anew" in r.getMessage())
    assert line.startswith(f"{path}: {wanted - 2} of the model's {wanted} weights; start anew")
    assert line.endswith(": roi_heads.box_predictor.cls_score (81 rows there, 3 here)"), line


def test_another_detectors_head_is_said(caplog, tmp_path):
    other = Detector()
    other.head = other.roi_heads.box_head
    del other.roi_heads
    line = last_warning(caplog, write(tmp_path / "w.pth", other), Detector())
    assert line.endswith("less than half is used of roi_heads 0 of 4 tensors")


def test_more_than_half_and_a_backbone_alone_are_not_said(caplog, tmp_path):
    assert not last_warning(caplog, write(tmp_path / "a.pth", Detector(80)), Detector())
    assert not last_warning(caplog, write(tmp_path / "b.pth", Detector(levels=4)), Detector())
    backbone = Detector()
    del backbone.roi_heads, backbone.backbone.fpn
    assert not last_warning(caplog, write(tmp_path / "c.pth", backbone), Detector())


# --- the classes


def test_a_checkpoint_holds_names_and_ids_of_its_classes(dataset, tmp_path):
    cfg = config(dataset(c7="red", c3="green"))
    LibraCheckpointer(Detector(), str(tmp_path), cfg=cfg).save("model_final")
    content = torch.load(tmp_path / "model_final.pth", weights_only=True)
    assert content["class_names"] == ["red", "green"] and content["class_ids"] == [7, 3]


@pytest.mark.parametrize("ids", [{"class_ids": [1, 2]}, {}], ids=["with ids", "version 0.1.0"])
def test_the_same_names_under_other_labels_are_refused(ids, dataset, tmp_path):
    path = write(tmp_path / "w.pth", Detector(), class_names=["red", "green"], **ids)
    name = dataset(c1="green", c2="red")
    line = error(load_all, path, datasets=(name,))
    id_ = " (category id 1)" if ids else ""
    assert f"label 0 is 'red'{id_} in it, 'green' (category id 1) in the data" in line
    assert name in line


def test_the_same_labels_under_other_category_ids_are_the_same_classes(dataset, tmp_path):
    """A model knows labels; the ids of its detections are taken from the data."""
    about = {"class_names": ["red", "green"], "class_ids": [1, 2]}
    path = write(tmp_path / "w.pth", Detector(), **about)
    load_all(path, datasets=(dataset(c5="red", c9="green"),))


@pytest.mark.parametrize("number", [1, 3])
def test_another_number_of_names_is_refused(number, dataset, tmp_path):
    path = write(tmp_path / "w.pth", Detector(), class_names=list("abc"[:number]))
    line = error(load_all, path, datasets=(dataset(c1="a", c2="b"),))
    assert f"it knows {number} classes, the data has 2" in line


def test_classes_that_one_side_does_not_know_are_not_compared(dataset, tmp_path):
    known, unknown = dataset(c1="a", c2="b"), "never_registered"
    load_all(write(tmp_path / "w.pth", Detector()), datasets=(known,))
    load_all(write(tmp_path / "w.pth", Detector(), class_names=["x", "y"]), datasets=(unknown,))
    assert Classes.of_dataset(unknown) is None


def test_training_from_weights_of_other_classes_says_so(dataset, caplog, tmp_path):
    path = write(tmp_path / "w.pth", Detector(), class_names=["red", "green"])
    for names, said in ((("green", "red"), True), (("red", "green"), False)):
        cfg = config(dataset(c1=names[0], c2=names[1]))
        caplog.clear()
        LibraCheckpointer(Detector(), cfg=cfg).load(path, checkpointables=[])
        assert ("starts from other classes: label 0 is 'red' in it" in caplog.text) == said


# --- resuming


class State:
    """Stands for the trainer."""

    def __init__(self, refuses=False):
        self.refuses = refuses
        self.restored = False

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        if self.refuses:
            raise ValueError("loaded state dict has a different number of parameter groups")
        self.restored = True


def run(folder, model=None, *, state=None, **kwargs):
    return LibraCheckpointer(model or Detector(), str(folder), trainer=state or State(), **kwargs)


def test_resume_with_another_number_of_classes_is_one_line(tmp_path):
    run(tmp_path, Detector(num_classes=80)).save("model_0000001", iteration=1)
    state = State()
    line = error(run(tmp_path, state=state).resume)
    assert "cls_score.weight is (81, 3)" in line and "--resume goes on with the same" in line
    assert not state.restored


def test_resume_on_the_same_names_under_other_ids_is_one_line(dataset, tmp_path):
    first, second = dataset(c1="red", c2="green"), dataset(c1="green", c2="red")
    run(tmp_path, cfg=config(first)).save("model_0000001", iteration=1)
    line = error(run(tmp_path, cfg=config(second)).resume)
    assert "label 0 is 'red' (category id 1) in it, 'green' (category id 1) in the data" in line
    assert run(tmp_path, cfg=config(first)).resume()["iteration"] == 1


def test_resume_with_another_optimizer_is_one_line(tmp_path):
    run(tmp_path).save("model_0000001", iteration=1)
    line = error(run(tmp_path, state=State(refuses=True)).resume)
    assert "a different number of parameter groups" in line and "model_0000001.pth" in line


def test_resume_or_load_resumes_only_if_it_is_told_to(tmp_path):
    writer = run(tmp_path)
    writer.save("model_0000001", iteration=1)
    other = write(tmp_path / "other.pth", Detector())
    state = State()
    run(tmp_path, state=state).resume_or_load(other, resume=False)
    assert not state.restored
    run(tmp_path, state=state).resume_or_load(other, resume=True)
    assert state.restored


# --- averages


def save_with_average(folder):
    model, average = Detector(), Detector()
    run(folder, model, average=average).save("model_0000001", iteration=1)
    return model, average, str(folder / "model_0000001.pth")


def same(a, b):
    return all(torch.equal(a.state_dict()[k], v) for k, v in b.state_dict().items())


@pytest.mark.parametrize("how", ["load", "load with nothing else", "load_all"])
def test_only_who_resumes_gets_the_weights_of_training(how, tmp_path):
    model, average, path = save_with_average(tmp_path)
    reader = LibraCheckpointer(Detector())
    if how == "load":
        reader.load(path)
    elif how == "load_all":
        reader.load_all(path)
    else:
        reader.load(path, checkpointables=[])
    assert same(reader.model, average) and not same(reader.model, model)


def test_who_resumes_gets_both_or_goes_on_without_an_average(tmp_path):
    model, average, _ = save_with_average(tmp_path)
    reader = run(tmp_path, average=Detector())
    reader.resume()
    assert same(reader.model, model) and same(reader.average, average)
    without = run(tmp_path)
    without.resume()
    assert same(without.model, model)


def test_an_average_that_is_switched_on_at_a_resume_starts_from_the_loaded_weights(tmp_path):
    model = Detector()
    run(tmp_path, model).save("model_0000001", iteration=1)
    resumed = Detector()
    average = EMAHook(resumed, 0.9)
    run(tmp_path, resumed, average=average.module).resume()
    assert same(average.module, model)


def test_an_average_starts_from_pretrained_weights(tmp_path):
    source, model = Detector(), Detector()
    average = EMAHook(model, 0.9)
    reader = LibraCheckpointer(model, average=average.module)
    reader.load(write(tmp_path / "w.pth", source), checkpointables=[])
    assert same(average.module, source)
