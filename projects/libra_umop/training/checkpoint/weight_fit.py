"""Whether the weights of a file are those of a model and of its data, in words that say what to do.

A detector whose head starts at random has an AP too. So who predicts, evaluates or resumes demands
that all tensors are there and that the classes are the data's, label by label.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from fvcore.common.checkpoint import _filter_reused_missing_keys

from ...errors import ConfigError

__all__ = [
    "Classes",
    "Fit",
    "check_weights",
    "current_names",
    "require_same_classes",
    "require_weights",
]

CONVERTER = "tools/convert_checkpoint.py converts files of mmdetection, torchvision and timm"
# What is no weight: counters, running normalisers of losses, and constants that follow from the
# config, of which some versions of Detectron2 and timm write buffers and others do not.
NO_WEIGHT = re.compile(
    r"(.*\.)?(num_batches_tracked|loss_normalizer\..*|pixel_(mean|std)|cell_anchors\..*"
    r"|relative_position_index|attn_mask)"
)
# Heads that a config may leave out of a trained model without a change to its boxes.
SEPARATE_HEADS = re.compile(r"roi_heads\.(mask|keypoint)_(head|pooler)\..*")
CLASS_LAYERS = re.compile(r".*\.(cls_score|cls_logits|bbox_pred|predictor)\.(weight|bias)")
MOST_NAMED = 8  # layers in a line


class Classes(NamedTuple):
    """What the labels 0, 1, ... of a model stand for.

    Attributes:
        names: by label.
        ids: category ids in the annotation file, by label; empty where they are not known.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...] = ()

    @classmethod
    def of_dataset(cls, name: str, *, read: bool = False) -> Optional["Classes"]:
        """Those of a dataset, by its name in Detectron2's catalogs; None where it does not say.

        Args:
            read: read the dataset if need be: some name their classes only then.
        """
        metadata = MetadataCatalog.get(name)
        if read and name in DatasetCatalog and not metadata.get("thing_classes"):
            DatasetCatalog.get(name)
        names = metadata.get("thing_classes")
        contiguous = metadata.get("thing_dataset_id_to_contiguous_id") or {}
        ids = sorted(contiguous, key=lambda category_id: contiguous[category_id])
        return cls(tuple(map(str, names)), tuple(map(int, ids))) if names else None

    @classmethod
    def of_checkpoint(cls, checkpoint: Any) -> Optional["Classes"]:
        """Those that a checkpoint holds; None where it does not say."""
        names = checkpoint.get("class_names") if isinstance(checkpoint, dict) else None
        if not isinstance(names, (list, tuple)) or not names:
            return None
        return cls(tuple(map(str, names)), tuple(checkpoint.get("class_ids") or ()))

    def difference(self, data: "Classes") -> str:
        """The first label that stands for something else in ``data``; "" if there is none.

        Labels count, by which models tell classes: other category ids in the same order do not
        change them.
        """
        if len(self.names) != len(data.names):
            return f"it knows {len(self.names)} classes, the data has {len(data.names)}"
        for label, (ours, theirs) in enumerate(zip(self.names, data.names, strict=True)):
            if ours != theirs:
                here, there = self._named(label), data._named(label)
                return f"label {label} is {here} in it, {there} in the data"
        return ""

    def _named(self, label: int) -> str:
        id_ = f" (category id {self.ids[label]})" if label < len(self.ids) else ""
        return f"{self.names[label]!r}{id_}"


class Fit(NamedTuple):
    """What of a model came out of a file; names as in the model's state dict.

    Attributes:
        wanted: all weights of the model.
        missing: those that the file lacks.
        misshaped: (name, shape in the file, shape in the model).
        left_over: in the file, and not in the model.
    """

    wanted: list[str]
    missing: list[str]
    misshaped: list[tuple[str, tuple[int, ...], tuple[int, ...]]]
    left_over: list[str]

    @classmethod
    def of(cls, model: torch.nn.Module, incompatible: Any) -> "Fit":
        """From what ``fvcore.common.checkpoint.Checkpointer._load_model`` returns."""
        wanted = [name for name in model.state_dict() if not NO_WEIGHT.fullmatch(name)]
        known = set(wanted)
        missing = _filter_reused_missing_keys(model, incompatible.missing_keys)
        missing = {current_name(name, known) for name in missing}
        misshaped = [x for x in incompatible.incorrect_shapes if x[0] in known]
        absent = missing - {name for name, *_ in misshaped}
        left_over = [name for name in incompatible.unexpected_keys if not NO_WEIGHT.fullmatch(name)]
        return cls(wanted, [name for name in wanted if name in absent], misshaped, left_over)

    @property
    def loaded(self) -> set[str]:
        """Names of the weights that the file had."""
        return set(self.wanted) - set(self.missing) - {name for name, *_ in self.misshaped}

    def differences(self) -> list[str]:
        """One sentence for each tensor because of which the file is not of this model."""
        said = [
            f"{name} is {tuple(stored)} in the file and {tuple(wanted)} in the model"
            for name, stored, wanted in self.misshaped
        ]
        said += [f"{name} is missing in the file" for name in self.missing]
        odd = [name for name in self.left_over if not SEPARATE_HEADS.fullmatch(name)]
        return said + [f"{name} is in the file and not in the model" for name in odd]

    @property
    def only_classes_differ(self) -> bool:
        """Whether all that differs is the size of what predicts classes."""
        names = [name for name, *_ in self.misshaped]
        alone = bool(names) and len(names) == len(self.differences())
        return alone and all(map(CLASS_LAYERS.fullmatch, names))

    def summary(self) -> str:
        """How many of the model's weights the file had, and which layers start anew."""
        text = f"{len(self.loaded)} of the model's {len(self.wanted)} weights"
        layers: dict[str, str] = {}
        for name, stored, wanted in self.misshaped:
            sizes = f" ({stored[0]} rows there, {wanted[0]} here)" if stored and wanted else ""
            layers.setdefault(name.rpartition(".")[0], sizes)
        for name in self.missing:
            layers.setdefault(name.rpartition(".")[0], "")
        new = [f"{layer}{sizes}" for layer, sizes in layers.items()]
        if len(new) > MOST_NAMED:
            new = [*new[:MOST_NAMED], f"and {len(new) - MOST_NAMED} more"]
        return f"{text}; start anew: {', '.join(new)}" if new else text

    def poor_modules(self) -> list[str]:
        """A line "name n of m" for each module of which less than half was loaded.

        Of a file that has a backbone alone the rest is not expected.
        """
        totals, counts = Counter(map(_module, self.wanted)), Counter(map(_module, self.loaded))
        network = "backbone.bottom_up" if "backbone.bottom_up" in totals else "backbone"
        found = [*self.loaded, *self.left_over, *(name for name, *_ in self.misshaped)]
        is_detector = not (set(map(_module, found)) & set(totals)) <= {network}
        judged = totals if is_detector or network not in totals else [network]
        return [f"{m} {counts[m]} of {totals[m]}" for m in judged if 2 * counts[m] < totals[m]]


