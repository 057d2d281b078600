"""Run an experiment and draw its figures.

    python -m scripts.experiments NAME                     the first run without a result
    python -m scripts.experiments NAME --all               all of them
    python -m scripts.experiments NAME --only 'gradient-*' the first of those
    python -m scripts.experiments NAME --page-only         only figures and page, from the results

A result that is there is not made again, so that every call continues where the last one ended.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

# Before a library that reads it is loaded: small nets gain nothing from a second thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")

from agents.workers import Workers
from scripts.experiments import elite_frames, elites, memory, pictures, search, vision
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
)
EXPERIMENTS = {kind.name: kind for kind in KINDS}


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the wanted runs of one experiment and draw it; the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.page_only and (options.only or options.all):
        parser.error("expected --page-only, or --only and --all, got both")
    kind, report = EXPERIMENTS[options.experiment], Report()
    try:
        experiment = kind(**{each.name: getattr(options, each.name) for each in kind.options()})
        wanted = (
            [] if options.page_only else experiment.missing(options.docs, options.only or ["*"])
        )
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
        add("--only", nargs="+", metavar="RUN", help="these, by name or pattern")
        add("--all", action="store_true", help="all that are missing, not only one")
        add("--page-only", action="store_true", help="draw from the results there are")
        add("--docs", type=Path, default=Path("docs"), help="of results and pages")
        add("--runs", type=Path, default=Path("runs"), help="of weights")
        add("--workers", type=int, default=num_cores(), help="processes that play")
        add("--device", default="auto", help="auto, cpu, cuda or mps")
        for setting in kind.options():
            type_ = Path if isinstance(setting.default, Path) else int
            add(f"--{setting.name.replace('_', '-')}", type=type_, default=setting.default)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
