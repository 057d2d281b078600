"""Open the objects that a command works with: a run, its preset, workers and a report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.workers import Workers
from envs.config import EnvConfig
from envs.make import check_env
from envs.tasks import DEFAULT_ENV_ID
from worldmodels.errors import UserError
from worldmodels.hardware import choose_device, num_cores
from worldmodels.presets import Preset, preset_named
from worldmodels.progress import Report
from worldmodels.runs.run import Run
from worldmodels.runs.run_settings import MAX_SEED, RunSettings

DEFAULT_PRESET = "cpu"
Result = dict[str, Any]


@dataclass(frozen=True)
class Session:
    """The run, preset, workers, report and device of a command."""

    run: Run
    preset: Preset
    workers: Workers
    report: Report
    requested_device: str

    @property
    def device(self) -> str:
        """The device of the models; raises UserError for a device that this machine lacks."""
        return choose_device(self.requested_device)

    def train(self, stage: Callable[..., Result], config: object, **more: Any) -> Result:
        """Run a training stage in the current round of the run, and return the stage's result."""
        return self.measure(stage, config, round_=self.run.round, **more)

    def measure(self, stage: Callable[..., Result], config: object, **more: Any) -> Result:
        """Run a stage on the device, and return the stage's result."""
        return stage(self.run, config, report=self.report, device=self.device, **more)


@dataclass(frozen=True)
class Requested:
    """The requested settings of a run; a setting that the user did not give is None."""

    env_id: str | None = None
    env_kwargs: Mapping[str, Any] | None = None
    observation_key: str | None = None
    preset: str | None = None
    seed: int | None = None

    def made_or_opened(self, run: Run) -> Run:
        """Return `run`, or a new run if `run` does not exist yet.

        Raises: UserError if a requested setting is invalid or differs from the setting of the run.
        """
        if self.seed is not None and not 0 <= self.seed <= MAX_SEED:
            raise UserError(f"expected a seed from 0 to 2**62, got {self.seed}")
        if not run.exists:
            env_id = DEFAULT_ENV_ID if self.env_id is None else self.env_id
            env = EnvConfig(env_id, self.env_kwargs or {}, self.observation_key)
            name = preset_named(DEFAULT_PRESET if self.preset is None else self.preset).name
            check_env(env)
            run = Run(run.folder, new=RunSettings.of(env, name, self.seed or 0))
        for field, requested in vars(self).items():
            found = getattr(run.settings, field)
            if requested is not None and requested != found:
                what = {"env_id": "env", "env_kwargs": "env arguments"}.get(field, field)
                raise UserError(
                    f"{run} was made with {what.replace('_', ' ')} {found}, but "
                    f"{requested} was requested: name another folder with --run"
                )
        return run


@contextmanager
def open_workers(
    quiet: bool = False, num_workers: int | None = None
) -> Iterator[tuple[Workers, Report]]:
    """Open workers and a report, but no run; the workers end when the context ends."""
    if num_workers is not None and num_workers < 1:
        raise UserError(f"expected 1 worker or more, got {num_workers}")
    report = Report(quiet)
    with Workers(num_workers or num_cores(), log=report.log) as workers:
        yield workers, report


@contextmanager
def open_session(
    folder: Path,
    *,
    quiet: bool = False,
    num_workers: int | None = None,
    device: str = "cpu",
    requested: Requested | None = None,
) -> Iterator[Session]:
    """Open a run, its preset, workers and a report; the workers end when the context ends.

    A run that does not exist is created if `requested` is given. The env of a new run is checked
    before anything is written, so that an error leaves no files.

    Raises: UserError if the run does not exist and `requested` is None, or if the run was made with
        other settings than the requested settings.
    """
    run = Run(folder)
    if requested is not None:
        run = requested.made_or_opened(run)
    preset = preset_named(run.settings.preset)
    with open_workers(quiet, num_workers) as (workers, report):
        yield Session(run, preset, workers, report, device)
