"""The base class of experiments: a table of runs, a result file per run, and plots."""

import fnmatch
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import torch

from agents.workers import Workers
from worldmodels.errors import UserError
from worldmodels.progress import Report
from worldmodels.runs.json_files import read_json, write_json
from worldmodels.runs.provenance import versions

Result = dict[str, Any]
Results = Mapping[str, Result]


@dataclass(frozen=True)
class Context:
    """Folders and resources of the runs.

    Attributes:
        docs: folder of result files, plots and pages.
        runs: folder of files that only the runs need, such as weights. This folder may be deleted.
    """

    docs: Path
    runs: Path
    workers: Workers
    report: Report
    device: str = "cpu"

    @property
    def resources(self) -> dict[str, Any]:
        """Keyword arguments for the stages of a run."""
        return {"workers": self.workers, "report": self.report, "device": self.device}


class Experiment(ABC):
    """An experiment: a dataclass whose fields are the settings that all runs share.

    Attributes:
        name: name of the experiment on the command line.
        folder: folder of the result files, relative to `docs`. The default is `results/` followed
            by the experiment's name.
        table: maps the name of each run to the argument `spec` of the method `run`. Runs are done
            in the order of the table.
    """

    name: ClassVar[str]
    folder: ClassVar[str]
    table: ClassVar[Mapping[str, Any]]

    def __init_subclass__(cls) -> None:
        if not hasattr(cls, "folder"):
            cls.folder = f"results/{cls.name.replace('-', '_')}"

    @abstractmethod
    def run(self, name: str, spec: Any, context: Context) -> Result:
        """Do one run and return the content of its result file."""

    @abstractmethod
    def draw(self, results: Results, docs: Path) -> None:
        """Draw the plots and write the page from the existing results."""

    def results(self, docs: Path) -> dict[str, Result]:
        """Return the existing results, in the order of the table."""
        return read_results(docs / self.folder, self.table)

    def missing(self, docs: Path, patterns: Sequence[str] = ("*",)) -> list[str]:
        """Return the names of the runs that match one of the patterns and have no result.

        Raises: UserError if a pattern matches no run.
        """
        wanted: set[str] = set()
        for pattern in patterns:
            matching = fnmatch.filter(self.table, pattern)
            if not matching:
                raise UserError(f'expected one of {", ".join(self.table)}, got "{pattern}"')
            wanted.update(matching)
        wanted -= self.results(docs).keys()
        return [name for name in self.table if name in wanted]

    def do(self, names: Iterable[str], context: Context) -> None:
        """Do the named runs and write their results; then draw all existing results."""
        folder = context.docs / self.folder
        for name in names:
            folder.mkdir(parents=True, exist_ok=True)
            context.report.log(f"{self.name}: {name}")
            started = time.monotonic()
            result = {
                "command": self.command(name),
                "versions": versions(),
                "processor_cores": os.cpu_count(),
                "workers": context.workers.num_workers,
                "threads": torch.get_num_threads(),
                **self.run(name, self.table[name], context),
            }
            write_json(folder / f"{name}.json", result)
            context.report.log(f"{name}: {(time.monotonic() - started) / 60:.1f} minutes")
        if results := self.results(context.docs):
            self.draw(results, context.docs)

    def command(self, name: str) -> str:
        """Return the command that makes the result of run `name`, with all non-default settings."""
        words = [f"python -m scripts.experiments {self.name} --only {name}"]
        for setting in self.options():
            value = getattr(self, setting.name)
            if value != setting.default:
                words.append(f"--{setting.name.replace('_', '-')} {value}")
        return " ".join(words)

    @classmethod
    def options(cls) -> list[Field[Any]]:
        """Return the settings that are options of the command.

        A setting becomes a command-line option if its default is an integer, a path or None.
        """
        of_experiment = fields(cls)  # type: ignore[arg-type]  # every experiment is a dataclass
        return [each for each in of_experiment if isinstance(each.default, int | Path | None)]


def read_results(folder: Path, names: Iterable[str]) -> dict[str, Result]:
    """Read the result files of the named runs; leave out the runs that have no file."""
    found = {name: read_json(folder / f"{name}.json") for name in names}
    return {name: result for name, result in found.items() if result is not None}


def grouped(results: Results, table: Mapping[str, tuple[str, Any]]) -> dict[str, list[Result]]:
    """Group the results by the first item of each run's spec, in the order of the table."""
    groups: dict[str, list[Result]] = {kind: [] for kind, _ in table.values()}
    for name, result in results.items():
        groups[table[name][0]].append(result)
    return {kind: found for kind, found in groups.items() if found}
