"""CMA-ES evaluates at certain generations, keeps the right mean, and resumes after Ctrl-C."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.cmaes import CMAES, evolve
from agents.evaluation import Scores
from tests.fixtures.fake_scores import scores
from worldmodels.controller.cmaes import CMAESSearch
from worldmodels.controller.fitness import CMAESConfig, Fitness
from worldmodels.controller.search_context import SearchContext
from worldmodels.progress import Report
from worldmodels.runs.stage_folder import StageFolder

CONFIG = CMAESConfig(generations=7, later_generations=3, population=6, sigma0=0.3, validate_every=3)
AIM = np.array([1.0, -2.0, 0.5])


class Bowl:
    """A fitness that falls with the distance from the aim; Ctrl-C comes in a given generation."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.steps = 0
        self.stop_at = stop_at
        self.generations: list[int] = []

    def __call__(self, candidates: np.ndarray, generation: int) -> np.ndarray:
        if generation == self.stop_at:
            raise KeyboardInterrupt("in a generation")
        self.generations.append(generation)
        self.steps += 10 * len(candidates)
        fitness: np.ndarray = -np.square(candidates - AIM).sum(1)
        return fitness


class Evaluation:
    """A real score that rises with the first parameter; Ctrl-C comes in a given evaluation."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at = stop_at
        self.seen: list[np.ndarray] = []

    def __call__(self, parameters: np.ndarray) -> Scores:
        self.seen.append(parameters.copy())
        if len(self.seen) == self.stop_at:
            raise KeyboardInterrupt("in a look")
        return scores(100.0 * parameters[0])


def search(
    folder: Path,
    fitness: Fitness,
    evaluation: Callable[[np.ndarray], Scores],
    *,
    config: CMAESConfig = CONFIG,
    start: np.ndarray | None = None,
    round_: int = 1,
    **options: int,
) -> tuple[np.ndarray, dict[str, Any]]:
    work = StageFolder(folder, folder.with_name("final"), {})
    context = SearchContext(work, options.pop("seed", 0), round_, evaluation, Report(quiet=True))
    first = np.zeros(3) if start is None else start
    return CMAESSearch(first, config, fitness, context, start is not None, **options).run()


def without_timings(result: dict[str, Any]) -> dict[str, Any]:
    """Return the result without the figures that depend on the machine's speed."""
    history = [
        {name: value for name, value in entry.items() if "second" not in name}
        for entry in result["history"]
    ]
    return {**result, "history": history}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, dict[str, Any]]:
    """Return the result of a search that is not stopped."""
    return search(tmp_path_factory.mktemp("undisturbed") / "a", Bowl(), Evaluation())


def test_it_looks_every_so_often_and_at_the_end_and_keeps_the_last_mean(tmp_path: Path) -> None:
    fitness, evaluation = Bowl(), Evaluation()
    parameters, result = search(tmp_path / "a", fitness, evaluation)
    history = result["history"]
    assert [entry["generation"] for entry in history] == [1, 2, 3, 4, 5, 6, 7]
    assert fitness.generations == [0, 1, 2, 3, 4, 5, 6]
    evaluated = {e["generation"]: e["real_score"] for e in history if "real_score" in e}
    assert list(evaluated) == [3, 6, 7]
    assert [100.0 * seen[0] for seen in evaluation.seen] == list(evaluated.values())
    assert np.array_equal(parameters, evaluation.seen[-1])
    assert result["eval_score"] == evaluated[7] and result["generations"] == 7
    assert result["fitness"] == history[-1]["mean"] > history[0]["mean"]
    assert result["best_fitness"] == history[-1]["best"] > result["fitness"]
    assert [entry["steps"] for entry in history] == [60 * n for n in range(1, 8)]
    assert all(entry["steps_per_second"] > 0 for entry in history)
    seconds = [entry["seconds"] for entry in history]
    assert seconds == sorted(seconds)
    assert (tmp_path / "a" / "controller.png").is_file()


class Peak:
    """A real score that is highest at the evaluation with a given number, counted from 0."""

    def __init__(self, highest: int) -> None:
        self.highest = highest
        self.seen: list[np.ndarray] = []

    def __call__(self, parameters: np.ndarray) -> Scores:
        self.seen.append(parameters.copy())
        return scores(50.0 - abs(len(self.seen) - 1 - self.highest))


@pytest.mark.parametrize("highest", [0, 1, 2, 3])
def test_where_asked_it_keeps_the_best_mean_looked_at_the_start_among_them(
    tmp_path: Path, highest: int
) -> None:
    evaluation, start = Peak(highest), np.array([0.1, 0.2, 0.3])
    config = replace(CONFIG, select_best=True)
    parameters, result = search(tmp_path / "a", Bowl(), evaluation, config=config, start=start)
    evaluated = {e["generation"]: e["real_score"] for e in result["history"] if "real_score" in e}
    assert list(evaluated) == [0, 3, 6, 7]
    assert np.array_equal(evaluation.seen[0], start)
    assert np.array_equal(parameters, evaluation.seen[highest])
    assert result["eval_score"] == 50.0
    assert result["selected_generation"] == list(evaluated)[highest]
    assert result["generations"] == 7


