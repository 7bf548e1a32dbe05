"""Every detector trains and predicts under autocast on a GPU that is not there: devices, types, and
a list of who waits for it. Two images a batch, one of them without objects."""

import itertools

import pytest
import torch
from detectron2.modeling import META_ARCH_REGISTRY, PROPOSAL_GENERATOR_REGISTRY, ROI_HEADS_REGISTRY
from detectron2.structures import Boxes
from detectron2.utils.events import EventStorage
from pretend_cuda import CUDA, PretendCUDA
from rehearsal import DETECTORS, DTYPES, OUR_TRAINING, SIZE, build, tiny_config, two_images

from libra_umop.modeling.ignore_regions import InstancesWithRegions

# What waits in Detectron2, and why: inherited with it.
_MODELING = "detectron2/modeling/"
INPUTS = {
    _MODELING + "meta_arch/dense_detector.py:_move_to_current_device": "images are not pinned",
    _MODELING + "meta_arch/dense_detector.py:forward": "instances are not pinned",
    _MODELING + "meta_arch/rcnn.py:_move_to_current_device": "images are not pinned",
    _MODELING + "meta_arch/rcnn.py:forward": "instances are not pinned",
    _MODELING + "anchor_generator.py:_create_grid_offsets": "the grid is made on the CPU",
}
MATCHER = {
    _MODELING + "matcher.py:__call__": "asserts that IoUs are >= 0",
    _MODELING + "matcher.py:set_low_quality_matches_": "indices of the best anchors",
}
DENSE_LOSSES = {  # of Detectron2's own RetinaNet and of the RPN
    _MODELING + "meta_arch/retinanet.py:losses": "number of positives, losses by mask",
    _MODELING + "box_regression.py:get_deltas": "asserts that boxes are not empty",
    _MODELING + "box_regression.py:_dense_box_regression_loss": "deltas by mask",
    "backward:IndexBackward0": "gradient of what was taken by mask",
}
TWO_STAGE = {
    _MODELING + "sampling.py:subsample_labels": "number of candidates",
    _MODELING + "proposal_generator/rpn.py:losses": "number of anchors, logits by mask",
    _MODELING + "proposal_generator/proposal_utils.py:find_top_rpn_proposals": "NMS",
    _MODELING + "roi_heads/roi_heads.py:label_and_sample_proposals": "number of samples",
    _MODELING + "roi_heads/roi_heads.py:select_foreground_proposals": "number of positives",
    _MODELING + "roi_heads/cascade_rcnn.py:_create_proposals_from_boxes": "boxes by mask",
    _MODELING + "roi_heads/cascade_rcnn.py:_match_and_label_boxes": "number of samples",
    _MODELING + "roi_heads/fast_rcnn.py:_log_classification_stats": "logged numbers",
    _MODELING + "roi_heads/fast_rcnn.py:box_reg_loss": "number of positives",
    _MODELING + "roi_heads/mask_head.py:mask_rcnn_loss": "logged numbers",
    "backward:IndexPutBackward0": "gradient of fvcore's GIoU loss, by mask",
    _MODELING + "poolers.py:_convert_boxes_to_pooler_format": "regions of an image",
    _MODELING + "poolers.py:forward": "regions of a level",
}
DETECTIONS = {
    _MODELING + "meta_arch/dense_detector.py:_decode_per_level_predictions": "scores by mask",
    _MODELING + "meta_arch/retinanet.py:inference_single_image": "NMS",
    _MODELING + "meta_arch/fcos.py:inference_single_image": "NMS",
    _MODELING + "roi_heads/fast_rcnn.py:fast_rcnn_inference_single_image": "NMS",
    _MODELING + "postprocessing.py:detector_postprocess": "boxes by mask",
}
# What waits here in inference, and how often at most; in training see OUR_TRAINING.
OUR_INFERENCE = {
    "libra_umop:_top_candidates": 10,  # candidates of five levels of two images
    "libra_umop:clip_to_image": 4,  # Boxes.clip asserts that they are finite; boxes outside
    "libra_umop:_suppress": 4,  # NMS
}
# Beyond the shipped configs: each box loss of a dense detector and of the ROI heads, and the RPN's.
VARIANTS = {
    "RPN with balanced L1": (
        "ablations/libra_released_R_50_FPN_1x",
        "MODEL.RPN.BBOX_REG_LOSS_TYPE balanced_l1 MODEL.RPN.SMOOTH_L1_BETA 0.11",
    ),
    "BFP by convolution": (
        "COCO-Detection/libra_retinanet_R_50_FPN_1x",
        "MODEL.BFP.REFINE_TYPE conv MODEL.RETINANET.BBOX_REG_LOSS_TYPE giou",
    ),
    "attention as autocast has it": (
        "COCO-Detection/libra_retinanet_R_50_FPN_1x",
        "MODEL.BFP.PRECISION autocast MODEL.RETINANET.BBOX_REG_LOSS_TYPE smooth_l1",
    ),
    "OHEM apart": (
        "ablations/ohem_R_50_FPN_1x",
        "MODEL.ROI_HEADS.OHEM.NMS_THRESH 0.7 MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE giou",
    ),
    "levels by the paper's equation": (
        "COCO-Detection/umop_retinanet_R_50_FPN_1x",
        "MODEL.UMOP.LEVEL_REDUCTION mean MODEL.UMOP.FOCUS mean_log",
    ),
    "FCOS by quality": (
        "COCO-Detection/fcos_R_50_FPN_1x",
        "MODEL.FCOS.CLS_LOSS_TYPE progressive_varifocal MODEL.FCOS.BBOX_REG_LOSS_TYPE balanced_l1",
    ),
}
CASES = {**{name: (name, "") for name in DETECTORS}, **VARIANTS}


