"""Do the longer runs whose results two of the tutorials show.

The run "stable-baselines" trains V and M on 96 episodes of the exploring policy, and trains a
policy by the PPO of Stable-Baselines3 in the dream of V and M. During the training, the policy
never acts in the real environment. The run "own-environment" executes the commands of the tutorial
own_environment.ipynb, in the environment that the tutorial writes. The settings are those of the
preset. Each run takes about ten minutes on one core.
"""

import json
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import gymnasium
import nbformat
import numpy as np
import torch
from stable_baselines3 import PPO

import worldmodels
from agents.evaluation import sample_std
from agents.seeds import seeds
from envs.tasks import DEFAULT_ENV_ID, task_for
from scripts.experiments.experiment import Context, Experiment, Result, Results
from worldmodels.presets import DEMO
from worldmodels.runs.run import Run
from worldmodels.runs.run_settings import RunSettings
from worldmodels.stages.collect import collect
from worldmodels.stages.train_memory import train_memory
from worldmodels.stages.train_vision import train_vision

EPISODES = 96
HORIZON = 50  # agent steps of a dream in which Stable-Baselines3 trains
MODULE = "%%writefile dots.py\n"  # first line of the cell that writes the environment
COMMANDS = (
    "wm collect --run runs/dot --preset demo --env dots:Dot-v0 --env-arg speed=4",
    "wm train-vision --run runs/dot --quantized",
    "wm train-memory --run runs/dot",
    "wm train-controller --run runs/dot --dream --search cmaes --horizon 15",
    "wm evaluate --run runs/dot --episodes 100 --json",
)
TABLE = {"stable-baselines": None, "own-environment": None}  # no settings of their own


@dataclass(frozen=True)
class Tutorials(Experiment):
    """Make the results that the tutorials show.

    Attributes:
        steps: number of agent steps in the dream for which Stable-Baselines3 trains the policy.
        episodes: number of validation episodes, for the untrained and for the trained policy.
    """

    name = "tutorials"
    table = TABLE
    steps: int = 200_000
    episodes: int = 20

    def run(self, name: str, spec: None, context: Context) -> Result:
        """Make the result of one tutorial."""
        if name == "own-environment":
            return own_environment(context)
        return self.stable_baselines(context)

    def stable_baselines(self, context: Context) -> Result:
        """Collect episodes, train V and M, train PPO in the dream, and play real episodes."""
        run = Run(context.runs / "dreamer", RunSettings(DEFAULT_ENV_ID, DEMO.name, seed=0))
        config = DEMO.collect.limited(EPISODES, None)
        collect(run, config, workers=context.workers, report=context.report)
        train_vision(run, DEMO.vae, report=context.report)
        train_memory(run, DEMO.memory, report=context.report)
        dream = gymnasium.make("worldmodels/Dream-v0", run=str(run.folder), horizon=HORIZON)
        model = PPO("MlpPolicy", dream, seed=0, device="cpu")
        untrained = self.returns(model, run)
        model.learn(self.steps)
        return {
            "dreamed_agent_steps": self.steps,
            "horizon": HORIZON,
            "episodes": self.episodes,
            "untrained": summary(untrained),
            "trained": summary(self.returns(model, run)),
        }

    def returns(self, model: PPO, run: Run) -> list[float]:
        """Play the validation episodes of the real environment, and return the list of returns."""
        return [drive(model, run, seed) for seed in seeds("validation", self.episodes)]

    def draw(self, results: Results, docs: Path) -> None:
        """Draw nothing, because the tutorials show the results as text."""


@torch.no_grad()
def drive(model: PPO, run: Run, seed: int) -> float:
    """Play a real episode and return its return. The policy gets [z, h], as in the dream."""
    vision, memory = worldmodels.load_world_model(run.folder)
    repeat = task_for(DEFAULT_ENV_ID).action_repeat
    env = gymnasium.make(DEFAULT_ENV_ID)
    frame, _ = env.reset(seed=seed)
    state, total = memory.initial(1), 0.0
    while True:
        latent = vision.mode(vision.encode(torch.from_numpy(frame[None])))
        features = torch.cat([vision.features(latent), memory.features(state)], -1)
        action, _ = model.predict(features[0].numpy(), deterministic=True)
        for _ in range(repeat):
            frame, reward, terminated, truncated, _ = env.step(action)
            total += float(reward)
            if terminated or truncated:
                return total
        state = memory.advance(state, latent, torch.from_numpy(action[None]))


def summary(returns: list[float]) -> Result:
    """Return a dict with the mean and the standard deviation of the returns."""
    return {"mean": float(np.mean(returns)), "std": sample_std(returns), "returns": returns}


def own_environment(context: Context) -> Result:
    """Write the tutorial's environment, execute the commands, and return the last output."""
    folder = context.runs / "own-environment"
    folder.mkdir(parents=True, exist_ok=True)
    notebook = nbformat.read(context.docs / "tutorials" / "own_environment.ipynb", as_version=4)
    source = next(cell.source for cell in notebook.cells if cell.source.startswith(MODULE))
    (folder / "dots.py").write_text(source.removeprefix(MODULE), encoding="utf-8")
    output = ""
    for command in COMMANDS:
        words = [sys.executable, "-m", "worldmodels", *shlex.split(command)[1:]]
        done = subprocess.run(words, cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
        output = done.stdout
    return {"commands": list(COMMANDS), **json.loads(output)}
