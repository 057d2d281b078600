"""What a quantized V brings: one run or ablation per call, and the page of all of them.

python -m scripts.experiments.quantized.compare              the first one that is missing
python -m scripts.experiments.quantized.compare --only fsq-2
python -m scripts.experiments.quantized.compare --page-only  docs/results.md, from its JSON
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from agents.workers import Workers
from envs.tasks import DEFAULT_ENV_ID
from scripts.experiments.quantized.ablation import ABLATION, ablation_measures
from scripts.experiments.quantized.figures import FIGURES
from scripts.experiments.quantized.kinds import ABLATIONS, KINDS, Cell, all_cells
from scripts.experiments.quantized.measures import (
    agent_measures,
    curve_measures,
    dream_measures,
    world_measures,
)
from scripts.experiments.quantized.page import page
from worldmodels.data.durable import replacing
from worldmodels.errors import UserError
from worldmodels.hardware import choose_device, num_cores
from worldmodels.pipeline import run_pipeline
from worldmodels.presets import STUDY, Preset
from worldmodels.progress import Report
from worldmodels.runs.json_files import read_json, write_json
from worldmodels.runs.pretrained import pretrained_agents
from worldmodels.runs.provenance import versions
from worldmodels.runs.run import Run
from worldmodels.runs.run_settings import RunSettings
from worldmodels.stages.dream_check import DreamCheckConfig
from worldmodels.stages.train_controller import ControllerStageConfig

RESULTS, PAGE = "results/compare", "results.md"
FRAMES = "results/elites/frames.json"


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """What is compared, and where it lies.

    Attributes:
        runs: folder of the runs; only their figures are kept in `docs`.
        docs: where result files, figures and the page go.
        only: one cell by name, such as `fsq-2` or `vae-1-z`; None takes the first that is missing.
        page_only: work on none, and only draw the page.
        preset: of every run.
        episodes: test tracks, as they are and under each perturbation.
        drives: of the scripted driver, that V and M are judged on.
        dream: how dream and game are compared.
        ablation: the search of an ablation, whatever its inputs.
    """

    runs: Path = Path("runs/compare")
    docs: Path = Path("docs")
    only: str | None = None
    page_only: bool = False
    preset: Preset = STUDY
    episodes: int = 100
    drives: int = 16
    dream: DreamCheckConfig = field(default_factory=DreamCheckConfig)
    ablation: ControllerStageConfig = ABLATION

    def __post_init__(self) -> None:
        if self.only is not None and self.only not in all_cells():
            raise UserError(f'expected one of {", ".join(all_cells())}, got "{self.only}"')
        if self.page_only and self.only is not None:
            raise UserError("expected one of --page-only and --only, got both")
        for name, least in (("episodes", 1), ("drives", 2)):
            if getattr(self, name) < least:
                raise UserError(f"{name} must be at least {least}, got {getattr(self, name)}")

    def file(self, name: str) -> Path:
        """Of the results of a cell."""
        return self.docs / RESULTS / f"{name}.json"


def compare(
    config: CompareConfig, *, workers: Workers, report: Report, device: str = "cpu"
) -> dict[str, Any]:
    """Work on one cell whose result file is missing, if any is, and draw the page anew.

    A cell that was stopped goes on where it was.

    Returns: `done`, the cell worked on or None; `missing`, those yet to do; `page`.
    """
    cells = all_cells()
    missing = [name for name in cells if not config.file(name).exists()]
    wanted = missing if config.only is None else [n for n in missing if n == config.only]
    done = None
    if wanted and not config.page_only:
        done = wanted[0]
        report.log(f"compare: {done}, {len(missing)} of {len(cells)} to do")
        write_json(config.file(done), _result(cells[done], config, workers, report, device))
        missing.remove(done)
    return {"done": done, "missing": missing, "page": str(write_page(config))}


def write_page(config: CompareConfig) -> Path:
    """Draw the figures and write the page from the result files there are."""
    found = {name: read_json(config.file(name)) for name in all_cells()}
    cells = {name: result for name, result in found.items() if result is not None}
    runs: dict[str, list[dict[str, Any]]] = {}
    for kind in KINDS:
        of_kind = [r for r in cells.values() if r["kind"] == kind and r["ablation"] is None]
        if of_kind:
            runs[kind] = of_kind
    folder = config.docs / RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    text = page(
        runs,
        {name: result for name, result in cells.items() if result["ablation"] is not None},
        _agents(config.docs),
        read_json(config.docs / FRAMES),
        _draw(folder, runs, cells),
    )
    path = config.docs / PAGE
    with replacing(path) as partial:
        partial.write_text(text)
    return path


def _draw(
    folder: Path, runs: Mapping[str, list[dict[str, Any]]], names: Iterable[str]
) -> dict[str, str]:
    """Captions by file, relative to the page."""
    captions = {}
    if runs:
        for file, (draw, caption) in FIGURES.items():
            draw(folder / file, runs)
            captions[f"{RESULTS}/{file}"] = caption
    for name in names:
        sheet = folder / f"codes-{name}.png"
        if sheet.exists():
            captions[f"{RESULTS}/{sheet.name}"] = (
                f"{name}: frames that share a code in the framed cell, a row per code"
            )
    return captions


def _agents(docs: Path) -> dict[str, dict[str, Any]]:
    found = {name: read_json(docs / "results" / f"{name}.json") for name in pretrained_agents()}
    return {name: summary for name, summary in found.items() if summary is not None}


def _result(
    cell: Cell, config: CompareConfig, workers: Workers, report: Report, device: str
) -> dict[str, Any]:
    kind = KINDS[cell.kind]
    preset = kind.settings(config.preset)
    new = RunSettings(DEFAULT_ENV_ID, preset.name, cell.seed)
    run = Run(config.runs / cell.run_name, new)
    run_pipeline(
        run,
        preset,
        quantized=kind.quantized,
        rounds=preset.rounds,
        workers=workers,
        report=report,
        device=device,
    )
    summary = {
        "kind": cell.kind,
        "seed": cell.seed,
        "ablation": cell.ablation,
        "command": f"python -m scripts.experiments.quantized.compare --only {cell.name}",
        "versions": versions(),
        "processor_cores": os.cpu_count(),
        "workers": workers.num_workers,
        "threads": torch.get_num_threads(),
    }
    if cell.ablation is not None:
        inputs = ABLATIONS[cell.ablation]
        search = replace(config.ablation, inputs=inputs.inputs)
        part = ablation_measures(run, cell.ablation, inputs, search, workers, report, device)
        return {**summary, **part}
    sheet = config.docs / RESULTS / f"codes-{cell.run_name}.png"
    sheet.parent.mkdir(parents=True, exist_ok=True)
    return {
        **summary,
        **curve_measures(run),
        "scores": agent_measures(run, config.episodes, workers, report),
        **world_measures(run, config.drives, report, sheet, device),
        "dream": dream_measures(run, config.dream, workers, report, device),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Work on one cell, or only draw the page; the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", help="this one, such as fsq-2 or vae-1-z")
    parser.add_argument("--page-only", action="store_true", help="draw the page and work on none")
    parser.add_argument("--runs", type=Path, default=CompareConfig.runs, help="folder of the runs")
    parser.add_argument("--docs", type=Path, default=CompareConfig.docs, help="where results go")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    options = vars(parser.parse_args(arguments))
    device = choose_device(options.pop("device"))
    try:
        config = CompareConfig(**options)
    except UserError as error:
        parser.error(str(error))
    report = Report()
    with Workers(num_cores(), log=report.log) as workers:
        result = compare(config, workers=workers, report=report, device=device)
    print(f"done: {result['done']}; missing: {', '.join(result['missing']) or 'none'}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
