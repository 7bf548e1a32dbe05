"""A CUDA device that is not there: its tensors say they are on it, and are computed on the CPU.

Unlike those of FakeTensorMode they have numbers, so a model may branch on them as on a GPU, and
whole training steps run, backward pass included. What shows: tensors on the wrong device, types
that do not fit under ``torch.autocast("cuda")``, and who makes the host wait. What does not: speed,
memory, streams, and how CUDA's kernels round.
"""

import collections
import contextlib
import sys
from pathlib import Path
from unittest import mock

import torch
from pretend_backward import backward, register_hook
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map_only

from testing.sync_counter import WAITING, _has_mask

CUDA = torch.device("cuda:0")
_TOLIST = torch.Tensor.tolist
HALF = (torch.float16, torch.bfloat16)
PACKAGES = ("libra_umop/", "detectron2/", "fvcore/")
# Helpers: not they wait, but who calls them.
HELPERS = ("detectron2/layers/", "detectron2/structures/", "fvcore/nn/")


class PretendTensor(torch.Tensor):
    """On "cuda:0" for everybody who asks; ``elem`` holds its numbers on the CPU."""

    @staticmethod
    def __new__(cls, elem):
        tensor = torch.Tensor._make_wrapper_subclass(
            cls,
            elem.shape,
            strides=elem.stride(),
            storage_offset=elem.storage_offset(),
            dtype=elem.dtype,
            device=CUDA,
        )
        tensor.elem = elem
        return tensor

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _compute(func, args, dict(kwargs or {}), note=lambda: None)


class PretendCUDA(TorchDispatchMode):
    """``with PretendCUDA() as cuda:`` has a device "cuda"; ``cuda.waits`` counts who waited for it.

    Names are "detectron2/path.py:function", "libra_umop:function", or "backward:node".
    """

    def __init__(self):
        super().__init__()
        self.waits = collections.Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return _compute(func, args, dict(kwargs or {}), note=self._note)

    def _note(self):
        self.waits[_who()] += 1

    def __enter__(self):
        torch._C._ensureCUDADeviceGuardSet()  # without a driver, one that does nothing
        self._stack = contextlib.ExitStack()
        for target, name, stand_in in (
            (torch.cuda, "_lazy_init", lambda: None),
            (torch.cuda, "Event", mock.MagicMock),
            (torch.accelerator, "is_available", lambda: True),
            (torch.Tensor, "pin_memory", _pinned),
            (torch.cuda, "is_bf16_supported", lambda *args, **kwargs: True),
            (torch.cuda.amp.common, "amp_definitely_not_available", lambda: False),
            (torch.Tensor, "tolist", lambda x: _TOLIST(x.cpu())),  # subclasses have none
            (torch.Tensor, "backward", backward),
            (torch.Tensor, "register_hook", register_hook),
        ):
            self._stack.enter_context(mock.patch.object(target, name, stand_in))
        self._stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        # TorchScript would remember the device, and compile kernels for it, long after.
        self._stack.enter_context(torch.jit.optimized_execution(False))
        # torch.tensor(x, device="cuda") makes x on the CPU and then asks for its copy.
        before = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)
        self._stack.callback(torch._C._set_only_lift_cpu_tensors, before)
        return super().__enter__()

    def __exit__(self, *args):
        super().__exit__(*args)
        self._stack.close()


def to_cuda(module: nn.Module) -> nn.Module:
    """Like ``module.to("cuda")``: its parameters and buffers, in place, and nothing else."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                moved = PretendTensor(parameter.detach().clone())
                part._parameters[name] = nn.Parameter(moved, parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = PretendTensor(buffer.clone())
    return module


def _pinned(tensor):
    """Stands in for :meth:`torch.Tensor.pin_memory`."""
    pinned = tensor.clone()
    pinned.pretends_to_be_pinned = True
    return pinned


def _compute(func, args, kwargs, note):
    """What ``func`` gives, on the device where it would be; ``note()`` if the host would wait."""
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
    is_there = any(isinstance(x, PretendTensor) for x in tensors)
    device = kwargs.get("device")
    goes_there = is_there if device is None else torch.device(device).type == "cuda"
    is_pinned = kwargs.pop("pin_memory", False)
    name = func.overloadpacket.__name__
    if is_there or goes_there:
        _watch(func, name, args, kwargs, tensors, goes_there, note)
        if device is not None:
            kwargs["device"] = torch.device("cpu")
    inside, inside_kwargs = tree_map_only(PretendTensor, lambda x: x.elem, (args, kwargs))
    if name in ("_softmax", "_log_softmax") and inside[2]:  # half to float in one: CUDA's alone
        inside = (inside[0].float(), inside[1], False)
    if name in ("convolution", "convolution_backward"):
        out = _convolve(func, inside)
    else:
        out = func(*inside, **inside_kwargs)
    if name == "copy_":
        return args[0]
    if is_pinned:
        out.pretends_to_be_pinned = True
    if not goes_there:
        return out
    out = tree_map_only(torch.Tensor, PretendTensor, out)
    if any(x.alias_info is not None for x in func._schema.returns):  # a view, or in place
        return return_and_correct_aliasing(func, args, kwargs, out)
    return out


def _convolve(func, args):
    """In fp32, then rounded: as on a GPU, and quick. A CPU's half precision is neither (and torch
    2.11 to 2.14 have bfloat16 gradients of 1e32 there, where a level is a single pixel)."""
    dtypes = {x.dtype for x in args if isinstance(x, torch.Tensor)}
    if len(dtypes) > 1 or not dtypes <= set(HALF):
        return func(*args)
    out = func(*tree_map_only(torch.Tensor, torch.Tensor.float, args))
    return tree_map_only(torch.Tensor, lambda x: x.to(*dtypes), out)


def _watch(func, name, args, kwargs, tensors, goes_there, note):
    host = [x for x in tensors if not isinstance(x, PretendTensor)]
    if name in ("copy_", "_to_copy"):
        # From host to device or back it waits, unless told not to and the host's is pinned.
        told = kwargs.get("non_blocking", args[2] if len(args) > 2 else False)
        is_pinned = host and all(hasattr(x, "pretends_to_be_pinned") for x in host)
        if (host or not goes_there) and not (told and is_pinned):
            note()
        return
    stray = [x for x in host if x.dim() > 0 or x is args[0]]
    indices = args[1] if name.startswith("index") and isinstance(args[1], (list, tuple)) else []
    if any(all(x is not index for index in indices) for x in stray):
        shapes = [tuple(x.shape) for x in stray]
        raise RuntimeError(f"all should be on cuda:0, but {func} gets {shapes} on the CPU")
    is_filling = name.startswith("index_put") and args[2].numel() == 1  # with a mask: masked_fill
    if (
        name.startswith((*WAITING, "repeat_interleave", "nms"))
        or (_has_mask(indices) and not is_filling)
        or stray  # indices of the host are copied
    ):
        note()


def _who() -> str:
    """The innermost function on the stack that is of a known package and not a helper."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code is backward.__code__:
            return f"backward:{frame.f_locals['node'].name()}"
        path = Path(frame.f_code.co_filename).as_posix()
        function = frame.f_code.co_name
        for package in () if function.startswith("<") else PACKAGES:  # "<": a comprehension
            _, found, rest = path.rpartition(f"/{package}")
            if found and not f"{package}{rest}".startswith(HELPERS):
                where = package.rstrip("/") if package == PACKAGES[0] else package + rest
                return f"{where}:{function}"
        frame = frame.f_back
    return "the test"
