"""An agent is one recurrent policy that consists of V, M and C; one file stores the agent."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from agents.controller import ControllerConfig, choose_actions
from agents.policy import EncodedActions, EnvMask, Frames, RepeatingPolicy, indices_of
from envs.actions import ActionMap
from envs.config import EnvConfig
from envs.views import View
from worldmodels.controller.agent_file import agent_file
from worldmodels.errors import UserError, reading
from worldmodels.memory import LSTMState, Memory, memory_metadata, restore_memory
from worldmodels.runs.checkpoint import load_checkpoint, save_checkpoint, with_prefix
from worldmodels.runs.pretrained import pretrained_agents
from worldmodels.vision import Vision, restore_vision, vision_metadata
from worldmodels.vision.networks import FRAME_SIZE


@dataclass(frozen=True)
class AgentSpec:
    """The interface between a controller and its env: view, action map and action repeat.

    Attributes:
        env_id, env_kwargs, observation_key: the env, as in `EnvConfig`.
        view: function that converts the env's frames into the frames that V encodes.
        action_map: function that converts the outputs of C into an encoded action.
        inputs: inputs of C; "zh" means the latent's features and M's hidden state, and "z" means
            the latent's features alone.
        action_repeat: number of env steps for which each action is held.
        sample_latent: whether z is drawn from V's posterior, as in the paper; if false, z is the
            mode of the posterior.
    """

    env_id: str
    view: View
    action_map: ActionMap
    action_repeat: int
    inputs: str = "zh"
    sample_latent: bool = False
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    observation_key: str | None = None

    @property
    def env(self) -> EnvConfig:
        """The env that the agent acts in."""
        return EnvConfig(self.env_id, self.env_kwargs, self.observation_key)

    @classmethod
    def from_dict(cls, metadata: dict[str, Any]) -> AgentSpec:
        """Restore a spec from a dict that `dataclasses.asdict` made, or that was read from JSON."""
        view = View.from_dict(metadata["view"])
        action_map = ActionMap.from_dict(metadata["action_map"])
        return cls(**{**metadata, "view": view, "action_map": action_map})


class Agent(RepeatingPolicy):
    """The policy that V, M and C form together.

    `act` takes the env's own frames, or frames that the agent's view has already converted. `act`
    raises UserError for frames of any other size. `act` returns actions of the env's action space,
    with the shape (B, A) for a Box, and int64 (B,) for a Discrete space.

    Args:
        vision: V.
        memory: M.
        controller: the sizes of C.
        parameters: C's parameters, which are one row for all envs, (1, D), or one row per env,
            (num_envs, D).

    Attributes:
        latent: V's latents of the frames at the last agent step, (B, ...).
        memory_state: M's state before the last agent step.
        last_action: the encoded actions that are being held, (B, A).
    """

    latent: Tensor
    memory_state: LSTMState
    last_action: Tensor

    def __init__(
        self,
        vision: Vision,
        memory: Memory,
        controller: ControllerConfig,
        parameters: Float[Tensor, "candidate parameter"],
        spec: AgentSpec,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(spec.action_map.space, "agent", spec.action_repeat)
        self.vision = vision.eval()
        self.memory = memory.eval()
        self.controller = controller
        self.parameters = parameters
        self.spec = spec
        self.metadata = metadata or {}

    def begin(self, starting: EnvMask) -> None:
        """Reset the recurrent state for the envs that `starting` marks."""
        rows = torch.from_numpy(starting)
        fresh = self.memory.initial(self.num_envs)
        if starting.all():
            self.memory_state = fresh
            self.last_action = torch.zeros(self.num_envs, self.spec.action_map.size)
            self._acted = torch.zeros(self.num_envs, dtype=torch.bool)
        self.memory_state = _where(rows, fresh, self.memory_state)
        self._acted = self._acted & ~rows

    def check_sizes(self) -> None:
        """Raise ValueError unless the sizes of V, M, C and the spec fit together."""
        seen_of_memory = self.memory.config.num_hidden if self.spec.inputs == "zh" else 0
        features = self.vision.num_features + seen_of_memory
        expected = {
            "features of C": (features, self.controller.num_features),
            "outputs of C": (self.spec.action_map.num_outputs, self.controller.num_outputs),
            "parameters of C": (self.controller.num_parameters, self.parameters.shape[-1]),
            "numbers per action": (self.memory.num_actions, self.spec.action_map.size),
            "pixels per side of a view": (FRAME_SIZE, self.spec.view.size),
        }
        for name, (ours, theirs) in expected.items():
            if ours != theirs:
                raise ValueError(f"expected {ours} {name}, got {theirs}")

    @torch.no_grad()
    def select_actions(self, frames: Frames, due: EnvMask) -> EncodedActions:
        """C's encoded actions, given M's state and the latents into which V encodes `frames`."""
        rows = torch.from_numpy(due)
        mask = rows[:, None]
        latent = self._see(frames, due)
        if self._acted.any():  # envs that have not acted yet are due
            # M advances only now, because a wrapper may have replaced the action that C chose.
            moved = self.memory.advance(self.memory_state, self.latent, self.last_action)
            self.memory_state = _where(rows & self._acted, moved, self.memory_state)
            latent = torch.where(mask, latent, self.latent)
        self.latent = latent
        past = self.memory.features(self.memory_state)
        actions = self.actions_for(torch.cat([self.vision.features(latent), past], dim=-1))
        self.last_action = torch.where(mask, actions, self.last_action)
        self._acted = self._acted | rows
        return actions.numpy()

    def actions_for(
        self, features: Float[Tensor, "batch feature"]
    ) -> Float[Tensor, "batch action"]:
        """C's encoded actions for the features [z, h] of a dream or of the real env."""
        return choose_actions(self.controller, self.spec.action_map, self.parameters, features)

    def executed(self, actions: EncodedActions, due: EnvMask) -> None:
        """Record the actions that the envs executed, which may differ from C's actions."""
        rows = torch.from_numpy(due)[:, None]
        self.last_action = torch.where(rows, torch.from_numpy(actions), self.last_action)

    def _see(self, frames: Frames, due: EnvMask) -> Tensor:
        try:
            seen = self.spec.view(frames)
        except ValueError as error:
            raise UserError(
                f"this agent needs the frames of {self.spec.env_id} that envs.make.make_env "
                f"returns: {error}"
            ) from error
        posterior = self.vision.encode(torch.from_numpy(seen))
        latent = self.vision.mode(posterior).clone()
        if self.spec.sample_latent:
            for i in indices_of(due):
                draw = torch.Generator().manual_seed(int(self.generators[i].integers(2**62)))
                latent[i] = self.vision.sample(posterior[i : i + 1], draw)[0]
        return latent


