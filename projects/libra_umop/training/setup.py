"""What stands around a training: loggers, the console, and errors of the disk."""

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from ..data.dataset_args import RunOptions
from ..errors import ConfigError, can_be_mended
from ..utils.ranks import is_end_of_peer
from .output_dir import claim_output_dir, traces_of_run

LIBRARIES = ("detectron2", "fvcore")


def setup_run(cfg: CfgNode, options: RunOptions) -> None:
    """Detectron2's ``default_setup`` in a folder that this run may have; call it on all ranks.

    Environment and config, some 700 lines, go to ``log.txt`` only. An evaluation leaves the
    ``config.yaml`` of the run in the folder as it is.

    Raises:
        ConfigError: OUTPUT_DIR holds another run, or cannot be written to.
    """
    resume = options.resume or options.eval_only
    line = claim_output_dir(cfg.OUTPUT_DIR, resume=resume, overwrite=options.overwrite)
    try:
        _set_up(cfg, options, line)
    except OSError as e:
        file = f" ({e.filename})" if e.filename else ""
        raise ConfigError(
            f"OUTPUT_DIR is {cfg.OUTPUT_DIR!r}, which cannot be written: {e.strerror or e}{file}"
        ) from e


def _set_up(cfg: CfgNode, options: RunOptions, line: str) -> None:
    rank = comm.get_rank()
    # As default_setup calls it, which then gets these very loggers.
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=rank, name="fvcore")
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=rank)
    logger = setup_logger(cfg.OUTPUT_DIR, distributed_rank=rank, name="libra_umop")
    if not options.eval_only:
        logger.info(line)
    config = Path(cfg.OUTPUT_DIR, "config.yaml")
    is_another = options.eval_only and config.is_file() and traces_of_run(cfg.OUTPUT_DIR)
    kept = config.read_bytes() if is_another and comm.is_main_process() else None
    with quiet_console():
        default_setup(cfg, options)
    if kept is not None:
        config.write_bytes(kept)


@contextlib.contextmanager
def quiet_console() -> Iterator[None]:
    """While it lasts, what Detectron2 and fvcore say below a warning goes to ``log.txt`` only."""
    handlers = [h for name in LIBRARIES for h in logging.getLogger(name).handlers]
    handlers = [h for h in handlers if getattr(h, "stream", None) is sys.stdout]
    levels = [handler.level for handler in handlers]
    for handler in handlers:
        handler.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for handler, level in zip(handlers, levels, strict=True):
            handler.setLevel(level)


@contextlib.contextmanager
def one_line_for_the_disk() -> Iterator[None]:
    """While it lasts, an error that a user can mend is raised and not printed, too.

    Detectron2's loop logs every exception with its traceback; tensorboard's thread and the loggers
    print theirs, and files print once more when the interpreter closes them.
    """
    loop = logging.getLogger("detectron2.engine.train_loop")
    old_hook, old_raise = threading.excepthook, logging.raiseExceptions
    loop.addFilter(_is_ours_to_mend)
    threading.excepthook = lambda args: None if can_be_mended(args.exc_value) else old_hook(args)
    logging.raiseExceptions = False
    try:
        yield
    except OSError:
        _close_log_files()
        raise
    finally:
        loop.removeFilter(_is_ours_to_mend)
        threading.excepthook, logging.raiseExceptions = old_hook, old_raise


@contextlib.contextmanager
def disk_errors_name_the_checkpoint(trainer: Any) -> Iterator[None]:
    """While it lasts, what the system says of files is an error that names what is left.

    Args:
        trainer: a :class:`~libra_umop.training.trainer.LibraTrainer`.

    Raises:
        ConfigError: in place of an ``OSError``, with the last whole checkpoint.
    """
    try:
        with one_line_for_the_disk():
            yield
    except OSError as e:
        if e.errno is None:
            raise
        file = f" ({e.filename})" if e.filename else ""
        last = trainer.checkpointer.last_whole_checkpoint()
        go_on = f"the last whole checkpoint is {last}, go on from it with --resume"
        raise ConfigError(
            f"OUTPUT_DIR is {trainer.cfg.OUTPUT_DIR!r}; at iteration {trainer.iter} the system said"
            f" {e.strerror!r}{file}; {go_on if last else 'there is no whole checkpoint yet'}"
        ) from e


def _is_ours_to_mend(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    # A broken connection is not what failed, and is raised on to who may know what was.
    of_peer = is_end_of_peer(error) and getattr(error, "mendable", True)
    return not (can_be_mended(error) or of_peer)


def _close_log_files() -> None:
    """What is still to be written would fail at exit again."""
    for logger in (logging.getLogger(name) for name in (*LIBRARIES, "libra_umop")):
        for handler in logger.handlers[:]:
            stream: Any = getattr(handler, "stream", None)
            if os.path.basename(str(getattr(stream, "name", ""))).startswith("log.txt"):
                logger.removeHandler(handler)
                with contextlib.suppress(OSError):
                    stream.close()
