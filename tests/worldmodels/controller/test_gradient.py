"""The gradient search logs its figures, keeps the C with the best score, and can be resumed."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents.evaluation import Scores
from tests.fixtures.fake_scores import scores
from tests.fixtures.reward_world import MAPS, controller, reward_of, reward_world, starts
from worldmodels.controller.actor_critic import DreamTask
from worldmodels.controller.gradient import GradientConfig, GradientSearch
from worldmodels.controller.pathwise import PathwiseConfig
from worldmodels.controller.ppo import PPOConfig
from worldmodels.controller.rewards import RewardScale
from worldmodels.controller.search_context import SearchContext
from worldmodels.dream.starts import StartStates
from worldmodels.progress import Report
from worldmodels.runs.stage_folder import StageFolder
from worldmodels.training.fit import FitConfig

FIT = FitConfig(num_steps=8, batch_size=6, learning_rate=1e-2, validate_every=5)
LATER = FitConfig(num_steps=2, batch_size=6, learning_rate=1e-6)
LEARNERS: dict[str, PathwiseConfig | PPOConfig] = {
    "pathwise": PathwiseConfig(horizon=3, critic_width=8, ema_rate=0.2),
    "ppo": PPOConfig(horizon=3, critic_width=8, ema_rate=0.2, num_updates=3),
}
PEDAL = MAPS["continuous"]


class Evaluation:
    """An evaluation that returns given scores; Ctrl-C comes in a given evaluation."""

    def __init__(self, *scores: float, stop_at: int | None = None) -> None:
        self.scores = scores
        self.stop_at = stop_at
        self.seen: list[np.ndarray] = []

    def __call__(self, parameters: np.ndarray) -> Scores:
        self.seen.append(parameters.copy())
        if len(self.seen) == self.stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        return scores(self.scores[len(self.seen) - 1])


def search(
    folder: Path,
    config: GradientConfig,
    evaluation: Callable[[np.ndarray], Scores] | None,
    *,
    start: np.ndarray | None = None,
    seed: int = 0,
    round_: int = 1,
) -> tuple[np.ndarray, dict[str, Any]]:
    dream = reward_world("vae")
    first = None if start is None else torch.from_numpy(start).float()[None]
    task = DreamTask(controller(dream, PEDAL), PEDAL, dream, RewardScale(0.975, 0.5), first)
    states = StartStates(starts(dream, 40), torch.ones(40))
    work = StageFolder(folder, folder.with_name("final"), {})
    context = SearchContext(work, seed, round_, evaluation, Report(quiet=True))
    return GradientSearch(config, task, states, context).run()


def few_steps(name: str) -> GradientConfig:
    return GradientConfig(fit=FIT, later=LATER, learner=LEARNERS[name])


def without_timings(result: dict[str, Any]) -> dict[str, Any]:
    """Return the result without the figures that depend on the machine's speed."""
    history = [
        {name: value for name, value in entry.items() if "second" not in name}
        for entry in result["history"]
    ]
    return {**result, "history": history}


@pytest.fixture(scope="module", params=LEARNERS)
def undisturbed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, Evaluation, tuple[np.ndarray, dict[str, Any]]]:
    """Run a search whose C is evaluated at steps 5 and 8, and scores higher at step 5."""
    evaluation = Evaluation(5.0, 3.0)
    folder = tmp_path_factory.mktemp("undisturbed") / "a"
    return request.param, folder, evaluation, search(folder, few_steps(request.param), evaluation)


def test_the_c_that_scored_best_is_kept_with_the_history_of_all_looks(
    undisturbed: tuple[str, Path, Evaluation, tuple[np.ndarray, dict[str, Any]]],
) -> None:
    name, folder, evaluation, (parameters, result) = undisturbed
    assert np.array_equal(parameters, evaluation.seen[0])
    assert not np.array_equal(parameters, evaluation.seen[1])
    assert (result["steps"], result["best_step"], result["eval_score"]) == (8, 5, 5.0)
    history = result["history"]
    assert [entry["step"] for entry in history] == [5, 8]
    assert [entry["real_score"] for entry in history] == [5.0, 3.0]
    agent_steps = 3 * 6 if name == "pathwise" else 3 * 6 / 3
    assert [entry["steps"] for entry in history] == [5 * agent_steps, 8 * agent_steps]
    for entry in history:
        names = {"step", "real_score", "eval_env_steps", "dreamed_return"}
        names |= {"seconds", "steps", "steps_per_second"}
        assert entry.keys() == names
        assert 0 < entry["dreamed_return"] < 3 and entry["steps_per_second"] > 0
    assert 0 < history[0]["seconds"] < history[1]["seconds"]
    assert (folder / "controller.png").is_file() and list((folder / "events").iterdir())


