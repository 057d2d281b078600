"""World models: agents that learn inside their own dream.

An agent has three parts, as in "World Models" by Ha & Schmidhuber (arXiv 1803.10122)::

    V, vision       encodes a frame as a latent, which is continuous (VAE) or discrete (VQ-VAE)
    M, memory       predicts the next latent, the reward and the end of the episode
    C, controller   maps [z, h] to an action, and is searched in the real env or in the dream

These symbols are used in equations only::

    z       latent of a frame: Z numbers, or N codes with K values each
    h       M's hidden state before an agent step, which C receives together with z
    mu, logvar   mean and log-variance of V's posterior over z
    log_pi  log-weights of a mixture's components
    tau     temperature of a dream

These letters name the axes of arrays, in shapes and in code that unpacks shapes::

    B  batch          T  env steps      D  agent steps
    P  candidates     S  start states   Z  latents
    N  codes          F  features       A  numbers of an encoded action
    H  hidden units   K  values per code, or components of a mixture

Only in the shape of a frame, H x W x 3, do H and W stand for the height and the width.

Read the files of the package in this order: `vision/vae.py`, `memory/mdnrnn.py`, `dream/model.py`,
`controller/agent.py`, `stages/train_controller.py`. Then read `vision/vqvae.py`,
`memory/codernn.py` and `memory/code_head.py`, which contain V and M over codes. The file
`dream/env.py` contains dreams as Gymnasium environments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium as _gym

from worldmodels.errors import UserError
from worldmodels.hardware import check_imports as _check_imports
from worldmodels.hardware import started_as_command as _started_as_command

__version__ = "0.1.0"

try:
    _check_imports()
except UserError as error:
    if not _started_as_command():  # the command checks again and prints one line
        raise ImportError(str(error)) from None
else:
    import envs as _envs  # noqa: F401  registers worldmodels/CarRacing-v3

_gym.register(
    id="worldmodels/Dream-v0",
    entry_point="worldmodels.dream.env:DreamEnv",
    vector_entry_point="worldmodels.dream.env:make_dream",
)

if TYPE_CHECKING:
    from worldmodels.controller.agent import Agent, load_agent
    from worldmodels.dream.env import make_dream
    from worldmodels.dream.load import load_world_model
    from worldmodels.dream.model import DreamModel, DreamState

__all__ = [
    "Agent",
    "DreamModel",
    "DreamState",
    "UserError",
    "load_agent",
    "load_world_model",
    "make_dream",
]

_HOMES = {
    "Agent": "worldmodels.controller.agent",
    "DreamModel": "worldmodels.dream.model",
    "DreamState": "worldmodels.dream.model",
    "load_agent": "worldmodels.controller.agent",
    "load_world_model": "worldmodels.dream.load",
    "make_dream": "worldmodels.dream.env",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used, so that `wm --help` does not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
