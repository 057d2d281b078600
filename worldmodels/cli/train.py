"""Commands that make something: whole runs, episodes, V, M and C."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from worldmodels.cli.env_arguments import env_arguments
from worldmodels.cli.ignored import flag_given, refuse_ignored
from worldmodels.cli.options import (
    DEFAULT_RUN,
    DeviceOption,
    EnvArgOption,
    EnvOption,
    JsonOption,
    ObservationKeyOption,
    PresetOption,
    QuantizedOption,
    QuietOption,
    RunOption,
    SeedOption,
    WorkersOption,
    app,
    open_run_session,
    print_facts,
    print_result,
    print_scores,
)

# After the name of an option that the search in use would ignore.
OF_EVOLUTION = (
    "is an option of CMA-ES, and this search follows gradients: leave it out, or add "
    "--search evolution"
)
OF_GRADIENT = (
    "counts optimizer steps of the gradient search, and this search is CMA-ES: give "
    "--generations, or add --dream --search gradient"
)
OF_DREAM = (
    "selects the device of a dream, and this search plays the real game on CPU cores: leave it "
    "out, or add --dream"
)


@app.command()
def run(
    run: RunOption = DEFAULT_RUN,
    preset: PresetOption = None,
    quantized: QuantizedOption = False,
    rounds: Annotated[int | None, typer.Option(help="Collect, V, M, C so many times.")] = None,
    dream: Annotated[
        bool | None,
        typer.Option("--dream/--real", help="Where alone C is searched; else as the preset says."),
    ] = None,
    env: EnvOption = None,
    env_arg: EnvArgOption = None,
    observation_key: ObservationKeyOption = None,
    seed: SeedOption = None,
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Every stage in order, resuming where it stopped; then an evaluation."""
    from worldmodels.hardware import choose_device
    from worldmodels.pipeline import run_pipeline

    with open_run_session(
        run,
        quiet,
        workers,
        create=True,
        env=env,
        env_kwargs=env_arguments(env_arg),
        observation_key=observation_key,
        preset=preset,
        seed=seed,
    ) as session:
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
        print_result(result, as_json, lambda: print_scores(result))


