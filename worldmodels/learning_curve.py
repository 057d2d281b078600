"""How a run learned: a row a round, and their picture, in the run's folder."""

import time
from typing import Any

from worldmodels.pictures import save_curves
from worldmodels.run import Run

ROUNDS, PICTURE = "rounds.json", "rounds.png"


class LearningCurve:
    """Rows of `rounds.json`, each written when its round is over.

    A row holds `round`, `seconds` of the run so far (work that a kill undid is not counted),
    `env_steps` of the real game that anything has learned from so far, those of searches in the
    real game included, V's `vision_error`, M's `memory_nll` and `reward_r2`, and what C scored on
    the tracks by which the best agent is chosen: `score`, `std`, `episodes`.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.rows: list[dict[str, Any]] = run.read_json(ROUNDS) or []
        self._started = time.monotonic()
        self._before: float = self.rows[-1]["seconds"] if self.rows else 0.0

    def note(self, round_: int) -> None:
        """Add the row of a round that has just ended; one that is there stays."""
        if any(row["round"] >= round_ for row in self.rows):
            return
        run = self.run
        collected, vision, memory, controller = (
            run.result(stage) or {} for stage in ("collect", "vision", "memory", "controller")
        )
        searched = 0 if controller["dream"] else int(controller["history"][-1]["steps"])
        searched += self.rows[-1]["searched"] if self.rows else 0
        self.rows.append(
            {
                "round": round_,
                "seconds": round(self._before + time.monotonic() - self._started, 1),
                "env_steps": collected["env_steps"] + searched,
                "searched": searched,
                "vision_error": vision["error"],
                "memory_nll": memory["nll"],
                "reward_r2": memory["reward_r2"],
                "search": controller["search"],
                "score": controller["real_score"],
                "std": controller["real_std"],
                "episodes": controller["choice_episodes"],
            }
        )
        run.write_json(ROUNDS, self.rows)
        self._draw()

    def _draw(self) -> None:
        minutes = [row["seconds"] / 60 for row in self.rows]
        scores = [(row["score"], row["std"]) for row in self.rows]
        best, highest = [], float("-inf")
        for score, _ in scores:
            highest = max(highest, score)
            best.append(highest)
        save_curves(
            self.run.folder / PICTURE,
            {
                "a round's agent": [
                    (x, score) for x, (score, _) in zip(minutes, scores, strict=True)
                ],
                "the best so far": list(zip(minutes, best, strict=True)),
            },
            x_label="minutes",
            y_label="score on validation tracks",
            bands={
                "standard deviation over tracks": [
                    (x, score - std, score + std)
                    for x, (score, std) in zip(minutes, scores, strict=True)
                ]
            },
        )
