"""Run an experiment and draw its figures.

    python -m scripts.experiments NAME                     the first run without a result
    python -m scripts.experiments NAME --all               all of them
    python -m scripts.experiments NAME --only 'gradient-*' the first of those
    python -m scripts.experiments NAME --page-only         only figures and page, from the results

A result that is there is not made again, so that every call continues where the last one ended.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Before a library that reads it is loaded: small nets gain nothing from a second thread.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")

from agents.workers import Workers
from scripts.experiments.elite_frames import EliteFrames
from scripts.experiments.elites import Elites
from scripts.experiments.experiment import Context, Experiment
from scripts.experiments.memory import MemoryKinds
from scripts.experiments.pictures import Pictures
from scripts.experiments.quantized.ablation import Ablations
from scripts.experiments.quantized.study import Quantized
from scripts.experiments.search import Searches
from scripts.experiments.vision import VisionKinds
from worldmodels.errors import UserError
from worldmodels.hardware import choose_device, num_cores
from worldmodels.progress import Report

EXPERIMENTS: dict[str, type[Experiment[Any]]] = {
    kind.name: kind
    for kind in (
        Quantized,
        Ablations,
        Searches,
        VisionKinds,
        MemoryKinds,
        Elites,
        EliteFrames,
        Pictures,
    )
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the wanted runs of one experiment and draw it; the exit code."""
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    kind = EXPERIMENTS[options["experiment"]]
    only, page_only = options["only"], options["page_only"]
    if page_only and (only or options["all"]):
        parser.error("expected --page-only, or --only and --all, got both")
    report = Report()
    try:
        experiment = kind(**{field: options[field] for field, _, _ in kind.options().values()})
        wanted = [] if page_only else experiment.missing(options["docs"], only or ("*",))
        with Workers(options["workers"], log=report.log) as workers:
            context = Context(
                options["docs"],
                options["runs"] / experiment.name,
                workers,
                report,
                choose_device(options["device"]),
            )
            experiment.do(wanted if options["all"] else wanted[:1], context)
        print(f"missing: {', '.join(experiment.missing(options['docs'])) or 'none'}")
    except UserError as error:
        parser.error(str(error))
    return 0


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--only", nargs="+", metavar="RUN", help="these, by name or pattern")
    shared.add_argument("--all", action="store_true", help="all that are missing, not only one")
    shared.add_argument("--page-only", action="store_true", help="draw from the results there are")
    shared.add_argument("--docs", type=Path, default=Path("docs"), help="of results and pages")
    shared.add_argument("--runs", type=Path, default=Path("runs"), help="of weights")
    shared.add_argument("--workers", type=int, default=num_cores(), help="processes that play")
    shared.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m scripts.experiments", description=__doc__, formatter_class=form
    )
    commands = parser.add_subparsers(dest="experiment", required=True, metavar="NAME")
    for name, kind in EXPERIMENTS.items():
        text = sys.modules[kind.__module__].__doc__ or ""
        command = commands.add_parser(
            name,
            parents=[shared],
            help=text.splitlines()[0],
            description=text,
            formatter_class=form,
        )
        for option, (_, type_, default) in kind.options().items():
            command.add_argument(f"--{option}", type=type_, default=default)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
