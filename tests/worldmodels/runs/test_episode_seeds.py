"""All episodes of a run, and all candidates for its episodes, have different seeds."""

from pathlib import Path

import pytest

from agents.seeds import SEED_RANGES
from agents.workers import Workers
from tests.fixtures.tiny_run import tiny_run
from worldmodels.errors import UserError
from worldmodels.progress import Report
from worldmodels.runs import episode_seeds as scheme
from worldmodels.runs.episode_seeds import check_seeds_suffice, episode_seeds
from worldmodels.stages.collect import CollectConfig, collect


@pytest.mark.parametrize("run_seed", [0, 1, 49, 50, 123])
def test_episodes_and_candidates_have_seeds_of_their_own(run_seed: int) -> None:
    """The test makes 20,000 episodes; every other hundred has three candidates per episode."""
    used = [
        seed
        for index in range(20_000)
        for seed in episode_seeds(run_seed, index, 3 if index // 100 % 2 else 1)
    ]
    assert len(set(used)) == len(used) == 10_000 * (1 + 3)
    assert min(used) >= 0 and max(used) < SEED_RANGES["training"].stop


def test_the_most_episodes_there_may_be_take_every_training_seed_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scheme, "NUM_SEEDS", 1_000)
    chosen = 200
    check_seeds_suffice(1_000 - 2 * chosen, chosen, 3)
    used = [
        seed
        for index in range(1_000 - 2 * chosen)
        for seed in episode_seeds(7, index, 3 if index < chosen else 1)
    ]
    assert sorted(used) == list(range(1_000))
    with pytest.raises(UserError, match="need 1,001 seeds: collect fewer episodes"):
        check_seeds_suffice(1_001 - 2 * chosen, chosen, 3)


def test_single_episodes_keep_the_seeds_they_always_had() -> None:
    assert [episode_seeds(0, index) for index in (0, 5)] == [[0], [5]]
    assert episode_seeds(2, 5) == [40_005] == episode_seeds(2, 5, 3)[:1]
    assert episode_seeds(50, 5) == [5]


def test_runs_of_different_seeds_share_no_track_up_to_6666_candidates_each() -> None:
    tracks = [
        {seed for index in range(6_666) for seed in episode_seeds(run_seed, index, 3)}
        for run_seed in range(4)
    ]
    assert len(set.union(*tracks)) == sum(len(each) for each in tracks)


def test_more_candidates_than_seeds_are_refused_before_anything_is_played(tmp_path: Path) -> None:
    run = tiny_run(tmp_path / "a", "fsq")
    config = CollectConfig(episodes=333_334, select_by_surprise=True)
    with Workers(1) as workers, pytest.raises(UserError, match=r"333,334 episodes with 3 cand"):
        collect(run, config, workers=workers, report=Report(quiet=True))
