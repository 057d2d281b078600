"""Compare: any runs side by side, as a table and as learning curves."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from worldmodels.controller.evaluations import all_evaluations
from worldmodels.data.durable import replacing
from worldmodels.errors import UserError
from worldmodels.plotting import save_curves
from worldmodels.progress import Report
from worldmodels.runs.env_steps import env_steps
from worldmodels.runs.learning_curve import ROUNDS
from worldmodels.runs.run import BEST_RECORD, Run

TABLE, CURVES = "comparison.csv", "comparison.png"


def compare_runs(folders: Sequence[Path], out: Path, *, report: Report) -> dict[str, Any]:
    """One row per run, written to `out` as CSV and, where there are rounds, as curves.

    The score of a run is that of its best agent on the episodes that selected it; runs whose
    `protocol` differs were not scored on the same episodes.

    Raises: UserError for a folder that is no run, is given twice, or has no agent yet.
    """
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise UserError("expected different runs, got one of them twice")
    runs = [Run(folder) for folder in folders]
    rows = [_row(run) for run in runs]
    curves = {}
    for run in runs:
        rounds = run.read_json(ROUNDS) or []
        points = [(row["env_steps"], row["score"]) for row in rounds if "env_steps" in row]
        if points:
            curves[str(run)] = points
    out.mkdir(parents=True, exist_ok=True)
    written = [out / TABLE]
    with replacing(out / TABLE) as partial, partial.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    if curves:
        written.append(out / CURVES)
        with replacing(out / CURVES) as partial:
            y_label = "return on the selection episodes"
            save_curves(partial, curves, x_label="env steps", y_label=y_label)
    protocols = {row["protocol"] for row in rows}
    if len(protocols) > 1:
        report.log("scores of different protocols are not comparable; see the column protocol")
    return {
        "runs": rows,
        "comparable": len(protocols) == 1,
        "files": [str(path) for path in written],
    }


def _row(run: Run) -> dict[str, Any]:
    """What a run is and how good its models are; None for what it does not have."""
    settings = run.settings
    best = (run.read_json(BEST_RECORD) or {}).get("best")
    if best is None:
        raise UserError(
            f'{run} has no agent that could be compared: run "wm train-controller --run {run}"'
        )
    vision, memory = (run.result(stage) or {} for stage in ("vision", "memory"))
    protocol = best["protocol"]
    tested = {name: row for name, row in all_evaluations(run).items() if row.get("split") == "test"}
    agent = next((row for row in tested.values() if row.get("policy") == "agent"), None)
    return {
        "run": str(run),
        "env": str(settings.env),
        "latents": "quantized" if settings.quantized else "continuous",
        "preset": settings.preset,
        "round": best["round"],
        "env_steps": sum(env_steps(run).values()),
        "score": best["mean"],
        "std": best["std"],
        "protocol": f"{protocol['episodes']} {protocol['split']} episodes of {settings.env}",
        "test_score": None if agent is None else agent["mean"],
        "vision_error": vision.get("error"),
        "memory_nll": memory.get("nll"),
        "reward_r2": memory.get("reward_r2"),
    }
