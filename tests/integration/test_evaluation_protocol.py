"""Whole runs have comparable scores, never lose their best agent, and count all env steps."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents.evaluation import evaluate
from agents.protocol import EvaluationProtocol
from agents.rollout import Rollout
from agents.workers import Workers
from tests.fixtures.counting_env import BOX_ID, DISCRETE_ID, CountingEnv
from worldmodels.controller.agent import AgentFactory, load_agent, save_agent
from worldmodels.controller.fitness import CMAESConfig
from worldmodels.controller.gradient import GradientConfig
from worldmodels.controller.pathwise import PathwiseConfig
from worldmodels.controller.ppo import PPOConfig
from worldmodels.errors import UserError
from worldmodels.pipeline import run_pipeline
from worldmodels.presets import PRESETS, TINY, Preset
from worldmodels.prior.selection import Candidate
from worldmodels.progress import Report
from worldmodels.runs.env_steps import PURPOSES, env_steps
from worldmodels.runs.run import Run
from worldmodels.runs.run_settings import RunSettings
from worldmodels.stages.collect import CollectConfig, collect
from worldmodels.stages.evaluate import EvaluateConfig, evaluate_run
from worldmodels.stages.train_controller import train_controller
from worldmodels.training.fit import FitConfig

FIT = FitConfig(num_steps=4, batch_size=4, validate_every=4)
SEARCH = CMAESConfig(
    generations=2, later_generations=2, population=4, episodes=2, horizon=6, validate_every=1
)
GRADIENT_FIT = FitConfig(num_steps=2, batch_size=4, validate_every=1)


def shortest(preset: Preset) -> Preset:
    """Shorten a preset to seconds, so that every stage runs but learns almost nothing."""
    search = replace(
        preset.dream_search,
        cmaes=SEARCH,
        pathwise=GradientConfig(
            fit=GRADIENT_FIT, later=GRADIENT_FIT, learner=PathwiseConfig(horizon=3)
        ),
        ppo=GradientConfig(
            fit=GRADIENT_FIT,
            later=GRADIENT_FIT,
            learner=PPOConfig(horizon=3, num_updates=2),
        ),
    )
    assert preset.finetune is not None
    return replace(
        preset,
        collect=CollectConfig(env_steps=120),
        later_env_steps=40,
        vae=replace(preset.vae, fit=FIT, later=FIT),
        vqvae=replace(preset.vqvae, fit=FIT, later=FIT),
        memory=replace(
            preset.memory, fit=FIT, later=FIT, model=replace(preset.memory.model, num_hidden=8)
        ),
        dream_search=replace(search, eval_episodes=2, selection_episodes=3),
        finetune=replace(
            preset.finetune,
            eval_episodes=3,
            selection_episodes=7,
            cmaes=replace(SEARCH, last_layer=True, select_best=True, averaged_generations=2),
        ),
        evaluation_episodes=2,
    )


PRESET = shortest(TINY)
QUIET = Report(quiet=True)


def pipeline(
    run: Run, rounds: int, preset: Preset = PRESET, *, quantized: bool = False, **more: Any
) -> dict[str, Any]:
    with Workers(1) as workers:
        return run_pipeline(
            run, preset, quantized=quantized, rounds=rounds, workers=workers, report=QUIET, **more
        )


def new_run(folder: Path, env_id: str = BOX_ID) -> Run:
    return Run(folder, RunSettings(env_id, "tiny", 0))


@pytest.mark.parametrize("name", PRESETS)
def test_what_monitors_selects_and_reports_uses_different_episodes(name: str) -> None:
    preset = PRESETS[name]
    stages = [preset.dream_search, preset.real_search, preset.finetune]
    for config in (stage for stage in stages if stage is not None):
        used = {
            "monitoring": EvaluationProtocol(BOX_ID, "monitoring", max(config.eval_episodes, 1)),
            "selection": EvaluationProtocol(BOX_ID, "selection", config.selection_episodes),
            "validation": EvaluationProtocol(BOX_ID, "validation", preset.evaluation_episodes),
            "test": EvaluationProtocol(BOX_ID, "test", 100),
        }
        for one, other in combinations(used.values(), 2):
            assert not set(one.seeds) & set(other.seeds)
        assert min(min(protocol.seeds) for protocol in used.values()) >= 1_000_000


@pytest.mark.parametrize("steps", [None, 100, 600, 2_400])
@pytest.mark.parametrize("name", PRESETS)
def test_gradients_of_either_kind_select_among_equally_many_evaluations(
    name: str, steps: int | None
) -> None:
    search = PRESETS[name].dream_search
    counts = {
        len([s for s in range(1, fit.num_steps + 1) if s % fit.validate_every == 0 or s == last])
        for config in (each.with_lengths(steps, None) for each in (search.pathwise, search.ppo))
        for fit, last in ((each, each.num_steps) for each in (config.fit, config.later))
    }
    assert len(counts) == 1


@pytest.mark.parametrize(("env_id", "quantized"), [(BOX_ID, False), (DISCRETE_ID, True)])
def test_the_steps_of_a_run_add_up_to_the_env_s_own_count(
    tmp_path: Path, env_id: str, quantized: bool
) -> None:
    run = new_run(tmp_path / "a", env_id)
    before = CountingEnv.num_steps
    pipeline(run, 2, quantized=quantized)
    rows = json.loads((run.folder / "rounds.json").read_text())
    last = rows[-1]["env_steps_by_purpose"]
    assert list(last) == list(PURPOSES) and all(last.values())
    assert rows[-1]["env_steps"] == sum(last.values()) == CountingEnv.num_steps - before
    assert [row["round"] for row in rows] == [1, 2, 3]
    for name in PURPOSES[:4]:
        counts = [row["env_steps_by_purpose"][name] for row in rows]
        assert counts == sorted(counts)
    # Before fine-tuning C was searched in the dream; only the last evaluation reports.
    assert [row["env_steps_by_purpose"]["searched"] for row in rows[:2]] == [0, 0]
    assert [row["env_steps_by_purpose"]["reported"] for row in rows[:2]] == [0, 0]
    manifest, result = run.manifest("controller"), run.result("controller")
    assert manifest is not None and result is not None
    assert manifest["env_steps"] == result["env_steps"]
    assert set(manifest["env_steps"]) == {"searched", "monitored", "selected"}
    collected = run.manifest("collect")
    assert collected is not None
    assert collected["env_steps"] == {"collected": last["collected"]}
    # Running again changes nothing, and every evaluation counts too.
    pipeline(run, 2, quantized=quantized)
    with Workers(1) as workers:
        evaluate_run(run, EvaluateConfig(episodes=3), workers=workers, report=QUIET)
    totals = env_steps(run)
    assert sum(totals.values()) == CountingEnv.num_steps - before
    assert totals["reported"] > last["reported"]


def test_a_run_takes_at_most_the_env_steps_that_it_is_given(tmp_path: Path) -> None:
    search = replace(PRESET.dream_search, eval_episodes=0, selection_episodes=20)
    preset = replace(PRESET, dream_search=search, finetune=None)
    run = new_run(tmp_path / "a")
    pipeline(run, 3, preset.with_env_steps(600, 3))
    rows = json.loads((run.folder / "rounds.json").read_text())
    totals = [
        sum(row["env_steps_by_purpose"].values()) - row["env_steps_by_purpose"]["reported"]
        for row in rows
    ]
    assert 0.9 * 600 < totals[-1] <= 600 + 7  # the last episode of a round may be long
    first, later = 0.6 * 600, 0.2 * 600  # as in the preset: 120 env steps, and 40 later
    assert totals == pytest.approx([first, first + later, 600], abs=60)
    assert len({row["episodes"] for row in rows}) == 1 and rows[0]["episodes"] > 1
    with pytest.raises(UserError, match="expected at least 1 env step, got --env-steps 0"):
        preset.with_env_steps(0, 3)


def test_minutes_end_a_run_after_a_whole_round_and_change_nothing_else(tmp_path: Path) -> None:
    limited, whole = new_run(tmp_path / "limited"), new_run(tmp_path / "whole")
    pipeline(limited, 3, minutes=1e-6)
    pipeline(whole, 1, replace(PRESET, finetune=None))
    rows = [json.loads((run.folder / "rounds.json").read_text()) for run in (limited, whole)]
    assert [row["round"] for row in rows[0]] == [1]
    assert rows[0][0].pop("minutes_limit") == 1e-6
    of_clock = {"seconds"}
    first, second = ({k: v for k, v in row[0].items() if k not in of_clock} for row in rows)
    assert first == second
    one, other = (load_agent(run.folder).parameters for run in (limited, whole))
    assert torch.equal(one, other)
    pipeline(limited, 2)  # without the limit, the run goes on
    rounds = json.loads((limited.folder / "rounds.json").read_text())
    assert [row["round"] for row in rounds] == [1, 2, 3]
    with pytest.raises(UserError, match="expected more than 0 minutes, got --minutes 0"):
        pipeline(limited, 2, minutes=0.0)


def test_a_killed_and_resumed_run_counts_what_an_undisturbed_one_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed = new_run(tmp_path / "whole"), new_run(tmp_path / "killed")
    pipeline(whole, 1)
    original = Run.write_json
    for stop in (2, 3, 4):
        left = iter(range(stop))

        def until_stopped(
            self: Run, name: str, summary: dict[str, Any], left: Iterator[int] = left
        ) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt
            original(self, name, summary)

        monkeypatch.setattr(Run, "write_json", until_stopped)
        with pytest.raises(KeyboardInterrupt):
            pipeline(killed, 1)
        monkeypatch.undo()
    pipeline(killed, 1)
    assert env_steps(killed) == env_steps(whole)
    best = [load_agent(run.folder) for run in (whole, killed)]
    assert torch.equal(best[0].parameters, best[1].parameters)


def mean_return(file: Path, episodes: int) -> float:
    with Workers(1) as workers:
        protocol = EvaluationProtocol(BOX_ID, "selection", episodes)
        return evaluate(protocol, AgentFactory(file), workers).mean


def test_no_sequence_of_commands_loses_the_best_agent(tmp_path: Path) -> None:
    """The commands start searches and further rounds, in an env that rewards large actions."""
    run = new_run(tmp_path / "a")
    pipeline(run, 1)
    most = 7  # of the fine-tuning
    before_file = tmp_path / "before.safetensors"
    shutil.copyfile(run.folder / "best.safetensors", before_file)
    still = replace(SEARCH, generations=1, later_generations=1, sigma0=1e-6)
    generator = np.random.default_rng(0)
    commands = [("start", -3.0, 2), ("start", 0.5, 5), ("start", 3.0, 2), ("start", 0.2, 9)]
    commands += [("rounds", 2, 0), ("start", 2.0, 1)]
    for number, (command, value, episodes) in enumerate(generator.permutation(commands).tolist()):
        value, episodes = float(value), int(episodes)
        if command == "rounds":
            pipeline(run, int(value))
        else:
            start = load_agent(run.folder)
            start.parameters = torch.zeros_like(start.parameters)
            start.parameters[:, -2:] = value
            save_agent(tmp_path / "start.safetensors", start, {})
            config = replace(
                PRESET.real_search,
                cmaes=still,
                eval_episodes=1,
                selection_episodes=episodes,
            )
            with Workers(1) as workers:
                train_controller(
                    run,
                    config,
                    workers=workers,
                    report=QUIET,
                    round_=run.round,
                    start_from=tmp_path / "start.safetensors",
                )
            most = max(most, episodes)
        now = mean_return(run.folder / "best.safetensors", most)
        newest = mean_return(run.folder / "controller" / "agent.safetensors", most)
        before = mean_return(before_file, most)
        assert now >= max(before, newest) - 1e-9, f"lost at command {number}: {command} {value}"
        shutil.copyfile(run.folder / "best.safetensors", before_file)


def test_candidates_that_a_selection_by_surprise_gives_up_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import worldmodels.stages.collect as stage
    from worldmodels.data.episode import pack_episode

    class Pack:
        def __init__(
            self, run: Run, round_: int, stride: int, prior: Path, summary: dict[str, Any]
        ) -> None:
            self.round = round_

        def __call__(self, rollout: Rollout) -> Candidate:
            packed = pack_episode(rollout, round=self.round)
            return Candidate(packed, float(rollout.seed % 5), rollout.num_steps)

    monkeypatch.setattr(stage, "PackWithSurprise", Pack)
    monkeypatch.setattr(stage, "load_surprise", lambda run: None)
    monkeypatch.setattr(stage, "file_digest", lambda path: "prior")
    run = new_run(tmp_path / "a")
    before = CountingEnv.num_steps
    with Workers(1) as workers:
        config = CollectConfig(episodes=5, select_by_surprise=True)
        collect(run, config, workers=workers, report=QUIET)
    stored = sum(episode.num_steps for episode in run.store)
    assert env_steps(run)["collected"] == CountingEnv.num_steps - before > 2 * stored
