"""A run of training or evaluation in one process, from its arguments to its metrics."""

from detectron2.evaluation import verify_results
from detectron2.utils import comm

from ..config.checks import check_together
from ..config.loading import Layers
from ..data.arguments import check_dataset_names, configure_dataset
from ..modeling.backbones.timm.models import without_pretrained
from ..training.checkpoint.checkpointer import LibraCheckpointer
from ..training.setup import (
    disk_errors_name_the_checkpoint,
    one_line_for_the_disk,
    quiet_console,
    setup_run,
)
from ..training.trainer import LibraTrainer
from ..training.words import say, what_came_out, where_it_goes

__all__ = ["evaluate", "main", "setup", "train"]


def setup(layers: Layers, note: str, args):
    """The frozen config, and lines on what it does; then there are loggers and ``OUTPUT_DIR``."""
    cfg = layers.cfg
    lines = configure_dataset(layers, args)
    check_dataset_names(cfg, eval_only=args.eval_only)
    check_together(cfg, layers.source)
    cfg.freeze()
    setup_run(cfg, args)
    return cfg, [*lines, *where_it_goes(cfg, note)]


@one_line_for_the_disk()
def main(layers: Layers, note: str, args):
    """Train, or with ``--eval-only`` evaluate ``MODEL.WEIGHTS``; returns the metrics.

    Args:
        layers: the config, before the data are known.
        note: what was decided about the device, to be said.
        args: of :func:`argument_parser`.
    """
    cfg, lines = setup(layers, note, args)
    return evaluate(cfg, lines, args) if args.eval_only else train(cfg, lines, args)


def train(cfg, lines, args):
    """Train to the end, and evaluate with augmentation where ``TEST.AUG`` asks for it."""
    return train_to_the_end(cfg, lines, args)[0]


def train_to_the_end(cfg, lines, args):
    """The metrics of the last evaluation, and the trainer that reached them."""
    with quiet_console():
        trainer = LibraTrainer(cfg, resume=args.resume, epochs=args.epochs, headlines=lines)
        trainer.resume_or_load(resume=args.resume, overwrite=args.overwrite)
    results = trainer.train()
    if cfg.TEST.AUG.ENABLED:
        with disk_errors_name_the_checkpoint(trainer):
            augmented = trainer.test_with_augmentation(cfg, trainer.evaluated_model)
        results = {**(results or {}), **augmented}
    say(what_came_out(cfg, trainer.best, args.epochs))
    return results, trainer


def evaluate(cfg, lines, args):
    """Evaluate ``MODEL.WEIGHTS``, or with ``--resume`` the last checkpoint of ``OUTPUT_DIR``."""
    say(lines)
    model = LibraTrainer.build_model(without_pretrained(cfg))
    checkpointer = LibraCheckpointer(model, cfg.OUTPUT_DIR)
    path = checkpointer.last_whole_checkpoint() if args.resume else ""
    checkpointer.load_all(path or cfg.MODEL.WEIGHTS, cfg.DATASETS.TEST)
    results = LibraTrainer.test(cfg, model)
    if cfg.TEST.AUG.ENABLED:
        results.update(LibraTrainer.test_with_augmentation(cfg, model))
    if comm.is_main_process():
        verify_results(cfg, results)
    return results
