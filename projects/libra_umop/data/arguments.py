"""The command line's part about data: one's own dataset, and how long to train on it."""

import difflib
import os
from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, get_detection_dataset_dicts

from ..config.loading import Layers
from ..errors import ConfigError, DatasetError
from .check.checking import ImageLimits, check_headers, progress_bar
from .check.fitting import fit_to_data
from .coco.parsing import refuse
from .dataset_args import DataSource, RunOptions
from .datasets import OwnDataset, load_dataset, register
from .defects import ERROR
from .layouts.coco import splits_from_files
from .layouts.reading.layout import Split
from .layouts.table import dataset_name, find_splits
from .schedule import describe_solver, is_first_of_machine, scale_solver, set_epochs
from .splitting.division import RECORD, divide, keep_record

__all__ = ["check_dataset_names", "configure_dataset", "named_splits"]


def configure_dataset(
    layers: Layers, source: DataSource, options: RunOptions, num_processes: int = 1
) -> list[str]:
    """Make ``layers.cfg`` fit the data and the number of processes, in place.

    The dataset is read, checked as far as that needs no decoding of images, and registered;
    ``DATASETS.TRAIN`` and ``TEST`` name its splits, every ``NUM_CLASSES`` of a detector is its
    number of classes; batch, learning rate and schedule are scaled.

    Args:
        layers: the config of the run; what stands on the command line, or in the file itself, is
            somebody's intention and stays.
        source: the data; those that ``DATASETS`` names already, where there is none.
        options: of the run.
        num_processes: of the run.

    Returns:
        lines for people: what was found in the data and what was decided.

    Raises:
        DatasetError: the data cannot be used.
        ConfigError: arguments, config and data contradict each other.
    """
    cfg, given = layers.cfg, layers.given
    lines: list[str] = []
    splits = named_splits(
        source,
        cfg.OUTPUT_DIR,
        needs_train=not options.eval_only,
        resume=options.resume,
        overwrite=options.overwrite,
    )
    if splits:
        lines += _use_dataset(layers, source, splits, trains=not options.eval_only)
    lines += fit_to_data(cfg, given, anchors=options.fit_anchors, image_size=options.fit_image_size)
    lines += scale_solver(cfg, num_processes, reference=layers.file, given=given)
    lines += _say_dropped_steps(layers)
    if splits or options.epochs is not None:
        check_dataset_names(cfg, eval_only=options.eval_only, lines=lines)
    if options.epochs is not None:
        dicts = get_detection_dataset_dicts(
            cfg.DATASETS.TRAIN,
            filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
            check_consistency=False,  # it is logged once only, and that should be by the loader
        )
        lines += set_epochs(cfg, options.epochs, len(dicts), given)
    lines.append(describe_solver(cfg, num_processes))
    return lines


def named_splits(
    source: DataSource,
    output_dir: str = "",
    *,
    needs_train: bool = True,
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Split]:
    """The splits that ``--dataset`` or ``--train-json`` and its relatives name; {} if neither.

    Args:
        source: the data.
        output_dir: where the division is kept that ``--split`` makes.
        needs_train: there has to be a training split, as it is trained on.
        resume: the division that is there is taken.
        overwrite: another one that is there is replaced.
    """
    if source.split is None:
        return _splits_of(source, needs_train)
    splits = _splits_of(source, needs_train=True)
    if not splits:
        raise DatasetError("--split is for one's own data, and none are named; give --dataset DIR")
    if "val" in splits:
        there = splits["val"].source
        raise DatasetError(f"{there}: is a validation split already; leave out --split")
    record = os.path.join(output_dir, RECORD)
    goes_on = output_dir and resume and os.path.isfile(record)
    wanted = record if goes_on else source.split
    parts, division = divide(splits["train"], wanted, source.split_seed)
    if output_dir and is_first_of_machine():
        keep_record(division, output_dir, replace_other=overwrite)
    return {**parts, **{name: split for name, split in splits.items() if name != "train"}}


def _splits_of(source: DataSource, needs_train: bool) -> dict[str, Split]:
    files = (source.train_json, source.train_images, source.val_json, source.val_images)
    if source.dataset is None:
        return splits_from_files(files[:2], files[2:])
    if any(files):
        raise DatasetError(
            "--dataset and --train-json, --train-images, --val-json, --val-images name two"
            " datasets; give one"
        )
    return find_splits(source.dataset, needs_train=needs_train)


