"""Count the env steps of a run, separately for each purpose.

An env step is a step of the real env. The purposes are:

- `collected`: steps of the stored episodes, and steps of the candidates that
  `--select-by-surprise` discarded.

- `searched`: steps that measured the fitness of candidate controllers.

- `monitored`: steps of evaluations during a search. These evaluations can also select the result
  of the search.

- `selected`: steps of evaluations that select the run's best agent.

- `reported`: steps that measured the reported scores of the agent and of baseline policies.

Work counts once, even if it is repeated after a kill or because a command is run again. A search
that was stopped and never finished does not count. The steps of recorded videos and of games at the
keyboard do not count, because nothing is learned, selected or reported from these steps.
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
HINT = "delete it, which resets all counts of env steps except those of the stored episodes"


def record_env_steps(run: Run, work: str, steps: Mapping[StepPurpose, int]) -> None:
    """Record the env steps of one piece of work.

    Args:
        work: name of the work. Repeated work must have the same name, so that it counts once.
    """
    ledger = read_object(run.folder / LEDGER, HINT) or {}
    if ledger.get(work) != dict(steps):
        run.write_json(LEDGER, {**ledger, work: dict(steps)})


def env_steps(run: Run) -> dict[StepPurpose, int]:
    """Return the number of env steps of the run so far for each purpose.

    The steps of stored episodes are counted from the episodes. All other steps are read from
    `env_steps.json`.
    """
    counts: dict[StepPurpose, int] = dict.fromkeys(PURPOSES, 0)
    counts["collected"] = sum(episode.num_steps for episode in run.store)
    ledger = read_object(run.folder / LEDGER, HINT) or {}
    with reading(run.folder / LEDGER, HINT):
        for steps in ledger.values():
            for purpose, count in steps.items():
                counts[purpose] += count
    return counts
