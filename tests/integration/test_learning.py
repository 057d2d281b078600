"""Agents learn: environments with unusual spaces, and CartPole with the preset of README."""

from pathlib import Path

import numpy as np
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
