"""The agent that a search begins with: whether it fits the run and what was asked for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from envs.tasks import task_for
from worldmodels.controller.agent import Agent, load_agent
from worldmodels.errors import UserError
from worldmodels.runs.run import Run

_OPTIONS = {"hidden": "--hidden", "inputs": "--controller-inputs"}


def start_agent(run: Run, place: Path, asked: Mapping[str, Any]) -> Agent:
    """The agent at `place`, whose V, M and C a search begins with.

    Args:
        asked: settings of C that the user gave by name, of those of `ControllerStageConfig`.

    Raises: UserError for an agent of another env or action repeat, for several controllers, and
        for an agent whose C is not as asked: a search goes on with the C that is there.
    """
    agent = load_agent(place)
    body = agent.body
    if body.env != run.settings.env:
        raise UserError(
            f"{place} is an agent for {body.env}, {run} is for "
            f"{run.settings.env}: name an agent of the same env with --init-from"
        )
    if len(agent.parameters) != 1:
        raise UserError(
            f"{place} holds {len(agent.parameters)} controllers, expected one: "
            "name a single agent's file with --init-from"
        )
    if len(run.store) and run.action_repeat != body.action_repeat:
        raise UserError(
            f"{place} holds each action for {body.action_repeat} env steps, the episodes in {run} "
            f"for {run.action_repeat}: name an agent with the same action repeat with --init-from"
        )
    _check_asked(agent, place, asked)
    return agent


def _check_asked(agent: Agent, place: Path, asked: Mapping[str, Any]) -> None:
    body = agent.body
    maps = task_for(body.env).action_maps
    names = [name for name, action_map in maps.items() if action_map == body.action_map]
    found = {
        "hidden": agent.controller.hidden,
        "inputs": body.inputs,
        "action_map": names[0] if names else "another",
        "sample_latent": body.sample_latent,
    }
    for name, value in asked.items():
        if found[name] != value:
            option = _OPTIONS.get(name, name)
            without = option if name in _OPTIONS else "--paper"
            raise UserError(
                f"expected {option} {found[name]}, as in {place}, whose C the search continues, "
                f"got {value}: leave out {without}, or leave out --init-from"
            )
