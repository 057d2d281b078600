"""A run's folder: where each stage reads and writes, and what it says of itself.

    runs/a/
      run.json             env, kind of V, preset, seed
      episodes/            the store
      vision/  memory/  controller/
                           one folder a stage: weights, result.json, a PNG, manifest.json
      best.safetensors     the best agent of all rounds, by its real score
      elites/              the same, of agents that drive each in its own way, where asked for
      prior/               the same, of a run with codes, where it was asked for
      evaluation/          scores, one file for each way of measuring
      .vision.partial/     a stage under way; killed, it goes on from there

A stage's folder appears whole, by a rename, or not at all; what stood there before stays until
then.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from worldmodels.data.store import EpisodeStore
from worldmodels.encoding import Encodings
from worldmodels.errors import UserError

BEST = "best.safetensors"
STAGES = ("vision", "memory", "controller", "prior", "elites")
WEIGHTS = {
    "vision": "vision.safetensors",
    "memory": "memory.safetensors",
    "controller": "agent.safetensors",
    "prior": "prior.safetensors",
    "elites": "elites.safetensors",
}
READS = {
    "vision": ("episodes",),
    "memory": ("episodes", "vision"),
    "controller": ("vision", "memory"),
    "prior": ("episodes", "vision"),
    "elites": ("vision", "memory"),
}


@dataclass(frozen=True)
class RunSettings:
    """What all stages of a run share, fixed when the run is made.

    Attributes:
        quantized: whether V's latents are codes; None until V is trained.
    """

    env_id: str
    preset: str
    seed: int
    quantized: bool | None = None


class Run:
    """One folder of work; nothing is created before `create`.

    Args:
        new: settings to make the run with, where there is none in the folder yet.
    """

    def __init__(self, folder: str | Path, new: RunSettings | None = None) -> None:
        self.folder = Path(folder)
        self._new = new

    def __str__(self) -> str:
        return str(self.folder)

    @property
    def exists(self) -> bool:
        """Whether a run was made here."""
        return (self.folder / "run.json").is_file()

    @property
    def settings(self) -> RunSettings:
        """What the run was made with; raises UserError where there is none or it is damaged."""
        facts = self.read_json("run.json")
        if facts is None and self._new is not None:
            return self._new
        if facts is None:
            raise UserError(f'no run in {self.folder}: run "wm collect --run {self.folder}" first')
        try:
            return RunSettings(**facts)
        except TypeError as error:
            raise UserError(f"{self.folder / 'run.json'} is no run's settings ({error})") from error

    def create(self) -> None:
        """Write the settings of a new run; a run that is there stays as it is."""
        if not self.exists:
            self.write_json("run.json", asdict(self.settings))

    def check_kind(self, quantized: bool) -> None:
        """Raise UserError where the run holds a V of the other kind."""
        if self.weights("vision").exists() and self.settings.quantized != quantized:
            holds, asked = ("continuous", "quantized") if quantized else ("quantized", "continuous")
            raise UserError(
                f"{self.folder} holds a {holds} V, asked was a {asked} one: "
                "name another folder with --run"
            )

    def choose_kind(self, quantized: bool) -> None:
        """Note which kind of V the run is for; raises UserError where it holds the other."""
        self.check_kind(quantized)
        if self.settings.quantized != quantized:
            self.write_json("run.json", asdict(replace(self.settings, quantized=quantized)))

    @cached_property
    def encodings(self) -> Encodings:
        """What V made of the run's episodes, while this process lasts."""
        return Encodings()

    @cached_property
    def store(self) -> EpisodeStore:
        """The run's episodes."""
        return EpisodeStore(self.folder / "episodes")

    def weights(self, stage: str) -> Path:
        """The file a stage leaves for those after it."""
        _restore(self.folder, stage)
        return self.folder / stage / WEIGHTS[stage]

    def manifest(self, stage: str) -> dict[str, Any] | None:
        """What a finished stage was made from and with; None where it never finished."""
        _restore(self.folder, stage)
        return self.read_json(f"{stage}/manifest.json")

    def result(self, stage: str) -> dict[str, Any] | None:
        """The figures of a finished stage."""
        _restore(self.folder, stage)
        return self.read_json(f"{stage}/result.json")

    @property
    def round(self) -> int:
        """The newest round any episode was collected in; 1 before any."""
        # Of the whole ones: collecting must get as far as setting damaged ones aside.
        return max((episode.round for episode in self.store.contents.episodes), default=1)

    @property
    def estimator(self) -> str | None:
        """How the run's V with categorical latents was trained; None for every other V."""
        manifest = self.manifest("vision")
        return None if manifest is None else manifest["config"]["model"].get("estimator")

    @property
    def action_repeat(self) -> int:
        """Env steps a decision lasted when the episodes were collected."""
        repeats = {int(episode.meta["action_repeat"]) for episode in self.store}
        if len(repeats) != 1:
            raise UserError(
                f"episodes in {self.store.folder} hold actions for {sorted(repeats)} env steps, "
                "expected one number: collect them into a run of their own"
            )
        return repeats.pop()

    def inputs(self, stage: str) -> dict[str, str]:
        """Digests of what `stage` reads, as they are now."""
        return {name: self._digest(name) for name in READS[stage]}

    def stale(self, stage: str) -> list[str]:
        """Which inputs of a finished stage have changed since it read them."""
        manifest = self.manifest(stage)
        if manifest is None:
            return []
        now = self.inputs(stage)
        return [name for name, digest in manifest["inputs"].items() if now.get(name) != digest]

    def begin(self, stage: str, config: Any, seed: int, round_: int) -> StageFolder | None:
        """Open `stage` for work, or None where it is done with just this config and input.

        A partial folder of the same work is kept, so that training goes on from its checkpoint;
        one of other work is removed.
        """
        work = {
            "stage": stage,
            "round": round_,
            "config": plain(config),
            "seed": seed,
            "inputs": self.inputs(stage),
        }
        return begin_work(self.folder / stage, work)

    def write_json(self, name: str, facts: Any) -> None:
        """Write a JSON file of the run, whole or not at all."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        try:
            partial.write_text(json.dumps(facts, indent=2) + "\n")
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)

    def read_json(self, name: str) -> Any:
        """A JSON file of the run, None where there is none; UserError where it is damaged."""
        path = self.folder / name
        if not path.is_file():
            return None
        try:
            return json.loads(path.read_text())
        except ValueError as error:
            raise UserError(f"{path} is not readable JSON ({error}): delete it") from error

    def _digest(self, name: str) -> str:
        if name == "episodes":
            return self.store.digest
        path = self.weights(name)
        return file_digest(path) if path.is_file() else "absent"


@dataclass(frozen=True)
class StageFolder:
    """A stage under way: write into `partial`, then `commit`."""

    partial: Path
    final: Path
    work: dict[str, Any]

    def commit(self, result: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Add result and manifest and put the folder in place of the old one."""
        manifest = {
            **self.work,
            "seconds": round(seconds, 2),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "versions": versions(),
        }
        facts = {"result.json": dict(result), "manifest.json": manifest}
        for name, content in facts.items():
            (self.partial / name).write_text(json.dumps(content, indent=2) + "\n")
        old = _old(self.final.parent, self.final.name)
        if self.final.exists():
            os.replace(self.final, old)
        os.replace(self.partial, self.final)
        # Only now: a kill before would have cost the checkpoint.
        for name in ("resume.safetensors", "search.safetensors", "work.json"):
            (self.final / name).unlink(missing_ok=True)
        shutil.rmtree(old, ignore_errors=True)
        return dict(result)


