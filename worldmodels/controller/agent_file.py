"""Where an agent's file is: of a run, or of the package."""

from pathlib import Path

from worldmodels.runs.pretrained import pretrained_agents
from worldmodels.runs.run import BEST, WEIGHTS


def agent_file(place: str | Path) -> Path:
    """The file of a run's best agent, or where its newest one is or would be.

    Args:
        place: a run's folder, an agent file, which it gives back, or the name of an agent that
            comes with the package, where nothing else has that name.
    """
    place = Path(place)
    if place.suffix == ".safetensors":
        return place
    if not place.exists() and str(place) in pretrained_agents():
        return pretrained_agents()[str(place)]
    if (place / BEST).is_file():
        return place / BEST
    return place / "controller" / WEIGHTS["controller"]
