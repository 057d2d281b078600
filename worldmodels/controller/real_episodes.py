"""Play the real game with many controllers; workers play the episodes in parallel."""

import functools
import operator
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from agents.collecting import PlayChunk
from agents.evaluation import Scores, evaluate
from agents.protocol import EvaluationProtocol
from agents.rollout import EpisodeScore, play_scores
from agents.workers import CHUNK, Workers, chunks
from envs.measures import Measure
from worldmodels.controller.agent import Agent, AgentFactory, save_agent


class RealEpisodes:
    """Plays episodes with several C's on the same tracks; V and M are the same for all C's.

    Args:
        max_steps: maximum number of env steps of an episode.
        world_model_file: file to which V, M and the spec are written for the workers.
        measures: measures that are computed for each episode, in addition to its return.

    Attributes:
        steps: total number of env steps of all calls so far.
    """

    def __init__(
        self,
        agent: Agent,
        workers: Workers,
        world_model_file: Path,
        max_steps: int,
        measures: Sequence[Measure] = (),
    ) -> None:
        self.workers, self.world_model_file, self.steps = workers, world_model_file, 0
        self.env, self.max_steps, self.measures = agent.spec.env, max_steps, tuple(measures)
        save_agent(world_model_file, agent, {})

    def __call__(self, candidates: np.ndarray, tracks: Sequence[int]) -> list[list[EpisodeScore]]:
        """Play one episode per candidate and track.

        Args:
            candidates: the parameters of each C, (P, D).

        Returns: for each candidate, the scores of its episodes in the order of `tracks`.
        """
        plays = []
        for part in chunks([(row, track) for row in range(len(candidates)) for track in tracks]):
            # A full chunk of controllers, because batched networks must get a fixed batch size.
            shape = (CHUNK, candidates.shape[1])
            parameters = np.resize(candidates[[row for row, _ in part]], shape)
            factory = AgentFactory(self.world_model_file, parameters)
            play = PlayChunk(
                self.env,
                factory,
                self.max_steps,
                functools.partial(play_scores, measures=self.measures),
            )
            plays.append(functools.partial(play, [track for _, track in part]))
        scores = [score for part in self.workers.map(operator.call, plays) for score in part]
        self.steps += sum(score.num_steps for score in scores)
        return [list(part) for part in chunks(scores, len(tracks))]


def real_scores(
    world_model_file: Path,
    workers: Workers,
    protocol: EvaluationProtocol,
    parameters: Float[np.ndarray, "parameter"],
) -> Scores:
    """The scores of one agent under a protocol.

    The agent consists of V and M from `world_model_file` and of C with `parameters`.
    """
    factory = AgentFactory(world_model_file, parameters[None].astype(np.float32))
    return evaluate(protocol, factory, workers)
