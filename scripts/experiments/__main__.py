"""Run an experiment and draw its figures.

    python -m scripts.experiments NAME                     do the first run that has no result
    python -m scripts.experiments NAME --all               do all runs that have no result
    python -m scripts.experiments NAME --only 'gradient-*' do the first matching run without result
    python -m scripts.experiments NAME --page-only         only draw the figures and the page

A run that has a result is not repeated, so every call continues where the last call ended.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

# Libraries read this when they are loaded. Small networks gain nothing from a second thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")

from agents.workers import Workers
from scripts.experiments import (
    elite_frames,
    elites,
    memory,
    pictures,
    search,
    tutorials,
    vision,
)
from scripts.experiments.experiment import Context, Experiment
from scripts.experiments.quantized import ablation, study
from worldmodels.errors import UserError
from worldmodels.hardware import choose_device, num_cores
from worldmodels.progress import Report

KINDS: tuple[type[Experiment], ...] = (
    study.Quantized,
    ablation.Ablations,
    search.Searches,
    vision.VisionKinds,
    memory.MemoryKinds,
    elites.Elites,
    elite_frames.EliteFrames,
    pictures.Pictures,
    tutorials.Tutorials,
)
EXPERIMENTS = {kind.name: kind for kind in KINDS}


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the requested runs of one experiment, write its page, and return the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.page_only and (options.only or options.all):
        parser.error("expected --page-only without --only or --all, got both")
    kind, report = EXPERIMENTS[options.experiment], Report()
    try:
        experiment = kind(**{each.name: getattr(options, each.name) for each in kind.options()})
        patterns = [] if options.page_only else options.only or ["*"]
        wanted = experiment.missing(options.docs, patterns)
        device, runs = choose_device(options.device), options.runs / experiment.name
        with Workers(options.workers, log=report.log) as workers:
            context = Context(options.docs, runs, workers, report, device)
            experiment.do(wanted if options.all else wanted[:1], context)
        print(f"missing: {', '.join(experiment.missing(options.docs)) or 'none'}")
    except UserError as error:
        parser.error(str(error))
    return 0


def _parser() -> argparse.ArgumentParser:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m scripts.experiments", description=__doc__, formatter_class=form
    )
    commands = parser.add_subparsers(dest="experiment", required=True, metavar="NAME")
    for name, kind in EXPERIMENTS.items():
        text = sys.modules[kind.__module__].__doc__ or ""
        command = commands.add_parser(
            name, help=text.splitlines()[0], description=text, formatter_class=form
        )
        add = command.add_argument
        add("--only", nargs="+", metavar="RUN", help="names or patterns of the wanted runs")
        add("--all", action="store_true", help="do all missing runs, not only the first")
        add("--page-only", action="store_true", help="do no run, but draw all results")
        add("--docs", type=Path, default=Path("docs"), help="folder of results and pages")
        add("--runs", type=Path, default=Path("runs"), help="folder of weights")
        add("--workers", type=int, default=num_cores(), help="number of processes")
        add("--device", default="auto", help="device: auto, cpu, cuda or mps")
        for setting in kind.options():
            type_ = Path if isinstance(setting.default, Path) else int
            add(f"--{setting.name.replace('_', '-')}", type=type_, default=setting.default)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
