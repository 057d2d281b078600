"""Speeds, each beside its named peer's in the same run. README quotes nothing else.

    python scripts/benchmark.py env
    python scripts/benchmark.py data
    python scripts/benchmark.py vision
    python scripts/benchmark.py dream
    python scripts/benchmark.py controller
    python scripts/benchmark.py arm

A result is a table on the screen and, with `--json FILE`, the same numbers in a file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path

# Before a library that reads it is loaded: what is compared here is speed on one core each
# (`dream` sets torch's threads itself).
os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks import arm, controller, data, dream, environment, vision

BENCHMARKS = {
    "env": environment,
    "data": data,
    "vision": vision,
    "dream": dream,
    "controller": controller,
    "arm": arm,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="name", required=True, metavar="benchmark")
    for name, module in BENCHMARKS.items():
        command = commands.add_parser(name, help=(module.__doc__ or "").splitlines()[0])
        command.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here")
        module.add_arguments(command)
    arguments = parser.parse_args()
    result = {
        "command": " ".join(["python", *sys.argv]),
        "machine": {"processor": _processor(), "cores": os.cpu_count()},
        "python": platform.python_version(),
        **BENCHMARKS[arguments.name].run(arguments),
    }
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


def _processor() -> str:
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.exists():
        for line in cpu_info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
