"""Find the file of an agent in a run or in the package."""

from pathlib import Path

from worldmodels.runs.pretrained import pretrained_agents
from worldmodels.runs.run import BEST, WEIGHTS


def agent_file(place: str | Path) -> Path:
    """The file of a run's best agent; without one, the path of its newest, which may not exist.

    Args:
        place: a run's folder; or an agent file, which is returned as it is; or the name of an
            agent that comes with the package, if no file or folder has that name.
    """
    place = Path(place)
    if place.suffix == ".safetensors":
        return place
    if not place.exists() and str(place) in pretrained_agents():
        return pretrained_agents()[str(place)]
    if (place / BEST).is_file():
        return place / BEST
    return place / "controller" / WEIGHTS["controller"]
