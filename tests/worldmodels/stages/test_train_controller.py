"""The stage that searches C, in envs with known rewards, with an untrained V and M."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
import torch

from agents.collecting import play_episodes
from agents.protocol import EvaluationProtocol
from agents.seeds import seeds
from agents.workers import Workers
from tests.fixtures.counting_env import BOX_ID, DISCRETE_ID
from tests.fixtures.tiny_run import box_run, tiny_run
from worldmodels.controller.agent import AgentFactory, load_agent, save_agent
from worldmodels.controller.agent_file import agent_file
from worldmodels.controller.fitness import CMAESConfig
from worldmodels.controller.gradient import GradientConfig
from worldmodels.controller.pathwise import PathwiseConfig
from worldmodels.controller.ppo import PPOConfig
from worldmodels.errors import UserError
from worldmodels.progress import Report
from worldmodels.runs.checkpoint import load_checkpoint
from worldmodels.runs.provenance import file_digest
from worldmodels.runs.run import Run
from worldmodels.stages.train_controller import ControllerStageConfig, train_controller
from worldmodels.training.fit import FitConfig

KINDS = ("vae", "fsq")
PATHWISE_FIT = FitConfig(num_steps=4, batch_size=4, learning_rate=0.05, validate_every=2)
PPO_FIT = FitConfig(num_steps=3, batch_size=4, learning_rate=0.05, validate_every=2)
CONFIG = ControllerStageConfig(
    eval_episodes=2,
    selection_episodes=3,
    cmaes=CMAESConfig(generations=2, later_generations=1, population=6, episodes=2, horizon=6),
    pathwise=GradientConfig(
        fit=PATHWISE_FIT,
        later=PATHWISE_FIT,
        learner=PathwiseConfig(horizon=3, critic_width=8, ema_rate=1.0),
    ),
    ppo=GradientConfig(
        fit=PPO_FIT,
        later=PPO_FIT,
        learner=PPOConfig(horizon=3, critic_width=8, num_updates=2, ema_rate=1.0),
    ),
)
GRADIENT = replace(CONFIG, search="gradient", dream=True)
SEARCHES = {
    "gradient": GRADIENT,
    "cmaes in the dream": replace(CONFIG, dream=True),
    "cmaes in the game": CONFIG,
}


def make_run(folder: Path, kind: str, seed: int = 0) -> Run:
    """Make a run: a VAE with a Box of two actions, or FSQ codes with three discrete actions.

    The rewards of both envs increase with the action.
    """
    return tiny_run(folder, "fsq") if kind == "fsq" else box_run(folder, seed)


def train(
    run: Run, config: ControllerStageConfig, workers: Workers | None = None, **options: Any
) -> dict[str, Any]:
    return train_controller(
        run, config, workers=workers or Workers(1), report=Report(quiet=True), **options
    )


def parameters(run: Run) -> np.ndarray:
    file = load_checkpoint(run.folder / "controller" / "agent.safetensors", hint="none")
    return file.tensors["controller.parameters"][0].numpy()


def without_timings(result: dict[str, Any]) -> dict[str, Any]:
    """Return the result without the figures that depend on the machine's speed."""
    history = [
        {name: value for name, value in entry.items() if "second" not in name}
        for entry in result["history"]
    ]
    return {**result, "history": history}


@pytest.fixture(scope="module")
def two_workers() -> Iterator[Workers]:
    with Workers(2) as workers:
        yield workers


@pytest.fixture(scope="module", params=[(k, s) for k in KINDS for s in SEARCHES], ids=" ".join)
def finished(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Run, str, str, dict[str, Any]]:
    """Search C in a run; return the run, its kind, the name of the search, and the result."""
    kind, search = request.param
    run = make_run(tmp_path_factory.mktemp("runs") / kind, kind)
    return run, kind, search, train(run, SEARCHES[search])


