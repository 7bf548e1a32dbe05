#!/usr/bin/env python3
"""torchrun, with the two things that a cluster's scheduler needs from it.

``torchrun`` itself ends with exit code 1 whatever its workers ended with, so a scheduler cannot
tell a run that was asked to stop from one that broke; and, before its ``--signals-to-handle``, it
dies of SIGUSR1 and leaves its workers behind. This is the same launcher with the same arguments,
which hands SIGUSR1 to its workers as it does SIGTERM, and ends with the exit code of the worker
that failed first.

    python deploy/elastic_launch.py --nnodes 2 ... train_net.py --config-file ...

Exit codes: 0 finished; 75 stopped on request with a checkpoint, start again with ``--resume``;
2 a mistake in config or data, starting again cannot help; else as the first failed worker's,
128 + N if signal N killed it.
"""

import os
import signal
import sys

from torch.distributed import run
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

PREEMPTED = os.EX_TEMPFAIL  # 75, the same as that of train_net.py


def stop(signum, frame):
    """Signal handler: torch's agent catches this, signals its workers and waits for them."""
    # Slurm may send both, and each twice; another exception would cut the agent's waiting short.
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SignalException(f"got {signal.Signals(signum).name}", signal.Signals(signum))


def main(argv=None) -> int:
    """Run torch's launcher on ``argv``; returns the exit code that the module text explains."""
    signal.signal(signal.SIGUSR1, stop)
    try:
        run.main(argv)
    except SignalException as error:
        print(f"elastic_launch: stopped by {error.sigval.name}", file=sys.stderr)
        return PREEMPTED
    except ChildFailedError as error:
        print(error, file=sys.stderr)
        code = error.get_first_failure()[1].exitcode
        return code if code > 0 else 128 - code  # Popen's -N: signal N
    return 0


if __name__ == "__main__":
    sys.exit(main())
