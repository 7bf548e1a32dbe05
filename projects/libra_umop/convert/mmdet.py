"""mmdetection checkpoints (1.x, 2.x, 3.x and forks that keep their heads' names) here and back."""

import re
from typing import NamedTuple

import torch
from detectron2.config import CfgNode
from torch import Tensor

from .read import Checkpoint
from .rules import Structure, sources_of
from .version import major_version

__all__ = ["Converted", "from_mmdet", "to_mmdet"]

# Buffers of theirs that carry no information here.
UNUSED = re.compile(r".*\.(num_batches_tracked|relative_position_index|integral\.project)")
TWO_STAGE_HEADS = ("bbox_head", "mask_head", "bbox_roi_extractor", "mask_roi_extractor")


class Converted(NamedTuple):
    """Tensors under their new names, and every name that found no partner."""

    tensors: dict[str, Tensor]
    missing: list[str]  # wanted, and not in the file or of another shape
    left_over: list[str]  # in the file, and not wanted
    unused: dict[str, Tensor]  # in the file, without information here; kept for the way back
    notes: list[str]


def from_mmdet(
    cfg: CfgNode,
    shapes: dict[str, torch.Size],
    checkpoint: Checkpoint,
    version: int | None = None,
) -> Converted:
    """The tensors of a model here out of a checkpoint of theirs.

    Args:
        cfg: the config whose model they are for.
        shapes: name to shape of every tensor of that model.
        version: mmdetection's major version; by default what :func:`major_version` finds.
    """
    theirs, notes = _modernised(checkpoint, version or major_version(checkpoint))
    structure = Structure.of(cfg, shapes)
    tensors, missing, taken = {}, [], set()
    for name, shape in shapes.items():
        sources = sources_of(name, structure)
        source = next((s for s in sources if s.name in theirs), None)
        if source is None and _is_needless_bias(name, structure):
            tensors[name] = torch.zeros(shape)
            continue
        if source is None:
            missing.append(f"{name} (there: {sources[0].name if sources else 'no name known'})")
            continue
        taken.add(source.name)
        tensor = source.layout.to_ours(theirs[source.name])
        if tensor.shape != shape:
            found, wanted = tuple(tensor.shape), tuple(shape)
            missing.append(f"{name} (there: {source.name} of shape {found}, wanted {wanted})")
            continue
        tensors[name] = tensor.clone()
    rest = {name: tensor for name, tensor in theirs.items() if name not in taken}
    unused = {name: tensor for name, tensor in rest.items() if UNUSED.fullmatch(name)}
    return Converted(tensors, missing, sorted(set(rest) - set(unused)), unused, notes)


def to_mmdet(cfg: CfgNode, ours: dict[str, Tensor], unused: dict[str, Tensor]) -> Converted:
    """The tensors of a model of theirs (2.x and 3.x names) out of a model here.

    Args:
        unused: what :func:`from_mmdet` kept; counters of batch norms that it lacks are zero.
    """
    structure = Structure.of(cfg, ours)
    tensors, missing = {}, []
    for name, tensor in ours.items():
        sources = sources_of(name, structure)
        if not sources:
            missing.append(f"{name} (there: no name known)")
            continue
        if _is_needless_bias(name, structure):
            if tensor.any():
                missing.append(f"{name} is not zero (there: no bias before a norm)")
            continue
        tensors[sources[0].name] = sources[0].layout.to_theirs(tensor).clone()
    for name in [name for name in tensors if name.endswith(".running_mean")]:
        counter = name.replace("running_mean", "num_batches_tracked")
        tensors.setdefault(counter, torch.zeros((), dtype=torch.int64))
    tensors.update(unused)
    return Converted(tensors, missing, [], {}, [])


def _is_needless_bias(name: str, structure: Structure) -> bool:
    """A bias that only Detectron2's towers have: their convolutions before a norm have none."""
    conv, _, part = name.rpartition(".")
    return part == "bias" and conv.startswith("head.") and structure.has_norm(conv)


def _modernised(checkpoint: Checkpoint, version: int | None) -> tuple[dict[str, Tensor], list[str]]:
    """Their tensors under the names and the label order of mmdetection 2.x and 3.x."""
    tensors, notes = dict(checkpoint.tensors), []
    has_old_names = any(re.match(r"bbox_head\.(\d\.)?fc_cls\.", name) for name in tensors)
    if has_old_names:
        tensors = {
            f"roi_head.{name}" if name.split(".")[0] in TWO_STAGE_HEADS else name: tensor
            for name, tensor in tensors.items()
        }
        notes.append("heads named as in mmdetection 1.x")
    # Their own tool that renames the heads of old files moves the background too.
    is_old = has_old_names and version == 1
    pattern = re.compile(r"(roi_head\.bbox_head\.(?:\d\.)?)fc_cls\.weight")
    for prefix in [m.group(1) for m in map(pattern.fullmatch, tensors) if m]:
        if _is_background_first(tensors, prefix, is_old):
            _move_background_last(tensors, prefix)
            notes.append(f"background moved from first to last in {prefix}fc_cls")
    return tensors, notes


def _is_background_first(tensors: dict[str, Tensor], prefix: str, is_old: bool) -> bool:
    """Whether label 0 of a box head is background, as in mmdetection before 2.0.

    There the background has boxes too. A head with one box for all classes does not tell; then
    ``is_old``, the version and the names, does.
    """
    num_labels = tensors[prefix + "fc_cls.weight"].shape[0]
    boxes = tensors.get(prefix + "fc_reg.weight")
    num_boxes = 0 if boxes is None else boxes.shape[0] // 4
    if num_boxes == num_labels:
        return True
    return is_old if num_boxes <= 1 else False


def _move_background_last(tensors: dict[str, Tensor], prefix: str) -> None:
    num_labels = tensors[prefix + "fc_cls.weight"].shape[0]
    for part in ("weight", "bias"):
        labels, boxes = prefix + "fc_cls." + part, prefix + "fc_reg." + part
        tensors[labels] = tensors[labels].roll(-1, dims=0)
        if boxes in tensors and tensors[boxes].shape[0] == 4 * num_labels:
            tensors[boxes] = tensors[boxes][4:]
        mask = f"roi_head.mask_head.conv_logits.{part}"
        if mask in tensors and tensors[mask].shape[0] == num_labels:
            tensors[mask] = tensors[mask][1:]
