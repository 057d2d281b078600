import json
from typing import Any

import numpy as np
import pytest

from agents.cmaes import CMAES, GenerationStats, evolve

TARGET = 0.3


def sphere(candidates: np.ndarray, generation: int) -> np.ndarray:
    fitness: np.ndarray = -np.sum((candidates - TARGET) ** 2, axis=1)
    return fitness


@pytest.mark.parametrize("diagonal", [False, True], ids=["full", "diagonal"])
def test_it_finds_the_maximum(diagonal: bool) -> None:
    search = CMAES(10, population=16, diagonal=diagonal, seed=1)
    stats: list[GenerationStats] = []
    evolve(search, sphere, 150, stats.append)
    assert search.mean == pytest.approx(np.full(10, TARGET), abs=1e-3)
    assert stats[-1].mean > stats[0].best
    assert [entry.generation for entry in stats] == list(range(150))
    assert stats[-1].sigma == search.sigma < 0.1


@pytest.mark.parametrize("diagonal", [False, True], ids=["full", "diagonal"])
def test_a_restored_search_asks_for_the_very_same_candidates(diagonal: bool) -> None:
    def candidates_of(search: CMAES, generations: int) -> list[np.ndarray]:
        seen: list[np.ndarray] = []

        def recorded(candidates: np.ndarray, generation: int) -> np.ndarray:
            seen.append(candidates)
            return sphere(candidates, generation)

        evolve(search, recorded, generations)
        return seen

    settings: dict[str, Any] = {"sigma0": 0.2, "population": 12, "diagonal": diagonal, "seed": 5}
    uninterrupted = candidates_of(CMAES(30, mean=np.ones(30), **settings), 10)
    first = CMAES(30, mean=np.ones(30), **settings)
    evolve(first, sphere, 5)
    state = first.state_dict()
    state["settings"] = json.loads(json.dumps(state["settings"]))
    second = CMAES.from_state_dict(state)
    assert second.generation == 5
    resumed = candidates_of(second, 10)
    assert np.array_equal(resumed, uninterrupted[5:])


def test_the_average_of_the_means_is_nearer_where_fitness_is_noisy() -> None:
    random = np.random.default_rng(0)
    search, means = CMAES(20, sigma0=0.3, population=16, seed=1, mean=np.ones(20)), []

    def noisy(candidates: np.ndarray, generation: int) -> np.ndarray:
        return sphere(candidates, generation) + random.normal(0, 1.0, len(candidates))

    assert np.array_equal(search.recent_mean(5), search.mean)
    evolve(search, noisy, 200, lambda stats: means.append(search.mean))
    assert search.recent_mean(100) == pytest.approx(np.mean(means[100:], axis=0))
    assert np.array_equal(search.recent_mean(1), search.mean)
    assert search.recent_mean(500) == pytest.approx(np.mean(means, axis=0))
    usual = np.mean([np.linalg.norm(mean - TARGET) for mean in means[100:]])
    assert np.linalg.norm(search.recent_mean(100) - TARGET) < 0.95 * usual
    restored = CMAES.from_state_dict(search.state_dict())
    assert np.array_equal(restored.recent_mean(100), search.recent_mean(100))


def test_a_search_saved_between_ask_and_tell_asks_again() -> None:
    search = CMAES(5, seed=2)
    candidates = search.ask()
    assert np.array_equal(search.ask(), candidates)
    assert np.array_equal(CMAES.from_state_dict(search.state_dict()).ask(), candidates)


def test_a_replay_that_goes_elsewhere_is_an_error() -> None:
    search = CMAES(5, seed=2)
    evolve(search, sphere, 2)
    state = search.state_dict()
    state["fitness_history"] = state["fitness_history"][:, ::-1]
    with pytest.raises(ValueError, match="2 generations did not reproduce the saved search"):
        CMAES.from_state_dict(state)


def test_seeds_matter_and_the_global_generator_does_not_move() -> None:
    before = np.random.get_state()  # noqa: NPY002 (the legacy one is what must not move)
    one, again, other = (CMAES(5, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one.ask(), again.ask())
    assert not np.array_equal(one.ask(), other.ask())
    evolve(one, sphere, 3)
    after = np.random.get_state()  # noqa: NPY002
    assert isinstance(before, tuple) and isinstance(after, tuple)
    assert before[2] == after[2] and np.array_equal(before[1], after[1])


def test_it_says_nothing(
    capfd: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    evolve(CMAES(5, population=4), lambda candidates, generation: np.zeros(4), 30)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_mistakes_are_named() -> None:
    search = CMAES(5, population=4)
    with pytest.raises(RuntimeError, match=r"call ask\(\) before each tell"):
        search.tell(np.zeros(4))
    search.ask()
    with pytest.raises(ValueError, match="got nan for candidate 2"):
        search.tell([0, 1, np.nan, 0])
    with pytest.raises(ValueError, match=r"expected fitness of shape \(4,\), got \(3,\)"):
        search.tell(np.zeros(3))
    search.tell(np.zeros(4))  # a refused tell leaves the search as it was
    with pytest.raises(ValueError, match=r"expected a mean of shape \(5,\), got \(4,\)"):
        CMAES(5, mean=np.zeros(4))


def test_candidates_stay_within_bounds() -> None:
    def far_away(candidates: np.ndarray, generation: int) -> np.ndarray:
        assert np.abs(candidates).max() <= 1
        fitness: np.ndarray = -np.sum((candidates - 3) ** 2, axis=1)
        return fitness

    search = CMAES(5, population=10, sigma0=0.5, bounds=(-1.0, 1.0), seed=2)
    evolve(search, far_away, 40)
    assert search.ask().mean() == pytest.approx(1, abs=0.05)
    restored = CMAES.from_state_dict(search.state_dict())
    assert np.array_equal(restored.ask(), search.ask())