def check_weights(fit: Fit, path: str, *, demand: str = "") -> None:
    """Refuse a file of which nothing fits or, where something is demanded, not everything.

    Args:
        demand: what to do about a file that does not fit entirely; "" allows it.

    Raises:
        ConfigError: naming the first tensor that differs and what to do.
    """
    differences = fit.differences()
    if fit.wanted and not fit.loaded:
        there = f", which wants {fit.missing[0]}" if fit.missing else ""
        first = (fit.left_over or [name for name, *_ in fit.misshaped] or ["nothing"])[0]
        raise ConfigError(
            f"{path}: nothing of it fits the model{there}; the file has {first}, and"
            f" {len(differences)} tensors differ. {CONVERTER}"
        )
    if demand and differences:
        classes = " (another number of classes)" if fit.only_classes_differ else ""
        raise ConfigError(
            f"{path}: is not of this model{classes}: {differences[0]};"
            f" {len(differences)} tensors differ. {demand}"
        )


def require_same_classes(
    stored: Classes | None, data: Classes | None, *, path: str, dataset: str, demand: str
) -> None:
    """Refuse weights whose labels stand for other classes than those of the data.

    Args:
        stored, data: the classes of the weights and of the data; None where they are not known.
        path, dataset: what the message calls them.
        demand: what to do about it.

    Raises:
        ConfigError: naming the first label that differs, with name and category id.
    """
    difference = stored.difference(data) if stored and data else ""
    if difference:
        raise ConfigError(f"{path}: is of other classes than {dataset}: {difference}. {demand}")


def require_classes_of(
    categories: Sequence[dict[str, Any]], class_names: Sequence[str], *, path: str, dataset: str
) -> None:
    """Refuse a detector, of the weights in ``path``, of other classes than a dataset of one's own.

    Args:
        categories: of the dataset, "name" and "id" by label.
        class_names: of the detector; empty where they are not known.
        path, dataset: what the message calls them.

    Raises:
        ConfigError: naming the first label that differs.
    """
    names, ids = (tuple(c[key] for c in categories) for key in ("name", "id"))
    require_same_classes(
        Classes(tuple(class_names)) if class_names else None,
        Classes(names, ids),
        path=path,
        dataset=dataset,
        demand="Give the data of the classes that the weights were trained on",
    )


def current_name(name: str, known: set[str]) -> str:
    """A stored name as the model has it: version 0.1.0 wrote ``pyramid.`` inside a BFP's."""
    now = re.sub(r"(^|\.)pyramid\.", r"\1", name, count=1)
    return now if name not in known and now in known else name


def current_names(weights: dict[str, Any], model: torch.nn.Module) -> dict[str, Any]:
    """:func:`current_name` for all of ``weights``, in a dict of the same kind."""
    known = set(model.state_dict())
    for name in [name for name in weights if current_name(name, known) != name]:
        weights[current_name(name, known)] = weights.pop(name)
    return weights


def require_weights(checkpoint: dict[str, Any], path: str) -> None:
    """Refuse a file that does not hold tensors or arrays by name under "model".

    Raises:
        ConfigError: naming what it holds.
    """
    weights = checkpoint.get("model")
    kinds = (torch.Tensor, np.ndarray)
    if isinstance(weights, dict) and all(isinstance(value, kinds) for value in weights.values()):
        return
    found: Any = type(weights).__name__
    if isinstance(weights, dict):
        found = [str(key) for key in weights][:5]
    raise ConfigError(f"{path}: holds no weights by name, but {found}. {CONVERTER}")


def _module(name: str) -> str:
    bottom_up = "backbone.bottom_up"
    return bottom_up if name.startswith(f"{bottom_up}.") else name.split(".")[0]
