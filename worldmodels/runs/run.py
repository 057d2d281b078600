"""A run's folder: the files that each stage reads and writes, and the run's settings.

    runs/a/
      run.json             env, kind of V, preset, seed
      episodes/            the store
      vision/  memory/  controller/
                           one folder per stage: weights, result.json, a PNG, manifest.json
      best.safetensors     the best agent of all rounds, by its real score
      elites/              optional folder of a stage: agents that drive in different ways
      prior/               optional folder of a stage: a prior over the codes of a quantized V
      evaluation/          scores, one file per kind of evaluation
      .vision.partial/     an unfinished stage, which continues from there after a kill
      .lock, .writer.json  the lock of the process that writes into the run, see `run_lock.py`

A stage's folder appears whole, by a rename, or not at all. `create`, `choose_kind`, `begin` and
`write_json` are the only methods of `Run` that write files.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from envs.errors import EnvError
from worldmodels.data.store import EpisodeStore
from worldmodels.errors import UserError
from worldmodels.runs.json_files import read_json, read_object, write_json
from worldmodels.runs.provenance import file_digest, plain
from worldmodels.runs.run_settings import RunSettings
from worldmodels.runs.stage_folder import (
    MANIFEST,
    RESULT,
    StageFolder,
    begin_work,
    damaged_outputs,
    has_file,
    read_file,
)

RUN = "run.json"
BEST = "best.safetensors"
BEST_RECORD = "best.json"  # which agent was compared last, and the score of the best one
STAGES = ("vision", "memory", "controller", "prior", "elites")
WEIGHTS = {stage: f"{stage}.safetensors" for stage in STAGES} | {"controller": "agent.safetensors"}
STAGE_INPUTS = {
    "vision": ("episodes",),
    "memory": ("episodes", "vision"),
    "controller": ("episodes", "vision", "memory"),
    "prior": ("episodes", "vision"),
    "elites": ("vision", "memory"),
}
# The entries that a stage's manifest must hold, and their types.
MANIFEST_TYPES = {
    "round": (int,),
    "config": (dict,),
    "seed": (int,),
    "inputs": (dict,),
    "outputs": (dict,),
    "seconds": (int, float),
}

Cached = TypeVar("Cached")


class Run:
    """The folder of a run; nothing is written before `create` is called.

    Args:
        folder: folder of the run.
        new: settings of a new run, used if the folder holds no run yet.
    """

    def __init__(self, folder: str | Path, new: RunSettings | None = None) -> None:
        self.folder = Path(folder)
        self._new = new
        self._cache: dict[Callable[[], Any], Any] = {}

    def __str__(self) -> str:
        return str(self.folder)

    @property
    def exists(self) -> bool:
        """Whether the folder holds a run."""
        return (self.folder / RUN).is_file()

    @property
    def settings(self) -> RunSettings:
        """The settings of the run; raises UserError if the settings are missing or damaged."""
        hint = (
            "restore it from a copy, or delete it and give --env, --preset and --seed of the run "
            f'to "wm collect --run {self.folder}"'
        )
        content = read_json(self.folder / RUN, hint)
        if content is None and self._new is not None:
            return self._new
        if content is None:
            raise UserError(f'no run in {self.folder}: run "wm collect --run {self.folder}" first')
        try:
            return RunSettings.from_dict(content)
        except (TypeError, ValueError, EnvError) as error:
            raise UserError(
                f"{self.folder / RUN} does not hold the settings of a run ({error}): {hint}"
            ) from error

    def create(self) -> None:
        """Write the settings of a new run; an existing run stays as it is."""
        if self.exists:
            return
        settings = self.settings
        if self.manifest("vision") is not None:  # the settings were lost, V was not
            settings = replace(settings, quantized="quantizer" in self.vision_model)
        self.write_json(RUN, asdict(settings))

    def check_kind(self, quantized: bool) -> None:
        """Raise UserError if the run has a V that does not match `quantized`."""
        if self.has("vision") and self.settings.quantized != quantized:
            kinds = ("continuous", "quantized")
            raise UserError(
                f"{self.folder} holds a {kinds[not quantized]} V, but a {kinds[quantized]} V was "
                f"requested: name another folder with --run, or delete {self.folder / 'vision'}"
            )

    def choose_kind(self, quantized: bool) -> None:
        """Record whether the run's V is quantized; raises UserError as `check_kind` does."""
        self.check_kind(quantized)
        if self.settings.quantized != quantized:
            self.write_json(RUN, asdict(replace(self.settings, quantized=quantized)))

    def cached(self, make: Callable[[], Cached]) -> Cached:
        """The result of `make`, which is called once for all stages of this run in this process."""
        if make not in self._cache:
            self._cache[make] = make()
        value: Cached = self._cache[make]
        return value

    @cached_property
    def store(self) -> EpisodeStore:
        """The run's episodes."""
        return EpisodeStore(self.folder / "episodes")

    def weights(self, stage: str) -> Path:
        """The file of weights that a stage writes for later stages."""
        return self.folder / stage / WEIGHTS[stage]

    def has(self, stage: str) -> bool:
        """Whether the file of weights of a stage exists."""
        return has_file(self.weights(stage))

    def manifest(self, stage: str) -> dict[str, Any] | None:
        """The settings, inputs and outputs of a finished stage; None if the stage never finished.

        Raises: UserError if the manifest is damaged.
        """
        manifest = self._read_stage_json(stage, MANIFEST)
        if manifest is None or stage not in STAGES:
            return manifest
        content = {"outputs": {}, **manifest}  # older manifests have none
        for name, kinds in MANIFEST_TYPES.items():
            if type(content.get(name)) not in kinds:  # not isinstance: true is an int
                raise UserError(
                    f"{self.folder / stage / MANIFEST} is not a valid manifest ({name} is "
                    f"{manifest.get(name)!r}): delete it, and run the stage again"
                )
        return manifest

    def result(self, stage: str) -> dict[str, Any] | None:
        """The figures of a finished stage; None if the stage never finished.

        Raises: UserError if the figures are not those that the stage wrote.
        """
        result = self._read_stage_json(stage, RESULT)
        if result is not None and RESULT in self.damaged(stage):
            raise UserError(
                f"{self.folder / stage / RESULT} has changed since the stage wrote it: run the "
                "stage again"
            )
        return result

    def damaged(self, stage: str) -> list[str]:
        """Files of a finished stage that are missing or have changed since they were written."""
        while (manifest := self.manifest(stage)) is not None:
            find = functools.partial(damaged_outputs, manifest=manifest)
            damaged = read_file(self.folder / stage / MANIFEST, find)
            if not damaged or self.manifest(stage) == manifest:
                return damaged
            # A writer committed meanwhile, so the files did not belong to this manifest.
        return []

    @property
    def round(self) -> int:
        """The newest round in which an episode was collected; 1 before the first episode."""
        # Damaged episodes are ignored here, so that `wm collect` can go on and quarantine them.
        return max((episode.round for episode in self.store.contents.episodes), default=1)

    @property
    def vision_model(self) -> dict[str, Any]:
        """The settings of the run's V; empty if the run has no V."""
        manifest = self.manifest("vision") or {"config": {}}
        model = manifest["config"].get("model")
        return model if isinstance(model, dict) else {}

    @property
    def estimator(self) -> str | None:
        """The estimator that trained the run's V with categorical latents; None for any other V."""
        return self.vision_model.get("estimator")

    @property
    def action_repeat(self) -> int:
        """The number of env steps per agent step in the run's episodes."""
        repeats = {int(episode.meta["action_repeat"]) for episode in self.store}
        if len(repeats) != 1:
            raise UserError(
                f"episodes in {self.store.folder} have the action repeats {sorted(repeats)}, "
                "expected a single action repeat: collect episodes with another action repeat into "
                "another run"
            )
        return repeats.pop()

    def inputs(self, stage: str) -> dict[str, str]:
        """The current digests of the inputs of `stage`."""
        return {name: self._digest(name) for name in STAGE_INPUTS[stage]}

    def stale(self, stage: str) -> list[str]:
        """The inputs of a finished stage that have changed since the stage read them."""
        manifest = self.manifest(stage)
        if manifest is None:
            return []
        now = self.inputs(stage)
        return [name for name, digest in manifest["inputs"].items() if now.get(name) != digest]

    def begin(
        self, stage: str, config: Any, seed: int, round_: int, log: Callable[[str], object] = print
    ) -> StageFolder | None:
        """Open the folder of a stage for work; None if the stage is already done.

        A stage is done if it has finished with this config, seed and round on the present inputs. A
        partial folder of the same work is kept, so that training continues from its checkpoint. A
        partial folder of other work is removed.

        Args:
            log: function that is called with one line of text if the stage is already done, or if
                the stage is damaged and runs again.
        """
        work = {"stage": stage, "round": round_, "config": plain(config), "seed": seed}
        return begin_work(self.folder / stage, {**work, "inputs": self.inputs(stage)}, log)

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file of the run, whole or not at all; a JSON object gets a checksum."""
        write_json(self.folder / name, content, checksum=isinstance(content, dict))

    def read_json(self, name: str) -> Any:
        """The content of a JSON file of the run; None if the file does not exist.

        Raises: UserError if the file is damaged.
        """
        return read_json(self.folder / name)

    def _read_stage_json(self, stage: str, name: str) -> dict[str, Any] | None:
        path, hint = self.folder / stage / name, "delete it, and run the stage again"
        return read_object(path, hint, read=lambda path: read_file(path, Path.read_text))

    def _digest(self, name: str) -> str:
        if name == "episodes":
            return self.store.digest
        return read_file(self.weights(name), file_digest) if self.has(name) else "absent"
