"""One optimizer step: precision, accumulation, clipping, and all ranks ending together."""

import contextlib
import datetime
import itertools
import logging
import math
import sys
import time
import traceback
from typing import Any

import numpy as np
import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch.nn.parallel import DistributedDataParallel

from ..errors import ConfigError, can_be_mended
from ..utils.ranks import PeerError, agree

logger = logging.getLogger(__name__)

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
# How long a rank that failed waits for the others to learn of it before it ends anyway.
FAREWELL = datetime.timedelta(seconds=10)


class TrainStep(SimpleTrainer):
    """Same interface as :class:`detectron2.engine.SimpleTrainer`, and as its ``AMPTrainer``.

    With one part, no autocast and no clipping, the step is SimpleTrainer's. Beyond it:

    * A loss that is not finite on any rank ends all ranks in that iteration, before the weights
      are touched, with the rank, the losses and the image files in the message. So does, under
      finite losses, a gradient that is not finite; in float16 the loss scaler skips that step.
    * So does an exception in the forward pass of any rank, and a signal noted in
      ``stop_signal`` on any rank is known to all in ``agreed_signal``, in the same iteration.
      All this costs two all-reduces of one int over gloo, one while the device computes.

    Args:
        num_parts: the batch is computed in this many parts; the mean of their losses is minimised.
        amp_dtype: autocast to this type; None for none. float16 scales the loss.
        clip_norm: limit of the norm of all gradients together; None for none.
        norm_type: order of that norm.
    """

    def __init__(
        self,
        model,
        data_loader,
        optimizer,
        *,
        num_parts: int = 1,
        amp_dtype: torch.dtype | None = None,
        clip_norm: float | None = None,
        norm_type: float = 2.0,
    ):
        super().__init__(model, data_loader, optimizer)
        self.num_parts = num_parts
        self.amp_dtype = amp_dtype
        self.clip_norm = clip_norm
        self.norm_type = norm_type
        self.device_type = next(model.parameters()).device.type
        self.grad_scaler = torch.amp.GradScaler(
            self.device_type, enabled=amp_dtype == torch.float16
        )
        self.stop_signal = 0  # set by a signal handler of this process
        self.agreed_signal = 0  # the same number on all ranks
        self._files: list[str] = []

    @classmethod
    def from_config(cls, cfg, model, data_loader, optimizer) -> "TrainStep":
        """The step that ``SOLVER`` describes."""
        clip = cfg.SOLVER.CLIP_GRADIENTS
        full_model = clip.ENABLED and clip.CLIP_TYPE == "full_model"
        return cls(
            model,
            data_loader,
            optimizer,
            num_parts=cfg.SOLVER.GRADIENT_ACCUMULATION,
            amp_dtype=_amp_dtype(cfg),
            clip_norm=clip.CLIP_VALUE if full_model else None,
            norm_type=clip.NORM_TYPE,
        )

    def run_step(self):
        """Compute gradients of the batch part by part, agree with the other ranks, step."""
        if not self.model.training:
            raise RuntimeError("the model was left in eval mode")
        start = time.perf_counter()
        try:
            data = next(self._data_loader_iter)
        except Exception:
            self._say_farewell("loading its images")
            raise
        data_time = time.perf_counter() - start
        agree()  # all have a batch, before DistributedDataParallel may speak in the forward pass
        self.optimizer.zero_grad()
        part_size = len(data) // self.num_parts
        self._files = [str(d.get("file_name", "?")) for d in data]
        part_losses = []
        for i in range(self.num_parts):
            part = data[i * part_size : (i + 1) * part_size]
            part_losses.append(self._forward_backward(part, is_last=i == self.num_parts - 1))
        self.after_backward()
        self._write_metrics(_mean(part_losses), data_time)
        self._clip_and_step()

    def _forward_backward(self, data: list[dict], *, is_last: bool) -> dict[str, torch.Tensor]:
        """Add the gradients of one part; gradients are averaged over ranks with the last one."""
        is_ddp = isinstance(self.model, DistributedDataParallel)
        with self.model.no_sync() if is_ddp and not is_last else contextlib.nullcontext():
            try:
                with self._autocast(), self._jit():
                    loss_dict = self.model(data)
                    if isinstance(loss_dict, torch.Tensor):
                        loss_dict = {"total_loss": loss_dict}
            except PeerError:
                raise
            except Exception:
                self._say_farewell("the forward pass of " + ", ".join(self._files))
                raise
            if is_last:
                self.agreed_signal = max(self.agreed_signal, agree(self.stop_signal))
            losses = sum(loss_dict.values())
            self.grad_scaler.scale(losses / self.num_parts).backward()
        return loss_dict

    def _autocast(self):
        if self.amp_dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device_type, dtype=self.amp_dtype)

    def _jit(self):
        # TorchScript (Detectron2's focal loss) runs its first calls unoptimized and the later ones
        # with other rounding, so a resumed run would differ in the last bit. It fuses on CUDA only.
        return torch.jit.optimized_execution(self.device_type != "cpu")

    def _clip_and_step(self) -> None:
        groups = self.optimizer.param_groups
        params = list(itertools.chain.from_iterable(g["params"] for g in groups))
        norm = 0.0
        if self.clip_norm is not None:
            self.grad_scaler.unscale_(self.optimizer)
            norm = torch.nn.utils.clip_grad_norm_(params, self.clip_norm, self.norm_type).item()
            get_event_storage().put_scalar("grad_norm", norm)
        elif not self.grad_scaler.is_enabled():
            # As clip_grad_norm_ finds it, which would also write all gradients.
            norms = torch._foreach_norm([p.grad for p in params if p.grad is not None])
            norm = torch.stack(norms).norm().item()
        if not math.isfinite(norm) and not self.grad_scaler.is_enabled():
            self._refuse_gradient(norm)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def _refuse_gradient(self, norm: float) -> None:
        """Raise on every rank: gradients are their mean already, so all ranks come here."""
        files = ", ".join(itertools.chain.from_iterable(comm.all_gather(self._files)))
        raise FloatingPointError(
            f"The norm of the gradient became {norm} at iteration {self.iter}, under finite losses;"
            f" the weights were not changed by it. Images: {files}"
        )

    def _say_farewell(self, where: str) -> None:
        told = f"Rank {comm.get_rank()} failed at iteration {self.iter}, in {where}"
        told += f": {traceback.format_exception_only(*sys.exc_info()[:2])[-1].strip()}"
        mendable = can_be_mended(sys.exc_info()[1])  # a line of its own follows
        if not mendable:
            logger.error(told)
        if not (mendable or comm.is_main_process()):  # whose log is a file that nobody looks at
            print(f"{told}\n{traceback.format_exc()}", file=sys.stderr, flush=True)
        if comm.get_world_size() > 1:
            with contextlib.suppress(RuntimeError):  # they may wait for us elsewhere
                agree(failure=told, mendable=mendable, timeout=FAREWELL)

    def _write_metrics(self, loss_dict, data_time, prefix="", iter=None) -> None:
        """Same as SimpleTrainer's, but every rank sees every rank's losses and judges them."""
        losses = {k: v.detach().float().item() for k, v in loss_dict.items()}
        bad = not all(math.isfinite(v) for v in losses.values())
        mine = {"losses": losses, "data_time": data_time, "files": self._files if bad else []}
        reports = comm.all_gather(mine)
        _refuse_not_finite(reports, self.iter)
        storage = get_event_storage()
        storage.put_scalar("rank_data_time", data_time)
        if comm.is_main_process():
            storage.put_scalar("data_time", max(r["data_time"] for r in reports))
            means = {k: float(np.mean([r["losses"][k] for r in reports])) for k in losses}
            storage.put_scalar("total_loss", sum(means.values()))
            if len(means) > 1:
                storage.put_scalars(**means)

    def state_dict(self) -> dict[str, Any]:
        """That of SimpleTrainer and, in float16, of the loss scaler."""
        state = super().state_dict()
        if self.grad_scaler.is_enabled():
            state["grad_scaler"] = self.grad_scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Raises ValueError where the state is another optimizer's."""
        states = (state_dict["optimizer"], self.optimizer.state_dict())
        stored, ours = ({"momentum", "betas"} & set(s["param_groups"][0]) for s in states)
        if stored != ours:  # torch would take it and fail in the step
            found = f"its optimizer has {sorted(stored)}"
            raise ValueError(f"{found}, that of SOLVER.OPTIMIZER {sorted(ours)}")
        super().load_state_dict(state_dict)
        if self.grad_scaler.is_enabled() and "grad_scaler" in state_dict:
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])


