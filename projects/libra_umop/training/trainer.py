"""Detectron2's DefaultTrainer, whose runs survive being stopped, on CPUs too and in any number."""

import logging
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.engine import DefaultTrainer, HookBase, create_ddp_model
from detectron2.engine import hooks as d2_hooks
from detectron2.engine.train_loop import TrainerBase
from detectron2.evaluation import verify_results
from detectron2.utils import comm
from detectron2.utils.events import CommonMetricPrinter
from fvcore.nn.precise_bn import get_bn_modules
from torch import nn

from ..config.assertions import refused_by_components
from ..data.check.class_balance import with_class_counts
from ..data.mapper import OwnDatasetMapper
from ..data.shielded_loader import build_test_loader
from ..errors import StopTraining
from ..evaluation.coco import build_coco_evaluator
from ..evaluation.sliced import at_own_size, on_tiles
from ..evaluation.validation_losses import validation_losses
from ..imbalance.probes.collector import ImbalanceCollector
from ..modeling.backbones.timm.models import without_pretrained
from ..modeling.compiling import compile_parts, eager
from ..modeling.dense.losses.normalizers import get_normalizers, set_normalizers
from ..utils.rng import get_rng_state, set_rng_state
from . import hooks
from .checkpoint.checkpointer import LibraCheckpointer
from .hooks.wandb import start_wandb
from .loader import build_train_loader
from .loop import TrainStep
from .optimizer import build_optimizer
from .output_dir import claim_output_dir, clear_output_dir, set_run_aside
from .setup import disk_errors_name_the_checkpoint, quiet_console
from .words import say, what_is_frozen

logger = logging.getLogger(__name__)


