"""Find the file of an agent in a run or in the package."""

from pathlib import Path

from worldmodels.runs.pretrained import pretrained_agents
from worldmodels.runs.run import BEST, WEIGHTS


def agent_file(place: str | Path) -> Path:
    """The path of an agent's file.

    For a run, the result is the path of the best agent's file. If the run has no best agent yet,
    the result is the path of the newest agent's file, which may not exist.

    Args:
        place: a run's folder, an agent's file, or the name of a packaged agent. The path of an
            agent's file is returned unchanged. If a file or folder has the same name as a packaged
            agent, the file or folder takes precedence.
    """
    place = Path(place)
    if place.suffix == ".safetensors":
        return place
    if not place.exists() and str(place) in pretrained_agents():
        return pretrained_agents()[str(place)]
    if (place / BEST).is_file():
        return place / BEST
    return place / "controller" / WEIGHTS["controller"]
