"""Train agents in several games with one preset, beside PPO at equal env steps.

Each run plays one game from pixels, on one core: our agent with a kind of V and a seed, or PPO of
Stable-Baselines3 with a CNN and a seed, or the untrained policies. All of them get the same frames
of 64 x 64 pixels and the same action repeat. PPO gets the last four frames. Every score is the mean
return over the same validation episodes, which select nothing. The kind of V is chosen per game by
seed 0, which is not reported.
"""

import functools
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from agents.evaluation import Scores, evaluate
from agents.protocol import EvaluationProtocol
from agents.workers import Workers
from envs.config import EnvConfig
from envs.tasks import task_for
from scripts.experiments.estimates import mean_over
from scripts.experiments.experiment import Context, Experiment, Result, Results
from scripts.experiments.figures import plot_runs, saved_axes
from scripts.experiments.markdown import write_page
from scripts.experiments.pixel_ppo import train_ppo
from worldmodels.controller.agent import AgentFactory
from worldmodels.controller.agent_file import agent_file
from worldmodels.controller.policies import make_policy
from worldmodels.pipeline import run_pipeline
from worldmodels.presets import DEMO
from worldmodels.runs.json_files import read_json
from worldmodels.runs.learning_curve import ROUNDS
from worldmodels.runs.run import Run
from worldmodels.runs.run_settings import RunSettings

EPISODES = 50
NUM_ROUNDS = 6
MINUTES = 50.0  # no round begins later, so that a run takes at most an hour of one core
SEEDS, KIND_SEED = (1, 2, 3), 0
OURS = ("latents", "codes")


@dataclass(frozen=True)
class Game:
    """One game of the comparison.

    Attributes:
        env_steps: largest number of env steps of a run, without the evaluation at its end.
        target: the score that an agent should reach; None for games that are only reported.
        kind: the kind of V that scored more with seed `KIND_SEED`, or None if not known yet.
    """

    env_id: str
    env_steps: int
    target: float | None = None
    kind: str | None = None


GAMES = {
    "cartpole": Game("CartPole-v1", 100_000, 475.0),
    "lunarlander": Game("LunarLander-v3", 300_000, 150.0),
    "doorkey": Game("MiniGrid-DoorKey-5x5-v0", 200_000, 0.9),
    "vizdoom": Game("VizdoomBasic-v1", 200_000, 75.0),
    "freeway": Game("ALE/Freeway-v5", 100_000, 26.0),
    "boxing": Game("ALE/Boxing-v5", 100_000, 15.0),
    "acrobot": Game("Acrobot-v1", 200_000),
    "pendulum": Game("Pendulum-v1", 200_000),
    "mountaincar": Game("MountainCar-v0", 200_000),
    "pong": Game("ALE/Pong-v5", 200_000),
}


def table() -> dict[str, tuple[str, str, int]]:
    """Return the game, the player and the seed of each run, by the run's name."""
    runs = {}
    for name, game in GAMES.items():
        seeds = SEEDS if game.target is not None else SEEDS[:1]
        players = [(kind, KIND_SEED) for kind in OURS]
        players += [(game.kind, seed) for seed in seeds if game.kind is not None]
        players += [("ppo", seed) for seed in seeds]
        runs[f"{name}-untrained"] = (name, "untrained", 0)
        runs |= {f"{name}-{player}-{seed}": (name, player, seed) for player, seed in players}
    return runs


@dataclass(frozen=True)
class Games(Experiment):
    """Compare our agent, PPO and untrained policies in several games."""

    name = "games"
    table = table()

    def run(self, name: str, spec: tuple[str, str, int], context: Context) -> Result:
        """Train one agent and score it, or score the untrained policies."""
        game_name, player, seed = spec
        game = GAMES[game_name]
        shared = {"game": game_name, "env_id": game.env_id, "player": player, "seed": seed}
        if player == "untrained":
            return {**shared, **untrained(game, context.workers)}
        if player == "ppo":
            return {**shared, **ppo(game, seed)}
        return {**shared, **ours(game, player, seed, context.runs / name, context)}

    def command(self, name: str) -> str:
        """Return the command that makes this result."""
        return f"python scripts/benchmark.py games --rows 1 --only {name}"

    def draw(self, results: Results, docs: Path) -> None:
        """Write the page, and draw a learning curve per game."""
        by_game = {
            name: [each for each in results.values() if each["game"] == name] for name in GAMES
        }
        by_game = {name: found for name, found in by_game.items() if found}
        draw_curves(docs / self.folder / "curves.png", by_game)
        rows = [_row(GAMES[name], found) for name, found in by_game.items()]
        write_page(docs / "games.md", episodes=EPISODES, minutes=int(MINUTES) + 10, games=rows)