def test_a_search_leaves_an_agent_its_figures_and_its_curve(
    finished: tuple[Run, str, str, dict[str, Any]],
) -> None:
    run, _, search, result = finished
    folder = run.folder / "controller"
    assert run.result("controller") == result
    assert (result["search"], result["dream"]) == (search.split()[0], "game" not in search)
    agent = load_agent(folder / "agent.safetensors")
    assert result["parameters"] == agent.parameters.numel()
    assert result["selection_episodes"] == 3 and result["real_std"] >= 0
    assert agent.metadata["selection"] == {
        "protocol": EvaluationProtocol(run.settings.env_id, "selection", 3).to_dict(),
        "mean": result["real_score"],
        "std": result["real_std"],
    }
    manifest = run.manifest("controller")
    assert manifest is not None
    assert agent.metadata["made_by"]["config"] == manifest["config"]
    assert iio.imread(folder / "controller.png").std() > 1
    assert list((folder / "events").glob("events.*"))
    left = {path.name for path in folder.iterdir()}
    assert left == {
        "agent.safetensors",
        "controller.png",
        "events",
        "manifest.json",
        "result.json",
    }
    assert not list(run.folder.glob(".*")), "a finished search leaves nothing half done"


def test_every_look_tells_the_real_score_and_what_it_took(
    finished: tuple[Run, str, str, dict[str, Any]],
) -> None:
    _, kind, search, result = finished
    history = result["history"]
    if search == "gradient":  # a VAE's dreams have a slope, those over codes have none
        assert result["steps"] == {"vae": 4, "fsq": 3}[kind]
        assert [entry["step"] for entry in history] == {"vae": [2, 4], "fsq": [2, 3]}[kind]
        agent_steps = {"vae": 4 * 3, "fsq": 4 * 3 / 2}[kind]
        assert [entry["steps"] for entry in history] == [e["step"] * agent_steps for e in history]
        assert all(np.isfinite(entry["dreamed_return"]) for entry in history)
        assert result["eval_score"] == max(entry["real_score"] for entry in history)
        best = next(e for e in history if e["real_score"] == result["eval_score"])
        assert result["best_step"] == best["step"]
    else:
        assert result["generations"] == len(history) == 2
        assert "real_score" not in history[0]
        assert result["eval_score"] == history[1]["real_score"]
        if result["dream"]:
            assert [entry["steps"] for entry in history] == [6 * 2 * 6, 2 * 6 * 2 * 6]
        else:
            assert 0 < history[0]["steps"] < history[1]["steps"] <= 2 * 6 * 2 * 11
    for entry in history:
        assert entry["seconds"] > 0 and entry["steps_per_second"] > 0


def test_the_real_score_is_that_of_the_agent_left_on_tracks_of_its_own(
    finished: tuple[Run, str, str, dict[str, Any]],
) -> None:
    run, _, _, result = finished
    file = run.folder / "controller" / "agent.safetensors"
    tracks = seeds("selection", 3)
    factory = AgentFactory(file)
    scores = play_episodes(run.settings.env_id, factory, tracks, workers=Workers(1))
    returns = [score.episode_return for score in scores]
    assert len(set(returns)) > 1
    assert result["real_score"] == pytest.approx(np.mean(returns))
    assert result["real_std"] == pytest.approx(np.std(returns, ddof=1))


def test_two_workers_and_a_second_time_give_the_same_bits(
    finished: tuple[Run, str, str, dict[str, Any]], two_workers: Workers, tmp_path: Path
) -> None:
    run, kind, search, result = finished
    again = make_run(tmp_path / "again", kind)
    torch.manual_seed(7)  # what the global generator holds must not matter
    assert without_timings(train(again, SEARCHES[search], two_workers)) == without_timings(result)
    assert np.array_equal(parameters(again), parameters(run))


def test_a_finished_search_is_not_done_again_and_its_agent_is_the_run_s_best(
    finished: tuple[Run, str, str, dict[str, Any]],
) -> None:
    run, _, search, result = finished
    newest = run.folder / "controller" / "agent.safetensors"
    assert agent_file(run.folder) == run.folder / "best.safetensors"
    assert agent_file(run.folder).read_bytes() == newest.read_bytes()
    agent_file(run.folder).unlink()  # as a kill between search and choice would leave it
    before = newest.stat().st_mtime_ns
    assert train(run, SEARCHES[search]) == result
    assert newest.stat().st_mtime_ns == before
    assert agent_file(run.folder).read_bytes() == newest.read_bytes()


def held(config: ControllerStageConfig, **changes: Any) -> ControllerStageConfig:
    """Change the config so that the search hardly moves C from its start."""
    still = FitConfig(num_steps=2, batch_size=4, learning_rate=1e-7)
    cmaes = replace(config.cmaes, generations=1, later_generations=1, sigma0=1e-6)
    pathwise = replace(config.pathwise, fit=still, later=still)
    return replace(config, cmaes=cmaes, pathwise=pathwise, **changes)


