"""Validation losses of every detector: one number, whoever computes it and in what portions."""

import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.data.datasets import load_coco_json
from detectron2.modeling import META_ARCH_REGISTRY, PROPOSAL_GENERATOR_REGISTRY, ROI_HEADS_REGISTRY
from detectron2.utils import comm
from detectron2.utils.events import EventStorage

from libra_umop.data.shielded_loader import build_test_loader
from libra_umop.evaluation import validation_losses as losses
from libra_umop.evaluation.tta import build_tta_model
from libra_umop.evaluation.validation_losses import validation_losses
from testing.dense_models import DETECTORS, tiny_cfg, tiny_model  # noqa: E402
from testing.engine_runs import write_dataset  # noqa: E402
from testing.ranks import on_ranks

NUM_IMAGES = 3  # the second rank has fewer than the first, one has no object
NAME = "validation_losses_of_ranks"
TWO_STAGE = [
    *("MODEL.RPN.IN_FEATURES", "('p3', 'p4', 'p5', 'p6', 'p7')"),
    *("MODEL.RPN.POST_NMS_TOPK_TRAIN", 60, "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 16),
    *("MODEL.ROI_HEADS.IN_FEATURES", "('p3', 'p4', 'p5', 'p6')", "MODEL.ROI_HEADS.NUM_CLASSES", 4),
    *("MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead", "MODEL.ROI_BOX_HEAD.NUM_FC", 1),
    *("MODEL.ROI_BOX_HEAD.FC_DIM", 32, "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", True),
]
LIBRA_RPN = ["MODEL.PROPOSAL_GENERATOR.NAME", "LibraRPN", "MODEL.RPN.NEG_POS_RATIO", 3.0]
# Case -> (architecture, keys): all of ours, Detectron2's that they stand beside, and their levers.
CASES = {name: (name, []) for name in ("RetinaNet", *DETECTORS)}
CASES["one-stage OHEM"] = ("LibraRetinaNet", ["MODEL.RETINANET.CLS_LOSS_TYPE", "ohem"])
CASES["OHEM of ATSS"] = ("ATSS", ["MODEL.ATSS.CLS_LOSS_TYPE", "ohem"])
CASES["level mean"] = ("UMOPRetinaNet", ["MODEL.UMOP.LEVEL_REDUCTION", "mean"])
for heads in ("StandardROIHeads", "CascadeROIHeads", "LibraROIHeads", "LibraCascadeROIHeads"):
    CASES[heads] = ("GeneralizedRCNN", [*TWO_STAGE, "MODEL.ROI_HEADS.NAME", heads])
CASES["OHEMROIHeads"] = (
    "GeneralizedRCNN",
    [*TWO_STAGE, *LIBRA_RPN, "MODEL.ROI_HEADS.NAME", "OHEMROIHeads"],
)
CASES["LibraRes5ROIHeads"] = (
    "GeneralizedRCNN",
    [
        *("MODEL.ROI_HEADS.NAME", "LibraRes5ROIHeads", "MODEL.ROI_HEADS.NUM_CLASSES", 4),
        *("MODEL.RPN.IN_FEATURES", "('p4',)", "MODEL.ROI_HEADS.IN_FEATURES", "('p4',)"),
        *("MODEL.RPN.POST_NMS_TOPK_TRAIN", 60, "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 16),
        *("MODEL.ANCHOR_GENERATOR.SIZES", "[[32, 64]]", "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", 4),
        # Of res5, which takes four times as many channels as res2 gives: those of the pyramid.
        *("MODEL.RESNETS.RES2_OUT_CHANNELS", 16, "MODEL.RESNETS.WIDTH_PER_GROUP", 8),
    ],
)
CASES["equalised focal"] = ("FCOS", ["MODEL.FCOS.CLS_LOSS_TYPE", "equalized_focal"])
BALANCED_HEADS = [*TWO_STAGE, "MODEL.ROI_HEADS.NAME", "LibraROIHeads"]
CASES["seesaw ROIHeads"] = (
    "GeneralizedRCNN",
    [*BALANCED_HEADS, "MODEL.ROI_BOX_HEAD.CLS_LOSS_TYPE", "seesaw"],
)
CASES["weighted ROIHeads"] = (
    "GeneralizedRCNN",
    [
        *BALANCED_HEADS,
        *("MODEL.CLASS_WEIGHTS.BETA", 0.9, "MODEL.CLASS_WEIGHTS.COUNTS", [9, 1, 4, 2]),
    ],
)
DENSE = [case for case in CASES if "ROIHeads" not in case]


def case_cfg(case, dataset=NAME):
    name, opts = CASES[case]
    cfg = tiny_cfg(name, *opts, "INPUT.MIN_SIZE_TEST", 64, "DATALOADER.NUM_WORKERS", 0)
    cfg.DATASETS.TEST = (dataset,)
    return cfg


def case_model(case):
    name, opts = CASES[case]
    return tiny_model(name, *opts)


def register(folder, name=NAME):
    annotations, images = f"{folder}/annotations/val.json", f"{folder}/images"
    DatasetCatalog.register(name, lambda: load_coco_json(annotations, images, name))


def compute(case):
    return validation_losses(case_cfg(case), case_model(case))


def run_rank(rank, data):
    register(data)
    return {case: compute(case) for case in CASES}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The registered set: three images of two shapes, the last without objects."""
    folder = write_dataset(tmp_path_factory.mktemp("data") / "set", num_val=NUM_IMAGES)
    register(folder)
    yield folder
    DatasetCatalog.remove(NAME)


@pytest.fixture(scope="module")
def of_ranks(data, tmp_path_factory):
    """What each of two ranks got for every case."""
    return on_ranks(run_rank, tmp_path_factory.mktemp("ranks"), str(data))


def test_the_cases_are_all_that_is_registered_here():
    tested = {name for name, _ in CASES.values()}
    tested |= {opt for _, opts in CASES.values() for opt in map(str, opts)}
    for registry in (META_ARCH_REGISTRY, ROI_HEADS_REGISTRY, PROPOSAL_GENERATOR_REGISTRY):
        ours = {k for k, v in registry if v.__module__.startswith("libra_umop.")}
        assert ours <= tested


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_with_three_images_get_what_one_process_gets(case, data, of_ranks):
    expected = compute(case)
    assert expected["total_loss"] > 0
    assert of_ranks[0][case] == expected and of_ranks[1][case] == expected


@pytest.mark.parametrize("case", CASES)
def test_the_losses_do_not_depend_on_the_batches_of_the_loader(case, data, monkeypatch):
    expected = compute(case)

    def one_batch(*args):
        return [[image for batch in build_test_loader(*args) for image in batch]]

    monkeypatch.setattr(losses, "build_test_loader", one_batch)
    assert compute(case) == expected


@pytest.mark.parametrize("case", DENSE)
def test_the_losses_do_not_depend_on_the_running_average_of_training(case, data):
    expected, model = compute(case), case_model(case)
    if CASES[case][0] == "RetinaNet":
        model.loss_normalizer = 7.0
    for name, buffer in model.named_buffers():
        if name == "loss_normalizer.average":
            buffer.fill_(7.0)
    assert validation_losses(case_cfg(case), model) == expected


@pytest.mark.parametrize("case", ["LibraRetinaNet", "ATSS", "FCOS"])
def test_the_losses_are_those_of_a_training_step_on_the_whole_set(case, tmp_path):
    """Images of one size, which is that of testing, so that a batch of all pads none of them."""
    register(write_dataset(tmp_path / "set", num_val=NUM_IMAGES, tall=(), empty=(0,)), case)
    node = case.upper().removeprefix("LIBRA")
    opts = [] if case == "ATSS" else [f"MODEL.{node}.LOSS_NORMALIZER", "num_positives"]
    cfg, model = case_cfg(case, case), tiny_model(case, *opts)
    got = validation_losses(cfg, model)
    loader = build_test_loader(cfg, case, losses._mapper(cfg))
    with EventStorage(), torch.no_grad():
        step = model.train()([image for batch in loader for image in batch])
    DatasetCatalog.remove(case)
    for name, loss in step.items():
        assert got[name] == pytest.approx(float(loss), rel=1e-5), name
    assert got["total_loss"] == pytest.approx(float(sum(step.values())), rel=1e-5)


def test_detectron2s_retinanet_gets_the_losses_of_ours_with_the_methods_off(data):
    ours, theirs = case_model("LibraRetinaNet"), case_model("RetinaNet")
    theirs.load_state_dict(ours.state_dict(), strict=False)
    got = validation_losses(case_cfg("RetinaNet"), theirs)
    assert got == pytest.approx(validation_losses(case_cfg("LibraRetinaNet"), ours), rel=1e-5)


@pytest.mark.parametrize("name", ["RetinaNet", "ATSS", "FCOS"])
def test_the_levers_of_umop_do_not_change_the_measure(name, data):
    plain = case_model("LibraRetinaNet" if name == "RetinaNet" else name)
    umop = case_model(f"UMOP{name}")
    umop.load_state_dict(plain.state_dict())
    cfg = case_cfg(f"UMOP{name}")
    assert validation_losses(cfg, umop) == validation_losses(cfg, plain)


@pytest.mark.parametrize("case", CASES)
def test_no_forward_pass_outside_a_training_step_waits_for_other_ranks(case, data, monkeypatch):
    """With two ranks and no process group, whatever asks the other one raises."""
    cfg, model = case_cfg(case), case_model(case)
    image = next(iter(build_test_loader(cfg, NAME, losses._mapper(cfg))))
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    cfg.TEST.AUG.MIN_SIZES, cfg.TEST.AUG.MAX_SIZE = (64, 96), 128
    with torch.no_grad():
        assert "instances" in model.eval()(image)[0]
        assert "instances" in build_tta_model(cfg, model)(image)[0]
    with losses._losses_without_learning(model):
        assert losses._image_losses(model, image[0])
    if case in DETECTORS:  # whose training step does ask, so that this test can fail
        with EventStorage(), pytest.raises(ValueError, match="process group"):
            model.train()(image)