def _protocol(game: Game) -> EvaluationProtocol:
    return EvaluationProtocol.of(EnvConfig(game.env_id), "validation", EPISODES)


def _scored(scores: Scores) -> Result:
    return {"score": scores.mean, "std": scores.std, "returns": list(scores.returns)}


def untrained(game: Game, workers: Workers) -> Result:
    """Score the random policy and the policies that always take the same action."""
    env, protocol = EnvConfig(game.env_id), _protocol(game)
    policies = {}
    for policy in ("random", *task_for(env).constant_actions):
        factory = functools.partial(make_policy, policy, env, Path())
        policies[policy] = _scored(evaluate(protocol, factory, workers))
    constant = [name for name in policies if name != "random"]  # none for a Box
    best = max(constant, key=lambda name: policies[name]["score"], default=None)
    return {"policies": policies, "best_constant": best}


def ppo(game: Game, seed: int) -> Result:
    """Train PPO for as many env steps as our agent, and score it on the same episodes."""
    started = time.monotonic()
    player, curve = train_ppo(game.env_id, game.env_steps, seed)
    minutes = (time.monotonic() - started) / 60
    returns = player.returns(_protocol(game).seeds)
    return {
        "score": float(np.mean(returns)),
        "std": float(np.std(returns, ddof=1)),
        "returns": returns,
        "minutes": minutes,
        "env_steps": game.env_steps,
        "curve": curve,
    }


def ours(game: Game, kind: str, seed: int, folder: Path, context: Context) -> Result:
    """Run all stages on one core, and score the run's best agent."""
    run = Run(folder, RunSettings.of(EnvConfig(game.env_id), DEMO.name, seed))
    preset = replace(DEMO.with_env_steps(game.env_steps, NUM_ROUNDS), evaluation_episodes=1)
    with Workers(1) as worker:
        run_pipeline(
            run,
            preset,
            quantized=kind == "codes",
            rounds=NUM_ROUNDS,
            workers=worker,
            report=context.report,
            minutes=MINUTES,
        )
        scores = evaluate(_protocol(game), AgentFactory(agent_file(run.folder)), worker)
    rounds: list[Result] = read_json(run.folder / ROUNDS) or []
    counts = rounds[-1]["env_steps_by_purpose"]
    return {
        **_scored(scores),
        "minutes": rounds[-1]["seconds"] / 60,
        "env_steps": sum(steps for purpose, steps in counts.items() if purpose != "reported"),
        "rounds": rounds,
        "curve": [[row["env_steps"], row["score"]] for row in rounds],
    }


def _row(game: Game, found: Sequence[Result]) -> dict[str, Any]:
    """Return the cells of one game in the table; cells of missing runs are left out."""
    row: dict[str, Any] = {"env_id": game.env_id, "env_steps": f"{game.env_steps:,}"}
    row["target"] = "" if game.target is None else f"{game.target:g}"
    for result in found:
        if result["player"] == "untrained":
            best = result["best_constant"]
            row["random"] = _interval(result["policies"]["random"]["returns"])
            if best is not None:
                row["constant"] = f"{_interval(result['policies'][best]['returns'])} ({best})"
    for player, heading in ((game.kind, "agent"), ("ppo", "ppo")):
        runs = [each for each in found if each["player"] == player and each["seed"] in SEEDS]
        if runs:
            of_seeds = ", ".join(f"{each['score']:.4g}" for each in runs)
            row[heading] = f"{_interval(np.concatenate([r['returns'] for r in runs]))} ({of_seeds})"
    for kind in OURS:
        for each in found:
            if (each["player"], each["seed"]) == (kind, KIND_SEED):
                row[kind] = f"{each['score']:.4g}"
    return row


def _interval(returns: Sequence[float] | np.ndarray) -> str:
    return mean_over(list(map(float, returns))).text()


def draw_curves(path: Path, by_game: dict[str, list[Result]]) -> None:
    """Plot the score against env steps, with one panel per game and one line per run."""
    columns = min(3, len(by_game))
    rows = -(-len(by_game) // columns)
    size = (4.2 * columns, 3.0 * rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with saved_axes(path, size, {"ncols": 3}, nrows=rows, ncols=columns, squeeze=False) as panels:
        for axes, (name, found) in zip(panels.flat, by_game.items(), strict=False):
            for number, player in enumerate((*OURS, "ppo")):
                runs = [each["curve"] for each in found if each["player"] == player]
                curves = [tuple(np.array(curve, float).T) for curve in runs if len(curve)]
                plot_runs(axes, curves, player, color=f"C{number}")
            axes.set(title=GAMES[name].env_id, xlabel="env steps", ylabel="return")
