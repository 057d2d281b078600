"""The folder of a run, which holds the settings of the run and the files of all stages.

    runs/a/
      run.json             env, kind of V, preset, seed
      episodes/            the store
      vision/  memory/  controller/
                           one folder per stage: weights, result.json, a PNG, manifest.json
      best.safetensors     the agent with the best real score of all rounds
      elites/              folder of an optional stage: agents that drive in different ways
      prior/               folder of an optional stage: a prior over the codes of a quantized V
      evaluation/          scores, one file per kind of evaluation
      .vision.partial/     an unfinished stage, which continues from this folder after a kill
      .lock, .writer.json  the lock of the process that writes into the run, see `run_lock.py`

A stage writes into a partial folder, which is renamed when the stage is complete. `create`,
`choose_kind`, `begin` and `write_json` are the only methods of `Run` that write files.
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
BEST_RECORD = "best.json"  # the agent that was compared last, and the score of the best agent
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
        new: settings of a new run, which are used if the folder holds no run yet.
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
            f'restore it from a copy, or delete it and run "wm collect --run {self.folder}" with '
            "the --env, --preset and --seed of the run"
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
        """Return the result of `make`, which is called only once per `Run` object.

        All stages thus share one result.
        """
        if make not in self._cache:
            self._cache[make] = make()
        value: Cached = self._cache[make]
        return value

    @cached_property
    def store(self) -> EpisodeStore:
        """The run's episodes."""
        return EpisodeStore(self.folder / "episodes")

    def weights(self, stage: str) -> Path:
        """Return the path of the weights that a stage writes for later stages."""
        return self.folder / stage / WEIGHTS[stage]

    def has(self, stage: str) -> bool:
        """Return whether the file with the weights of a stage exists."""
        return has_file(self.weights(stage))

    def manifest(self, stage: str) -> dict[str, Any] | None:
        """Return the manifest of a finished stage, or None if the stage never finished.

        A manifest holds the settings of the stage, and the digests of the inputs and outputs.

        Raises: UserError if the manifest is damaged.
        """
        manifest = self._read_stage_json(stage, MANIFEST)
        if manifest is None or stage not in STAGES:
            return manifest
        content = {"outputs": {}, **manifest}  # older manifests have no outputs
        for name, kinds in MANIFEST_TYPES.items():
            if type(content.get(name)) not in kinds:  # not isinstance: true is an int
                raise UserError(
                    f"{self.folder / stage / MANIFEST} is not a valid manifest ({name} is "
                    f"{manifest.get(name)!r}): delete it, and run the stage again"
                )
        return manifest

    def result(self, stage: str) -> dict[str, Any] | None:
        """Return the result of a finished stage, or None if the stage never finished.

        Raises: UserError if result.json has changed since the stage wrote this file.
        """
        result = self._read_stage_json(stage, RESULT)
        if result is not None and RESULT in self.damaged(stage):
            raise UserError(
                f"{self.folder / stage / RESULT} has changed since the stage wrote it: run the "
                "stage again"
            )
        return result

    def damaged(self, stage: str) -> list[str]:
        """Return the files that are missing or have changed since the stage finished."""
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
        """The settings of the run's V; an empty dict if the run has no V."""
        manifest = self.manifest("vision") or {"config": {}}
        model = manifest["config"].get("model")
        return model if isinstance(model, dict) else {}

    @property
    def estimator(self) -> str | None:
        """The gradient estimator of the run's V; None unless V has categorical latents."""
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
        """Return the present digests of the inputs of `stage`."""
        return {name: self._digest(name) for name in STAGE_INPUTS[stage]}

    def stale(self, stage: str) -> list[str]:
        """Return the inputs of a finished stage that have changed since the stage read them."""
        manifest = self.manifest(stage)
        if manifest is None:
            return []
        now = self.inputs(stage)
        return [name for name, digest in manifest["inputs"].items() if now.get(name) != digest]

    def begin(
        self, stage: str, config: Any, seed: int, round_: int, log: Callable[[str], object] = print
    ) -> StageFolder | None:
        """Open a partial folder for a stage; return None if the stage is already done.

        A stage is done if it has finished with this config, seed and round on the present inputs. A
        partial folder with the same config, seed, round and inputs is kept, so that the stage
        continues from the checkpoint in this folder. Any other partial folder of the stage is
        removed.

        Args:
            log: function that is called with one line of text if the stage is already done, or if a
                finished stage is run again.
        """
        work = {"stage": stage, "round": round_, "config": plain(config), "seed": seed}
        return begin_work(self.folder / stage, {**work, "inputs": self.inputs(stage)}, log)

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file of the run, completely or not at all; a dict gets a checksum."""
        write_json(self.folder / name, content, checksum=isinstance(content, dict))

    def read_json(self, name: str) -> Any:
        """Return the content of a JSON file of the run, or None if the file does not exist.

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
