"""Agents that come with the package are found by their names."""

import json
from pathlib import Path

import numpy as np
import pytest

import worldmodels
from agents.evaluation import evaluate
from agents.protocol import EvaluationProtocol
from agents.workers import Workers
from envs.tasks import DEFAULT_ENV_ID
from tests.fixtures.command import wm
from tests.fixtures.tiny_run import tiny_run
from worldmodels.controller.agent import AgentFactory, save_agent
from worldmodels.controller.agent_file import agent_file
from worldmodels.controller.new_agent import new_agent
from worldmodels.dream.load import load_world_model
from worldmodels.errors import UserError
from worldmodels.runs import pretrained
from worldmodels.runs.provenance import file_digest

RESULTS = Path(__file__).parents[2] / "docs" / "results"


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the package come with one agent named toy, and return the agent's file."""
    run = tiny_run(tmp_path / "run")
    file = tmp_path / "pretrained" / "toy.safetensors"
    save_agent(file, new_agent(run, *load_world_model(run)), {"of": "the package"})
    monkeypatch.setattr(pretrained, "FOLDER", file.parent)
    monkeypatch.chdir(tmp_path)
    return file


def test_an_agent_is_found_by_its_name(toy: Path) -> None:
    assert agent_file("toy") == toy
    assert worldmodels.load_agent("toy").metadata == {"of": "the package"}
    done = wm("evaluate", "--agent", "toy", "--episodes", 1, "--no-baselines", "--workers", 1)
    assert done.code == 0 and "agent" in done.output
    assert done.output.split()[-2:] == ["-", "-"]  # a single episode has no spread


def test_a_folder_of_that_name_comes_first(toy: Path) -> None:
    tiny_run(Path("toy"))
    assert agent_file("toy") == Path("toy/controller/agent.safetensors")


def test_a_name_that_is_not_there_is_one_line_with_those_that_are(toy: Path) -> None:
    done = wm("evaluate", "--agent", "carracer")
    assert done.code == 2 and len(done.error.splitlines()) == 1
    assert done.error.endswith('--run carracer" first, or name a packaged agent: toy\n')
    done = wm("evaluate", "--agent", "carracer.safetensors")
    assert done.error.endswith("an agent file that exists, or one of: toy\n")


@pytest.mark.parametrize("name", ["carracing", "carracing-quantized"])
def test_the_agents_of_the_package_take_frames_of_car_racing_alone(name: str) -> None:
    agent = worldmodels.load_agent(name)
    for size in (64, 96):
        agent.reset(1)
        assert agent.act(np.zeros((1, size, size, 3), np.uint8)).shape == (1, 3)
    agent.reset(1)
    with pytest.raises(UserError, match=r"expected frames of 96x96 .* got 400x600"):
        agent.act(np.zeros((1, 400, 600, 3), np.uint8))


@pytest.mark.parametrize("name", ["carracing", "carracing-quantized"])
def test_the_agents_of_the_package_drive_and_say_where_they_come_from(name: str) -> None:
    file = pretrained.pretrained_agents()[name]
    published = json.loads((RESULTS / f"{name}.json").read_text())
    assert published["shipped_digest"] == file_digest(file)
    shipped = worldmodels.load_agent(name).metadata["shipped"]
    assert shipped["scores"]["mean"] == published["scores"]["mean"]
    assert (
        shipped["scores"]["env_id"] == "CarRacing-v3" and len(shipped["scores"]["returns"]) == 100
    )
    assert file.stat().st_size < 5e6
    with Workers(2) as workers:
        scores = evaluate(
            EvaluationProtocol(DEFAULT_ENV_ID, "validation", 4), AgentFactory(file), workers
        )
    assert scores.mean > 800
