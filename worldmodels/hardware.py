"""Devices and cores of this machine, and a check that Python imports the right packages.

Functions that need torch import it themselves, because `import worldmodels` imports this module and
must be fast.
"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path

from worldmodels.errors import UserError

SIBLINGS = ("agents", "envs")


def choose_device(name: str) -> str:
    """Return the device to train on: "cpu", "cuda" or "mps".

    If the name is "auto", the device is a GPU if there is one, and the CPU otherwise.

    Raises: UserError if this machine does not have the device.
    """
    import torch

    gpus = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    available = [*(gpu for gpu, is_there in gpus.items() if is_there), "cpu"]
    if name == "auto":
        return available[0]
    if name not in available:
        raise UserError(f'expected a device among auto, {", ".join(available)}, got "{name}"')
    return name


def num_cores() -> int:
    """Return the number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def shadowed_imports() -> dict[str, str]:
    """Return the packages of `SIBLINGS` that Python does not find in this project.

    The result maps the name of each such package to the location that Python finds, or to
    "nothing".
    """
    home = Path(__file__).resolve().parent.parent
    locations = {name: _location(name) for name in SIBLINGS}
    return {
        name: str(location or "nothing")
        for name, location in locations.items()
        if location is None or location.resolve() != home / name
    }


def check_imports() -> None:
    """Raise UserError if `agents` or `envs` is not imported from this project."""
    for name, location in shadowed_imports().items():
        raise UserError(
            f'"import {name}" finds {location}, not the package next to worldmodels: '
            f"call Python from another folder, rename that folder or file, or install "
            f"worldmodels into a separate virtual environment"
        )


def started_as_command() -> bool:
    """Return whether this process was started as `wm` or as `python -m worldmodels`.

    These two commands print errors themselves.
    """
    # `sys.argv[0]` is "-m" while Python searches for the module.
    return bool(sys.argv) and Path(sys.argv[0]).name in ("wm", "wm.exe", "-m")


def _location(name: str) -> Path | None:
    """Return the folder of the package, or the file of the module, that `import name` loads."""
    module = sys.modules.get(name)
    if module is not None:  # an import gives the module that is loaded already
        locations = [*getattr(module, "__path__", ()), getattr(module, "__file__", None)]
    else:
        spec = find_spec(name)
        if spec is None:
            return None
        locations = [*(spec.submodule_search_locations or ()), spec.origin]
    return Path(locations[0]) if locations[0] else None
