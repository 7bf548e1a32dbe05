"""tools/benchmark.py: what is measured is there, adds up, and is told from the baseline."""

import json
import time

import pytest
import torch
import yaml
from detectron2.structures import pairwise_iou

from libra_umop.benchmark import measure
from libra_umop.benchmark.bench import Bench, Contender
from libra_umop.benchmark.inputs import Workload, draw_proposals, num_classes_of, synthetic_batch
from libra_umop.benchmark.table import markdown
from libra_umop.config.loading import load_config
from libra_umop.training.trainer import LibraTrainer

TINY = {
    "MODEL": {
        "DEVICE": "cpu",
        "RESNETS": {"STEM_OUT_CHANNELS": 8, "RES2_OUT_CHANNELS": 32, "WIDTH_PER_GROUP": 8},
        "FPN": {"OUT_CHANNELS": 32},
        "ROI_BOX_HEAD": {"FC_DIM": 64},
        "RPN": {"PRE_NMS_TOPK_TRAIN": 100, "PRE_NMS_TOPK_TEST": 100},
    }
}


@pytest.fixture
def tiny(repo, tmp_path):
    """A shrunken config as a file, by its name below COCO-Detection."""

    def write(name):
        path = tmp_path / f"{name}.yaml"
        base = repo / "configs" / "COCO-Detection" / f"{name}_R_50_FPN_1x.yaml"
        path.write_text(yaml.safe_dump({"_BASE_": str(base), **TINY}))
        return str(path)

    return write


def test_two_configs_are_compared_in_one_run(tool, tiny, tmp_path, capsys):
    file = tmp_path / "figures.json"
    argv = ["--config-file", tiny("libra_faster_rcnn"), "--versus", tiny("faster_rcnn")]
    argv += ["--size", "64x96", "--iterations", "2", "--warmup", "1", "--device", "cpu"]
    argv += ["--steps", "train_step"]
    assert tool("benchmark").main([*argv, "--json", str(file), "--markdown"]) == 0
    report = json.loads(file.read_text())
    table = capsys.readouterr().out
    assert table.strip() == markdown(report)
    assert list(report["figures"]) == ["libra_faster_rcnn", "faster_rcnn"]
    for figures in report["figures"].values():
        assert len(figures["train_step_all"]) == 2
        assert min(figures["train_step_all"]) <= figures["train_step"]
        assert figures["train_step"] <= max(figures["train_step_all"])
        assert figures["train_step_memory"] > 0
    libra, plain = report["figures"].values()
    assert f"{libra['train_step'] / plain['train_step']:.3f}" in table
    assert libra["parameters"] > plain["parameters"]
    assert "64x96" in table and "--versus" in table


def test_data_loading_is_measured_on_a_data_set(tool, tiny, shared_data, tmp_path):
    file = tmp_path / "figures.json"
    argv = ["--config-file", tiny("umop_retinanet"), "--dataset", str(shared_data / "bccd")]
    argv += ["--size", "64x64", "--iterations", "1", "--warmup", "1", "--no-memory"]
    argv += ["--steps", "inference", "--device", "cpu", "--json", str(file)]
    argv += ["--opts", "SOLVER.IMS_PER_BATCH", "2"]
    argv += ["SOLVER.REFERENCE_WORLD_SIZE", "0", "DATALOADER.NUM_WORKERS", "0"]
    assert tool("benchmark").main([*argv, "OUTPUT_DIR", str(tmp_path / "out")]) == 0
    assert json.loads(file.read_text())["figures"]["umop_retinanet"]["loading"] > 0


@pytest.mark.parametrize(
    "arguments", [["--size", "320"], ["--size", "8x8"], ["--iterations", "0"], ["--steps", "x"]]
)
def test_a_wrong_command_line_exits_with_2(tool, tiny, capsys, arguments):
    with pytest.raises(SystemExit) as e:
        tool("benchmark").main(["--config-file", tiny("faster_rcnn"), *arguments])
    assert e.value.code == 2


