"""Dreams start in those episodes whose start states fit into memory."""

from pathlib import Path

import pytest

from tests.fixtures.tiny_models import rollout
from tests.fixtures.tiny_run import LENGTHS, tiny_run
from worldmodels.dream import load as world_model
from worldmodels.dream.load import load_world_model, recent_episodes, start_bytes
from worldmodels.runs.run import Run

TRAINING = len(LENGTHS) - 1  # the first is held out


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Make a run with training episodes of 4, 2, 3 and 3 agent steps."""
    return tiny_run(tmp_path / "run")


@pytest.mark.parametrize(
    ("max_steps", "indices"),
    [(16, [4, 3, 2, 1]), (15, [4, 3, 2]), (9, [4, 3, 2]), (8, [4, 3]), (1, [4])],
)
def test_the_newest_episodes_are_as_many_as_fit_padded(
    run: Run, monkeypatch: pytest.MonkeyPatch, max_steps: int, indices: list[int]
) -> None:
    monkeypatch.setattr(world_model, "MAX_STEPS_FOR_STARTS", max_steps)
    assert [episode.index for episode in recent_episodes(run)] == indices
    assert [episode.index for episode in recent_episodes(run, most=1)] == [4]


def test_the_presets_start_from_all_of_256_laps() -> None:
    assert world_model.MAX_STEPS_FOR_STARTS >= 256 * 250


def test_start_states_are_counted_padded_to_the_longest(run: Run) -> None:
    vision, memory = load_world_model(run)
    # 5 units of M, five times; 6 numbers of the posterior; 3 latents.
    assert start_bytes(run, vision, memory) == 4 * (TRAINING * 4) * (5 * 5 + 6 + 3)
    run.store.add(5, rollout(20, seed=5, env_id=run.settings.env_id))
    assert start_bytes(run, vision, memory) == 4 * ((TRAINING + 1) * 10) * (5 * 5 + 6 + 3)
