"""Agents learn: environments with unusual spaces, and CartPole with the preset of README."""

from pathlib import Path

import pytest

from tests.fixtures.command import wm_json
from tests.fixtures.rail_env import INTEGERS_ID, SWITCHES_ID

pytestmark = pytest.mark.slow
KINDS = {"latents": (), "codes": ("--quantized",)}


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("env", [SWITCHES_ID, INTEGERS_ID])
def test_unusual_spaces_are_learned(tmp_path: Path, env: str, kind: str) -> None:
    given = ("--preset", "demo", "--env", env, "--env-steps", 12_000, "--rounds", 2)
    result = wm_json("run", "--run", tmp_path / "run", *given, *KINDS[kind])
    scores = {row["policy"]: row for row in result["rows"]}
    agent = scores.pop("agent")
    others = max(row["mean"] for row in scores.values())
    assert agent["interval"][0] > others + 5


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", KINDS)
def test_cartpole_is_learned_from_pixels(tmp_path: Path, kind: str) -> None:
    given = ("--preset", "demo", "--env", "CartPole-v1", "--rounds", 2)
    result = wm_json("run", "--run", tmp_path / "run", *given, *KINDS[kind])
    agent = next(row for row in result["rows"] if row["policy"] == "agent")
    assert agent["mean"] >= 200  # a random policy scores 22, and the highest score is 500
