"""Store episodes on disk, each in one compressed file that appears whole or not at all.

A file `episode-000042.npz` is written under another name and then renamed, so a store can be read
while one writer adds episodes to it.

A store treats files that are not usable episodes as follows:

- Damaged files: training refuses to start, and prints one line per damaged file. `wm collect` first
  checks the checksums of every file. `wm collect` renames a damaged file to `*.damaged`, logs the
  new name, and plays an episode that replaces the damaged episode.

- Inconsistent files hold whole episodes whose env, action size or frame size differs from that of
  most episodes. Training and `wm collect` refuse to start, and print one line per inconsistent
  file.

- Files of another version of this format, and files that cannot be read at present: every command
  refuses such files and leaves them unchanged.

- Foreign files, which have none of the names described here: `wm collect` and `wm data info` list
  these files and ignore their content.

- Files `.episode-*.partial`, which a killed writer left: the next `wm collect` removes these files.
"""

import hashlib
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from agents.rollout import Rollout
from worldmodels.data.damage import Damage
from worldmodels.data.durable import replacing, sync
from worldmodels.data.episode import (
    Episode,
    PackedEpisode,
    open_episode,
    pack_episode,
    salvaged_metadata,
)
from worldmodels.errors import UserError

QUARANTINED = ".damaged"


def file_name(index: int) -> str:
    """The name of the file of episode `index`."""
    return f"episode-{index:06d}.npz"


def index_from_name(name: str) -> int | None:
    """The index in the name of an episode's file; None if `name` is not such a name."""
    match = re.fullmatch(r"episode-([0-9]{6}|[1-9][0-9]{6,})\.npz", name)
    return int(match[1]) if match else None


@dataclass(frozen=True)
class Contents:
    """The files in a store's folder, by kind."""

    episodes: list[Episode]
    damaged: list[Damage]
    foreign: list[Path]
    partial: list[Path]
    quarantined: list[Path]

    @cached_property
    def inconsistent(self) -> dict[Path, str]:
        """The path of each inconsistent episode, with a text that describes the difference."""
        kinds = [_kind(episode) for episode in self.episodes]
        common = Counter(kinds).most_common(1)[0][0] if kinds else ""
        return {
            episode.path: f"of {kind}, but the others are of {common}"
            for episode, kind in zip(self.episodes, kinds, strict=True)
            if kind != common
        }


