"""Open the objects that a command works with: a run, its preset, workers and a report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.workers import Workers
from envs.config import EnvConfig
from envs.make import check_env
from envs.tasks import DEFAULT_ENV_ID
from worldmodels.cli.env_arguments import env_arguments
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


@contextmanager
def open_workers(quiet: bool, num_workers: int | None) -> Iterator[tuple[Workers, Report]]:
    """Open workers and a report, without a run; the workers end when the context ends."""
    if num_workers is not None and num_workers < 1:
        raise UserError(f"expected at least 1 worker, got {num_workers}")
    report = Report(quiet)
    with Workers(num_workers or num_cores(), log=report.log) as workers:
        yield workers, report


@contextmanager
def open_session(
    run: Path,
    *,
    quiet: bool = False,
    workers: int | None = None,
    device: str = "cpu",
    **requested: Any,
) -> Iterator[Session]:
    """Open a run, its preset, workers and a report; the workers end when the context ends.

    `requested` holds the other options of `NewRunOptions`. If `requested` is given, a run that does
    not exist is created. The env of a new run is checked before anything is written, so that an
    error leaves no files.

    Raises: UserError if the run does not exist and `requested` is not given, or if the settings of
        the run differ from the requested settings.
    """
    opened = _made_or_opened(Run(run), **requested) if requested else Run(run)
    preset = preset_named(opened.settings.preset)
    with open_workers(quiet, workers) as (started, report):
        yield Session(opened, preset, started, report, device)


def _made_or_opened(
    run: Run,
    env: str | None = None,
    env_arg: Sequence[str] | None = None,
    observation_key: str | None = None,
    preset: str | None = None,
    seed: int | None = None,
) -> Run:
    """Return `run`, or a new run in the same folder if `run` does not exist yet.

    An option that is None was not given.

    Raises: UserError if an option is invalid or differs from the setting of the run.
    """
    arguments = env_arguments(env_arg)
    if seed is not None and not 0 <= seed <= MAX_SEED:
        raise UserError(f"expected a seed from 0 to 2**62, got {seed}")
    if not run.exists:
        env_id = DEFAULT_ENV_ID if env is None else env
        config = EnvConfig(env_id, arguments or {}, observation_key)
        name = preset_named(DEFAULT_PRESET if preset is None else preset).name
        check_env(config)
        run = Run(run.folder, new=RunSettings.of(config, name, seed or 0))
    settings = run.settings
    for what, requested, found in (
        ("env", env, settings.env_id),
        ("env arguments", arguments, settings.env_kwargs),
        ("observation key", observation_key, settings.observation_key),
        ("preset", preset, settings.preset),
        ("seed", seed, settings.seed),
    ):
        if requested is not None and requested != found:
            raise UserError(
                f"{run} was made with {what} {found}, but {requested} was requested: name another "
                "folder with --run"
            )
    return run
