from typing import Any

import numpy as np
import pytest

from agents.elites import ElitesConfig, EliteStats, MapElites, disc_centroids
from agents.operators import LINE_MIXES, Mix
from envs.arm import PlanarArm

# Four cells, around the middles of a square's quarters.
QUARTERS = np.array([(0.25, 0.25), (0.25, 0.75), (0.75, 0.25), (0.75, 0.75)])
ARM = PlanarArm(8)


def first_two(solutions: np.ndarray) -> np.ndarray:
    """Return measures of invented solutions: the first two numbers of each solution."""
    return np.clip(solutions[:, :2].astype(np.float64), 0, 1)


def search_arm(
    config: ElitesConfig | None = None, seed: int = 0, generations: int = 30, num_cells: int = 60
) -> tuple[MapElites, list[EliteStats]]:
    search = MapElites(
        8, disc_centroids(num_cells), config or ElitesConfig(batch_size=20), seed=seed
    )
    return search, [generation(search) for _ in range(generations)]


def generation(search: MapElites) -> EliteStats:
    search.tell(*ARM.evaluate(search.ask()))
    return search.stats()


def test_a_niche_keeps_its_best() -> None:
    search = MapElites(3, QUARTERS, ElitesConfig(batch_size=40))
    seen: dict[int, tuple[float, list[float]]] = {}
    for number in range(12):
        solutions = search.ask()
        measures = first_two(solutions)
        fitness = np.random.default_rng(number).normal(size=40)
        search.tell(fitness, measures)
        for value, measure, solution in zip(fitness, measures, solutions, strict=True):
            cell = int(np.linalg.norm(QUARTERS - measure, axis=1).argmin())
            if cell not in seen or value > seen[cell][0]:
                seen[cell] = (value, solution.tolist())
    data: Any = search.archive.data(["index", "objective", "solution"], return_type="tuple")
    kept = {
        int(index): (value, solution.tolist()) for index, value, solution in zip(*data, strict=True)
    }
    assert kept == seen
    assert len(kept) == 4


def test_figures_of_a_search() -> None:
    search, stats = search_arm(ElitesConfig(batch_size=20, qd_score_offset=-2.0))
    fitness = search.archive.data("objective")
    last = stats[-1]
    assert last.coverage == len(fitness) / 60
    assert last.mean_fitness == pytest.approx(fitness.mean())
    assert last.best_fitness == fitness.max()
    assert last.norm_qd_score == pytest.approx((fitness + 2.0).sum() / 60)
    assert (last.generation, last.evaluations) == (30, 600)
    assert stats[0].mix is None and last.mix == 0


def test_it_fills_the_archive_with_better_and_better_arms() -> None:
    _, stats = search_arm(generations=150)
    assert stats[-1].coverage > 0.9
    assert stats[-1].mean_fitness > stats[10].mean_fitness + 0.2


def test_it_begins_at_random_until_its_share_of_niches_is_filled() -> None:
    search, stats = search_arm(ElitesConfig(batch_size=3, initial_coverage=0.2), generations=20)
    random = [entry for entry in stats if entry.mix is None]
    assert [entry.mix for entry in stats[: len(random)]] == [None] * len(random)
    assert all(entry.coverage < 0.2 for entry in random[:-1])
    assert random[-1].coverage >= 0.2
    assert search.started


def test_solutions_stay_within_their_bounds() -> None:
    config = ElitesConfig(batch_size=50, bounds=(-0.3, 0.4), mixes=(Mix(line=1.0),))
    search = MapElites(8, disc_centroids(60), config)
    for _ in range(10):
        candidates = search.ask()
        assert candidates.min() >= np.float32(-0.3) and candidates.max() <= np.float32(0.4)
        search.tell(*ARM.evaluate(candidates))


def test_asking_twice_gives_the_same_until_tell() -> None:
    search, _ = search_arm(generations=5)
    first = search.ask()
    first[:] = 9  # the caller's own copy
    again = search.ask()
    assert np.abs(again).max() <= 1
    search.tell(*ARM.evaluate(again))
    assert not np.array_equal(search.ask(), again)


@pytest.mark.parametrize("mixes", [(Mix(line=1.0),), LINE_MIXES], ids=["one mix", "bandit"])
def test_a_saved_search_goes_on_as_if_it_had_not_stopped(mixes: tuple[Mix, ...]) -> None:
    config = ElitesConfig(batch_size=20, mixes=mixes)
    whole, expected = search_arm(config, seed=3, generations=40)
    first, _ = search_arm(config, seed=3, generations=17)
    resumed = MapElites(8, disc_centroids(60), config, seed=3)
    resumed.load_state_dict(first.state_dict())
    assert [generation(resumed) for _ in range(23)] == expected[17:]
    assert np.array_equal(resumed.elites, whole.elites)


def test_seeds_make_other_searches() -> None:
    assert not np.array_equal(search_arm(seed=1)[0].elites, search_arm(seed=2)[0].elites)


def test_a_bandit_plays_every_mix_and_leans_to_what_adds_elites() -> None:
    _, stats = search_arm(ElitesConfig(batch_size=20, mixes=LINE_MIXES), generations=120)
    played = np.bincount([entry.mix for entry in stats if entry.mix is not None], minlength=5)
    assert played.min() >= 1
    rewards = [np.mean([entry.added for entry in stats if entry.mix == mix]) for mix in range(5)]
    assert played[int(np.argmax(rewards))] >= np.median(played)


def test_niches_are_even_and_fill_the_disc() -> None:
    centroids = disc_centroids(200)
    away = np.linalg.norm(centroids - 0.5, axis=1)
    assert away.max() < 0.5
    points = np.random.default_rng(5).uniform(0, 1, (40_000, 2))
    points = points[np.linalg.norm(points - 0.5, axis=1) < 0.5]
    nearest = np.linalg.norm(points[:, None] - centroids[None], axis=2).argmin(axis=1)
    fractions = np.bincount(nearest, minlength=200) * 200 / len(points)
    assert fractions.min() > 0.3 and fractions.max() < 2
    assert np.array_equal(centroids, disc_centroids(200))


def test_what_is_refused() -> None:
    search = MapElites(8, QUARTERS, ElitesConfig(batch_size=5))
    with pytest.raises(RuntimeError, match=r"call ask\(\) before each tell\(\)"):
        search.tell(np.zeros(5), np.zeros((5, 2)))
    search.ask()
    with pytest.raises(ValueError, match="expected finite fitness and measures"):
        search.tell(np.full(5, np.nan), np.zeros((5, 2)))
    with pytest.raises(ValueError, match="expected a lower bound below the upper bound"):
        ElitesConfig(bounds=(1.0, -1.0))
    with pytest.raises(ValueError, match="expected at least 1 mix of operators"):
        ElitesConfig(mixes=())