def begin_work(final: Path, work: dict[str, Any]) -> StageFolder | None:
    """Open a folder for `work`, what a result depends on; None where it is there and of this work.

    A partial folder of the same work is kept, so that it goes on from its checkpoint; one of other
    work is removed.
    """
    parent, name = Run(final.parent), final.name
    _restore(final.parent, name)
    manifest = parent.read_json(f"{name}/manifest.json")
    if manifest is not None and all(manifest.get(key) == value for key, value in work.items()):
        return None
    partial = final.parent / f".{name}.partial"
    if parent.read_json(f".{name}.partial/work.json") != work:
        shutil.rmtree(partial, ignore_errors=True)
        parent.write_json(f".{name}.partial/work.json", work)
    return StageFolder(partial, final, work)


def agent_file(place: str | Path) -> Path:
    """The file of a run's best agent, or where its newest one is or would be.

    Args:
        place: a run's folder, or an agent file, which it gives back.
    """
    place = Path(place)
    if place.suffix == ".safetensors":
        return place
    if (place / BEST).is_file():
        return place / BEST
    _restore(place, "controller")
    return place / "controller" / WEIGHTS["controller"]


def file_digest(path: Path) -> str:
    """The first 16 hex digits of a file's SHA-256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def versions() -> dict[str, str]:
    """Versions that results depend on."""
    from importlib.metadata import version

    names = ("worldmodels", "torch", "numpy", "gymnasium", "cma", "vector-quantize-pytorch")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def _old(folder: Path, stage: str) -> Path:
    return folder / f".{stage}.old"


def _restore(folder: Path, stage: str) -> None:
    """After a kill between the two renames of a commit, the old folder is the one that counts."""
    old = _old(folder, stage)
    if old.exists():
        if (folder / stage).exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(old, folder / stage)


def plain(config: Any) -> Any:
    """A config as JSON gives it back, so that it compares equal after a round trip."""
    if is_dataclass(config) and not isinstance(config, type):
        return {field.name: plain(getattr(config, field.name)) for field in fields(config)}
    return json.loads(json.dumps(config))
