"""Measuring the imbalance of a training while it runs: the hook behind ``ANALYSIS.ENABLED``."""

import contextlib
import logging
import time
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import MetadataCatalog
from detectron2.engine import HookBase
from detectron2.modeling.box_regression import Box2BoxTransformLinear
from detectron2.utils import comm
from torch import nn

from libra_umop.imbalance import records
from libra_umop.levers import LEVERS, family_of

from ...utils.ranks import heard_by_all_ranks
from .class_probe import ClassProbe
from .probes import DenseProbe, FeatureProbe, Probe
from .roi_probe import ROIHeadsProbe

logger = logging.getLogger(__name__)

# FCOS: an anchor is as large as the stride, and the level is made for objects 4 to 8 strides from
# their centre to their sides.
POINT_SCALE = 8.0


class ImbalanceCollector(HookBase):
    """Listen to one training step every ``period`` iterations, and write down what it shows.

    It is appended to ``output_dir/imbalance`` (form: :mod:`libra_umop.imbalance.records`).

    It works for every detector of this project and for Detectron2's own RetinaNet, FCOS, Faster,
    Mask and Cascade R-CNN. It changes neither losses nor gradients nor the random state, and
    listens in the main process only, without any collective.

    Args:
        output_dir: the run's folder.
        period: iterations from one measured step to the next; >= 1.
        num_probed, hard_fraction: see :class:`~.roi_probe.ROIHeadsProbe`.
        refine_level: see :class:`~.probes.FeatureProbe`.
        meta: what :func:`run_meta` says of the run.
    """

    @configurable
    def __init__(
        self,
        *,
        output_dir: str,
        period: int = 20,
        num_probed: int = 32,
        hard_fraction: float = 0.1,
        refine_level: str = "p4",
        meta: dict[str, Any],
    ):
        if period < 1:
            raise ValueError(f"ANALYSIS.PERIOD is {period}, should be 1 or more")
        if not 0 < hard_fraction <= 1:
            raise ValueError(f"ANALYSIS.HARD_FRACTION is {hard_fraction}, should be in (0, 1]")
        self.output_dir = output_dir
        self.period = period
        self.num_probed = num_probed
        self.hard_fraction = hard_fraction
        self.refine_level = refine_level
        self.meta = meta
        self._probes: list[Probe] = []
        self._listening = contextlib.ExitStack()
        self._step_start = 0.0
        self._meta_written = False

    @classmethod
    def from_config(cls, cfg):
        """The constructor's arguments, as the config has them."""
        return {
            "output_dir": cfg.OUTPUT_DIR,
            "period": cfg.ANALYSIS.PERIOD,
            "num_probed": cfg.ANALYSIS.NUM_PROBED_NEGATIVES,
            "hard_fraction": cfg.ANALYSIS.HARD_FRACTION,
            "refine_level": cfg.MODEL.BFP.REFINE_LEVEL,
            "meta": run_meta(cfg),
        }

    def before_step(self):
        """Attach the probes when this iteration is one to measure."""
        if self.trainer.iter % self.period or not comm.is_main_process():
            return
        self._step_start = time.perf_counter()
        # A graph of torch.compile does not call hooks that came after it.
        self._listening.enter_context(torch.compiler.set_stance("force_eager"))
        self._probes = self.build_probes(unwrap(self.trainer.model))
        for probe in self._probes:
            probe.guard(probe.attach)

    def after_step(self):
        """Take the probes away and write down what they heard."""
        if self.trainer.iter % self.period == 0:
            self._listening.close()
            with heard_by_all_ranks():
                if self._probes:
                    self._record()

    def _record(self) -> None:
        start = time.perf_counter()
        step: dict[str, Any] = {"iteration": self.trainer.iter}
        self._detach()
        for probe in self._probes:
            for name, section in probe.sections().items():
                step[name] = {**step.get(name, {}), **section}
        if not self._meta_written:
            self._write_meta()
        end = time.perf_counter()
        step["seconds"] = end - start + sum(probe.seconds for probe in self._probes)
        step["step_seconds"] = end - self._step_start
        self._probes = []
        records.append_step(self.output_dir, step)

    def after_train(self):
        """Leave nothing attached when a step failed."""
        self._listening.close()
        self._detach()
        self._probes = []

    def _detach(self) -> None:
        """The last one first: two may have wrapped one method, the second around the first."""
        for probe in reversed(self._probes):
            probe.detach()

    def build_probes(self, model: Any) -> list[Probe]:
        """The probes that fit ``model``; none for one without a pyramid, ROI heads or anchors."""
        probes: list[Probe] = []
        if hasattr(model, "backbone"):
            probes.append(FeatureProbe(model, self.refine_level))
        if hasattr(getattr(model, "roi_heads", None), "box_predictor"):
            probes.append(
                ROIHeadsProbe(model, num_probed=self.num_probed, hard_fraction=self.hard_fraction)
            )
        if hasattr(getattr(model, "proposal_generator", None), "losses"):
            probes.append(DenseProbe(model, model.proposal_generator, "rpn"))
        if hasattr(model, "losses") and hasattr(model, "head_in_features"):
            probes.append(DenseProbe(model, model, "dense"))
        if hasattr(model, "focal_loss_gamma") or hasattr(model, "roi_heads"):
            probes.append(ClassProbe(model))
        return probes

    def _write_meta(self) -> None:
        """Complete the meta data by what only the model knows: its levels and their scales."""
        levels, sizes = {}, {}
        for probe in self._probes:
            if isinstance(probe, DenseProbe) and probe.anchor_sizes is not None:
                owner = probe.owner
                names = owner.in_features if probe.head == "rpn" else owner.head_in_features
                is_point = isinstance(owner.box2box_transform, Box2BoxTransformLinear) and bool(
                    probe.anchor_sizes[0] == owner.anchor_generator.strides[0]
                )
                levels[probe.head] = list(names)
                sizes[probe.head] = (
                    probe.anchor_sizes * (POINT_SCALE if is_point else 1.0)
                ).tolist()
        records.write_meta(self.output_dir, {**self.meta, "levels": levels, "anchor_sizes": sizes})
        self._meta_written = True


