"""What a candidate controller is worth: its return in the dream, or in the real game."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float

from agents.controller import choose_actions
from agents.evaluation import Scores, evaluate
from agents.protocol import EvaluationProtocol
from agents.seeds import SEED_RANGES
from agents.workers import Workers
from worldmodels.controller.agent import Agent, AgentFactory, save_agent
from worldmodels.controller.real_episodes import RealEpisodes
from worldmodels.dream.model import DreamModel
from worldmodels.dream.rollout import dreamed_returns
from worldmodels.dream.starts import StartStates
from worldmodels.errors import UserError
from worldmodels.training.fit import step_generator
from worldmodels.training.seeding import generator_on


@dataclass(frozen=True)
class CMAESConfig:
    """How CMA-ES searches; the defaults are the paper's (arXiv 1803.10122, A.4).

    Attributes:
        generations, later_generations: in the first round and in later rounds, which start from
            the present C.
        population, sigma0, diagonal: of CMA-ES; `diagonal` adapts one variance per parameter.
        episodes: real episodes, or dreams, per candidate. All candidates of a generation have the
            same tracks or start states, and every generation has new ones.
        horizon: length of a dream, and of a real episode if below the env's own limit.
        validate_every: generations between two evaluations of the distribution's mean in the real
            env.
        last_layer: search the weights of C's last layer alone; those before it stay.
        averaged_generations: the result is the average of the distribution's means over this many
            last generations; 1 is the last mean itself.
        select_best: the result is the evaluated mean with the best real score, and a search that
            begins with an agent's C evaluates that one too. Otherwise it is the last mean.
        max_minutes: minutes of search, without evaluations, after which the search ends early;
            None is no limit.
    """

    generations: int = 1_800
    later_generations: int = 200
    population: int = 64
    sigma0: float = 0.1
    diagonal: bool = False
    episodes: int = 16
    horizon: int = 1_000
    validate_every: int = 25
    last_layer: bool = False
    averaged_generations: int = 1
    select_best: bool = False
    max_minutes: float | None = None

    def __post_init__(self) -> None:
        names = ("generations", "later_generations", "episodes", "horizon", "validate_every")
        for name in (*names, "averaged_generations"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.population < 4:
            raise UserError(f"population must be at least 4, got {self.population}")
        if self.max_minutes is not None and not self.max_minutes > 0:
            raise UserError(f"minutes must be above 0, got {self.max_minutes}")
        if not self.sigma0 > 0:
            raise UserError(f"sigma must be above 0, got {self.sigma0}")

    def generations_in(self, round_: int) -> int:
        """Generations of that round, counted from 1."""
        return self.later_generations if round_ > 1 else self.generations


@runtime_checkable
class Fitness(Protocol):
    """The fitness of candidates."""

    @property
    def steps(self) -> int:
        """Dreamed agent steps, or env steps, that calls have taken in all."""

    def __call__(self, candidates: np.ndarray, generation: int) -> np.ndarray:
        """Fitness (P,) of candidates (P, D) in a generation, to maximise."""


class DreamFitness:
    """Mean dreamed return of each candidate, all of them as one batch on the device."""

    def __init__(
        self,
        config: CMAESConfig,
        agent: Agent,
        dream: DreamModel,
        starts: StartStates,
        seed: int,
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
        population = len(candidates)
        parameters = torch.from_numpy(candidates).float().to(device)
        act = functools.partial(choose_actions, self.controller, self.spec.action_map, parameters)
        once = torch.arange(self.config.episodes)
        starts = self.starts.sample(self.config.episodes, generator).rows(once.repeat(population))
        returns = dreamed_returns(
            self.dream,
            starts.to(device),
            act,
            self.config.horizon,
            generator_on(device, generator),
            num_candidates=population,
        ).cpu()
        if not torch.isfinite(returns).all():
            raise UserError(
                f"a dream of generation {generation} left all bounds (return {returns.sum()}): "
                "train M on more episodes, or dream fewer agent steps"
            )
        self.steps += len(returns) * self.config.horizon
        return returns.view(population, -1).mean(1).double().numpy()


class RealFitness:
    """Mean real return of each candidate over the same tracks, played by the workers."""

    def __init__(
        self,
        config: CMAESConfig,
        agent: Agent,
        workers: Workers,
        seed: int,
        world_model_file: Path,
    ) -> None:
        self.config = config
        self.seed = seed
        max_steps = config.horizon * agent.spec.action_repeat
        self._play = RealEpisodes(agent, workers, world_model_file, max_steps)

    @property
    def steps(self) -> int:
        """Env steps that calls have taken in all."""
        return self._play.steps

    def __call__(self, candidates: np.ndarray, generation: int) -> np.ndarray:
        """Fitness of (population, D) candidates, on tracks drawn anew each generation."""
        tracks = np.random.default_rng([self.seed, generation]).integers(
            SEED_RANGES["training"].stop, size=self.config.episodes
        )
        scores = self._play(candidates, tracks.tolist())
        result: np.ndarray = np.array(
            [[score.episode_return for score in row] for row in scores]
        ).mean(1)
        return result


class PartFitness:
    """Fitness of the last parameters alone: those before them are always the same.

    Args:
        fixed: the first parameters, (F,).
    """

    def __init__(self, fitness: Fitness, fixed: np.ndarray) -> None:
        self._fitness = fitness
        self._fixed = fixed

    @property
    def steps(self) -> int:
        """As the whole fitness counts them."""
        return self._fitness.steps

    def whole(self, searched: np.ndarray) -> np.ndarray:
        """All parameters (..., F + S), the last ones (..., S) given."""
        fixed = np.broadcast_to(self._fixed, (*searched.shape[:-1], len(self._fixed)))
        return np.concatenate([fixed, searched], axis=-1)

    def __call__(self, candidates: np.ndarray, generation: int) -> np.ndarray:
        """Fitness (P,) of candidates (P, S) in a generation."""
        return self._fitness(self.whole(candidates), generation)


class RealScores:
    """Scores of one C after another in the real env.

    Args:
        world_model_file: where V, M and the body are written for the workers.
    """

    def __init__(self, agent: Agent, workers: Workers, world_model_file: Path) -> None:
        self.workers = workers
        self.world_model_file = world_model_file
        save_agent(world_model_file, agent, {})

    def __call__(
        self, parameters: Float[np.ndarray, "parameter"], protocol: EvaluationProtocol
    ) -> Scores:
        """Scores of C with these parameters under that protocol."""
        factory = AgentFactory(self.world_model_file, parameters[None].astype(np.float32))
        return evaluate(protocol, factory, self.workers)