def _amp_dtype(cfg) -> torch.dtype | None:
    if not cfg.SOLVER.AMP.ENABLED:
        return None
    dtype = DTYPES[cfg.SOLVER.AMP.DTYPE]
    if dtype == torch.float16 and torch.device(cfg.MODEL.DEVICE).type == "cpu":
        raise ConfigError(
            "SOLVER.AMP.DTYPE is 'float16', which needs CUDA; should be 'bfloat16' on the CPU,"
            " or SOLVER.AMP.ENABLED False"
        )
    return dtype


def _mean(part_losses: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    if len(part_losses) == 1:
        return part_losses[0]
    return {k: torch.stack([p[k].detach() for p in part_losses]).mean() for k in part_losses[0]}


def _refuse_not_finite(reports: list[dict[str, Any]], iteration: int) -> None:
    """Raise the same error on every rank if a loss of any rank is NaN or infinite."""
    lines = []
    for rank, report in enumerate(reports):
        bad = {k: v for k, v in report["losses"].items() if not math.isfinite(v)}
        if bad:
            names = ", ".join(f"{k} = {v}" for k, v in bad.items())
            lines.append(f"rank {rank}: {names}; images: {', '.join(report['files'])}")
    if lines:
        raise FloatingPointError(
            f"Loss became infinite or NaN at iteration {iteration}; the weights were not changed"
            f" by it. {' | '.join(lines)}"
        )
