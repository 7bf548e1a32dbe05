"""A run of training or evaluation in one process, from its arguments to its metrics."""

from detectron2.evaluation import verify_results
from detectron2.utils import comm

from ..config.checks import check_together
from ..config.loading import Layers
from ..data.arguments import check_dataset_names, configure_dataset
from ..data.dataset_args import DataSource, RunOptions
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


def setup(layers: Layers, source: DataSource, options: RunOptions, note: str = ""):
    """The frozen config, and lines on what it does; then there are loggers and ``OUTPUT_DIR``."""
    cfg = layers.cfg
    lines = configure_dataset(layers, source, options, comm.get_world_size())
    check_dataset_names(cfg, eval_only=options.eval_only)
    check_together(cfg, layers.source)
    cfg.freeze()
    setup_run(cfg, options)
    return cfg, [*lines, *where_it_goes(cfg, note)]


@one_line_for_the_disk()
def main(layers: Layers, source: DataSource, options: RunOptions, note: str = ""):
    """Train, or evaluate ``MODEL.WEIGHTS``; returns the metrics.

    Args:
        layers: the config, before the data are known.
        source: data of one's own.
        options: of the run.
        note: what was decided about the device, to be said.
    """
    cfg, lines = setup(layers, source, options, note)
    if options.eval_only:
        return evaluate(cfg, lines, resume=options.resume)
    return train(cfg, lines, options)[0]


def train(cfg, lines, options: RunOptions):
    """Train to the end, and evaluate with augmentation where ``TEST.AUG`` asks for it.

    Returns:
        the metrics of the last evaluation, and the trainer that reached them.
    """
    resume = options.resume
    with quiet_console():
        trainer = LibraTrainer(cfg, resume=resume, epochs=options.epochs, headlines=lines)
        trainer.resume_or_load(resume=resume, overwrite=options.overwrite)
    results = trainer.train()
    if cfg.TEST.AUG.ENABLED:
        with disk_errors_name_the_checkpoint(trainer):
            augmented = trainer.test_with_augmentation(cfg, trainer.evaluated_model)
        results = {**(results or {}), **augmented}
    say(what_came_out(cfg, trainer.best, options.epochs))
    return results, trainer


def evaluate(cfg, lines, *, resume: bool = False):
    """Evaluate ``MODEL.WEIGHTS``, or with ``resume`` the last checkpoint of ``OUTPUT_DIR``."""
    say(lines)
    model = LibraTrainer.build_model(without_pretrained(cfg))
    checkpointer = LibraCheckpointer(model, cfg.OUTPUT_DIR)
    path = checkpointer.last_whole_checkpoint() if resume else ""
    checkpointer.load_all(path or cfg.MODEL.WEIGHTS, cfg.DATASETS.TEST)
    results = LibraTrainer.test(cfg, model)
    if cfg.TEST.AUG.ENABLED:
        results.update(LibraTrainer.test_with_augmentation(cfg, model))
    if comm.is_main_process():
        verify_results(cfg, results)
    return results
