"""What a search for C works with, whichever it is."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from agents.evaluation import Scores
from worldmodels.progress import Report
from worldmodels.runs.stage_folder import StageFolder


@dataclass(frozen=True)
class SearchContext:
    """Where a search writes, what it draws from, and how it is evaluated.

    Attributes:
        work: the stage's folder, which holds the checkpoints.
        round_: of the run, counted from 1.
        real_score: scores in the real env of a C with these parameters (D,).
    """

    work: StageFolder
    seed: int
    round_: int
    real_score: Callable[[np.ndarray], Scores]
    report: Report