def _use_dataset(
    layers: Layers, source: DataSource, splits: dict[str, Split], *, trains: bool
) -> list[str]:
    cfg, given = layers.cfg, layers.given
    if cfg.MODEL.KEYPOINT_ON:
        raise ConfigError("MODEL.KEYPOINT_ON is True, but --dataset is for boxes and masks")
    name = dataset_name(source.dataset) if source.dataset else "own"
    dataset = load_dataset(name, splits, strict=source.strict, masks=cfg.MODEL.MASK_ON)
    lines = dataset.lines + _set_num_classes(layers, dataset) + _set_mask_format(layers, dataset)
    names = register(dataset, os.path.join(cfg.OUTPUT_DIR, "annotations"))
    if "DATASETS.TRAIN" not in given:
        cfg.DATASETS.TRAIN = (names["train"],) if "train" in names else ()
    if "DATASETS.TEST" not in given:
        evaluated = [key for key in ("val", "test") if key in names][:1]
        cfg.DATASETS.TEST = tuple(names[k] for k in evaluated if dataset.splits[k].objects)
    used = {*cfg.DATASETS.TEST, *(cfg.DATASETS.TRAIN if trains else ())}
    if is_first_of_machine():
        for data in [dataset.splits[key] for key, name in names.items() if name in used]:
            defects = check_headers(data, progress_bar, ImageLimits.from_config(cfg))
            refuse(data.source, [d for d in defects if d.severity == ERROR])
    return lines


def check_dataset_names(cfg: CfgNode, *, eval_only: bool, lines: Sequence[str] = ()) -> None:
    """Refuse a run without data, and names that no dataset is registered by.

    Args:
        cfg: the config of the run.
        eval_only: nothing is trained.
        lines: what was found out about the data; why a split was left out is repeated.

    Raises:
        ConfigError: naming the key, and the nearest name that is registered.
    """
    key = "DATASETS.TEST" if eval_only else "DATASETS.TRAIN"
    if not cfg.DATASETS[key.rpartition(".")[2]]:
        empty = "".join(f"; {line}" for line in lines if "nothing can be evaluated" in line)
        hint = empty or "; --dataset DIR names your own"
        raise ConfigError(f"{key} is (), should name a dataset{hint}")
    for key in ("TEST",) if eval_only else ("TRAIN", "TEST"):
        for name in cfg.DATASETS[key]:
            if name in DatasetCatalog:
                continue
            near = difflib.get_close_matches(name, DatasetCatalog.list(), n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            hint += "".join(f"; {line}" for line in lines if " split is left out: " in line)
            raise ConfigError(f"DATASETS.{key} names {name!r}, which is not registered{hint}")


def _say_dropped_steps(layers: Layers) -> list[str]:
    cfg, given = layers.cfg, layers.given
    steps, all_steps = tuple(cfg.SOLVER.STEPS), tuple(layers.file.SOLVER.STEPS)
    if "SOLVER.MAX_ITER" not in given or "SOLVER.STEPS" in given or len(steps) == len(all_steps):
        return []
    return [
        f"SOLVER.STEPS is {steps}: of {all_steps} in the config file, those beyond SOLVER.MAX_ITER"
        f" {cfg.SOLVER.MAX_ITER} of the command line are left out"
    ]


def _set_num_classes(layers: Layers, dataset: OwnDataset) -> list[str]:
    """Set every ``NUM_CLASSES`` of a detector below ``MODEL`` to the number of classes.

    A value is somebody's intention, and may not contradict, if it stands on the command line or in
    the config file itself; one that comes from a ``_BASE_`` or from the defaults gives way.

    Raises:
        ConfigError: naming the key and both numbers.
    """
    count = len(dataset.categories)
    changed = []
    for group, node in layers.cfg.MODEL.items():
        key = f"MODEL.{group}.NUM_CLASSES"
        if not isinstance(node, CfgNode) or "NUM_CLASSES" not in node or group == "SEM_SEG_HEAD":
            continue
        if count == node.NUM_CLASSES:
            continue
        place = _who_says(key, layers)
        if place:
            raise ConfigError(
                f"{key} is {node.NUM_CLASSES} in {place}, but"
                f" {dataset.reference.source} has {count} classes; leave the key out"
            )
        node.NUM_CLASSES = count
        changed.append(key)
    return [f"{' = '.join(changed)} = {count}, from the data"] if changed else []


def _set_mask_format(layers: Layers, dataset: OwnDataset) -> list[str]:
    """Set ``INPUT.MASK_FORMAT`` to "bitmask" where masks are trained on and some are RLE.

    Detectron2 cannot read RLE as polygons; the other way it can.

    Raises:
        ConfigError: the command line or the config file itself says "polygon".
    """
    key, cfg = "INPUT.MASK_FORMAT", layers.cfg
    with_rle = [data for data in dataset.splits.values() if data.has_rle_masks]
    if not cfg.MODEL.MASK_ON or not with_rle or cfg.INPUT.MASK_FORMAT == "bitmask":
        return []
    place = _who_says(key, layers)
    if place:
        raise ConfigError(
            f"{key} is {cfg.INPUT.MASK_FORMAT} in {place}, but {with_rle[0].source} has RLE"
            ' masks; should be "bitmask", or leave the key out'
        )
    cfg.INPUT.MASK_FORMAT = "bitmask"
    return [f"{key} = bitmask, as {with_rle[0].source} has RLE masks"]


def _who_says(key: str, layers: Layers) -> str:
    """Where somebody has written ``key`` for this run; "" if nobody has."""
    if key in layers.given:
        return "the command line"
    return layers.source if key in layers.in_file else ""
