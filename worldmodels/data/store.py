"""Episodes on disk: one compressed file each, there whole or not at all.

A file `episode-000042.npz` is written under another name and renamed, so a store can be read
while it grows, by one writer at a time.

What a store does about files that are not whole episodes:

- Damaged: training refuses, with one line for each of them. `wm collect` reads every file's
  checksums first, renames a damaged one to `*.damaged`, says so, and plays that episode again.
- Foreign, of any other name: `wm collect` and `wm data info` name them; they are ignored.
- `.episode-*.partial`, left by a writer that was killed: the next `wm collect` removes them.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from agents.rollout import Rollout
from worldmodels.data.episode import (
    Damage,
    Episode,
    PackedEpisode,
    file_name,
    index_in,
    open_episode,
    pack_episode,
)
from worldmodels.errors import UserError

SET_ASIDE = ".damaged"


@dataclass(frozen=True)
class Contents:
    """What lies in a store's folder."""

    episodes: list[Episode]
    damaged: list[Damage]
    foreign: list[Path]
    partial: list[Path]
    set_aside: list[Path]


class EpisodeStore:
    """The episodes of one run, in the order they were collected."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # What was found in a file, by what tells that it changed: opening 10,000 takes seconds.
        self._opened: dict[tuple[str | int, ...], Episode | Damage] = {}

    @cached_property
    def contents(self) -> Contents:
        """Every file of the folder, the episodes' metadata read.

        Raises: UserError for an episode of an earlier version of this format.
        """
        found = Contents([], [], [], [], [])
        opened: dict[tuple[str | int, ...], Episode | Damage] = {}
        entries = os.scandir(self.folder) if self.folder.is_dir() else ()
        for entry in sorted(entries, key=lambda entry: entry.name):
            path = Path(entry.path)
            if index_in(entry.name) is not None:
                stat = entry.stat()
                key = (entry.name, stat.st_size, stat.st_mtime_ns, stat.st_ino)
                item = opened[key] = self._opened.get(key) or open_episode(path, stat.st_size)
                if isinstance(item, Episode):
                    found.episodes.append(item)
                else:
                    found.damaged.append(item)
            elif entry.name.endswith(SET_ASIDE):
                found.set_aside.append(path)
            elif entry.name.startswith(".episode-") and entry.name.endswith(".partial"):
                found.partial.append(path)
            else:
                found.foreign.append(path)
        self._opened = opened
        found.episodes.sort(key=lambda episode: episode.index)
        return found

    @property
    def episodes(self) -> list[Episode]:
        """All episodes; raises UserError with a line for each damaged file."""
        contents = self.contents
        if contents.damaged:
            raise UserError("\n".join(str(damage) for damage in contents.damaged))
        return contents.episodes

    def refresh(self) -> None:
        """Look at the folder again; files that did not change are not opened again."""
        self.__dict__.pop("contents", None)

    def add(self, index: int, rollout: Rollout, **meta: Any) -> None:
        """Write `rollout` as episode `index`; it appears whole or not at all."""
        self.put(index, pack_episode(rollout, **meta))

    def put(self, index: int, episode: PackedEpisode) -> None:
        """Write a packed episode; it appears whole, by a rename, or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / file_name(index)
        partial = path.with_name(f".{path.name}.partial")
        try:
            _write_file(partial, episode.content)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
        self.refresh()

    def mend(self, say: Callable[[str], None]) -> None:
        """Set damaged files aside, remove what killed writers left, name foreign files.

        Reads every file's checksums, about a millisecond an episode of 1,000 frames. Tells
        `say` a line a file.
        """
        self.refresh()
        contents = self.contents
        for path in contents.partial:
            path.unlink(missing_ok=True)
            say(f"{path}: left by a collection that was killed, removed")
        for path in contents.foreign:
            say(f"{path}: not an episode, ignored")
        unsound = [damage for episode in contents.episodes if (damage := episode.damage())]
        for damage in (*contents.damaged, *unsound):
            aside = damage.path.with_name(damage.path.name + SET_ASIDE)
            os.replace(damage.path, aside)
            say(f"{damage.path}: damaged ({damage.reason}), set aside as {aside.name}")
        self.refresh()

    def split(self, held_out: bool) -> list[Episode]:
        """The training episodes, or the held-out ones."""
        return [episode for episode in self.episodes if episode.held_out == held_out]

    @property
    def digest(self) -> str:
        """Changes when any episode is added, removed or altered."""
        text = "\n".join(f"{episode.index} {episode.digest}" for episode in self.episodes)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def require(self, run: Path) -> None:
        """Raise UserError where there is too little to train on and to hold out."""
        if not (self.split(held_out=True) and self.split(held_out=False)):
            raise UserError(
                f"{len(self.episodes)} episodes in {self.folder}, expected 2 or more: "
                f'run "wm collect --run {run}" first'
            )

    def __iter__(self) -> Iterator[Episode]:
        return iter(self.episodes)

    def __len__(self) -> int:
        return len(self.episodes)


def _write_file(path: Path, content: bytes) -> None:
    path.write_bytes(content)
