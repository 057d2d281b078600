"""Describe the machine and the installation, or describe a run."""

from __future__ import annotations

import platform
from typing import Any

from worldmodels.controller.evaluations import all_evaluations
from worldmodels.hardware import shadowed_imports
from worldmodels.runs.env_steps import env_steps
from worldmodels.runs.provenance import versions
from worldmodels.runs.run import STAGES, Run
from worldmodels.runs.stage_folder import RESULT

# Keys of each stage's result that `wm info` shows.
HEADLINES = {
    "vision": "warning error mean_frame_error gain psnr foreground_error "
    "mean_frame_foreground_error rare_error mean_frame_rare_error bits_per_frame codes_used "
    "perplexity epoch_codes_used epoch_perplexity frames",
    "memory": "nll persistence_nll bits_per_frame reward_r2 end_auc ensemble_size agent_steps",
    "controller": "search dream parameters generations steps fitness sigma real_score "
    "real_std selection_episodes",
    "prior": "nats_per_code position_entropy position_cross_entropy gain_over_position "
    "bits_per_frame",
    "elites": "elites coverage norm_qd_score qd_score_offset mean_fitness best_fitness",
}
OPTIONAL = ("prior", "elites")


def install_info() -> dict[str, Any]:
    """Return a description of the machine, and the versions of software that affects results."""
    import torch  # takes a second or more, and `run_info` does not need it

    from worldmodels.hardware import choose_device, num_cores

    device = choose_device("auto")
    return {
        "platform": platform.platform(),
        "cores": num_cores(),
        "torch_threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "shadowed_imports": shadowed_imports() or "none",
        "versions": versions(),
    }


def run_info(run: Run) -> dict[str, Any]:
    """Return the settings of a run, the state and the metrics of each stage, and all scores.

    Raises: UserError if the run does not exist.
    """
    settings = run.settings
    kind = {None: "not chosen yet", True: "quantized", False: "continuous"}[settings.quantized]
    summary: dict[str, Any] = {
        "run": str(run),
        "env": str(settings.env),
        "preset": settings.preset,
        "seed": settings.seed,
        "latents": kind,
        "round": run.round,
        "episodes": len(run.store),
        "env_steps": env_steps(run),
    }
    for stage in STAGES:
        if stage != "prior" or settings.quantized:  # a continuous V has no codes for a prior
            summary[stage] = _stage_summary(run, stage)
    scores = {name: _score(row) for name, row in all_evaluations(run).items()}
    return {**summary, "scores": scores or "none"}


def _score(row: dict[str, Any]) -> str:
    count = len(row["returns"])
    if row["std"] is None:
        return f"{row['mean']:.1f} ({count} episode)"
    return f"{row['mean']:.1f} +- {row['std']:.1f} ({count} episodes)"


def _stage_summary(run: Run, stage: str) -> dict[str, Any] | str:
    command = _command(run, stage)
    manifest = run.manifest(stage)
    if manifest is None:
        return f'{"optional, not made yet" if stage in OPTIONAL else "missing"}: run "{command}"'
    summary: dict[str, Any] = {"round": manifest["round"], "seconds": manifest["seconds"]}
    damaged = run.damaged(stage)
    for name, files, word in (
        ("damaged", damaged, "damaged"),
        ("stale", run.stale(stage), "changed"),
    ):
        if files:
            summary[name] = f'{", ".join(files)} {word}: run "{command}" again'
    if RESULT not in damaged:
        result = run.result(stage) or {}
        summary |= {name: result[name] for name in HEADLINES[stage].split() if name in result}
    return summary


def _command(run: Run, stage: str) -> str:
    """Return the command that runs a stage, with options for the same kind of model as before."""
    command = f"wm {'elites drive' if stage == 'elites' else f'train-{stage}'} --run {run}"
    if stage == "vision" and run.settings.quantized:
        return f"{command} --quantized"
    if stage == "controller" and (run.manifest(stage) or {}).get("config", {}).get("dream"):
        return f"{command} --dream"
    return command
