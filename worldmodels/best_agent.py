"""The best agent a run has had: V, M and C of the round that drove best on validation tracks.

Rounds do not only improve: a later V, M or C may be worse. Every agent of a run is judged by the
same tracks, and the best one is kept whole, beside the run's newest stages.
"""

import os
import shutil
from pathlib import Path
from typing import Any

from worldmodels.checkpoint import load_checkpoint
from worldmodels.run import BEST, Run


def keep_best(run: Run) -> dict[str, Any]:
    """Keep the run's newest agent where it is the best; what is known of the one kept.

    An agent that was judged by another number of episodes than the newest one cannot be compared,
    and gives way.

    Returns: `real_score`, `choice_episodes` and `round`.
    """
    newest, best = run.weights("controller"), run.folder / BEST
    challenger = _facts(newest)
    if best.is_file():
        champion = _facts(best)
        same = champion["choice_episodes"] == challenger["choice_episodes"]
        if same and champion["real_score"] >= challenger["real_score"]:
            return champion
    partial = best.with_name(f".{BEST}.partial")
    try:
        shutil.copyfile(newest, partial)
        os.replace(partial, best)
    finally:
        partial.unlink(missing_ok=True)
    return challenger


def _facts(path: Path) -> dict[str, Any]:
    facts = load_checkpoint(path, remedy=f"delete {path}").metadata["facts"]
    return {
        "real_score": facts["real_score"],
        "choice_episodes": facts["choice_episodes"],
        "round": facts["made_by"]["round"],
    }