@pytest.mark.parametrize("name", ["libra_faster_rcnn", "umop_retinanet", "atss", "fcos"])
def test_drawn_up_images_suit_every_detector(tiny, name):
    cfg = load_config(tiny(name))
    batch = synthetic_batch(cfg, Workload((200, 300), batch_size=3))
    assert len(batch) == 3
    for item in batch:
        instances = item["instances"]
        assert item["image"].shape == (3, 200, 300) and item["image"].dtype == torch.uint8
        assert 4 <= len(instances) <= 16
        assert instances.gt_classes.max() < num_classes_of(cfg)
        boxes = instances.gt_boxes.tensor
        assert boxes.min() >= 0 and (boxes[:, 2:] <= torch.tensor([300.0, 200.0]) + 1e-3).all()
        assert (boxes[:, 2:] - boxes[:, :2]).min() >= 15.99


def test_masks_are_drawn_up_where_a_model_learns_them(repo):
    name = "libra_mask_rcnn_R_50_FPN_1x.yaml"
    cfg = load_config(str(repo / "configs" / "COCO-InstanceSegmentation" / name))
    instances = synthetic_batch(cfg, Workload((64, 64)))[0]["instances"]
    area = torch.tensor(instances.gt_masks.area().tolist(), dtype=torch.float32)
    torch.testing.assert_close(area, instances.gt_boxes.area(), rtol=1e-3, atol=1e-2)


def test_steps_take_turns_and_slowness_is_seen():
    order = []

    class FakeBench:
        def __init__(self, label, seconds):
            self.label, self.seconds = label, seconds

        def train_step(self):
            order.append(self.label)
            time.sleep(self.seconds)

    benches = {label: FakeBench(label, s) for label, s in (("slow", 0.02), ("fast", 0.002))}
    times = measure.time_steps(benches, steps=["train_step"], iterations=4, warmup=1)
    assert order == ["slow", "fast"] + ["fast", "slow", "slow", "fast"] * 2
    assert len(times["slow"]["train_step"].wall) == 4
    assert times["slow"]["train_step"].median > 2 * times["fast"]["train_step"].median


def test_features_stay_finite_without_pretrained_statistics(tiny):
    """Frozen batch norms of random weights would multiply the features block after block."""
    bench = Bench(Contender("x", tiny("faster_rcnn")), Workload((64, 96)))
    image = bench.model.preprocess_image(bench.batch).tensor
    for feature in bench.model.backbone.bottom_up(image).values():
        assert 0.1 < feature.std() < 100


def test_two_stage_models_learn_from_the_same_drawn_regions(tiny):
    """Number and size of the regions of random weights are luck; those given are as drawn."""
    workload = Workload((64, 96), batch_size=2, num_proposals=150)
    seen = []
    for name in ("faster_rcnn", "libra_faster_rcnn"):
        bench = Bench(Contender(name, tiny(name)), workload)
        bench.model.roi_heads.register_forward_pre_hook(
            lambda module, inputs: seen.append([x.proposal_boxes.tensor for x in inputs[2]])
        )
        bench.train_step()
        bench.inference()
    for drawn, own in (seen[:2], seen[2:]):
        assert [len(x) for x in drawn] == [150, 150]
        assert [len(x) for x in own] != [150, 150]  # inference has the model's own
    assert all(torch.equal(a, b) for a, b in zip(seen[0], seen[2], strict=True))


def test_drawn_regions_overlap_the_objects_as_a_trained_rpns_do(tiny):
    item = synthetic_batch(load_config(tiny("faster_rcnn")), Workload((800, 1333)))[0]
    drawn = draw_proposals(item["instances"], 2000)
    ious = pairwise_iou(item["instances"].gt_boxes, drawn.proposal_boxes).amax(dim=0)
    assert 0.1 < (ious >= 0.5).float().mean() < 0.4
    assert (ious < 0.1).float().mean() > 0.2
    assert drawn.proposal_boxes.nonempty().all()
    empty = item["instances"][:0]
    assert len(draw_proposals(empty, 50)) == 50


def test_loading_speed_is_that_of_the_loader_that_trains(monkeypatch):
    asked = []

    def loader_of(cfg):
        asked.append(cfg)
        for _ in range(5):
            clock.append(clock[-1] + 0.5)
            yield [None] * 4

    clock = [0.0]
    monkeypatch.setattr(LibraTrainer, "build_train_loader", loader_of)
    monkeypatch.setattr(measure.time, "perf_counter", lambda: clock[-1])
    assert measure.loading_speed("a config", num_batches=3) == 8.0  # 12 images in 1.5 s
    assert asked == ["a config"]
