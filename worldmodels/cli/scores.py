"""Scores of an evaluation as a table."""

from typing import Any

import typer


def print_scores(result: dict[str, Any]) -> None:
    """A row per policy: mean, spread, confidence interval."""
    typer.echo(f"{result['env_id']}, {result['episodes']} {result['split']} episodes")
    typer.echo(f"{'policy':<14}{'mean':>8}{'std':>8}   95 % interval")
    for row in result["rows"]:
        spread, interval = f"{'-':>8}", "-"  # of a single episode
        if row["std"] is not None:
            low, high = row["interval"]
            spread, interval = f"{row['std']:>8.1f}", f"{low:.1f} to {high:.1f}"
        typer.echo(f"{row['policy']:<14}{row['mean']:>8.1f}{spread}   {interval}")
