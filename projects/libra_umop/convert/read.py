"""Reading other projects' checkpoints: their tensors, and what their meta says in plain words."""

import re
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import ConfigError
from ..utils.safe_load import safe_safetensors_load, safe_torch_load

__all__ = ["Checkpoint", "read_checkpoint"]

# Their training loops leave objects of these packages in a checkpoint beside the tensors (log
# histories, config nodes). They are read as inert blanks; the packages are not imported.
MM_PACKAGES = ("mmengine", "mmcv", "mmdet", "mmcls", "mmpretrain")
IGNORED_PACKAGES = MM_PACKAGES + ("addict", "argparse", "numpy")
STATE_KEYS = ("state_dict", "model", "model_state", "state_dict_ema")
WRAPPERS = ("module.", "_orig_mod.")


class Checkpoint(NamedTuple):
    """The tensors of a file by name, and its meta as far as it is plain."""

    tensors: dict[str, Tensor]
    meta: dict[str, Any]

    @property
    def class_names(self) -> list[str] | None:
        """The class names that the meta holds, in label order."""
        dataset = self.meta.get("dataset_meta") or {}
        for names in (dataset.get("classes"), dataset.get("CLASSES"), self.meta.get("CLASSES")):
            if isinstance(names, (list, tuple)) and all(isinstance(n, str) for n in names):
                return list(names)
        return None

    @property
    def version(self) -> str:
        """Version of mmdetection that wrote the file; "" if it does not say."""
        return str(self.meta.get("mmdet_version") or "")

    @property
    def config_text(self) -> str:
        """The training config as text; "" if the file does not keep it."""
        texts = (self.meta.get("cfg"), self.meta.get("config"))
        return next((text for text in texts if isinstance(text, str)), "")


def read_checkpoint(path: str) -> Checkpoint:
    """Read a file of ``torch.save`` or safetensors; nothing in it is run.

    Raises:
        ConfigError: if the file is not whole, asks for code, or holds no tensors by name.
    """
    load = safe_safetensors_load if path.endswith(".safetensors") else _load_pickle
    content: Any = load(path)
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: holds a {type(content).__name__}, not tensors by name")
    state = next((content[k] for k in STATE_KEYS if isinstance(content.get(k), dict)), content)
    tensors = {_unwrapped(k): v for k, v in state.items() if isinstance(v, Tensor)}
    if not tensors:
        raise ConfigError(f"{path}: holds no tensors by name (keys: {list(content)[:5]})")
    meta = content.get("meta")
    return Checkpoint(tensors, dict(meta) if isinstance(meta, dict) else {})


def _unwrapped(name: str) -> str:
    for prefix in WRAPPERS:
        name = name[len(prefix) :] if name.startswith(prefix) else name
    return name


def _load_pickle(path: str) -> Any:
    """``safe_torch_load`` that reads objects of ``IGNORED_PACKAGES`` as blanks."""
    blanks: dict[str, type] = {}
    while True:
        try:
            with torch.serialization.safe_globals(list(blanks.values())):
                return safe_torch_load(path)
        except ConfigError as e:
            name = _refused_global(e)
            if name in blanks or name.split(".")[0] not in IGNORED_PACKAGES:
                raise
            blanks[name] = _blank_class(name)


def _refused_global(error: ConfigError) -> str:
    match = re.search(r"GLOBAL (\S+) was not an allowed global", str(error.__cause__))
    return match.group(1) if match else ""


def _blank_class(name: str) -> type:
    """A class of this full name that takes anything and keeps nothing."""
    module, _, leaf = name.rpartition(".")

    def new(cls, *args: Any, **kwargs: Any) -> Any:
        return object.__new__(cls)

    methods = {
        "__module__": module,
        "__new__": new,
        "__init__": lambda self, *args, **kwargs: None,
        "__setstate__": lambda self, state: None,
    }
    return type(leaf, (), methods)


def numbers_in(text: str, name: str) -> tuple[float, ...] | None:
    """The numbers of the first ``name=[1, 2.5]`` in a config's text, or None."""
    match = re.search(rf"\b{name}\s*=\s*[\[(]([^\])]*)[\])]", text)
    if not match:
        return None
    try:
        return tuple(float(x) for x in match.group(1).split(",") if x.strip())
    except ValueError:
        return None


def word_in(text: str, name: str) -> str | None:
    """The word of the first ``name=word`` or ``name='word'`` in a config's text, or None."""
    match = re.search(rf"\b{name}\s*=\s*['\"]?(\w+)", text)
    return match.group(1) if match else None
