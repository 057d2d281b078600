"""Agents that come with the package, by name."""

from pathlib import Path

import agents

FOLDER = Path(agents.__file__).parent / "pretrained"


def pretrained_agents() -> dict[str, Path]:
    """The file of each agent that comes with the package, by the agent's name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.safetensors"))}