class LibraTrainer(DefaultTrainer):
    """Same interface as :class:`detectron2.engine.DefaultTrainer`.

    Its checkpoints hold, beside Detectron2's, the random states of all ranks, the position in the
    data, the running loss normalisers, the best evaluation and the averaged weights, so that on
    the CPU a resumed run has the weights of one that was never stopped, bit for bit.

    Args:
        cfg: a frozen config.
        resume: ``resume_or_load(resume=True)`` follows. Where there is something to resume from,
            no pretrained weights are read or fetched for the model.
        epochs: the length of the run, where it was told in epochs, to be printed.
        headlines: what people should see right before the first step.
    """

    def __init__(
        self,
        cfg,
        *,
        resume: bool = False,
        epochs: float | None = None,
        headlines: Sequence[str] = (),
    ):
        # DefaultTrainer's own constructor cannot wrap a model that is on the CPU.
        TrainerBase.__init__(self)
        cfg, about_classes = with_class_counts(self.auto_scale_workers(cfg, comm.get_world_size()))
        self.cfg = cfg
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.epochs = epochs
        follows = resume and LibraCheckpointer(nn.Module(), cfg.OUTPUT_DIR).find_to_resume()
        model = self.build_model(without_pretrained(cfg) if follows else cfg)
        self.headlines = [*what_is_frozen(model), *headlines, *about_classes]
        optimizer = self.build_optimizer(cfg, model)
        loader = self.build_train_loader(cfg)
        ema = cfg.SOLVER.EMA
        self.average = hooks.EMAHook(model, ema.DECAY) if ema.ENABLED else None
        if cfg.MODEL.COMPILE:
            with refused_by_components(cfg):
                compile_parts(model)
        self._trainer = TrainStep.from_config(cfg, _wrap(model), loader, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = LibraCheckpointer(
            model,
            cfg.OUTPUT_DIR,
            cfg=cfg,
            average=self.average.module if self.average else None,
            trainer=weakref.proxy(self),
        )
        self._resumed_rng: dict[str, Any] | None = None
        self.register_hooks(self.build_hooks())

    @property
    def train_step(self) -> TrainStep:
        """The step of this rank."""
        return self._trainer

    @property
    def evaluated_model(self) -> nn.Module:
        """What is evaluated: the averaged model where there is one, and never wrapped."""
        return self.average.module if self.average else self.checkpointer.model

    def build_hooks(self) -> list[HookBase | None]:
        """Detectron2's hooks in their order, made to be resumed, and those of this project."""
        cfg = self.cfg
        evaluate = hooks.EvalHook(cfg.TEST.EVAL_PERIOD, self._evaluate)
        self.best = hooks.BestCheckpointHook(
            evaluate,
            self.checkpointer if cfg.TEST.BEST_CHECKPOINT.ENABLED else None,
            metric=cfg.TEST.BEST_CHECKPOINT.METRIC,
            mode=cfg.TEST.BEST_CHECKPOINT.MODE,
            patience=cfg.TEST.EARLY_STOPPING.PATIENCE,
            min_delta=cfg.TEST.EARLY_STOPPING.MIN_DELTA,
        )
        self._stop_on_signal = hooks.StopOnSignal(self.checkpointer)
        is_main = comm.is_main_process()
        return [
            d2_hooks.IterationTimer(),
            d2_hooks.LRScheduler(),
            self._build_precise_bn(),
            self.average,
            ImbalanceCollector(cfg) if cfg.ANALYSIS.ENABLED else None,
            hooks.PeriodicCheckpointer(self.checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD),
            evaluate,
            self.best,
            hooks.LoggerHook(self.max_iter, epochs=self.epochs) if is_main else None,
            hooks.PeriodicWriter(self.build_writers),
            self._stop_on_signal,
        ]

    def _build_precise_bn(self) -> HookBase | None:
        cfg = self.cfg.clone()
        if not (cfg.TEST.PRECISE_BN.ENABLED and get_bn_modules(self.model)):
            return None
        cfg.defrost()
        cfg.DATALOADER.NUM_WORKERS = 0
        loader = self.build_train_loader(cfg)  # of its own, to leave the training's alone
        return d2_hooks.PreciseBN(
            cfg.TEST.EVAL_PERIOD, self.model, loader, cfg.TEST.PRECISE_BN.NUM_ITER
        )

    def build_writers(self):
        """Detectron2's writers of files; tensorboard's feeds Weights & Biases where asked for."""
        if self.cfg.WANDB.ENABLED:
            start_wandb(self.cfg)
        writers = super().build_writers()
        return [w for w in writers if not isinstance(w, CommonMetricPrinter)]

    def resume_or_load(self, resume: bool = True, *, overwrite: bool = False) -> None:
        """Go on from the last whole checkpoint of ``OUTPUT_DIR``, else load ``MODEL.WEIGHTS``.

        Args:
            resume: where there is no whole checkpoint to go on from, what is left of a run is moved
                to a folder below.
            overwrite: replace the run in ``OUTPUT_DIR``, if ``resume`` is not given.

        Raises:
            ConfigError: ``OUTPUT_DIR`` holds a run, and neither is given; or there are no such
                weights, and then nothing was removed.
        """
        folder = self.cfg.OUTPUT_DIR
        claim_output_dir(folder, resume=resume, overwrite=overwrite)
        self.checkpointer.remove_half_written()
        if resume and self.checkpointer.resume() is not None:
            self.start_iter = self.iter + 1
            logger.info(f"Resumed after iteration {self.iter}")
            return
        self.checkpointer.load(self.cfg.MODEL.WEIGHTS, checkpointables=[])
        if resume:
            aside = set_run_aside(folder) if comm.is_main_process() else ""
            moved = f"; what was there is in {aside}" if aside else ""
            logger.info(f"Nothing to resume from in {folder}; starting anew{moved}")
        elif comm.is_main_process():
            clear_output_dir(folder)
        comm.synchronize()

    def train(self):
        """Train to ``MAX_ITER``, or until there is no more to gain.

        Returns:
            the last evaluation's results on the main rank.

        Raises:
            StopTraining: a signal asked to stop; its checkpoint is written.
            ConfigError: the system refuses to write, as where the disk is full.
        """
        with disk_errors_name_the_checkpoint(self):
            self._train()
        results = getattr(self, "_last_eval_results", None)
        if comm.is_main_process():
            verify_results(self.cfg, results)
        return results

    def _train(self) -> None:
        try:
            TrainerBase.train(self, self.start_iter, self.max_iter)
        except StopTraining as stop:
            if stop.exit_code:
                raise
            logger.info(str(stop))
            self.checkpointer.save("model_final", iteration=self.iter)

    def before_train(self):
        """Same interface as the parent's; listens to signals, and says what is trained."""
        self._stop_on_signal.listen()
        super().before_train()
        say(self.headlines)
        if self._resumed_rng is not None:  # last, as making loaders and writers may draw
            set_rng_state(self._resumed_rng)

    def state_dict(self) -> dict[str, Any]:
        """All that training goes on from; call it on all ranks."""
        state = super().state_dict()
        state["rng"] = comm.all_gather(get_rng_state())
        state["data"] = self.data_loader.state_dict()
        state["normalizers"] = get_normalizers(self.checkpointer.model)
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Same interface as the parent's; the state may be of an older version."""
        states = {hooks.FORMER_NAMES.get(k, k): v for k, v in state_dict.get("hooks", {}).items()}
        super().load_state_dict({**state_dict, "hooks": states})
        set_normalizers(self.checkpointer.model, state_dict.get("normalizers", {}))
        exact = "data" in state_dict and self.data_loader.load_state_dict(state_dict["data"])
        if exact and len(state_dict["rng"]) == comm.get_world_size():
            self._resumed_rng = state_dict["rng"][comm.get_rank()]
        else:
            logger.warning(
                "The checkpoint is of another number of processes or another batch: weights and"
                " optimizer go on, the data starts with a new shuffle"
            )

    def _evaluate(self) -> dict[str, Any]:
        with eager():  # as predicting with the weights will be
            self._last_eval_results = results = self.test(self.cfg, self.evaluated_model)
            if self.cfg.TEST.VAL_LOSS.ENABLED:
                results = {**results, "val": validation_losses(self.cfg, self.evaluated_model)}
        return results

    @classmethod
    def build_model(cls, cfg):
        """Detectron2's; a value that a component refuses is an error that the user can mend."""
        with refused_by_components(cfg):
            model = super().build_model(cfg)
        return model.to(memory_format=torch.channels_last) if cfg.MODEL.CHANNELS_LAST else model

    @classmethod
    def build_evaluator(cls, cfg, dataset_name):
        """COCO's metrics of ``dataset_name``; detections go to ``OUTPUT_DIR/inference``."""
        return build_coco_evaluator(cfg, dataset_name)

    @classmethod
    def build_optimizer(cls, cfg, model):
        """The optimizer that ``SOLVER`` describes."""
        return build_optimizer(cfg, model)

    @classmethod
    def build_train_loader(cls, cfg):
        """Detectron2's training data as a stream that can be resumed."""
        return build_train_loader(cfg, OwnDatasetMapper(cfg, is_train=True))

    @classmethod
    def build_test_loader(cls, cfg, dataset_name):
        """Detectron2's, with a mapper that names the file that it cannot read."""
        with quiet_console():  # what it says of the data is known
            mapper = OwnDatasetMapper(cfg, is_train=False)
            return build_test_loader(cfg, dataset_name, mapper)

    @classmethod
    def test(cls, cfg, model, evaluators=None):
        """Detectron2's; where ``TEST.TILES`` asks for it, on tiles, as in predicting."""
        return super().test(*on_tiles(cfg, model), evaluators)

    @classmethod
    def test_with_augmentation(cls, cfg, model) -> dict[str, Any]:
        """Evaluate with the augmentations of ``TEST.AUG``; names end in ``_TTA``.

        The views are made from the images as they are in their files, as in predicting: one that
        the test loader had already made smaller would have lost what a larger view shows.
        """
        from ..evaluation.tta import build_tta_model

        cfg = at_own_size(cfg)
        with eager():
            results = cls.test(cfg, build_tta_model(cfg, model))
        return OrderedDict((f"{name}_TTA", value) for name, value in results.items())


def _wrap(model: nn.Module) -> nn.Module:
    """For several processes; devices are named on CUDA only."""
    on_cuda = next(model.parameters()).device.type == "cuda"
    devices = [comm.get_local_rank()] if on_cuda else None
    # Gradients are views of what is sent, and not a second copy of all of them. No static_graph:
    # it changes no weight, and with GRADIENT_ACCUMULATION it ends in an assertion of torch's.
    options = {"broadcast_buffers": False, "gradient_as_bucket_view": True}
    return create_ddp_model(model, device_ids=devices, **options)
