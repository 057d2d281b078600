"""Whether the three packages that belong together are the ones Python finds."""

from importlib.util import find_spec
from pathlib import Path

from worldmodels.errors import UserError

SIBLINGS = ("agents", "envs")


def shadowed_imports() -> dict[str, str]:
    """Sibling packages that Python finds elsewhere than beside this one, and where."""
    home = Path(__file__).resolve().parent.parent
    found = {}
    for name in SIBLINGS:
        spec = find_spec(name)
        place = Path(spec.origin).resolve() if spec is not None and spec.origin else None
        if place is None or place.parent.parent != home:
            found[name] = str(place) if place is not None else "nowhere"
    return found


def check_imports() -> None:
    """Raise UserError where another distribution's `agents` or `envs` stands in front of ours."""
    for name, place in shadowed_imports().items():
        raise UserError(
            f'"import {name}" finds {place}, not the package beside worldmodels: '
            f"leave that folder, rename it, or install worldmodels into an environment of its own"
        )
