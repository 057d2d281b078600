"""The learning curve of a run, which is stored as one row per round and as a picture."""

import time
from typing import Any

from worldmodels.errors import reading
from worldmodels.plotting import save_curves
from worldmodels.runs.env_steps import env_steps, record_env_steps
from worldmodels.runs.json_files import read_json
from worldmodels.runs.run import BEST_RECORD, Run

ROUNDS, PICTURE = "rounds.json", "rounds.png"


class LearningCurve:
    """The rows of `rounds.json`; each row is written at the end of its round.

    A row holds the number of the `round` and these entries:

    - `seconds`: duration of the run so far in seconds, without the time of work that a kill undid.

    - `env_steps`: number of all steps of the real env so far.

    - `env_steps_by_purpose`: number of these steps for each purpose; see
      `worldmodels.runs.env_steps`.

    - `vision_error`: squared error of V per held-out frame.

    - `memory_nll`, `reward_r2`: negative log-likelihood of M, and R2 of M's predicted rewards, both
      on held-out episodes.

    - `search`: name of the search that found the round's agent.

    - `score`: score of the round's agent on the selection episodes.

    - `std`: standard deviation of the returns of the selection episodes; None for a single episode.

    - `episodes`: number of selection episodes.

    - `best_round`, `best_score`, `best_episodes`: the round and the score of the run's best agent
      so far, and the number of selection episodes of this score.

    - `minutes_limit`: the limit of minutes that stopped the run. Only the last row of a call that
      was stopped in this way has this entry.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        path = run.folder / ROUNDS
        hint = "delete it, which removes the curve of the rounds so far"
        self.rows: list[dict[str, Any]] = read_json(path, hint) or []
        self._started = time.monotonic()
        with reading(path, hint):
            if not all(row.keys() >= {"round", "seconds", "score", "std"} for row in self.rows):
                raise ValueError('a row lacks "round", "seconds", "score" or "std"')
            self._previous_seconds = self.seconds
        if self.rows and "searched" in self.rows[-1]:  # written before there was a ledger
            record_env_steps(run, "before", {"searched": self.rows[-1]["searched"]})

    @property
    def seconds(self) -> float:
        """Seconds of all finished rounds."""
        return float(self.rows[-1]["seconds"]) if self.rows else 0.0

    def record_limit(self, minutes: float) -> None:
        """Record in the last row that the run stopped because of a limit of `minutes`."""
        self.rows[-1]["minutes_limit"] = minutes
        self.run.write_json(ROUNDS, self.rows)

    def record_round(self, round_: int) -> None:
        """Add the row of a round that has just ended.

        If there is a row of this round or of a later round already, no row is added.
        """
        if any(row["round"] >= round_ for row in self.rows):
            return
        run = self.run
        vision, memory, controller = (
            run.result(stage) or {} for stage in ("vision", "memory", "controller")
        )
        with reading(run.folder / BEST_RECORD, "delete it, and run the command again"):
            best = run.read_json(BEST_RECORD)["best"]
        self.rows.append(
            {
                "round": round_,
                "seconds": round(self._previous_seconds + time.monotonic() - self._started, 1),
                **self._env_steps(),
                "vision_error": vision["error"],
                "memory_nll": memory["nll"],
                "reward_r2": memory["reward_r2"],
                "search": controller["search"],
                "score": controller["real_score"],
                "std": controller["real_std"],
                "episodes": controller["selection_episodes"],
                "best_round": best["round"],
                "best_score": best["mean"],
                "best_episodes": best["protocol"]["episodes"],
            }
        )
        run.write_json(ROUNDS, self.rows)
        self._draw()

    def record_env_steps(self) -> None:
        """Add the env steps of the evaluation at the end of a run to the last row."""
        counts = self._env_steps()
        if self.rows and self.rows[-1] | counts != self.rows[-1]:
            self.rows[-1].update(counts)
            self.run.write_json(ROUNDS, self.rows)

    def _env_steps(self) -> dict[str, Any]:
        counts = env_steps(self.run)
        return {"env_steps": sum(counts.values()), "env_steps_by_purpose": counts}

    def _draw(self) -> None:
        curves: dict[str, list[tuple[float, float]]] = {}
        spread = []
        for row in self.rows:
            minutes, score, std = row["seconds"] / 60, row["score"], row["std"]
            curves.setdefault("agent of the round", []).append((minutes, score))
            if "best_score" in row:
                # Scores over different numbers of episodes are not comparable, so each number
                # of episodes has its own line.
                name = f"best agent so far, {row['best_episodes']} episodes"
                curves.setdefault(name, []).append((minutes, row["best_score"]))
            if std is not None:
                spread.append((minutes, score - std, score + std))
        save_curves(
            self.run.folder / PICTURE,
            curves,
            x_label="minutes",
            y_label="return on the selection episodes",
            bands={"standard deviation over episodes": spread} if spread else {},
        )
