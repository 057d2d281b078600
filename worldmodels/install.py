"""Whether the three packages that belong together are the ones Python finds."""

import sys
from importlib.util import find_spec
from pathlib import Path

from worldmodels.errors import UserError

SIBLINGS = ("agents", "envs")


def shadowed_imports() -> dict[str, str]:
    """Sibling packages that Python finds elsewhere than beside this one, and where."""
    home = Path(__file__).resolve().parent.parent
    places = {name: _place(name) for name in SIBLINGS}
    return {
        name: "nothing" if place is None else str(place)
        for name, place in places.items()
        if place is None or place.resolve() != home / name
    }


def check_imports() -> None:
    """Raise UserError where another `agents` or `envs` stands in front of ours."""
    for name, place in shadowed_imports().items():
        raise UserError(
            f'"import {name}" finds {place}, not the package beside worldmodels: '
            f"leave that folder, rename it, or install worldmodels into an environment of its own"
        )


def started_as_command() -> bool:
    """Whether this process is `wm` or `python -m worldmodels`, which print errors themselves."""
    # "-m" stands there while Python looks for the module.
    return bool(sys.argv) and Path(sys.argv[0]).name in ("wm", "wm.exe", "-m")


def _place(name: str) -> Path | None:
    """The folder of a package, or the file of a module, that is imported or would be."""
    module = sys.modules.get(name)
    if module is not None:  # whatever it is, `import` gives that
        places = [*getattr(module, "__path__", ()), getattr(module, "__file__", None)]
    else:
        spec = find_spec(name)
        if spec is None:
            return None
        places = [*(spec.submodule_search_locations or ()), spec.origin]
    return Path(places[0]) if places[0] else None
