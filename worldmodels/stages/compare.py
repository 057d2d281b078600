"""Compare runs side by side, in a table and in learning curves."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents.protocol import EvaluationProtocol
from worldmodels.controller.evaluations import all_evaluations
from worldmodels.data.durable import replacing
from worldmodels.errors import UserError, reading
from worldmodels.plotting import save_curves
from worldmodels.progress import Report
from worldmodels.runs.env_steps import env_steps
from worldmodels.runs.learning_curve import ROUNDS
from worldmodels.runs.run import BEST_RECORD, Run

TABLE, CURVES = "comparison.csv", "comparison.png"
NOT_COMPARABLE = "scores of different protocols are not comparable"


def compare_runs(folders: Sequence[Path], out: Path, *, report: Report) -> dict[str, Any]:
    """Write a CSV file with one row per run, and a plot of learning curves, to the folder `out`.

    The plot is written only if at least one run has a round with a score. The score of a run is the
    score of the run's best agent on the selection episodes. Scores of different protocols (env and
    selection episodes) are not comparable. If the protocols differ, the name of each curve shows
    the number of episodes and the env.

    Raises: UserError if a folder is not a run, is given twice or has no result, or if `out` lies in
        a run.
    """
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UserError("expected different runs, got the same run twice")
    for folder in folders:
        if folder.resolve() in (out.resolve(), *out.resolve().parents):
            raise UserError(f"{out} lies in the run {folder}: name another folder with --out")
    runs = [Run(folder) for folder in folders]
    rows = [_row(run) for run in runs]
    comparable = len({row["protocol"] for row in rows if row["protocol"]}) < 2
    curves: dict[str, list[tuple[float, float]]] = {}
    for run, row in zip(runs, rows, strict=True):
        for each in _rounds(run):
            protocol = "" if comparable else f", {each.get('episodes')} episodes of {row['env']}"
            curves.setdefault(f"{run}{protocol}", []).append((each["env_steps"], each["score"]))
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / TABLE) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    if curves:
        y_label = "return on the selection episodes"
        save_curves(out / CURVES, curves, x_label="env steps", y_label=y_label)
    if not comparable:
        report.log(f'{NOT_COMPARABLE}: see the column "protocol"')
    files = [str(out / name) for name in ((TABLE, CURVES) if curves else (TABLE,))]
    return {"runs": rows, "comparable": comparable, "files": files}


def _row(run: Run) -> dict[str, Any]:
    """Return the settings and scores of a run; a score that the run does not have is None."""
    settings = run.settings
    best = _best(run)
    vision, memory = (run.result(stage) for stage in ("vision", "memory"))
    if vision is None and memory is None and best["score"] is None:
        raise UserError(f'{run} has no result to compare: run "wm train-vision --run {run}"')
    kind = run.vision_model.get("quantizer", "vae") if run.manifest("vision") else None
    return {
        "run": str(run),
        "env": str(settings.env),
        "vision": kind,
        "preset": settings.preset,
        "rounds": len(_rounds(run)),
        "env_steps": sum(env_steps(run).values()),
        **best,
        **_test_score(run),
        "vision_error": (vision or {}).get("error"),
        "memory_nll": (memory or {}).get("nll"),
        "reward_r2": (memory or {}).get("reward_r2"),
    }


def _best(run: Run) -> dict[str, Any]:
    """Return the round, the score and the protocol of a run's best agent."""
    hint = f'delete it, and run "wm train-controller --run {run}" again'
    record = run.read_json(BEST_RECORD)
    if record is None:
        return dict.fromkeys(("best_round", "score", "std", "protocol"))
    with reading(run.folder / BEST_RECORD, hint):
        best = record["best"]
        protocol = EvaluationProtocol.from_dict(best["protocol"])
        start = f" from {protocol.start}" if protocol.start else ""
        return {
            "best_round": best["round"],
            "score": float(best["mean"]),
            "std": best["std"],
            "protocol": f"{protocol.episodes} {protocol.purpose} episodes{start} of {protocol.env}",
        }


def _test_score(run: Run) -> dict[str, Any]:
    """Return the score of the run in the evaluation that has the most test episodes.

    If two evaluations have equally many episodes, the evaluation in the reference env is used.
    """
    tested = [
        (len(row["returns"]), "stock" in name, name, row)
        for name, row in all_evaluations(run).items()
        if re.fullmatch(r"test-(stock|fast)-\d+-agent", name)  # without a perturbation
    ]
    *_, name, row = max(tested, default=(None, {}), key=lambda each: each[:2])
    return {"test_score": row.get("mean"), "test_std": row.get("std"), "test_protocol": name}


def _rounds(run: Run) -> list[dict[str, Any]]:
    rounds = run.read_json(ROUNDS) or []
    with reading(run.folder / ROUNDS, "delete it, which removes the curve of the rounds so far"):
        return [row for row in rounds if "env_steps" in row and row["score"] is not None]
