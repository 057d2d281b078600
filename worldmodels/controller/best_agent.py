"""Keep the best agent of a run, that is, the V, M and C with the highest score so far.

A later round may give a worse V, M or C. Every agent of a run is therefore evaluated on the
selection episodes. V, M and C of the best agent are kept in a separate file, in addition to the
newest V, M and C of the run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from agents.evaluation import Scores, evaluate
from agents.protocol import EvaluationProtocol
from agents.workers import Workers
from worldmodels.controller.agent import AgentFactory, with_present_names
from worldmodels.errors import UserError, reading
from worldmodels.runs.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from worldmodels.runs.env_steps import record_env_steps
from worldmodels.runs.provenance import file_digest
from worldmodels.runs.run import BEST, BEST_RECORD, Run

Evaluate = Callable[[Path, EvaluationProtocol], Scores]


@dataclass(frozen=True)
class Selection:
    """The score by which an agent is compared with the other agents of its run.

    Attributes:
        mean, std: mean and standard deviation of the returns; std is None for a single episode.
    """

    protocol: EvaluationProtocol
    mean: float
    std: float | None

    def __str__(self) -> str:
        return f"{self.mean:.0f}" if self.std is None else f"{self.mean:.0f} ± {self.std:.0f}"

    def to_dict(self) -> dict[str, Any]:
        """The selection as a dict that can be written as JSON."""
        return asdict(self)

    @classmethod
    def from_metadata(cls, metadata: dict[str, Any]) -> Selection:
        """Read the selection from the metadata of an agent's file.

        Files of earlier versions record the number of episodes, but no protocol. These episodes are
        the first episodes of the selection split.
        """
        saved_agent = with_present_names(metadata)
        details = saved_agent["metadata"]
        if "selection" in details:
            saved = details["selection"]
            return cls(EvaluationProtocol.from_dict(saved["protocol"]), saved["mean"], saved["std"])
        # Such files hold no arguments of the env.
        env_id, episodes = saved_agent["spec"]["env_id"], details["choice_episodes"]
        protocol = EvaluationProtocol(env_id, "selection", episodes)
        return cls(protocol, details["real_score"], details.get("real_std"))


@dataclass(frozen=True)
class Contender:
    """The parts of an agent's file that are needed to select the best agent.

    Attributes:
        round: the round whose search found the agent.
    """

    path: Path
    checkpoint: Checkpoint
    selection: Selection
    round: int

    @classmethod
    def read(cls, path: Path) -> Contender:
        """Read an agent's file; raises UserError if the file is damaged."""
        hint = f"delete {path}"
        checkpoint = load_checkpoint(path, hint=hint)
        with reading(path, hint):
            round_ = int(with_present_names(checkpoint.metadata)["metadata"]["made_by"]["round"])
            return cls(path, checkpoint, Selection.from_metadata(checkpoint.metadata), round_)

    def under(self, protocol: EvaluationProtocol, evaluate: Evaluate, run: Run) -> Contender:
        """Return the agent with its score under `protocol`; a missing score is computed."""
        if self.selection.protocol == protocol:
            return self
        scores = evaluate(self.path, protocol)
        work = f"selection/{file_digest(self.path)[:16]}/{protocol.episodes}"
        record_env_steps(run, work, {"selected": scores.env_steps})
        selection = Selection(protocol, scores.mean, scores.std)
        saved = with_present_names(self.checkpoint.metadata)
        details = {**saved["metadata"], "selection": selection.to_dict()}
        changed = replace(self.checkpoint, metadata={**saved, "metadata": details})
        return replace(self, checkpoint=changed, selection=selection)


def evaluator(workers: Workers) -> Evaluate:
    """Return a function that evaluates the agent of a file under a protocol."""
    return lambda path, protocol: evaluate(protocol, AgentFactory(path), workers)


def keep_best(run: Run, evaluate: Evaluate) -> Contender:
    """Make the run's newest agent the best agent if its score is higher than the best so far.

    Two scores are compared only under the same protocol. If the protocols of the two agents differ,
    the agent that was evaluated on fewer episodes is evaluated again, under the other agent's
    protocol. If the scores are equal, the earlier agent stays the best agent. This function must be
    called before a new search replaces the newest agent. A second call for the same newest agent
    changes nothing.

    Returns: the run's best agent after the comparison.
    """
    newest, best = run.weights("controller"), run.folder / BEST
    digest = file_digest(newest)
    record = run.read_json(BEST_RECORD) or {}
    if not isinstance(record, dict):
        raise UserError(
            f"{run.folder / BEST_RECORD} is not a JSON object: delete it, and run the command again"
        )
    if best.is_file() and record.get("compared") == digest:
        return Contender.read(best)
    contenders = [Contender.read(path) for path in (newest, best) if path.is_file()]
    protocols = [contender.selection.protocol for contender in contenders]
    protocol = max(protocols, key=lambda each: each.episodes)
    scored = [contender.under(protocol, evaluate, run) for contender in contenders]
    # `max` returns the first of two equal scores, so the earlier agent comes first.
    winner = max(reversed(scored), key=lambda each: each.selection.mean)
    if winner.path == newest or winner is not contenders[-1]:
        save_checkpoint(best, winner.checkpoint.tensors, winner.checkpoint.metadata)
    details = {"round": winner.round, **winner.selection.to_dict()}
    run.write_json(BEST_RECORD, {"compared": digest, "best": details})
    return winner
