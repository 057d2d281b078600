"""Searches for C side by side: CMA-ES in the dream and in the real game, and gradients.

    wm run --preset cpu --run runs/cpu
    python scripts/compare_search.py --run runs/cpu

Every call runs the first search whose result is missing in docs/results/search, on the run's V and
M, and then draws docs/search.png and writes docs/search.md from all results that are there; when
none is missing it only draws. A search that was stopped goes on where it was. All begin from
scratch: CMA-ES at zero, gradients at random weights. A search by CMA-ES takes an hour and a
quarter, one by gradients a few minutes; one process and one thread each.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from matplotlib.figure import Figure

from agents.workers import Workers
from worldmodels.borrowed_run import borrowed_run
from worldmodels.json_files import read_json, write_json
from worldmodels.provenance import file_digest, versions
from worldmodels.report import Report
from worldmodels.run import Run
from worldmodels.stages.controller import (
    PATHWISE,
    PROXIMAL,
    ControllerStageConfig,
    train_controller,
)
from worldmodels.stages.fitness import EvolutionConfig

RESULTS, PICTURE, TABLE = "results/search", "search.png", "search.md"
LOOKS, CHOICES = 16, 20  # validation tracks of a point of a curve, and of the last figure
MARKS = (1, 10, 60)  # minutes that the table tells of

_DREAM = EvolutionConfig(
    generations=1_000_000, episodes=16, max_decisions=40, validate_every=400, diagonal=True
)
_REAL = EvolutionConfig(
    generations=1_000_000,
    population=32,
    episodes=2,
    max_decisions=250,
    validate_every=10,
    diagonal=True,
)


@dataclass(frozen=True)
class Search:
    """One of the searches compared."""

    label: str
    config: ControllerStageConfig


def searches(minutes: float) -> dict[str, Search]:
    """By name; those of CMA-ES last so many minutes, looks at the real score not counted."""
    linear = ControllerStageConfig(eval_episodes=LOOKS, selection_episodes=CHOICES, far_share=0.2)
    dream, real = (replace(config, max_minutes=minutes) for config in (_DREAM, _REAL))
    sloping, blind = (
        replace(config, fit=replace(config.fit, validate_every=config.fit.num_steps // 12))
        for config in (PATHWISE, PROXIMAL)
    )
    gradient = replace(linear, search="gradient", dream=True, pathwise=sloping, proximal=blind)
    return {
        "gradient": Search("gradient, 64 tanh units", replace(gradient, hidden=64)),
        "gradient-linear": Search("gradient, linear C", gradient),
        "dream-diagonal": Search(
            "CMA-ES in the dream, diagonal", replace(linear, dream=True, evolution=dream)
        ),
        "dream-full": Search(
            "CMA-ES in the dream, full",
            replace(linear, dream=True, evolution=replace(dream, diagonal=False)),
        ),
        "real-diagonal": Search("CMA-ES in the game, diagonal", replace(linear, evolution=real)),
        "real-full": Search(
            "CMA-ES in the game, full",
            replace(linear, evolution=replace(real, diagonal=False)),
        ),
    }


def result_of(run: Run, name: str, search: Search) -> dict[str, Any]:
    """Search from scratch; what is written to the result's file."""
    scratch = borrowed_run(run, run.folder / "compare-search" / name)
    with Workers(1) as workers:
        result = train_controller(scratch, search.config, workers=workers, report=Report())
    return {
        "label": search.label,
        "dream": search.config.dream,
        "command": f"python scripts/compare_search.py --only {name}",
        "versions": versions(),
        "processor_cores": os.cpu_count(),
        "vision": file_digest(scratch.weights("vision")),
        "memory": file_digest(scratch.weights("memory")),
        "data_env_steps": sum(episode.num_steps for episode in scratch.store),
        "parameters": result["parameters"],
        "score": result["real_score"],
        "std": result["real_std"],
        "looks": [
            {name: round(look[name], 1) for name in ("seconds", "steps", "real_score")}
            for look in result["history"]
            if "real_score" in look
        ],
    }


def env_steps(result: dict[str, Any], look: dict[str, float]) -> float:
    """Env steps that anything has learned from, those of V's and M's data included."""
    return result["data_env_steps"] + (0 if result["dream"] else look["steps"])


def draw(path: Path, results: dict[str, dict[str, Any]]) -> None:
    """Real score against time, and against env steps."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    by_time, by_steps = figure.subplots(1, 2, sharey=True)
    for result in results.values():
        looks = result["looks"]
        scores = [look["real_score"] for look in looks]
        (line,) = by_time.plot(
            [look["seconds"] / 60 for look in looks], scores, label=result["label"]
        )
        steps = [env_steps(result, look) / 1e6 for look in looks]
        by_steps.plot(steps, scores, color=line.get_color())
    by_time.set(
        xscale="log",
        xlabel="minutes of search, one core",
        ylabel=f"real score, {LOOKS} validation tracks",
    )
    by_steps.set(xlabel="million env steps, data for V and M included")
    for axes in (by_time, by_steps):
        axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=3)
    figure.savefig(path, dpi=110)


def table(results: dict[str, dict[str, Any]]) -> str:
    """The results as a Markdown page."""
    heads = [f"after {minutes} min" for minutes in MARKS]
    lines = [
        "# Searches for C on one V and M",
        "",
        f"Real score on {LOOKS} validation tracks (fast env) at the first look after so long, and "
        f"mean ± standard deviation over {CHOICES} at the end; made by "
        "`python scripts/compare_search.py --run runs/cpu`.",
        "",
        "| search | parameters | " + " | ".join(heads) + " | at the end | minutes | search steps |",
        "|" + "---|" * (len(MARKS) + 5),
    ]
    for result in results.values():
        looks = result["looks"]
        marks = []
        for minutes in MARKS:
            later = [look for look in looks if look["seconds"] >= 60 * minutes]
            marks.append(f"{later[0]['real_score']:.0f}" if later else "")
        unit = "decisions dreamed" if result["dream"] else "env steps"
        cells = [
            result["label"],
            f"{result['parameters']:,}",
            *marks,
            f"{result['score']:.0f} ± {result['std']:.0f}",
            f"{looks[-1]['seconds'] / 60:.1f}",
            f"{looks[-1]['steps'] / 1e6:.1f} M {unit}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", f"![Real score against time and env steps]({PICTURE})", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, help="a finished run; not needed to draw again")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="where results go (docs)")
    parser.add_argument("--minutes", type=float, default=62.0, help="of CMA-ES, each (62)")
    parser.add_argument("--only", help="run this search instead of the first that is missing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder = arguments.docs / RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    known = searches(arguments.minutes)
    if arguments.only is not None and arguments.only not in known:
        parser.error(f"expected a search among {', '.join(known)}, got {arguments.only}")
    wanted = [
        name
        for name in known
        if not (folder / f"{name}.json").exists() and arguments.only in (None, name)
    ]
    if wanted and arguments.run is not None:
        result = result_of(Run(arguments.run), wanted[0], known[wanted[0]])
        write_json(folder / f"{wanted[0]}.json", result)
    results = {
        name: read_json(folder / f"{name}.json")
        for name in known
        if (folder / f"{name}.json").exists()
    }
    if results:
        draw(arguments.docs / PICTURE, results)
        (arguments.docs / TABLE).write_text(table(results))
    missing = ", ".join(name for name in known if name not in results)
    print(f"{len(results)} of {len(known)} searches done; missing: {missing or 'none'}")


if __name__ == "__main__":
    main()