def _where(rows: Tensor, new: LSTMState, old: LSTMState) -> LSTMState:
    mask = rows[:, None]
    return LSTMState(torch.where(mask, new.h, old.h), torch.where(mask, new.c, old.c))


def save_agent(
    path: Path,
    agent: Agent,
    metadata: dict[str, Any],
    extra_tensors: Mapping[str, Tensor] | None = None,
) -> None:
    """Write V, M, C, the spec and `metadata` about their origin to one file.

    Args:
        extra_tensors: further tensors to store, which the agent does not use when it acts.
    """
    save_checkpoint(
        path,
        {
            **with_prefix("vision", agent.vision.state_dict()),
            **with_prefix("memory", agent.memory.state_dict()),
            "controller.parameters": agent.parameters.float(),
            **(extra_tensors or {}),
        },
        {
            "vision": vision_metadata(agent.vision),
            "memory": memory_metadata(agent.memory),
            "controller": asdict(agent.controller),
            "spec": asdict(agent.spec),
            "metadata": metadata,
        },
    )


# Names in the metadata of earlier versions' agent files, and the present names.
_EARLY_NAMES = {"body": "spec", "facts": "metadata"}


def with_present_names(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of an agent's file, in which the present names replace earlier names of keys."""
    return {_EARLY_NAMES.get(name, name): value for name, value in metadata.items()}


def load_agent(path: str | Path) -> Agent:
    """Load the best agent of a run, the agent in a file, or an agent that comes with the package.

    The agent acts on the CPU.

    Args:
        path: a run's folder, an agent's file, or the name of a packaged agent such as "carracing";
            `pretrained_agents` lists the names of packaged agents.

    Raises: UserError if no agent is found at `path`, or if the agent's file cannot be read.
    """
    place = Path(path)
    file = agent_file(place)
    names = ", ".join(pretrained_agents()) or "none"
    hint = f'run "wm train-controller --run {place}" first, or name a packaged agent: {names}'
    if file == place:
        hint = f"name a run's folder, an agent file that exists, or one of: {names}"
    checkpoint = load_checkpoint(file, hint=hint)
    vision, memory = restore_vision(checkpoint, file), restore_memory(checkpoint, file)
    with reading(file, hint):
        saved = with_present_names(checkpoint.metadata)
        controller = ControllerConfig(**saved["controller"])
        spec = AgentSpec.from_dict(saved["spec"])
        parameters = checkpoint.tensors["controller.parameters"]
        agent = Agent(vision, memory, controller, parameters, spec, saved["metadata"])
        agent.check_sizes()
    return agent


@functools.lru_cache(maxsize=2)
def _cached_agent(path: Path, modified: int) -> Agent:
    return load_agent(path)


@dataclass(frozen=True)
class AgentFactory:
    """Loads an agent from its file, in the process that calls the factory.

    A pickled factory is small, because it holds neither V nor M.

    Args:
        path: the agent's file.
        parameters: parameters of C, (num_envs, D), that replace the agent's own parameters. If
            `parameters` is None, the agent keeps its own parameters.
    """

    path: Path
    parameters: np.ndarray | None = None

    def __call__(self) -> Agent:
        """Make an agent with a state of its own; V and M are cached in each process."""
        agent = copy.copy(_cached_agent(self.path, self.path.stat().st_mtime_ns))
        if self.parameters is not None:
            agent.parameters = torch.from_numpy(self.parameters).float()
        return agent