@pytest.fixture(scope="module")
def other_run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Make a run of the same env with another V and M, and with an agent that has hidden units."""
    run = make_run(tmp_path_factory.mktemp("runs") / "other", "vae", seed=1)
    train(run, replace(CONFIG, dream=True, hidden=3))
    return run


@pytest.mark.parametrize("search", SEARCHES)
def test_a_search_goes_on_from_an_agent_of_another_run(
    tmp_path: Path, other_run: Run, search: str
) -> None:
    file = other_run.folder / "best.safetensors"
    run = make_run(tmp_path / "a", "vae")
    named = file if search == "gradient" else other_run.folder
    train(run, held(SEARCHES[search]), start_from=named)
    start, found = load_agent(file), load_agent(run.folder)
    assert start.parameters.abs().max() > 0.05
    assert 0 < (found.parameters - start.parameters).abs().max() < 1e-4
    assert found.controller == start.controller and found.spec == start.spec
    for ours, theirs in ((found.vision, start.vision), (found.memory, start.memory)):
        state = theirs.state_dict()
        assert all(torch.equal(state[name], part) for name, part in ours.state_dict().items())
    manifest = run.manifest("controller")
    assert manifest is not None and manifest["config"]["start"] == file_digest(file)


def test_the_last_layer_alone_moves_where_it_alone_is_searched(
    tmp_path: Path, other_run: Run
) -> None:
    run = make_run(tmp_path / "a", "vae")
    part = replace(CONFIG.cmaes, last_layer=True)
    train(run, replace(CONFIG, cmaes=part), start_from=other_run.folder)
    start, found = load_agent(other_run.folder), load_agent(run.folder)
    first = start.controller.num_parameters - (3 + 1) * 2
    assert torch.equal(found.parameters[0, :first], start.parameters[0, :first])
    assert (found.parameters[0, first:] != start.parameters[0, first:]).all()


def test_another_start_is_other_work(tmp_path: Path, other_run: Run) -> None:
    run = make_run(tmp_path / "a", "vae")
    config = held(replace(CONFIG, dream=True, hidden=3))
    begin = other_run.folder / "best.safetensors"
    train(run, config, start_from=begin)
    first = parameters(run)
    moved = load_agent(begin)
    moved.parameters = moved.parameters + 1.0
    save_agent(tmp_path / "moved.safetensors", moved, {})
    train(run, config, start_from=tmp_path / "moved.safetensors")
    assert np.abs(parameters(run) - first - 1.0).max() < 1e-4


def test_an_agent_of_another_env_or_none_is_no_start(tmp_path: Path, other_run: Run) -> None:
    run = make_run(tmp_path / "a", "fsq")
    with pytest.raises(
        UserError, match=f"is an agent for {BOX_ID}, .*a is for {DISCRETE_ID}: --init-from must"
    ):
        train(run, CONFIG, start_from=other_run.folder)
    with pytest.raises(UserError, match=r"no file .*: name a run's folder, an agent file that"):
        train(run, CONFIG, start_from=tmp_path / "nowhere.safetensors")
    with pytest.raises(UserError, match=r'no file .*: run "wm train-controller --run .*nowhere"'):
        train(run, CONFIG, start_from=tmp_path / "nowhere")
    several = load_agent(other_run.folder)
    several.parameters = several.parameters.repeat(3, 1)
    save_agent(tmp_path / "several.safetensors", several, {})
    same_env = make_run(tmp_path / "b", "vae")
    with pytest.raises(UserError, match="holds 3 controllers, expected one controller"):
        train(same_env, CONFIG, start_from=tmp_path / "several.safetensors")
    assert not (run.folder / ".controller.partial").exists()


def test_a_start_with_another_action_repeat_or_another_c_than_asked_for_is_refused(
    tmp_path: Path, other_run: Run
) -> None:
    run = make_run(tmp_path / "a", "vae")
    agent = load_agent(other_run.folder)
    agent.spec = replace(agent.spec, action_repeat=3)
    save_agent(tmp_path / "slow.safetensors", agent, {})
    with pytest.raises(UserError, match=r"each action for 3 env steps, .* for 2: --init-from must"):
        train(run, CONFIG, start_from=tmp_path / "slow.safetensors")
    for requested, words in (
        (
            {"hidden": 0},
            r"--hidden must be 3, got 0: leave out --hidden, or leave out --init-from",
        ),
        ({"inputs": "z"}, r"--controller-inputs must be zh, got z"),
        ({"sample_latent": True}, r"sample_latent must be False, got True: leave out --paper"),
        ({"action_map": "paper"}, r"action_map must be default, got paper"),
    ):
        with pytest.raises(UserError, match=words):
            train(run, CONFIG, start_from=other_run.folder, requested=requested)
    assert not (run.folder / ".controller.partial").exists()
    same = {"hidden": 3, "inputs": "zh", "action_map": "default", "sample_latent": False}
    train(run, held(CONFIG), start_from=other_run.folder, requested=same)


def test_an_action_map_that_the_task_lacks_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", "vae")
    with pytest.raises(UserError, match=f"{BOX_ID} has no action map named paper, .* default: "):
        train(run, replace(CONFIG, action_map="paper"))


def test_evolution_goes_on_from_the_round_before_and_gradients_begin_anew(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", "vae")
    train(run, SEARCHES["cmaes in the dream"])
    first = parameters(run)
    assert np.abs(first).max() > 0.05
    train(run, held(SEARCHES["cmaes in the dream"]), round_=2)
    assert 0 < np.abs(parameters(run) - first).max() < 1e-4
    # A new C hardly acts, whatever was there.
    train(run, held(GRADIENT), round_=3)
    assert 0 < np.abs(parameters(run)).max() < 0.03
    # One of another size cannot be gone on from.
    train(run, held(SEARCHES["cmaes in the dream"], inputs="z"), round_=4)
    assert np.abs(parameters(run)).max() < 1e-4


def test_a_later_agent_becomes_the_best_only_where_it_is_better(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", "vae")
    train(run, replace(CONFIG, dream=True))
    kept = []
    for round_, output in ((2, -5.0), (3, 5.0), (4, 0.0)):  # the env pays the action's sum
        driver = load_agent(run.folder)
        driver.parameters = torch.zeros_like(driver.parameters)
        driver.parameters[:, -2:] = output
        save_agent(tmp_path / "start.safetensors", driver, {})
        train(run, held(CONFIG), round_=round_, start_from=tmp_path / "start.safetensors")
        kept.append(load_agent(run.folder).metadata["made_by"]["round"])
    assert kept == [1, 3, 3]
    manifest = run.manifest("controller")
    assert manifest is not None and manifest["round"] == 4


@pytest.mark.parametrize(
    ("inputs", "hidden", "count"), [("z", 0, (3 + 1) * 2), ("zh", 4, (3 + 5 + 1) * 4 + (4 + 1) * 2)]
)
def test_c_sees_and_has_what_was_asked_for(
    tmp_path: Path, inputs: str, hidden: int, count: int
) -> None:
    run = make_run(tmp_path / "a", "vae")
    result = train(run, held(GRADIENT, inputs=inputs, hidden=hidden))
    assert result["parameters"] == load_agent(run.folder).parameters.numel() == count


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"search": "chance"}, 'search must be one of cmaes, gradient, got "chance"'),
        ({"search": "gradient"}, "the real game has no gradient: add --dream to --search gradient"),
        ({"inputs": "h"}, 'inputs must be "zh" or "z", got "h"'),
        ({"hidden": -1}, "hidden must be at least 0, got -1"),
        ({"eval_episodes": -1}, "eval_episodes must be at least 0, got -1"),
        ({"selection_episodes": 0}, "selection_episodes must be at least 1, got 0"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ControllerStageConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"generations": 0}, "generations must be at least 1, got 0"),
        ({"later_generations": 0}, "later_generations must be at least 1, got 0"),
        ({"episodes": 0}, "episodes must be at least 1, got 0"),
        ({"horizon": 0}, "horizon must be at least 1, got 0"),
        ({"validate_every": 0}, "validate_every must be at least 1, got 0"),
        ({"population": 3}, "population must be at least 4, got 3"),
        ({"sigma0": 0.0}, r"sigma0 must be above 0, got 0\.0"),
    ],
)
def test_an_impossible_evolution_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        CMAESConfig(**settings)
