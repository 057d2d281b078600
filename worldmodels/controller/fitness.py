"""The fitness of candidate controllers: their mean return in the dream or in the real game."""

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
    """Settings of CMA-ES; the defaults are those of arXiv 1803.10122, appendix A.4.

    Attributes:
        generations: number of generations in the first round.
        later_generations: number of generations in each later round, in which the search starts
            from the existing C.
        population: number of candidates per generation.
        sigma0: initial step size of CMA-ES.
        covariance: "full" adapts a whole covariance matrix, and "diagonal" adapts one variance per
            parameter.
        episodes: number of real episodes, or of dreams, per candidate. All candidates of a
            generation get the same tracks or start states, which change from generation to
            generation.
        horizon: maximum number of agent steps of a dream or of a real episode; the env may end real
            episodes earlier.
        validate_every: number of generations between two evaluations in the real env. Each of these
            evaluations is of the mean of the search distribution.
        last_layer: whether only the parameters of C's last layer are searched. The parameters of
            earlier layers then stay fixed.
        averaged_generations: number of latest generations over which the mean of the search
            distribution is averaged. This average is the result. At 1, the result is the last mean.
        select_best: whether the result is the evaluated average with the best score in the real
            env, and not the last average. If `select_best` is true, a search that begins with the C
            of an agent also evaluates this C.
        max_minutes: time limit of the search in minutes, excluding the time of evaluations. If
            `max_minutes` is None, there is no limit.
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
    """A function that computes the fitness of candidates.

    Attributes:
        steps: total number of steps in all calls so far; these are agent steps in the dream, and
            env steps in the real env.
    """

    steps: int

    def __call__(self, candidates: np.ndarray, generation: int) -> np.ndarray:
        """The fitness (P,) of the candidates (P, D); the search maximizes the fitness."""


class DreamFitness:
    """The mean dreamed return of each candidate; all candidates form one batch on the device."""

    def __init__(
        self, config: CMAESConfig, agent: Agent, dream: DreamModel, starts: StartStates, seed: int
    ) -> None:
        self.config = config
        self.controller, self.spec = agent.controller, agent.spec
        self.dream, self.starts, self.seed = dream, starts, seed
        self.steps = 0

    @torch.no_grad()
    def __call__(self, candidates: np.ndarray, generation: int) -> np.ndarray:
        """The fitness of candidates (population, D); each generation has new start states."""
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
                "train M on more episodes, or shorten the dreams with --horizon"
            )
        self.steps += len(returns) * horizon
        return returns.view(population, -1).mean(1).double().numpy()


class RealFitness:
    """The mean return of each candidate in the real env; all candidates get the same tracks."""

    def __init__(
        self, config: CMAESConfig, agent: Agent, workers: Workers, seed: int, world_model_file: Path
    ) -> None:
        self.config, self.seed, self.steps = config, seed, 0
        max_steps = config.horizon * agent.spec.action_repeat
        self._play = RealEpisodes(agent, workers, world_model_file, max_steps)

    def __call__(self, candidates: np.ndarray, generation: int) -> np.ndarray:
        """The fitness of candidates (population, D); each generation has new tracks."""
        tracks = np.random.default_rng([self.seed, generation]).integers(
            SEED_RANGES["training"].stop, size=self.config.episodes
        )
        scores = self._play(candidates, tracks.tolist())
        self.steps = self._play.steps
        returns = np.array([[score.episode_return for score in row] for row in scores])
        result: np.ndarray = returns.mean(1)
        return result