def test_averages_of_the_last_means_are_looked_at_and_left(tmp_path: Path) -> None:
    each, evaluation = Evaluation(), Evaluation()
    search(tmp_path / "each", Bowl(), each, config=replace(CONFIG, validate_every=1))
    parameters, _ = search(
        tmp_path / "a", Bowl(), evaluation, config=replace(CONFIG, averaged_generations=3)
    )
    means = np.array(each.seen)
    averages = [means[0:3].mean(0), means[3:6].mean(0), means[4:7].mean(0)]
    assert np.allclose(evaluation.seen, averages, atol=1e-12)
    assert np.array_equal(parameters, evaluation.seen[-1])


@pytest.mark.parametrize("stop_at", [1, 5])
def test_the_best_mean_so_far_survives_ctrl_c(tmp_path: Path, stop_at: int) -> None:
    class Falling(Evaluation):
        def __call__(self, parameters: np.ndarray) -> Scores:
            super().__call__(parameters)
            return scores(-np.square(parameters).sum())  # the start is best

    config = replace(CONFIG, select_best=True)
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "a", Bowl(stop_at), Falling(), config=config, start=np.zeros(3))
    resumed, whole = (
        search(tmp_path / name, Bowl(), Falling(), config=config, start=np.zeros(3))
        for name in ("a", "b")
    )
    assert np.array_equal(resumed[0], np.zeros(3)) and np.array_equal(whole[0], np.zeros(3))
    assert without_timings(resumed[1]) == without_timings(whole[1])
    assert whole[1]["selected_generation"] == 0
    # The start and generations 3, 6 and 7, ten steps each.
    assert whole[1]["env_steps"] == {"monitored": 40}


def test_a_start_from_zero_is_not_evaluated(tmp_path: Path) -> None:
    config = replace(CONFIG, select_best=True)
    _, result = search(tmp_path / "a", Bowl(), Evaluation(), config=config)
    assert [e["generation"] for e in result["history"] if "real_score" in e] == [3, 6, 7]


def test_it_climbs_from_where_it_starts(tmp_path: Path) -> None:
    config = CMAESConfig(generations=30, population=8, sigma0=0.5, validate_every=100)
    found, _ = search(tmp_path / "a", Bowl(), Evaluation(), config=config)
    assert np.abs(found - AIM).max() < 0.2
    tiny = CMAESConfig(generations=2, population=8, sigma0=1e-6)
    start = np.array([5.0, 6.0, 7.0])
    near, _ = search(tmp_path / "b", Bowl(), Evaluation(), config=tiny, start=start)
    assert 0 < np.abs(near - start).max() < 1e-4


def test_a_search_of_the_last_parameters_is_one_of_all_that_leaves_the_others(
    tmp_path: Path,
) -> None:
    start, fitness, evaluation = np.array([7.0, 0.0, 0.0]), Bowl(), Evaluation()
    found, _ = search(tmp_path / "a", fitness, evaluation, start=start, num_fixed=1)
    alone = CMAES(2, sigma0=0.3, population=6, seed=0)
    evolve(alone, lambda last, generation: -np.square(last - AIM[1:]).sum(1), 7)
    assert np.array_equal(found[:1], [7.0]) and fitness.steps == 7 * 60
    np.testing.assert_allclose(found[1:], alone.mean, atol=1e-9)
    assert all(seen.shape == (3,) and seen[0] == 7.0 for seen in evaluation.seen)


def test_later_rounds_have_generations_of_their_own(tmp_path: Path) -> None:
    _, result = search(tmp_path / "a", Bowl(), Evaluation(), round_=2)
    assert result["generations"] == 3


def test_another_seed_is_another_search(
    tmp_path: Path, undisturbed: tuple[np.ndarray, dict[str, Any]]
) -> None:
    other, _ = search(tmp_path / "a", Bowl(), Evaluation(), seed=1)
    assert np.abs(other - undisturbed[0]).max() > 1e-3


@pytest.mark.parametrize(
    ("fitness", "evaluation"),
    [
        (Bowl(stop_at=0), Evaluation()),
        (Bowl(stop_at=4), Evaluation()),
        (Bowl(), Evaluation(stop_at=1)),
        (Bowl(), Evaluation(stop_at=3)),
    ],
    ids=["at once", "in a generation", "in an evaluation", "in the last evaluation"],
)
def test_a_search_stopped_by_ctrl_c_resumes_to_the_same_bits(
    tmp_path: Path,
    undisturbed: tuple[np.ndarray, dict[str, Any]],
    fitness: Bowl,
    evaluation: Evaluation,
) -> None:
    expected, output = undisturbed
    with pytest.raises(KeyboardInterrupt, match="in a"):
        search(tmp_path / "b", fitness, evaluation)
    again = Bowl()
    parameters, result = search(tmp_path / "b", again, Evaluation())
    assert np.array_equal(parameters, expected)
    assert without_timings(result) == without_timings(output)
    # What had ended is not done again, but for the generation that was under way.
    assert len(fitness.generations) + len(again.generations) <= 8
