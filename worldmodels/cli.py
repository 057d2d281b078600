"""`wm`: parses, calls one stage, prints its result. No logic.

Heavy imports stay inside the commands, so that `wm --help` answers at once. Long because every
option of every command is declared here, one function a command.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from worldmodels.errors import UserError

if TYPE_CHECKING:
    from worldmodels.session import Session

app = typer.Typer(
    help="World models: collect, train V, M and C, evaluate, record; in the game or in the dream.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

RunOption = Annotated[Path, typer.Option("--run", help="Folder of the run.")]
EnvOption = Annotated[str | None, typer.Option("--env", help="Gymnasium id; a new run's env.")]
SeedOption = Annotated[int | None, typer.Option(help="A new run's seed.")]
PresetOption = Annotated[str | None, typer.Option(help="demo, cpu, paper, gpu.")]
WorkersOption = Annotated[int | None, typer.Option(help="Processes; default: one a core.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, mps: where V and M train.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress, no lines.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
QuantizedOption = Annotated[bool, typer.Option("--quantized", help="V with codes (VQ-VAE).")]

INTERRUPTED = 130
DEFAULT_RUN = Path("runs/default")


@app.command()
def run(
    run: RunOption = DEFAULT_RUN,
    preset: PresetOption = None,
    quantized: QuantizedOption = False,
    rounds: Annotated[int | None, typer.Option(help="Collect, V, M, C so many times.")] = None,
    dream: Annotated[
        bool | None, typer.Option("--dream/--real", help="Where C is searched.")
    ] = None,
    env: EnvOption = None,
    seed: SeedOption = None,
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Every stage in order, resuming where it stopped; then an evaluation."""
    from worldmodels.device import choose_device
    from worldmodels.pipeline import run_pipeline

    with _session(run, quiet, workers, create=True, env=env, preset=preset, seed=seed) as session:
        chosen = session.preset
        result = run_pipeline(
            session.run,
            chosen if dream is None else chosen.searching(dream=dream),
            quantized=quantized,
            rounds=chosen.rounds if rounds is None else rounds,
            workers=session.workers,
            report=session.report,
            device=choose_device(device),
        )
        _print(result, as_json, lambda: _print_scores(result))


