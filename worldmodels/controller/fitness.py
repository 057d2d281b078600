"""The fitness of candidate controllers: their return in the dream or in the real game."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch

from agents.controller import choose_actions
from agents.seeds import SEED_RANGES
from agents.workers import Workers
from worldmodels.controller.agent import Agent
from worldmodels.controller.real_episodes import RealEpisodes
from worldmodels.dream.model import DreamModel
from worldmodels.dream.rollout import dreamed_returns
from worldmodels.dream.starts import StartStates
from worldmodels.errors import UserError, check_above_zero, check_at_least, check_choice
from worldmodels.training.fit import step_generator
from worldmodels.training.seeding import generator_on


@dataclass(frozen=True)
class CMAESConfig:
    """Settings of CMA-ES; the defaults are the paper's (arXiv 1803.10122, A.4).

    Attributes:
        generations, later_generations: number of generations in the first round, and in later
            rounds, which start from the existing C.
        population, sigma0, covariance: settings of the CMA-ES distribution; "diagonal" adapts one
            variance per parameter.
        episodes: real episodes or dreams per candidate. All candidates of a generation get the
            same tracks or start states, and every generation gets new ones.
        horizon: agent steps of a dream, and of a real episode if below the env's own limit.
        validate_every: generations between two evaluations of the distribution's mean in the real
            env.
        last_layer: search the weights of C's last layer alone; earlier layers stay.
        averaged_generations: number of last generations over whose means the result is averaged;
            1 takes the last mean itself.
        select_best: take the evaluated mean with the best real score as the result. A search that
            begins with an agent's C then also evaluates that C. If false, the result is the last
            mean.
        max_minutes: minutes of search, without evaluations, after which the search ends early;
            None sets no limit.
    """

    generations: int = 1_800
    later_generations: int = 200
    population: int = 64
    sigma0: float = 0.1
    covariance: Literal["full", "diagonal"] = "full"
    episodes: int = 16
    horizon: int = 1_000
    validate_every: int = 25
    last_layer: bool = False
    averaged_generations: int = 1
    select_best: bool = False
    max_minutes: float | None = None

    def __post_init__(self) -> None:
        check_choice("covariance", self.covariance, ("full", "diagonal"))
        counts = ("generations", "later_generations", "episodes", "horizon", "validate_every")
        check_at_least(1, self, *counts, "averaged_generations")
        check_at_least(4, self, "population")
        check_above_zero(self, "max_minutes", "sigma0")


@runtime_checkable
class Fitness(Protocol):
    """The fitness of candidates.

    Attributes:
        steps: total number of dreamed agent steps, or env steps, of all calls so far.
    """

    steps: int

    def __call__(self, candidates: np.ndarray, generation: int) -> np.ndarray:
        """Fitness (P,) of candidates (P, D) in a generation, which the search maximizes."""


class DreamFitness:
    """Mean dreamed return of each candidate; all candidates form one batch on the device."""

    def __init__(
        self, config: CMAESConfig, agent: Agent, dream: DreamModel, starts: StartStates, seed: int
    ) -> None:
        self.config = config
        self.controller, self.spec = agent.controller, agent.spec
        self.dream, self.starts, self.seed = dream, starts, seed
        self.steps = 0

    @torch.no_grad()
    def __call__(self, candidates: np.ndarray, generation: int) -> np.ndarray:
        """Fitness of (population, D) candidates, from new start states in each generation."""
        device = self.dream.device
        generator = step_generator(self.seed, generation)
        parameters = torch.from_numpy(candidates).float().to(device)
        act = functools.partial(choose_actions, self.controller, self.spec.action_map, parameters)
        population, episodes = len(candidates), self.config.episodes
        rows = torch.arange(episodes).repeat(population)
        starts = self.starts.sample(episodes, generator).rows(rows).to(device)
        noise, horizon = generator_on(device, generator), self.config.horizon
        returns = dreamed_returns(self.dream, starts, act, horizon, noise, population)[-1].cpu()
        if not torch.isfinite(returns).all():
            raise UserError(
                f"a dream of generation {generation} diverged (return {returns.sum()}): "
                "train M on more episodes, or dream fewer agent steps"
            )
        self.steps += len(returns) * horizon
        return returns.view(population, -1).mean(1).double().numpy()


class RealFitness:
    """Mean real return of each candidate over the same tracks, played by the workers."""

    def __init__(
        self, config: CMAESConfig, agent: Agent, workers: Workers, seed: int, world_model_file: Path
    ) -> None:
        self.config, self.seed, self.steps = config, seed, 0
        max_steps = config.horizon * agent.spec.action_repeat
        self._play = RealEpisodes(agent, workers, world_model_file, max_steps)

    def __call__(self, candidates: np.ndarray, generation: int) -> np.ndarray:
        """Fitness of (population, D) candidates, on tracks drawn anew each generation."""
        tracks = np.random.default_rng([self.seed, generation]).integers(
            SEED_RANGES["training"].stop, size=self.config.episodes
        )
        scores = self._play(candidates, tracks.tolist())
        self.steps = self._play.steps
        returns = np.array([[score.episode_return for score in row] for row in scores])
        result: np.ndarray = returns.mean(1)
        return result
