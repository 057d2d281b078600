"""What every command opens: a run, its preset, workers and a report."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from agents.workers import Workers
from envs.tasks import DEFAULT_ENV_ID, task_for
from worldmodels.errors import UserError
from worldmodels.presets import Preset, preset_named
from worldmodels.report import Report
from worldmodels.run import Run, RunSettings

DEFAULT_PRESET = "cpu"


@dataclass(frozen=True)
class Session:
    """What a command works with."""

    run: Run
    preset: Preset
    workers: Workers
    report: Report


@contextmanager
def open_session(
    folder: Path,
    *,
    quiet: bool = False,
    num_workers: int | None = None,
    create: bool = False,
    env: str | None = None,
    preset: str | None = None,
    seed: int | None = None,
) -> Iterator[Session]:
    """Open a run, or make it where `create` says so; leaving ends the workers.

    Raises: UserError for a run that is not there, or that was made with other settings.
    """
    if num_workers is not None and num_workers < 1:
        raise UserError(f"expected 1 worker or more, got {num_workers}")
    if seed is not None and seed < 0:
        raise UserError(f"expected a seed of 0 or more, got {seed}")
    run = Run(folder)
    if not run.exists and create:
        env_id, name = env or DEFAULT_ENV_ID, preset or DEFAULT_PRESET
        task_for(env_id)  # refuse an unknown env before anything is written
        run = Run(folder, new=RunSettings(env_id, name, seed or 0))
    settings = run.settings
    _check_same("env", env, settings.env_id, run)
    _check_same("preset", preset, settings.preset, run)
    _check_same("seed", seed, settings.seed, run)
    chosen = preset_named(settings.preset)
    with Workers(num_workers or num_cores()) as workers:
        yield Session(run, chosen, workers, Report(quiet))


def choose_device(name: str) -> str:
    """The device to train on: cpu, cuda or mps; auto takes a GPU where there is one.

    Raises: UserError for a device this machine lacks.
    """
    available = ["cpu"]
    if torch.cuda.is_available():
        available.insert(0, "cuda")
    if torch.backends.mps.is_available():
        available.insert(0, "mps")
    if name == "auto":
        return available[0]
    if name not in available:
        raise UserError(f'expected a device among auto, {", ".join(available)}, got "{name}"')
    return name


def num_cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check_same(what: str, asked: object, found: object, run: Run) -> None:
    if asked is not None and asked != found:
        raise UserError(
            f"{run} was made with {what} {found}, asked was {asked}: name another folder with --run"
        )