@pytest.fixture(
    scope="module", params=itertools.product(CASES, DTYPES), ids=lambda param: "-".join(param)
)
def trained(request):
    """A model after a forward and a backward pass, its losses, who waited, and the type."""
    (name, options), dtype = CASES[request.param[0]], DTYPES[request.param[1]]
    model = build(tiny_config(name, *options.split()))
    with PretendCUDA() as cuda:
        with EventStorage(), torch.autocast("cuda", dtype=dtype):
            losses = model(two_images())
        sum(losses.values()).backward()
    return model, losses, cuda.waits, dtype


def beyond(waits, inherited, ours):
    """Waits that are on neither list."""
    return {n: c for n, c in waits.items() if n not in inherited and c > ours.get(n, 0)}


def is_two_stage(model):
    return hasattr(model, "roi_heads")


def test_it_trains_in_the_right_types_and_nothing_new_waits(trained):
    model, losses, waits, _ = trained
    for name, loss in losses.items():
        assert (loss.device, loss.dtype) == (CUDA, torch.float32), name
        assert loss.elem.isfinite(), name
    for name, p in model.named_parameters():
        if p.requires_grad:
            assert (p.grad.device, p.grad.dtype) == (CUDA, torch.float32), name
            assert p.grad.elem.isfinite().all(), name
    inherited = {**INPUTS, **MATCHER}
    if is_two_stage(model) or type(model).__module__.startswith("detectron2."):
        inherited.update(DENSE_LOSSES)
    ours = {}
    if is_two_stage(model):
        inherited.update(TWO_STAGE)
        every_stage = getattr(model.roi_heads, "sample_every_stage", False)
        num_sampling = model.roi_heads.num_cascade_stages if every_stage else 1
        ours = {**OUR_TRAINING, "libra_umop:_sample": 4 * num_sampling}
    assert beyond(waits, inherited, ours) == {}  # of the dense detectors here, nothing waits


@pytest.mark.parametrize(
    "name, waits",
    [
        ("COCO-Detection/umop_atss_R_50_FPN_1x", {}),
        ("ablations/libra_released_R_50_FPN_1x", {"libra_umop:drop_ignored": 1}),
        ("COCO-Detection/libra_cascade_rcnn_R_50_FPN_1x", {"libra_umop:drop_ignored": 3}),
    ],
)
def test_regions_are_ignored_on_the_device_and_wait_once_a_stage(name, waits):
    model = build(tiny_config(name))
    batch = two_images()
    regions = Boxes(torch.tensor([[0.0, 0.0, 40.0, 64.0]]))
    fields = batch[0]["instances"].get_fields()
    batch[0]["instances"] = InstancesWithRegions(SIZE, ignore_boxes=regions, **fields)
    with PretendCUDA() as cuda:
        with EventStorage():
            losses = model(batch)
        sum(losses.values()).backward()
    assert all(loss.elem.isfinite() for loss in losses.values())
    seen = {n: c for n, c in cuda.waits.items() if "ignor" in n or "regions" in n}
    assert seen == waits


def test_it_predicts_in_the_right_types_and_nothing_new_waits(trained):
    model, _, _, dtype = trained
    model.eval()
    with PretendCUDA() as cuda, torch.no_grad(), torch.autocast("cuda", dtype=dtype):
        results = [result["instances"] for result in model(two_images())]
    assert sum(map(len, results))
    for result in results:
        assert result.pred_boxes.tensor.dtype == torch.float32
        assert {x.device for x in (result.pred_boxes.tensor, result.scores)} == {CUDA}
        assert result.scores.elem.isfinite().all()
    inherited = {**INPUTS, **DETECTIONS, **(TWO_STAGE if is_two_stage(model) else {})}
    assert beyond(cuda.waits, inherited, {} if is_two_stage(model) else OUR_INFERENCE) == {}


def test_every_registered_detector_is_among_them():
    ours = {
        name
        for registry in (META_ARCH_REGISTRY, ROI_HEADS_REGISTRY, PROPOSAL_GENERATOR_REGISTRY)
        for name, cls in registry
        if cls.__module__.startswith("libra_umop.")
    }
    cfgs = [tiny_config(name) for name in DETECTORS]
    rehearsed = {
        name
        for cfg in cfgs
        for name in (
            cfg.MODEL.META_ARCHITECTURE,
            cfg.MODEL.ROI_HEADS.NAME,
            cfg.MODEL.PROPOSAL_GENERATOR.NAME,
        )
    }
    assert ours and ours <= rehearsed
