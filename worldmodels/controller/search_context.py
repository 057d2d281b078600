"""The context that every kind of search for C works in."""

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
        work: the stage's folder, which holds the checkpoints.
        round_: round of the run, counted from 1.
        real_score: returns the scores in the real env of a C with these parameters (D,).
    """

    work: StageFolder
    seed: int
    round_: int
    real_score: Callable[[np.ndarray], Scores]
    report: Report

    @contextmanager
    def log(self, unit: str, total: int, done: int = 0) -> Iterator[SearchLog]:
        """A log in the stage's folder, closed at the end; see `SearchLog`."""
        folder = self.work.partial
        with (
            tensorboard(folder / "events") as events,
            self.report.progress("controller", total=total, done=done) as meter,
        ):
            yield SearchLog(folder, unit, meter, events)
