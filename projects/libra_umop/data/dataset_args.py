"""The switches that name a dataset, and what they ask for once they are read.

Apart from what they lead to, so that --help is quick.
"""

import argparse
import os
from dataclasses import dataclass, fields
from typing import Any


class _Asked:
    """Fields that have the names of switches."""

    @classmethod
    def by(cls, args: argparse.Namespace, **others: Any):
        """What a command line asks for; ``others`` where that says it otherwise.

        A switch that the command does not have keeps its default.
        """
        names = [x.name for x in fields(cls)]  # type: ignore[arg-type]
        return cls(**{**{x: getattr(args, x) for x in names if hasattr(args, x)}, **others})


@dataclass(frozen=True, kw_only=True)
class DataSource(_Asked):
    """Where data of one's own are: a dataset, or COCO files and folders of images; or nowhere.

    Attributes:
        dataset: a folder in any known layout, or a file that describes it.
        train_json, train_images, val_json, val_images: instead of it.
        split: the part of the training images that stays for training, the others become a
            validation split; or the record of an earlier division.
        split_seed: of that division.
        strict: whether data are refused of which anything would have to be dropped or clipped.
    """

    dataset: str | None = None
    train_json: str | None = None
    train_images: str | None = None
    val_json: str | None = None
    val_images: str | None = None
    split: float | str | None = None
    split_seed: int = 0
    strict: bool = False


@dataclass(frozen=True, kw_only=True)
class RunOptions(_Asked):
    """What is asked of a run beside its config and its data.

    Attributes:
        eval_only: evaluate, train nothing.
        resume, overwrite: go on with the run in ``OUTPUT_DIR``, or replace it.
        epochs: the length of the run in passes over the data; None: ``SOLVER.MAX_ITER``.
        fit_anchors, fit_image_size: choose sizes by the boxes of the training set.
        config_file, command: for the log; what was typed, as the shell takes it.
    """

    eval_only: bool = False
    resume: bool = False
    overwrite: bool = False
    epochs: float | None = None
    fit_anchors: bool = False
    fit_image_size: bool = False
    config_file: str = ""
    command: str = ""


def add_dataset_args(parser: argparse.ArgumentParser) -> None:
    """Add ``--dataset`` and its relatives, ``--strict`` and ``--epochs`` to a parser."""
    group = add_dataset_location_args(parser)
    group.add_argument(
        "--strict",
        action="store_true",
        help="refuse the dataset if any annotation would have to be dropped or clipped",
    )
    group.add_argument(
        "--epochs", type=float, metavar="N", help="passes over the data, instead of SOLVER.MAX_ITER"
    )
    add_fit_args(group)


def add_dataset_location_args(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add ``--dataset``, ``--train-json`` and its relatives; returns their group."""
    group = parser.add_argument_group("one's own data")
    group.add_argument(
        "--dataset",
        metavar="DIR",
        help="folder of a dataset: COCO, YOLO, Pascal VOC, LabelImg, CVAT, Label Studio, FiftyOne,"
        " LabelMe or CreateML (docs/own_data.md); or a file that describes it, as data.yaml",
    )
    add_split_args(group)
    for split in ("train", "val"):
        group.add_argument(f"--{split}-json", metavar="FILE", help=f"COCO JSON of the {split} set")
        group.add_argument(f"--{split}-images", metavar="DIR", help=f"images of the {split} set")
    return group


def add_split_args(group: argparse._ActionsContainer) -> None:
    """Add ``--split`` and ``--split-seed``."""
    group.add_argument(
        "--split",
        type=division,
        metavar="PART",
        help="make a validation split of the training images: this part, as 0.8, stays for"
        " training, the same one every time; or the split.json of an earlier run. Copies, frames of"
        " a clip and near-duplicates stay together; nothing is written into the dataset",
    )
    group.add_argument(
        "--split-seed", type=int, default=0, metavar="N", help="of --split (%(default)s)"
    )


def division(text: str) -> float | str:
    """A part in (0, 1), or the path of a file."""
    try:
        part = float(text)
    except ValueError:
        if os.path.isfile(text):
            return text
        raise argparse.ArgumentTypeError(f"{text} is no number and no file") from None
    if not 0 < part < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1, as 0.8 is")
    return part


def add_fit_args(group: argparse._ArgumentGroup) -> None:
    """Add ``--fit-anchors`` and ``--fit-image-size``."""
    group.add_argument(
        "--fit-anchors",
        action="store_true",
        help="scale the config's anchor sizes to the boxes of the training set",
    )
    group.add_argument(
        "--fit-image-size",
        action="store_true",
        help="choose INPUT's sizes so that at most a tenth of the boxes is below 16 pixels",
    )