def test_a_search_stopped_by_ctrl_c_in_a_look_resumes_to_the_same_bits(
    tmp_path: Path, undisturbed: tuple[str, Path, Evaluation, tuple[np.ndarray, dict[str, Any]]]
) -> None:
    name, _, evaluation, (expected, output) = undisturbed
    with pytest.raises(KeyboardInterrupt, match=r"^$"):
        search(tmp_path / "a", few_steps(name), Evaluation(5.0, 3.0, stop_at=1))
    torch.manual_seed(99)  # what the global generator holds must not matter
    rest = Evaluation(3.0)
    parameters, result = search(tmp_path / "a", few_steps(name), rest)
    assert np.array_equal(rest.seen, evaluation.seen[1:])
    assert np.array_equal(parameters, expected)
    assert without_timings(result) == without_timings(output)
    first, last = result["history"]
    assert first["seconds"] < last["seconds"]


def test_without_evaluations_the_last_c_is_the_result(
    tmp_path: Path, undisturbed: tuple[str, Path, Evaluation, tuple[np.ndarray, dict[str, Any]]]
) -> None:
    name, _, evaluation, _ = undisturbed
    parameters, result = search(tmp_path / "a", few_steps(name), None)
    assert np.array_equal(parameters, evaluation.seen[1])
    assert (result["best_step"], result["eval_score"]) == (8, None)
    assert result["env_steps"] == {"monitored": 0}
    assert all("real_score" not in entry for entry in result["history"])


def test_another_seed_is_another_search(
    tmp_path: Path, undisturbed: tuple[str, Path, Evaluation, tuple[np.ndarray, dict[str, Any]]]
) -> None:
    name, _, evaluation, _ = undisturbed
    other = Evaluation(5.0, 3.0)
    search(tmp_path / "a", few_steps(name), other, seed=1)
    assert np.abs(other.seen[0] - evaluation.seen[0]).max() > 1e-3


@pytest.mark.parametrize("name", LEARNERS)
def test_it_begins_at_the_parameters_given_and_later_rounds_have_their_own_steps(
    tmp_path: Path, name: str
) -> None:
    dream = reward_world("vae")
    start = np.linspace(-1, 1, controller(dream, PEDAL).num_parameters)
    found, result = search(tmp_path / "a", few_steps(name), Evaluation(0.0), start=start, round_=2)
    assert result["steps"] == 2
    assert 0 < np.abs(found - start).max() < 1e-5


def test_it_climbs_the_dream(tmp_path: Path) -> None:
    dream = reward_world("vae")
    sizes = controller(dream, PEDAL)

    def evaluation(parameters: np.ndarray) -> Scores:
        return scores(reward_of(dream, sizes, PEDAL, torch.from_numpy(parameters).float()[None]))

    fit = FitConfig(num_steps=40, batch_size=48, learning_rate=1e-2, validate_every=20)
    config = GradientConfig(fit=fit, later=fit, learner=LEARNERS["pathwise"])
    _, result = search(tmp_path / "a", config, evaluation)
    first, last = result["history"]
    assert first["real_score"] + 0.05 < last["real_score"] > 0.7
    # What a dream of three agent steps is told to pay is what they pay.
    assert last["dreamed_return"] / 3 == pytest.approx(last["real_score"], abs=0.1)


def test_steps_and_agent_steps_are_as_asked_for() -> None:
    config = few_steps("pathwise")
    assert config.with_lengths(None, None) == config
    changed = config.with_lengths(50, 7)
    assert (changed.fit.num_steps, changed.later.num_steps) == (50, 50)
    # Eight steps are evaluated after five and at the end, so fifty are evaluated twice as well.
    assert changed.fit.validate_every == 25
    assert changed.learner.horizon == 7
    assert changed.with_lengths(None, 3).learner == config.learner