@app.command()
def collect(
    run: RunOption = DEFAULT_RUN,
    episodes: Annotated[
        int | None, typer.Option(help="How many the run shall hold in all.")
    ] = None,
    policy: Annotated[str | None, typer.Option(help="exploring, random, brownian, agent.")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Env steps an episode, at most.")] = None,
    env: EnvOption = None,
    preset: PresetOption = None,
    seed: SeedOption = None,
    workers: WorkersOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Play a policy and store its episodes."""
    from worldmodels.presets import override
    from worldmodels.stages.collect import collect as stage

    with _session(run, quiet, workers, create=True, env=env, preset=preset, seed=seed) as session:
        config = override(
            session.preset.collect, episodes=episodes, policy=policy, max_episode_steps=max_steps
        )
        result = stage(
            session.run,
            config,
            workers=session.workers,
            report=session.report,
            round_=session.run.round,
        )
        _print(result, as_json, lambda: _print_facts(result))


@app.command()
def train_vision(
    run: RunOption = DEFAULT_RUN,
    quantized: QuantizedOption = False,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps.")] = None,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train V: frames to latents (VAE), or to codes with --quantized (VQ-VAE)."""
    from worldmodels.device import choose_device
    from worldmodels.stages.vision import train_vision as stage

    with _session(run, quiet) as session:
        config = session.preset.vision(quantized).with_steps(steps)
        result = stage(
            session.run,
            config,
            report=session.report,
            device=choose_device(device),
            round_=session.run.round,
        )
        _print(result, as_json, lambda: _print_facts(result))


@app.command()
def train_memory(
    run: RunOption = DEFAULT_RUN,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps.")] = None,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train M: what comes next, over the latents of the run's V."""
    from worldmodels.device import choose_device
    from worldmodels.stages.memory import train_memory as stage

    with _session(run, quiet) as session:
        config = session.preset.memory.with_steps(steps)
        result = stage(
            session.run,
            config,
            report=session.report,
            device=choose_device(device),
            round_=session.run.round,
        )
        _print(result, as_json, lambda: _print_facts(result))


@app.command()
def train_controller(
    run: RunOption = DEFAULT_RUN,
    dream: Annotated[bool, typer.Option("--dream", help="Search in the dream.")] = False,
    generations: Annotated[int | None, typer.Option(help="Generations of CMA-ES.")] = None,
    population: Annotated[int | None, typer.Option(help="Candidates a generation.")] = None,
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Search C with CMA-ES: in the real game over workers, or with --dream inside M."""
    from worldmodels.device import choose_device
    from worldmodels.presets import override
    from worldmodels.stages.controller import train_controller as stage

    with _session(run, quiet, workers) as session:
        config = override(
            session.preset.searching(dream=dream).controller,
            generations=generations,
            later_generations=generations,
            population=population,
        )
        result = stage(
            session.run,
            config,
            workers=session.workers,
            report=session.report,
            device=choose_device(device),
            round_=session.run.round,
        )
        _print(result, as_json, lambda: _print_facts(result))


@app.command()
def evaluate(
    run: RunOption = DEFAULT_RUN,
    episodes: Annotated[int, typer.Option(help="Episodes to play.")] = 100,
    split: Annotated[
        Literal["validation", "test"], typer.Option(help="Which tracks nobody trained on.")
    ] = "validation",
    stock: Annotated[
        bool, typer.Option("--stock", help="The env's own drawing, slow: for headline scores.")
    ] = False,
    baselines: Annotated[
        bool | None,
        typer.Option(help="Policies that know nothing beside the agent; default: unless --stock."),
    ] = None,
    workers: WorkersOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Score the agent over held-out episodes, beside policies that know nothing."""
    from worldmodels.stages.evaluate import evaluate_run

    with _session(run, quiet, workers) as session:
        result = evaluate_run(
            session.run,
            episodes=episodes,
            split=split,
            stock=stock,
            baselines=not stock if baselines is None else baselines,
            workers=session.workers,
            report=session.report,
        )
        _print(result, as_json, lambda: _print_scores(result))


@app.command()
def record(
    run: RunOption = DEFAULT_RUN,
    out: Annotated[Path, typer.Option(help="The video, .mp4 or .gif.")] = Path("drive.mp4"),
    dream: Annotated[bool, typer.Option("--dream", help="The agent in its dream.")] = False,
    side_by_side: Annotated[
        bool, typer.Option("--side-by-side", help="Real | what V sees | M's dream.")
    ] = False,
    steps: Annotated[int | None, typer.Option(help="Env steps to film, at most.")] = None,
    episode: Annotated[int, typer.Option(help="Which validation episode.")] = 0,
    temperature: Annotated[float, typer.Option(help="Of the dream.")] = 1.0,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Film the agent."""
    from worldmodels.stages.record import RecordConfig
    from worldmodels.stages.record import record as stage

    with _session(run, quiet) as session:
        config = RecordConfig(
            dream=dream,
            side_by_side=side_by_side,
            max_steps=steps,
            episode=episode,
            temperature=temperature,
        )
        result = stage(session.run, out, config, report=session.report)
        _print(result, as_json, lambda: _print_facts(result))


@app.command()
def play(
    run: RunOption = DEFAULT_RUN,
    dream: Annotated[bool, typer.Option("--dream", help="Inside the run's dream.")] = False,
    env: EnvOption = None,
    seed: Annotated[int, typer.Option(help="Of the episode, among the training seeds.")] = 0,
) -> None:
    """Play yourself: arrow keys, in the game or in a run's dream; Escape ends it."""
    from worldmodels.run import Run
    from worldmodels.stages.play import play_dream, play_game

    score = play_dream(Run(run), seed) if dream else play_game(Run(run), env, seed)
    typer.echo(f"score {score:.1f}")


@app.command()
def info(
    run: Annotated[Path | None, typer.Option("--run", help="Folder of the run.")] = None,
    as_json: JsonOption = False,
) -> None:
    """The machine and the install; of a run: what is there, settings, what is stale, scores."""
    from worldmodels.run import Run
    from worldmodels.stages.info import install_facts, run_facts

    facts = install_facts() if run is None else run_facts(Run(run))
    _print(facts, as_json, lambda: _print_facts(facts))


def main() -> None:
    """Entry point: a user's mistake is one line and exit code 2, Ctrl-C is 130."""
    from worldmodels.install import check_imports

    # OpenMP threads spin while they wait for each other. By default so long that beside one
    # other busy process training falls from 2,000 to 70 images/s; so it stays above 600.
    # Read when torch is loaded, which is later than here.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        check_imports()
        code = app(standalone_mode=False)
        if code == INTERRUPTED:  # typer turns Ctrl-C into a code, or into Abort: it depends
            raise KeyboardInterrupt
        sys.exit(code)
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("stopped: the same command goes on from here", err=True)
        sys.exit(INTERRUPTED)
    except Exception as error:
        message = _user_message(error)
        if message is None:
            raise
        typer.echo(f"wm: {message}", err=True)
        sys.exit(2)


def _user_message(error: Exception) -> str | None:
    """The line for an error the user can mend; None for a mistake of ours."""
    import errno

    if isinstance(error, UserError):
        return str(error)
    if hasattr(error, "format_message"):  # a wrong option: typer's, or click's under it
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "wm"
        return f"{error.format_message()} (see {command} --help)"
    if isinstance(error, OSError):
        if error.errno == errno.ENOSPC:
            return f"the disk is full ({error.filename or 'while writing'}): make room, run again"
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return f"no permission to write {error.filename}: name another folder with --run"
        return " ".join(str(error).split())
    if type(error).__module__.startswith("gymnasium") or type(error).__name__ == "WorkerDiedError":
        return " ".join(str(error).split())
    return None


def _session(
    folder: Path, quiet: bool, workers: int | None = None, **settings: Any
) -> AbstractContextManager[Session]:
    from worldmodels.session import open_session

    return open_session(folder, quiet=quiet, num_workers=workers, **settings)


def _print(result: dict[str, Any], as_json: bool, otherwise: Callable[[], None]) -> None:
    if as_json:
        typer.echo(json.dumps(result, indent=2))
    else:
        otherwise()


def _print_facts(facts: dict[str, Any], indent: str = "") -> None:
    """Names and values, a line each; histories are for the JSON."""
    width = max((len(name) for name in facts), default=0) + 2
    for name, value in facts.items():
        if name == "history":
            continue
        if isinstance(value, dict):
            typer.echo(f"{indent}{name}")
            _print_facts(value, indent + "  ")
        else:
            shown = f"{value:.4g}" if isinstance(value, float) else value
            typer.echo(f"{indent}{name:<{width}}{shown}")


def _print_scores(result: dict[str, Any]) -> None:
    typer.echo(f"{result['env_id']}, {result['episodes']} {result['split']} episodes")
    typer.echo(f"{'policy':<14}{'mean':>8}{'std':>8}   95 % interval")
    for row in result["rows"]:
        low, high = row["interval"]
        typer.echo(
            f"{row['policy']:<14}{row['mean']:>8.1f}{row['std']:>8.1f}   {low:.1f} to {high:.1f}"
        )