@app.command()
def collect(
    run: RunOption = DEFAULT_RUN,
    episodes: Annotated[
        int | None, typer.Option(help="How many the run shall hold in all.")
    ] = None,
    policy: Annotated[
        str | None, typer.Option(help="exploring, random, brownian, agent, elites.")
    ] = None,
    max_steps: Annotated[int | None, typer.Option(help="Env steps an episode, at most.")] = None,
    prefer_surprising: Annotated[
        bool, typer.Option("--prefer-surprising", help="Keep what V and its prior know least.")
    ] = False,
    env: EnvOption = None,
    env_arg: EnvArgOption = None,
    observation_key: ObservationKeyOption = None,
    preset: PresetOption = None,
    seed: SeedOption = None,
    workers: WorkersOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Play a policy and store its episodes."""
    from worldmodels.presets import override
    from worldmodels.stages.collect import collect as stage

    with open_run_session(
        run,
        quiet,
        workers,
        create=True,
        env=env,
        env_kwargs=env_arguments(env_arg),
        observation_key=observation_key,
        preset=preset,
        seed=seed,
    ) as session:
        config = override(
            session.preset.collect,
            episodes=episodes,
            policy=policy,
            max_episode_steps=max_steps,
            prefer_surprising=prefer_surprising,
        )
        result = stage(
            session.run,
            config,
            workers=session.workers,
            report=session.report,
            round_=session.run.round,
        )
        print_result(result, as_json, lambda: print_facts(result))


@app.command()
def train_vision(
    run: RunOption = DEFAULT_RUN,
    quantized: QuantizedOption = False,
    estimator: Annotated[
        Literal["score", "straight-through"] | None,
        typer.Option(help="With --quantized: categorical latents, their gradient by this."),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps.")] = None,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train V: frames to latents (VAE), or to codes with --quantized (VQ-VAE)."""
    from worldmodels.hardware import choose_device
    from worldmodels.stages.train_vision import train_vision as stage

    with open_run_session(run, quiet) as session:
        chosen = estimator or (session.run.estimator if quantized else None)
        config = session.preset.vision(quantized, chosen).with_steps(steps)
        result = stage(
            session.run,
            config,
            report=session.report,
            device=choose_device(device),
            round_=session.run.round,
        )
        print_result(result, as_json, lambda: print_facts(result))


@app.command()
def train_memory(
    run: RunOption = DEFAULT_RUN,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps.")] = None,
    members: Annotated[int | None, typer.Option(help="How many M's vote.")] = None,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train M: what comes next, over the latents of the run's V."""
    from worldmodels.hardware import choose_device
    from worldmodels.presets import override
    from worldmodels.stages.train_memory import train_memory as stage

    with open_run_session(run, quiet) as session:
        config = override(session.preset.memory, members=members).with_steps(steps)
        result = stage(
            session.run,
            config,
            report=session.report,
            device=choose_device(device),
            round_=session.run.round,
        )
        print_result(result, as_json, lambda: print_facts(result))


@app.command()
def train_controller(
    run: RunOption = DEFAULT_RUN,
    dream: Annotated[bool, typer.Option("--dream", help="Search in the dream.")] = False,
    search: Annotated[
        str | None, typer.Option(help="evolution (CMA-ES), or gradient: through the dream.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps of the gradient.")] = None,
    generations: Annotated[int | None, typer.Option(help="Generations of CMA-ES.")] = None,
    minutes: Annotated[
        float | None, typer.Option(help="End CMA-ES after so long, evaluations not counted.")
    ] = None,
    population: Annotated[int | None, typer.Option(help="Candidates a generation.")] = None,
    sigma: Annotated[float | None, typer.Option(help="First step size of CMA-ES.")] = None,
    episodes_per_candidate: Annotated[
        int | None, typer.Option(help="Episodes or dreams a candidate is judged by.")
    ] = None,
    horizon: Annotated[
        int | None, typer.Option(help="Decisions of a dream, and at most of an episode.")
    ] = None,
    full: Annotated[
        bool | None, typer.Option("--full/--diagonal", help="What CMA-ES learns of covariances.")
    ] = None,
    last_layer: Annotated[
        bool | None, typer.Option("--last-layer/--all-layers", help="What of C CMA-ES searches.")
    ] = None,
    hidden: Annotated[
        int | None, typer.Option(help="Tanh units of C; 0 is the paper's linear C.")
    ] = None,
    inputs: Annotated[str | None, typer.Option(help="What C sees: zh, or z alone.")] = None,
    from_: Annotated[
        Path | None, typer.Option("--from", help="A run or agent file to search on from.")
    ] = None,
    paper: Annotated[
        bool, typer.Option("--paper", help="As in the paper: linear C, real game, 1,800 x 64 x 16.")
    ] = False,
    workers: WorkersOption = None,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Search C by evolution, in the real game or with --dream inside M; or by gradients."""
    from worldmodels.hardware import choose_device
    from worldmodels.presets import PAPER, override
    from worldmodels.stages.train_controller import train_controller as stage

    with open_run_session(run, quiet, workers) as session:
        preset = (PAPER if paper else session.preset).searching(dream=dream).controller
        config = override(
            preset,
            search=search,
            hidden=hidden,
            inputs=inputs,
            evolution=override(
                preset.evolution,
                generations=generations,
                later_generations=generations,
                max_minutes=minutes,
                population=population,
                sigma0=sigma,
                diagonal=None if full is None else not full,
                last_layer=last_layer,
                episodes=episodes_per_candidate,
                max_decisions=horizon,
            ),
            pathwise=preset.pathwise.asked_for(steps, horizon),
            proximal=preset.proximal.asked_for(steps, horizon),
        )
        if config.search == "gradient":
            options = {
                "--generations": generations,
                "--minutes": minutes,
                "--population": population,
                "--sigma": sigma,
                "--episodes-per-candidate": episodes_per_candidate,
                **flag_given(full, "--full", "--diagonal"),
                **flag_given(last_layer, "--last-layer", "--all-layers"),
            }
            refuse_ignored(options, OF_EVOLUTION)
        else:
            refuse_ignored({"--steps": steps}, OF_GRADIENT)
        if not config.dream and device != "cpu":
            refuse_ignored({"--device": None if device == "auto" else device}, OF_DREAM)
        asked = {"hidden": hidden, "inputs": inputs}
        if paper:
            names = ("hidden", "inputs", "action_map", "sample_latent")
            asked = {name: getattr(config, name) for name in names}
        result = stage(
            session.run,
            config,
            workers=session.workers,
            report=session.report,
            device=choose_device(device),
            round_=session.run.round,
            start_from=from_,
            asked={name: value for name, value in asked.items() if value is not None},
        )
        print_result(result, as_json, lambda: print_facts(result))
