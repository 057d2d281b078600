"""Agents in several games with one preset: scores beside those of PPO at equal env steps.

A row is one game with one seed, played by our agent with one kind of V, or by PPO. Rows that have a
result are not measured again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

OPTIONS = {
    "--rows": (0, "number of missing rows to measure; 0 measures none and shows the existing rows"),
    "--only": ("*", "pattern of the rows to measure, such as cartpole-*"),
}
PACKAGES = ("torch", "gymnasium", "stable-baselines3", "ale-py", "minigrid", "vizdoom")
ROOT = Path(__file__).parents[2]


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure missing rows, print the table of all rows, and return the rows."""
    sys.path.insert(0, str(ROOT))  # `scripts` is no installed package
    from agents.workers import Workers
    from scripts.experiments.experiment import Context
    from scripts.experiments.games import Games
    from worldmodels.progress import Report

    games, docs = Games(), ROOT / "docs"
    missing = games.missing(docs, [arguments.only])[: arguments.rows]
    report = Report()
    with Workers(1, log=report.log) as workers:
        games.do(missing, Context(docs, ROOT / "runs" / games.name, workers, report))
    rows = [
        {name: result.get(name) for name in ("game", "player", "seed", "score", "minutes")}
        for result in games.results(docs).values()
        if result["player"] != "untrained"
    ]
    table = Table(*(rows[0] if rows else ("no row yet: give --rows",)), title="games")
    for row in rows:
        table.add_row(
            *(f"{each:.1f}" if isinstance(each, float) else str(each) for each in row.values())
        )
    Console().print(table)
    return {"rows": rows}
