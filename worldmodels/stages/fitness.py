"""What a candidate controller is worth: its return in the dream, or in the real game."""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from agents.collecting import PlayChunk
from agents.controller import choose_actions
from agents.rollout import EpisodeScore, Rollout
from agents.seeds import SEED_RANGES
from agents.workers import CHUNK, Workers, chunks
from worldmodels.agent import Agent, AgentFactory, save_agent
from worldmodels.dream import (
    DreamModel,
    KnownRegion,
    dreamed_returns,
    near_reward,
    real_moments,
)
from worldmodels.errors import UserError
from worldmodels.report import Report
from worldmodels.run import Run
from worldmodels.training import step_generator
from worldmodels.world_model import encode_newest

NEAR_DECISIONS = 15


@dataclass(frozen=True)
class ControllerStageConfig:
    """How C is searched; the defaults are the paper's (arXiv 1803.10122, A.4).

    Attributes:
        dream: search in M's dream instead of the real game.
        generations, later_generations: in the first round, and in rounds after it, which start
            from the C there is.
        population, sigma0, diagonal: CMA-ES; `diagonal` adapts one variance a parameter.
        episodes: real episodes, or dreams, a candidate; the same tracks or moments for all
            candidates of a generation, other ones in every generation.
        max_decisions: length of a dream, and of a real episode if below the env's own limit.
        temperature: of the dream.
        far_starts: weight of dreams that begin far from any reward, against 1 for the others.
        inputs, hidden: C sees "zh" or "z"; hidden tanh units, 0 for the paper's linear C.
        action_map: one of the task's; None takes its default.
        sample_latent: C sees a draw from V's posterior, as in the paper, instead of its mean.
    """

    dream: bool = False
    generations: int = 1_800
    later_generations: int = 200
    population: int = 64
    sigma0: float = 0.1
    diagonal: bool = False
    episodes: int = 16
    max_decisions: int = 1_000
    temperature: float = 1.0
    far_starts: float = 1.0
    inputs: str = "zh"
    hidden: int = 0
    action_map: str | None = None
    sample_latent: bool = False

    def __post_init__(self) -> None:
        for name in ("generations", "later_generations", "episodes", "max_decisions"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.population < 4:
            raise UserError(f"population must be at least 4, got {self.population}")
        if self.inputs not in ("zh", "z"):
            raise UserError(f'inputs must be "zh" or "z", got "{self.inputs}"')


class DreamFitness:
    """Mean dreamed return of each candidate, all of them as one batch on the device."""

    def __init__(
        self,
        run: Run,
        config: ControllerStageConfig,
        agent: Agent,
        device: str,
        seed: int,
        report: Report,
    ) -> None:
        self.config = config
        self.controller, self.body = agent.controller, agent.body
        self.device = device
        self.seed = seed
        sequences = encode_newest(run, agent.vision, report)
        moments = real_moments(agent.vision, agent.memory, sequences)
        region = KnownRegion.fit(agent.vision, agent.memory, sequences).to(device)
        self.moments = moments.to(device)
        near = near_reward(sequences, NEAR_DECISIONS)
        # Where no reward stands out (all alike, or none at all), all moments count the same.
        weights = torch.where(near, 1.0, config.far_starts).double() + 1e-6
        self.cumulative = weights.cumsum(0).float().to(device)
        self.dream = DreamModel(
            agent.vision.to(device), agent.memory.to(device), config.temperature, region
        )

    @torch.no_grad()
    def __call__(self, candidates: np.ndarray, generation: int) -> np.ndarray:
        """Fitness of (population, D) candidates, from moments drawn anew each generation."""
        generator = step_generator(self.seed, generation, self.device)
        uniform = torch.rand(self.config.episodes, generator=generator, device=self.device)
        picks = torch.searchsorted(self.cumulative, uniform * self.cumulative[-1])
        population = len(candidates)
        parameters = torch.from_numpy(candidates).float().to(self.device)
        act = functools.partial(choose_actions, self.controller, self.body.action_map, parameters)
        starts = self.moments.rows(picks.repeat(population))
        returns = dreamed_returns(
            self.dream, starts, act, self.config.max_decisions, generator, copies=population
        )
        if not torch.isfinite(returns).all():
            raise UserError(
                f"a dream of generation {generation} left all bounds (return {returns.sum()}): "
                "train M on more episodes, or dream fewer decisions"
            )
        return returns.view(population, -1).mean(1).double().cpu().numpy()


class RealFitness:
    """Mean real return of each candidate over the same tracks, played by the workers."""

    def __init__(
        self,
        config: ControllerStageConfig,
        agent: Agent,
        workers: Workers,
        seed: int,
        body_file: Path,
    ) -> None:
        self.config = config
        self.env_id = agent.body.env_id
        self.seed = seed
        self.workers = workers
        self.max_steps = config.max_decisions * agent.body.action_repeat
        self.body_file = body_file
        save_agent(body_file, agent, {})

    def __call__(self, candidates: np.ndarray, generation: int) -> np.ndarray:
        """Fitness of (population, D) candidates, on tracks drawn anew each generation."""
        tracks = np.random.default_rng([self.seed, generation]).integers(
            SEED_RANGES["training"].stop, size=self.config.episodes
        )
        jobs = [(row, int(track)) for row in range(len(candidates)) for track in tracks]
        plays = [
            (
                PlayChunk(
                    self.env_id,
                    AgentFactory(self.body_file, _padded(candidates[[row for row, _ in part]])),
                    self.max_steps,
                    keep_frames=False,
                ),
                [track for _, track in part],
            )
            for part in chunks(jobs)
        ]
        scores = self.workers.map(_play, plays)
        returns = [score.episode_return for part in scores for score in part]
        return np.array(returns).reshape(len(candidates), -1).mean(1)


def _play(job: tuple[PlayChunk, list[int]]) -> list[Rollout] | list[EpisodeScore]:
    play_chunk, tracks = job
    return play_chunk(tracks)


def _padded(parameters: np.ndarray) -> np.ndarray:
    """A full chunk of controllers; batched networks must always see one batch size."""
    return np.resize(parameters, (CHUNK, parameters.shape[1]))
