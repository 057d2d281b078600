"""The folder, seed, round, evaluation and report that every kind of search for C needs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from agents.evaluation import Scores
from worldmodels.controller.search_log import SearchLog
from worldmodels.progress import Report, tensorboard
from worldmodels.runs.stage_folder import StageFolder


@dataclass(frozen=True)
class SearchContext:
    """The folder, the seed, the round, the evaluation and the report of a search.

    Attributes:
        work: folder of the stage, which holds the checkpoints of the search.
        round_: round of the run, counted from 1.
        real_score: function that evaluates a C with given parameters (D,) in the real env and
            returns the scores. If `real_score` is None, the search has no evaluations.
    """

    work: StageFolder
    seed: int
    round_: int
    real_score: Callable[[np.ndarray], Scores] | None
    report: Report

    @contextmanager
    def log(self, unit: str, total: int, done: int = 0) -> Iterator[SearchLog]:
        """Open a `SearchLog` in the stage's folder, and close it at the end of the block."""
        folder = self.work.partial
        with (
            tensorboard(folder / "events") as events,
            self.report.progress("controller", total=total, done=done) as meter,
        ):
            yield SearchLog(folder, unit, meter, events)
