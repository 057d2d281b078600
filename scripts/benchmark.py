"""Measure speeds, and compare each speed with that of a peer, measured at the same time.

    python scripts/benchmark.py env
    python scripts/benchmark.py data
    python scripts/benchmark.py vision
    python scripts/benchmark.py dream
    python scripts/benchmark.py controller
    python scripts/benchmark.py arm
    python scripts/benchmark.py games

Each command prints a table. With `--json FILE`, the command also writes the numbers to a file.

The module of each command is in the folder `benchmarks`. The module has the constants `OPTIONS` and
`PACKAGES`, and the function `run`. `OPTIONS` contains the flags with their defaults and meanings.
`PACKAGES` contains the packages on whose versions the numbers depend. `run` measures, prints a
table and returns the numbers.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

# This comes before the import of libraries that read it. Speeds are compared on one core each
# (`dream` sets torch's threads itself).
os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks import arm, controller, data, dream, env, games, vision


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="benchmark")
    for module in (env, data, vision, dream, controller, arm, games):
        command = commands.add_parser(
            module.__name__.removeprefix("benchmarks."),
            help=(module.__doc__ or "").splitlines()[0],
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        command.set_defaults(module=module)
        command.add_argument("--json", type=Path, metavar="FILE", help="write the numbers to FILE")
        for option, (default, what) in module.OPTIONS.items():
            kind: dict[str, Any] = {"type": type(default)}
            if isinstance(default, tuple):
                kind = {"nargs": "+", "choices": default}
            command.add_argument(option, default=default, help=what, **kind)
    arguments = parser.parse_args()
    options = dict(vars(arguments))
    module, file = options.pop("module"), options.pop("json")
    result = {
        "command": " ".join(["python", *sys.argv]),
        "machine": {"processor": _processor(), "cores": os.cpu_count()},
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in module.PACKAGES},
        **options,
        **module.run(arguments),
    }
    if file is not None:
        file.write_text(json.dumps(result, indent=1) + "\n")


def _processor() -> str:
    cpu_info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", cpu_info.read_text() if cpu_info.exists() else "")
    return found[1] if found else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
