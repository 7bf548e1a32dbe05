#!/usr/bin/env python
"""What only a GPU can show, in one command: correctness, speed, memory, and a real training.

    python dev/gpu_check.py --minutes 8 --dataset bccd --dataset aquarium

Its sections stand in order of worth. Each is a process of its own with a time limit, and writes
what it has at once into benchmarks/gpu/<card>.json: being cut off loses only what comes after. It
needs neither a network nor an installed project (dev/gpu_wheels.sh collects what it does need);
`--table FILE` prints such a file as Markdown.

On a machine without a GPU the sections run on the CPU, at tiny sizes, to show that they work.
"""

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

REPO = Path(__file__).resolve().parents[1]
PATHS = [str(REPO / "projects"), str(REPO / "benchmarks"), str(REPO)]
sys.path[:0] = PATHS

# Name -> seconds that it may take at most.
LIMITS = {
    **{"tests": 150, "additions": 170, "steps": 170, "losses": 45},
    **{"inference": 60, "profile": 50, "study": 3600},
}


def build_parser() -> argparse.ArgumentParser:
    """The arguments of the script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=8, help="in all; default %(default)s")
    parser.add_argument("--device", help="default: cuda where there is a GPU, else cpu")
    parser.add_argument("--sections", nargs="+", choices=LIMITS, default=list(LIMITS))
    parser.add_argument("--dataset", action="append", default=[], help="to train on; repeatable")
    parser.add_argument("--weights", default="", help="ImageNet weights of the study's backbone")
    parser.add_argument("--jobs", type=int, default=0, help="runs side by side; default by cores")
    parser.add_argument("--output", type=Path, default=REPO / "benchmarks" / "gpu")
    parser.add_argument("--table", type=Path, metavar="FILE", help="print it as Markdown, no more")
    parser.add_argument("--section", choices=LIMITS, help=argparse.SUPPRESS)
    return parser


def main(argv=None) -> int:
    """Run the sections that were asked for; returns the exit code."""
    args = build_parser().parse_args(argv)
    if args.table:
        from gpu_table import markdown

        print(markdown(json.loads(args.table.read_text())))
        return 0
    import torch

    args.device = args.device or ("cuda" if torch.cuda.is_available() else "cpu")
    if args.section:
        run_section(args)
        return 0
    return run_all(args)


def run_all(args: argparse.Namespace) -> int:
    """Every section in a process of its own; returns 1 if any failed."""
    start, failed = time.monotonic(), []
    for name in args.sections:
        left = 60 * args.minutes - (time.monotonic() - start)
        if left < 10:
            print(f"[gpu-check] {name}: no time left")
            failed.append(name)
            continue
        limit = min(LIMITS[name], left)
        print(f"[gpu-check] {name}, at most {limit:.0f} s", flush=True)
        path = os.pathsep.join(filter(None, [*PATHS, os.environ.get("PYTHONPATH")]))
        env = {**os.environ, "LIBRA_UMOP_SECTION_SECONDS": f"{limit:.0f}", "PYTHONPATH": path}
        command = [sys.executable, __file__, "--section", name, *forwarded(args)]
        began = time.monotonic()
        code = run_within(command, env, limit)
        seconds = time.monotonic() - began
        print(f"[gpu-check] {name}: {code or 'done'}, {seconds:.0f} s", flush=True)
        failed += [name] if code else []
    file = result_file(args)
    if file.exists():
        from gpu_table import markdown

        print(markdown(json.loads(file.read_text())))
    return 1 if failed else 0


def run_within(command: list[str], env: dict[str, str] | None, seconds: float) -> int | str:
    """The exit code of a command, or "cut off" where it and its children were ended in the end."""
    process = subprocess.Popen(command, cwd=REPO, env=env, start_new_session=True)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return "cut off"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def forwarded(args: argparse.Namespace) -> list[str]:
    """The arguments of a section's process."""
    ret = ["--device", args.device, "--output", str(args.output), "--jobs", str(args.jobs)]
    ret += ["--weights", args.weights] if args.weights else []
    return ret + [x for folder in args.dataset for x in ("--dataset", folder)]


def result_file(args: argparse.Namespace) -> Path:
    """``<card>.json`` in the output folder."""
    import torch

    card = torch.cuda.get_device_name() if args.device == "cuda" else "cpu"
    return args.output / f"{re.sub(r'[^A-Za-z0-9]+', '_', card).strip('_')}.json"


def run_section(args: argparse.Namespace) -> None:
    """Run one section; it writes through the function that it is given."""
    import gpu_sections

    file = result_file(args)
    file.parent.mkdir(parents=True, exist_ok=True)

    def write(figures: dict[str, Any]) -> None:
        report = json.loads(file.read_text()) if file.exists() else {}
        report["environment"] = gpu_sections.environment_of(args.device)
        report.setdefault("commits", {})[args.section] = gpu_sections.commit()
        report[args.section] = figures
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(report, indent=1) + "\n")
        os.replace(partial, file)

    getattr(gpu_sections, args.section)(args, write)


if __name__ == "__main__":
    sys.exit(main())
