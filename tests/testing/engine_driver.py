"""train_net.py with accidents: MISBEHAVE is "what@iteration@rank", comma separated.

``what`` is KILL, TERM, USR1 or INT (the process sends itself that signal in the iteration),
LAUNCHER (it sends SIGTERM to what started it), NAN (a weight becomes NaN before it) or RAISE (the
forward pass fails in it). GROUPTEST and GROUPVAL, whatever the iteration: SIGTERM at the whole
process group in the first evaluation, before its first image is tested or its losses are computed.
"""

import os
import signal
import sys
from pathlib import Path

import torch
from detectron2.engine import HookBase
from detectron2.evaluation import COCOEvaluator
from detectron2.utils import comm
from detectron2.utils.events import EventWriter

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import train_net  # noqa: E402

from libra_umop.training.trainer import LibraTrainer  # noqa: E402

torch.set_num_threads(1)


class Misbehave(HookBase):
    def __init__(self, what, iteration, rank):
        self.what, self.iteration, self.rank = what, int(iteration), int(rank)

    def listen(self, model):
        """Attach what happens in an evaluation."""
        if self.what.startswith("GROUP"):
            self.handle = model.register_forward_pre_hook(self.signal_group)

    def signal_group(self, model, args):
        if not torch.is_grad_enabled() and model.training == (self.what == "GROUPVAL"):
            self.handle.remove()
            group = os.getpgid(0)
            assert group == os.getpid(), "only ever the group that run() made for this process"
            if os.fork() == 0:  # not from the workers' parent, whom they heed
                os.killpg(group, signal.SIGTERM)
                os._exit(0)
            os.wait()

    def before_step(self):
        if self.trainer.iter != self.iteration or comm.get_rank() != self.rank:
            return
        if self.what == "NAN":
            next(self.trainer.model.parameters()).data.fill_(float("nan"))
        elif self.what == "RAISE":
            self.trainer.model.register_forward_pre_hook(self.fail)
        elif self.what in ("FLUSH", "EVAL"):
            pass
        elif self.what == "LAUNCHER":
            os.kill(os.getppid(), signal.SIGTERM)
        else:
            os.kill(os.getpid(), getattr(signal, f"SIG{self.what}"))

    @staticmethod
    def fail(module, args):
        raise RuntimeError("an accident in the forward pass")


class FullDisk(EventWriter):
    def __init__(self, trainer, iteration):
        self.trainer, self.iteration = trainer, iteration

    def write(self):
        if self.trainer.iter >= self.iteration:
            raise OSError(28, "No space left on device")


class Accidents:
    """Those that happen elsewhere than in a hook of the iteration."""

    evaluations = 0

    @staticmethod
    def of(what):
        accidents = [a.split("@") for a in os.environ.get("MISBEHAVE", "").split(",") if a]
        return [int(i) for w, i, rank in accidents if w == what and int(rank) == comm.get_rank()]

    @classmethod
    def evaluate(cls, evaluator, *args, **kwargs):
        results = evaluate(evaluator, *args, **kwargs)
        cls.evaluations += 1
        if cls.evaluations in cls.of("EVAL"):
            raise OSError(28, "No space left on device")
        return results

    @classmethod
    def build_writers(cls, trainer):
        return [*build_writers(trainer), *(FullDisk(trainer, i) for i in cls.of("FLUSH"))]


evaluate, build_writers = COCOEvaluator.evaluate, LibraTrainer.build_writers
COCOEvaluator.evaluate = lambda *args, **kwargs: Accidents.evaluate(*args, **kwargs)
LibraTrainer.build_writers = lambda trainer: Accidents.build_writers(trainer)
build_hooks = LibraTrainer.build_hooks


def build_hooks_and_accidents(self):
    accidents = filter(None, os.environ.get("MISBEHAVE", "").split(","))
    accidents = [Misbehave(*accident.split("@")) for accident in accidents]
    for accident in accidents:
        accident.listen(self.evaluated_model)
    return build_hooks(self) + accidents


LibraTrainer.build_hooks = build_hooks_and_accidents

if __name__ == "__main__":
    sys.exit(train_net.run())
