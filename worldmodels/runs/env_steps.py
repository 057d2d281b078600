"""Count the steps of the real env that a run has taken, by purpose.

- `collected`: steps of the episodes in the store, and of the candidates that
  `--select-by-surprise` discarded.

- `searched`: steps that measured the fitness of candidate controllers.

- `monitored`: steps of evaluations during a search. They also select the result of the search.

- `selected`: steps of evaluations that select the run's best agent.

- `reported`: steps that measured the reported scores of the agent and of baseline policies.

Work that is repeated after a kill, or because a command was run again, counts once. A search that
was stopped and never finished does not count. Recording a video and playing at the keyboard do not
count, because nothing is learned, selected or reported from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from worldmodels.errors import reading
from worldmodels.runs.json_files import read_object
from worldmodels.runs.run import Run

StepPurpose = Literal["collected", "searched", "monitored", "selected", "reported"]
PURPOSES: tuple[StepPurpose, ...] = ("collected", "searched", "monitored", "selected", "reported")
LEDGER = "env_steps.json"
HINT = "delete it, which resets the counts of all env steps except the collected ones"


def record_env_steps(run: Run, work: str, steps: Mapping[StepPurpose, int]) -> None:
    """Record the env steps of one piece of work.

    Args:
        work: name of the work; repeated work has the same name, so that it counts once.
    """
    ledger = read_object(run.folder / LEDGER, HINT) or {}
    if ledger.get(work) != dict(steps):
        run.write_json(LEDGER, {**ledger, work: dict(steps)})


def env_steps(run: Run) -> dict[StepPurpose, int]:
    """Env steps of the run so far, by purpose; `collected` is counted from the episodes."""
    counts: dict[StepPurpose, int] = dict.fromkeys(PURPOSES, 0)
    counts["collected"] = sum(episode.num_steps for episode in run.store)
    ledger = read_object(run.folder / LEDGER, HINT) or {}
    with reading(run.folder / LEDGER, HINT):
        for steps in ledger.values():
            for purpose, count in steps.items():
                counts[purpose] += count
    return counts
