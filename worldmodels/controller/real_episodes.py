"""Many controllers in the real game at once, shared out over workers."""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from agents.collecting import PlayChunk
from agents.rollout import EpisodeScore, play_scores
from agents.workers import CHUNK, Workers, chunks
from envs.measures import Measure
from worldmodels.controller.agent import Agent, AgentFactory, save_agent


class RealEpisodes:
    """Plays every one of several C's, with one V and M, on the same tracks.

    Args:
        max_steps: env steps after which an episode is cut.
        world_model_file: where V, M and the body are left for the workers.
        measures: of each episode beside its return.

    Attributes:
        steps: env steps that calls have taken in all.
    """

    def __init__(
        self,
        agent: Agent,
        workers: Workers,
        world_model_file: Path,
        max_steps: int,
        measures: Sequence[Measure] = (),
    ) -> None:
        self.env = agent.spec.env
        self.workers = workers
        self.world_model_file = world_model_file
        self.max_steps = max_steps
        self.measures = tuple(measures)
        self.steps = 0
        save_agent(world_model_file, agent, {})

    def __call__(self, candidates: np.ndarray, tracks: Sequence[int]) -> list[list[EpisodeScore]]:
        """For each of the candidates (P, D) its episode on every track, in their order."""
        jobs = [(row, track) for row in range(len(candidates)) for track in tracks]
        plays = [
            (
                PlayChunk(
                    self.env,
                    AgentFactory(
                        self.world_model_file, full_chunk(candidates[[row for row, _ in part]])
                    ),
                    self.max_steps,
                    functools.partial(play_scores, measures=self.measures),
                ),
                [track for _, track in part],
            )
            for part in chunks(jobs)
        ]
        scores = [score for part in self.workers.map(_play, plays) for score in part]
        self.steps += sum(score.num_steps for score in scores)
        return [list(part) for part in chunks(scores, len(tracks))]


def full_chunk(parameters: np.ndarray) -> np.ndarray:
    """A full chunk of controllers; batched networks must always see one batch size."""
    return np.resize(parameters, (CHUNK, parameters.shape[1]))


def _play(job: tuple[PlayChunk[EpisodeScore], list[int]]) -> list[EpisodeScore]:
    play_chunk, tracks = job
    return play_chunk(tracks)
