"""The agents that come with the package."""

from pathlib import Path

import agents

FOLDER = Path(agents.__file__).parent / "pretrained"


def pretrained_agents() -> dict[str, Path]:
    """Return a dict from the name to the file of each agent that comes with the package."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.safetensors"))}
