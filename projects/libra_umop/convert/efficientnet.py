"""EfficientNets in EfficientNet-PyTorch's names into timm's names, tensor by tensor.

There the blocks are numbered through, here they are counted stage by stage. A block without an
expansion (the first stage) has two norms instead of three, so its convolutions have other names
here: ``conv_dw`` and ``conv_pw`` instead of ``conv_pw``, ``conv_dw`` and ``conv_pwl``.
"""

import re
from collections.abc import Iterable

import torch
from torch import Tensor

from ..errors import ConfigError

__all__ = ["efficientnet_to_timm", "is_efficientnet_pytorch", "timm_shapes"]

MARK = "_conv_stem.weight"
OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
OUTSIDE["_fc"] = "classifier"
SQUEEZE = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
WITH_EXPANSION = {
    **{"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"},
    **{"_project_conv": "conv_pwl", "_bn2": "bn3"},
    **SQUEEZE,
}
WITHOUT_EXPANSION = {
    **{"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"},
    **SQUEEZE,
}


def is_efficientnet_pytorch(names: Iterable[str]) -> bool:
    """Whether these are the tensors' names of an EfficientNet of EfficientNet-PyTorch."""
    return MARK in names


def timm_shapes(name: str) -> dict[str, torch.Size]:
    """Name and shape of every tensor of timm's classifier ``name``, found without memory.

    Raises:
        ConfigError: without timm, or for a name that timm does not have.
    """
    try:
        import timm
    except ModuleNotFoundError as e:
        raise ConfigError("converting to timm's names needs timm: pip install 'timm>=1,<2'") from e
    if not timm.is_model(name):
        raise ConfigError(f"MODEL.TIMM.NAME is {name!r}, should be a model of timm")
    with torch.device("meta"):
        return {n: t.shape for n, t in timm.create_model(name).state_dict().items()}


def efficientnet_to_timm(
    theirs: dict[str, Tensor], shapes: dict[str, torch.Size]
) -> tuple[dict[str, Tensor], list[str], list[str]]:
    """Tensors of EfficientNet-PyTorch under timm's names.

    Args:
        theirs: by their names.
        shapes: name to shape of every tensor of timm's model.

    Returns:
        the tensors; what is missing, in words, or of another shape; names that found no partner.
    """
    names = {_timm_name(name, theirs, _blocks(shapes)): name for name in theirs}
    tensors, missing = {}, []
    for name, shape in shapes.items():
        source = names.pop(name, None)
        if source is None and name.endswith(".num_batches_tracked"):
            tensors[name] = torch.zeros(shape, dtype=torch.int64)  # a counter: no weight
        elif source is None:
            missing.append(name)
        elif theirs[source].shape != shape:
            found, wanted = tuple(theirs[source].shape), tuple(shape)
            missing.append(f"{name} (there: {source} of shape {found}, wanted {wanted})")
        else:
            tensors[name] = theirs[source].clone()
    return tensors, missing, sorted(names.values())


def _blocks(shapes: dict[str, torch.Size]) -> list[str]:
    """``blocks.S.B`` of timm's model in the order in which they run."""
    found = {tuple(map(int, m.groups())) for m in map(_BLOCK.match, shapes) if m}
    return [f"blocks.{stage}.{block}" for stage, block in sorted(found)]


_BLOCK = re.compile(r"blocks\.(\d+)\.(\d+)\.")
_THEIR_BLOCK = re.compile(r"_blocks\.(\d+)\.(\w+)\.(\w+)")


def _timm_name(name: str, theirs: dict[str, Tensor], blocks: list[str]) -> str:
    """Timm's name of one tensor of theirs; the name itself if there is none."""
    match = _THEIR_BLOCK.fullmatch(name)
    if match:
        number, module, tensor = int(match[1]), match[2], match[3]
        has_expansion = f"_blocks.{number}._expand_conv.weight" in theirs
        table = WITH_EXPANSION if has_expansion else WITHOUT_EXPANSION
        if number < len(blocks) and module in table:
            return f"{blocks[number]}.{table[module]}.{tensor}"
        return name
    module, _, tensor = name.rpartition(".")
    return f"{OUTSIDE[module]}.{tensor}" if module in OUTSIDE else name
