"""Loading files that others wrote: tensors, arrays and plain containers, and nothing that runs.

A pickle is a program. ``torch.load(weights_only=True)`` runs only the part of it that builds
tensors; for the ``.pkl`` files of Detectron2's and Caffe2's model zoos an unpickler does the same
for numpy arrays.
"""

import contextlib
import io
import pickle
import re
import zipfile
from typing import Any

import numpy as np
import torch
from detectron2.utils.env import TORCH_VERSION

from ..errors import ConfigError, found_instead

_ALLOWED = "weights may hold tensors, arrays and plain containers only"

# What a pickled array is made of; numpy 2 says numpy._core where numpy 1 said numpy.core.
_ARRAY_PARTS = {("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")} | {
    (f"numpy.{core}.{module}", name)
    for core in ("core", "_core")
    for module, name in (
        ("multiarray", "_reconstruct"),
        ("multiarray", "scalar"),
        ("numeric", "_frombuffer"),
    )
}
_CONTAINERS = {("collections", "OrderedDict"), ("collections", "defaultdict")} | {
    (module, name)
    for module in ("builtins", "__builtin__")
    for name in ("set", "frozenset", "list", "dict", "tuple", "bytes", "bytearray", "complex")
}


class _Refused(pickle.UnpicklingError):
    """The pickle asks for something that is neither an array nor a container."""


class _ArrayUnpickler(pickle.Unpickler):
    """Builds arrays and containers; any other global of the pickle ends it."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ARRAY_PARTS | _CONTAINERS:
            return super().find_class(module, name)
        raise _Refused(f"it asks for {module}.{name}")


def safe_pickle_load(path: str) -> Any:
    """Load a ``.pkl`` of arrays and plain containers, as the model zoos have them.

    Args:
        path: a local file, Python 2 or 3 pickle.

    Raises:
        ConfigError: the file holds anything else, or is no whole pickle.
    """
    with open(path, "rb") as f:
        data = f.read()
    try:
        return _ArrayUnpickler(io.BytesIO(data), encoding="latin1").load()
    except _Refused as e:
        raise ConfigError(f"{path}: refused: {e}; {_ALLOWED}") from e
    except (pickle.UnpicklingError, EOFError, ValueError, LookupError, TypeError) as e:
        _refuse_other_kind(path)
        raise ConfigError(f"{path}: is not a whole pickle file ({_one_line(e)})") from e


def safe_torch_load(path: str, *, mmap: bool = False) -> Any:
    """Load what ``torch.save`` wrote, onto the CPU: tensors, arrays and plain containers only.

    Args:
        path: a local file.
        mmap: map tensors instead of reading them, to look at a file cheaply.

    Raises:
        ConfigError: the file holds anything else, or is not whole.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except FileNotFoundError as e:
        raise ConfigError(f"{path}: no such file") from e
    except pickle.UnpicklingError as e:
        if "nsupported" in str(e):
            _refuse_other_kind(path)
            raise ConfigError(f"{path}: refused: {_one_line(e)}; {_ALLOWED}") from e
        _refuse_other_kind(path)
        raise ConfigError(f"{path}: is not a whole checkpoint ({_one_line(e)})") from e
    except (EOFError, RuntimeError, zipfile.BadZipFile, ValueError, KeyError, OSError) as e:
        _refuse_other_kind(path)
        raise ConfigError(f"{path}: is not a whole checkpoint ({_one_line(e)})") from e


def _refuse_other_kind(path: str) -> None:
    """Raises ConfigError where the file is recognised as something else."""
    with contextlib.suppress(OSError), open(path, "rb") as f:
        head = f.read(64)
        if found_instead(head) and not head.startswith(b"PK"):  # as torch's own files do
            raise ConfigError(f"{path}: {found_instead(head)}")


def safe_zoo_load(path: str) -> dict[str, Any]:
    """Load a model zoo's file: Detectron2's or Caffe2's ``.pkl``, or pycls's ``.pyth``.

    Returns:
        A checkpoint in Detectron2's form, with the weights under ``"model"``.

    Raises:
        ConfigError: the file holds anything but weights, or is not whole.
    """
    if path.endswith(".pkl"):
        return _as_checkpoint(safe_pickle_load(path), path)
    data = safe_torch_load(path)
    weights = data.get("model_state") if isinstance(data, dict) else None
    if not isinstance(weights, dict):
        raise ConfigError(f"{path}: has no 'model_state', as pycls's .pyth files have")
    weights = {k: v for k, v in weights.items() if not k.endswith("num_batches_tracked")}
    return {"model": weights, "__author__": "pycls", "matching_heuristics": True}


def safe_safetensors_load(path: str) -> dict[str, torch.Tensor]:
    """Load a ``.safetensors`` file: tensors by name, and nothing else is possible.

    Raises:
        ConfigError: the file is not whole, or safetensors is not installed.
    """
    try:
        from safetensors.torch import load_file
    except ModuleNotFoundError as e:
        raise ConfigError(f"{path}: reading it needs safetensors: pip install safetensors") from e
    try:
        return load_file(path)
    except Exception as e:  # safetensors' own error has no common base
        raise ConfigError(f"{path}: is not a whole safetensors file ({e})") from e


def _as_checkpoint(data: Any, filename: str) -> dict[str, Any]:
    """A model zoo's ``.pkl`` in the form of a checkpoint: Detectron2's own, or Caffe2's blobs."""
    if not isinstance(data, dict):
        raise ConfigError(f"{filename}: holds a {type(data).__name__}, should hold weights by name")
    if "model" in data and "__author__" in data:
        return data
    blobs = data.get("blobs", data)
    weights = {k: v for k, v in blobs.items() if not k.endswith("_momentum")}
    return {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}


def _allow_numpy_in_weights() -> None:
    """Let ``weights_only`` loading build arrays and numpy scalars too; none of it can run code."""
    core = np._core if hasattr(np, "_core") else np.core
    makers = [core.multiarray._reconstruct, core.multiarray.scalar]
    dtypes = [t for n, t in vars(np.dtypes).items() if n.endswith("DType") and n != "ObjectDType"]
    names: list = [np.ndarray, np.dtype, *makers, *dtypes]
    if TORCH_VERSION >= (2, 6):  # knows (object, name) pairs: files of numpy 1 and of numpy 2
        for room in ("numpy.core", "numpy._core"):
            names += [(maker, f"{room}.multiarray.{maker.__name__}") for maker in makers]
    torch.serialization.add_safe_globals(names)


def _one_line(e: BaseException) -> str:
    """The telling part of an error's message."""
    text = " ".join(str(e).split()) or type(e).__name__
    told = re.search(r"unsupported (global|class|operand|storage)\S*( \S+){0,6}", text, re.I)
    text = told.group(0) if told else text
    return text if len(text) <= 160 else text[:157] + "..."


_allow_numpy_in_weights()