def unwrap(model: nn.Module) -> nn.Module:
    """The detector inside a distributed wrapper."""
    return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model


def run_meta(cfg) -> dict[str, Any]:
    """What the report has to know of a run, from its config.

    See :mod:`libra_umop.imbalance.records`.
    """
    names = list(cfg.DATASETS.TRAIN) + list(cfg.DATASETS.TEST)
    class_names = MetadataCatalog.get(names[0]).get("thing_classes", []) if names else []
    return {
        "detector": cfg.MODEL.META_ARCHITECTURE,
        "class_names": list(class_names),
        "iou_edges": records.IOU_EDGES,
        "error_edges": records.ERROR_EDGES,
        "settings": run_settings(cfg),
        "datasets": {
            "train": [_dataset(name) for name in cfg.DATASETS.TRAIN],
            "test": [_dataset(name) for name in cfg.DATASETS.TEST],
        },
        "min_size": list(cfg.INPUT.MIN_SIZE_TRAIN),
        "max_size": cfg.INPUT.MAX_SIZE_TRAIN,
    }


def run_settings(cfg) -> dict[str, Any]:
    """The sampler, losses and focus that a config asks for.

    As :func:`libra_umop.imbalance.records.empty_settings` has them.
    """
    settings = records.empty_settings()
    settings["backbone"] = cfg.MODEL.BACKBONE.NAME
    settings["bfp"] = "bfp" in cfg.MODEL.BACKBONE.NAME
    detector = cfg.MODEL.META_ARCHITECTURE
    if "RCNN" in detector:
        settings["sampler"] = _sampler(cfg)
        settings["box_losses"]["roi_heads"] = _box_loss(cfg, cfg.MODEL.ROI_BOX_HEAD)
    if "RCNN" in detector or detector == "ProposalNetwork":
        settings["box_losses"]["rpn"] = _box_loss(cfg, cfg.MODEL.RPN)
    keys = _dense_keys(cfg)
    if keys is not None:
        settings["box_losses"]["dense"] = _box_loss(cfg, keys)
        settings["focus"] = _focus(cfg, keys)
    return settings


def _dense_keys(cfg) -> CfgNode | None:
    """The group of keys that a dense detector reads; None for others."""
    family = family_of(cfg)
    for key in family.plain if family else ():  # its CLS_LOSS_TYPE
        return cfg.MODEL[key.split(".")[1]]
    return cfg.MODEL.RETINANET if "RetinaNet" in cfg.MODEL.META_ARCHITECTURE else None


def _sampler(cfg) -> str:
    """How the ROI heads get their negatives."""
    kinds = {"iou_sampling": "iou_balanced", "ohem": "ohem"}
    return next((kind for name, kind in kinds.items() if LEVERS[name].is_on(cfg)), "random")


def _box_loss(cfg, head) -> dict[str, Any]:
    """Type and parameters of a head's box loss."""
    beta = head.get("SMOOTH_L1_BETA", head.get("SMOOTH_L1_LOSS_BETA", 0.0))
    loss = {"type": head.BBOX_REG_LOSS_TYPE, "beta": float(beta)}
    if loss["type"] == "balanced_l1":
        loss.update(alpha=cfg.MODEL.BALANCED_L1.ALPHA, gamma=cfg.MODEL.BALANCED_L1.GAMMA)
    return loss


def _dataset(name: str) -> dict[str, Any]:
    """Where the annotations and images of a registered data set are; None where it does not say."""
    metadata = MetadataCatalog.get(name)
    return {
        "name": name,
        "json_file": metadata.get("json_file"),
        "image_root": metadata.get("image_root"),
    }


def _focus(cfg, keys: CfgNode) -> dict[str, Any]:
    """How a dense detector focuses its classification loss."""
    focus = {
        "gamma": keys.FOCAL_LOSS_GAMMA,
        "alpha": keys.FOCAL_LOSS_ALPHA,
        "progressive": LEVERS["pfl"].is_on(cfg),
    }
    if "UMOP" in cfg.MODEL:
        umop = cfg.MODEL.UMOP
        focus.update(delta=umop.DELTA, w=umop.W, formula=umop.FOCUS)
        focus["level_wise"] = bool(umop.LEVEL_WISE) or not focus["progressive"]
    return focus
