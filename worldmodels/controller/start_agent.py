"""Load the agent that a search begins with; check that the agent fits the run and the options."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from envs.tasks import task_for
from worldmodels.controller.agent import Agent, load_agent
from worldmodels.errors import UserError
from worldmodels.runs.run import Run

_OPTIONS = {"hidden": "--hidden", "inputs": "--controller-inputs"}


def start_agent(run: Run, place: Path, requested: Mapping[str, Any]) -> Agent:
    """Load the agent at `place`; a search begins with the V, M and C of this agent.

    Args:
        requested: the settings of C in `ControllerStageConfig` that the user gave explicitly.

    Raises: UserError if the agent has another env or action repeat than the run, if the agent's
        file holds several controllers, or if C does not have the requested settings. C must have
        these settings, because the search continues with the agent's C.
    """
    agent = load_agent(place)
    spec = agent.spec
    if spec.env != run.settings.env:
        raise UserError(
            f"{place} is an agent for {spec.env}, but {run} is for "
            f"{run.settings.env}: --init-from must name an agent for the run's env"
        )
    if len(agent.parameters) != 1:
        raise UserError(
            f"{place} holds {len(agent.parameters)} controllers, expected one controller: "
            "--init-from must name the file of a single agent"
        )
    if len(run.store) and run.action_repeat != spec.action_repeat:
        raise UserError(
            f"the agent {place} holds each action for {spec.action_repeat} env steps, but the "
            f"episodes in {run} hold each action for {run.action_repeat}: --init-from must "
            "name an agent with the run's action repeat"
        )
    _check_requested(agent, place, requested)
    return agent


def _check_requested(agent: Agent, place: Path, requested: Mapping[str, Any]) -> None:
    spec = agent.spec
    maps = task_for(spec.env).action_maps
    names = [name for name, action_map in maps.items() if action_map == spec.action_map]
    found = {
        "hidden": agent.controller.hidden,
        "inputs": spec.inputs,
        "action_map": names[0] if names else "another",
        "sample_latent": spec.sample_latent,
    }
    for name, value in requested.items():
        if found[name] != value:
            option = _OPTIONS.get(name, name)
            without = _OPTIONS.get(name, "--paper")
            raise UserError(
                f"the search continues with the C of {place}, so {option} must be {found[name]}, "
                f"got {value}: leave out {without}, or leave out --init-from"
            )
