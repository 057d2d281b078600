"""Run every stage in order for several rounds, and resume where an earlier call stopped."""

from dataclasses import replace
from functools import partial
from typing import Any

from agents.workers import Workers
from envs.registration import episode_limit
from worldmodels.controller.agent_file import agent_file
from worldmodels.controller.best_agent import evaluator, keep_best
from worldmodels.errors import UserError
from worldmodels.presets import Preset
from worldmodels.progress import Report
from worldmodels.runs.env_steps import env_steps
from worldmodels.runs.learning_curve import LearningCurve
from worldmodels.runs.run import Run
from worldmodels.runs.run_lock import locks_run
from worldmodels.stages.collect import CollectConfig, collect
from worldmodels.stages.evaluate import EvaluateConfig, evaluate_run
from worldmodels.stages.train_controller import ControllerStageConfig, train_controller
from worldmodels.stages.train_memory import train_memory
from worldmodels.stages.train_vision import train_vision

# The fraction of a round's env steps that is left for the episodes that select the best agent.
SELECTION_FRACTION = 0.2
MIN_SELECTION_EPISODES = 2


# Long list of parameters: those of all stages, and the limits of a run.
@locks_run
def run_pipeline(
    run: Run,
    preset: Preset,
    *,
    quantized: bool,
    rounds: int,
    workers: Workers,
    report: Report,
    device: str = "cpu",
    minutes: float | None = None,
) -> dict[str, Any]:
    """Run all rounds, fine-tune the best agent, and evaluate it on validation episodes.

    A round collects episodes, trains V and M, and searches C. The preset limits the number of env
    steps per round, not the number of episodes. Env steps of episodes that only report a score do
    not count. The first round collects with the exploring policy of the preset. Each later round
    collects with the agent of the round before and adds noise to the actions of this agent. Each
    later round also continues the training of M on all episodes. Later rounds up to the round
    `preset.vision_rounds` also continue the training of V. If `preset.finetune` is set, a further
    search with these settings follows the last round. The further search begins with the best agent
    of the run. Stages that are finished already are skipped.

    Args:
        minutes: once the rounds have taken this many minutes, no further round begins, and the
            further search is left out. None stands for no limit. The limit changes nothing else,
            and the last row of `rounds.json` records the limit.

    Source: arXiv 1803.10122, section 5, the iterative procedure.
    """
    if rounds < 1:
        raise UserError(f"expected at least 1 round, got {rounds}")
    if minutes is not None and minutes <= 0:
        raise UserError(f"expected more than 0 minutes, got --minutes {minutes:g}")
    run.check_kind(quantized)
    curve = LearningCurve(run)
    search = partial(train_controller, run, workers=workers, report=report, device=device)
    for round_ in range(1, rounds + 1):
        # Once a later round has begun, this round has nothing left to do.
        searched = run.manifest("controller") or {"round": 0}
        if max(run.round, searched["round"]) > round_:
            continue
        if minutes is not None and curve.seconds >= 60 * minutes:
            report.log(f"no further round begins: the rounds took {minutes:g} minutes or more")
            curve.record_limit(minutes)
            preset = replace(preset, finetune=None)
            break
        if rounds > 1:
            report.log(f"round {round_} of {rounds}")
        config = _collect_config(run, preset, round_)
        collect(run, config, workers=workers, report=report, round_=round_)
        if preset.vision_rounds is None or round_ <= preset.vision_rounds:
            vision = preset.vision(quantized, run.estimator if quantized else None)
            train_vision(run, vision, report=report, device=device, round_=round_)
        train_memory(run, preset.memory, report=report, device=device, round_=round_)
        search(_search_config(run, preset), round_=round_)
        curve.record_round(round_)
    if preset.finetune is not None:
        if (run.manifest("controller") or {"round": 0})["round"] > rounds:
            keep_best(run, evaluator(workers))  # an earlier call may have been killed before this
        else:
            report.log("fine-tuning in the real env, from the best agent of all rounds")
            search(preset.finetune, round_=rounds + 1, start_from=agent_file(run.folder))
        curve.record_round(rounds + 1)
    evaluation = EvaluateConfig(episodes=preset.evaluation_episodes, baselines=True)
    result = evaluate_run(run, evaluation, workers=workers, report=report)
    curve.record_env_steps()
    return result


def _collect_config(run: Run, preset: Preset, round_: int) -> CollectConfig:
    """Return the settings with which a round collects episodes.

    A fraction `SELECTION_FRACTION` of the round's env steps is reserved for the selection at the
    end of the round.
    """
    first = preset.env_steps(round_ - 1) if round_ > 1 else 0
    reserved = int(SELECTION_FRACTION * (preset.env_steps(round_) - first))
    counts = env_steps(run)
    spent = counts["monitored"] + counts["selected"]
    policy = preset.collect.policy if round_ == 1 else "agent"
    steps = max(1, preset.env_steps(round_) - reserved - spent)
    return replace(preset.collect, env_steps=steps, policy=policy)


def _search_config(run: Run, preset: Preset) -> ControllerStageConfig:
    """Return the settings of the search, with a limited number of selection episodes.

    The selection takes at most about a fraction `SELECTION_FRACTION` of the env steps of a later
    round. The number of selection episodes therefore depends on the length of the longest episodes.
    All rounds have the same number of selection episodes.
    """
    config, longest = preset.controller, episode_limit(run.settings.env)
    if longest is None:
        lengths = (episode.num_steps for episode in run.store if episode.round == 1)
        longest = max(lengths, default=1)
    affordable = int(SELECTION_FRACTION * preset.later_env_steps / longest)
    episodes = min(config.selection_episodes, max(MIN_SELECTION_EPISODES, affordable))
    return replace(config, selection_episodes=episodes)