class EpisodeStore:
    """The episodes of one run, in the order in which they were collected."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Files opened so far, by a key that changes with the file: opening 10,000 takes seconds.
        self._opened: dict[tuple[str | int, ...], Episode | Damage] = {}

    @cached_property
    def contents(self) -> Contents:
        """All files of the folder, with the metadata of the episodes.

        Raises: UserError if the file of an episode is in another version of this format, or if the
            system cannot read the file.
        """
        found = Contents([], [], [], [], [])
        opened: dict[tuple[str | int, ...], Episode | Damage] = {}
        entries = os.scandir(self.folder) if self.folder.is_dir() else ()
        for entry in sorted(entries, key=lambda entry: entry.name):
            path = Path(entry.path)
            index = index_from_name(entry.name)
            if index is not None:
                stat = entry.stat()
                key = (entry.name, stat.st_size, stat.st_mtime_ns, stat.st_ino)
                item = self._opened.get(key) or open_episode(path, index, stat.st_size)
                opened[key] = item
                if isinstance(item, Episode):
                    found.episodes.append(item)
                else:
                    found.damaged.append(item)
            elif entry.name.endswith(QUARANTINED):
                found.quarantined.append(path)
            elif entry.name.startswith(".episode-") and entry.name.endswith(".partial"):
                found.partial.append(path)
            else:
                found.foreign.append(path)
        self._opened = opened
        found.episodes.sort(key=lambda episode: episode.index)
        return found

    @property
    def episodes(self) -> list[Episode]:
        """All episodes; raises UserError with a line for each damaged or inconsistent file."""
        contents = self.contents
        lines = [str(damage) for damage in contents.damaged]
        lines += [f"{path} is {what}: move it away" for path, what in contents.inconsistent.items()]
        if lines:
            raise UserError("\n".join(lines))
        return contents.episodes

    def refresh(self) -> None:
        """Read the folder again at the next access; unchanged files are not opened again."""
        self.__dict__.pop("contents", None)

    def add(self, index: int, rollout: Rollout, **meta: Any) -> None:
        """Write `rollout` as episode `index`; the file appears whole or not at all."""
        self.put(index, pack_episode(rollout, **meta))

    def put(self, index: int, episode: PackedEpisode) -> None:
        """Write a packed episode; a rename makes the file appear whole or not at all."""
        with replacing(self.folder / file_name(index)) as partial:
            partial.write_bytes(episode.content)
        self.refresh()

    def repair(self, log: Callable[[str], None]) -> None:
        """Quarantine damaged files, remove partial files of killed writers, and log foreign files.

        Checking the checksums of all files takes about a millisecond per episode of 1,000 frames.
        One line is logged for each damaged, partial or foreign file.

        Raises: UserError, as `contents` does; no file is renamed in this case.
        """
        self.refresh()
        contents = self.contents
        corrupt = [damage for episode in contents.episodes if (damage := episode.damage())]
        for path in contents.partial:
            path.unlink(missing_ok=True)
            log(f"{path}: left by a killed collection, removed")
        for path in contents.foreign:
            log(f"{path}: not an episode, ignored")
        for damage in (*contents.damaged, *corrupt):
            quarantined_path = _quarantine_name(damage.path)
            os.replace(damage.path, quarantined_path)
            sync(self.folder)
            log(f"{damage.path}: damaged ({damage.reason}), renamed to {quarantined_path.name}")
        self.refresh()

    def missing(self) -> dict[int, dict[str, Any] | None]:
        """Return the metadata of quarantined episodes that were not replaced, by their indices."""
        present = {episode.index for episode in self.contents.episodes}
        found: dict[int, dict[str, Any] | None] = {}
        for path in self.contents.quarantined:
            match = re.fullmatch(rf"(.+\.npz)(\.\d+)?{re.escape(QUARANTINED)}", path.name)
            index = index_from_name(match[1]) if match else None
            if index is not None and index not in present:
                found[index] = salvaged_metadata(path) or found.get(index)
        return found

    def split(self, held_out: bool) -> list[Episode]:
        """The held-out episodes if `held_out` is true, otherwise the training episodes."""
        return [episode for episode in self.episodes if episode.held_out == held_out]

    @property
    def digest(self) -> str:
        """A hash that changes when any episode is added, removed or altered."""
        text = "\n".join(f"{episode.index} {episode.digest}" for episode in self.episodes)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def require(self, run: Path) -> None:
        """Raise UserError unless the store has training episodes and held-out episodes."""
        if not (self.split(held_out=True) and self.split(held_out=False)):
            raise UserError(
                f"expected at least 2 episodes in {self.folder}, got {len(self.episodes)}: "
                f'run "wm collect --run {run}" first'
            )

    def __iter__(self) -> Iterator[Episode]:
        return iter(self.episodes)

    def __len__(self) -> int:
        return len(self.episodes)


def _kind(episode: Episode) -> str:
    """A text with an episode's env, the env's arguments, and the sizes of actions and frames."""
    chosen = (episode.meta.get(name) for name in ("env_kwargs", "observation_key"))
    words = [f" with {json.dumps(value, sort_keys=True)}" for value in chosen if value]
    env = "".join([episode.meta["env_id"], *words])
    return f"{env} with {episode.action_size} numbers per action and frames {episode.frame_shape}"


def _quarantine_name(path: Path) -> Path:
    """An unused path for a quarantined file, which ends in `.damaged`, `.2.damaged` and so on."""
    names = itertools.chain([""], (f".{number}" for number in itertools.count(2)))
    candidates = (path.with_name(f"{path.name}{name}{QUARANTINED}") for name in names)
    return next(each for each in candidates if not each.exists())
