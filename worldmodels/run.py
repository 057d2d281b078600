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

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from envs.config import EnvConfig
from worldmodels.data.store import EpisodeStore
from worldmodels.encoding import Encodings
from worldmodels.errors import UserError
from worldmodels.json_files import read_json, write_json
from worldmodels.pretrained import pretrained_agents
from worldmodels.provenance import file_digest, plain
from worldmodels.stage_folder import StageFolder, begin_work, restore

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
        env_id, env_kwargs, observation_key: the env, see `EnvConfig`.
        quantized: whether V's latents are codes; None until V is trained.
    """

    env_id: str
    preset: str
    seed: int
    quantized: bool | None = None
    env_kwargs: Mapping[str, Any] = field(default_factory=dict)
    observation_key: str | None = None

    @property
    def env(self) -> EnvConfig:
        """The env that is played."""
        return EnvConfig(self.env_id, self.env_kwargs, self.observation_key)


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
        restore(self.folder, stage)
        return self.folder / stage / WEIGHTS[stage]

    def manifest(self, stage: str) -> dict[str, Any] | None:
        """What a finished stage was made from and with; None where it never finished."""
        restore(self.folder, stage)
        return self.read_json(f"{stage}/manifest.json")

    def result(self, stage: str) -> dict[str, Any] | None:
        """The figures of a finished stage."""
        restore(self.folder, stage)
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
        write_json(self.folder / name, facts)

    def read_json(self, name: str) -> Any:
        """A JSON file of the run, None where there is none; UserError where it is damaged."""
        return read_json(self.folder / name)

    def _digest(self, name: str) -> str:
        if name == "episodes":
            return self.store.digest
        path = self.weights(name)
        return file_digest(path) if path.is_file() else "absent"


def agent_file(place: str | Path) -> Path:
    """The file of a run's best agent, or where its newest one is or would be.

    Args:
        place: a run's folder, an agent file, which it gives back, or the name of an agent that
            comes with the package, where nothing else has that name.
    """
    place = Path(place)
    if place.suffix == ".safetensors":
        return place
    if not place.exists() and str(place) in pretrained_agents():
        return pretrained_agents()[str(place)]
    if (place / BEST).is_file():
        return place / BEST
    restore(place, "controller")
    return place / "controller" / WEIGHTS["controller"]
