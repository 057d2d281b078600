"""Compact storage of encoded episodes, M's training data, in memory or in a file.

Each agent step is stored as one record. A record holds V's encoding of the frame before the agent
step, the action, the reward, and a flag for the end of the episode. An episode of D agent steps has
D + 1 records, and the last record holds only the encoding of the frame after the last agent step.
Codes are stored in the smallest integer type that can hold K values, and are converted to int64 in
a batch. Latents stay float32.
"""

import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from worldmodels.data.sequences import SequenceBatch, Sequences, part_slices
from worldmodels.errors import UserError


class RecordsInMemory:
    """Records in memory, with one array per episode; no array is copied."""

    def __init__(self) -> None:
        self._episodes: list[np.ndarray] = []

    def append(self, records: np.ndarray) -> None:
        """Add the records of the next episode."""
        self._episodes.append(records)

    def read(self, episode: int, start: int, count: int) -> np.ndarray:
        """Read `count` records of an episode, beginning with record `start`."""
        return self._episodes[episode][start : start + count]


class RecordsInFile:
    """Records in an unnamed temporary file, which disappears when the process ends.

    Every read copies the records. A memory map would avoid the copies, but the pages of a memory
    map count as memory of the process, up to the size of the file.

    Args:
        folder: the folder of the file. The system's folder for temporary files is not used, because
            the system may keep that folder in memory.
        record_type: the type of one record; see the function `record_type`.
        count: number of records that will be written.

    Raises: UserError if the disk has too little free space.
    """

    def __init__(self, folder: Path, record_type: np.dtype, count: int) -> None:
        num_bytes, free = count * record_type.itemsize, shutil.disk_usage(folder).free
        if num_bytes > free:
            raise UserError(
                f"the encoded episodes for training M need {num_bytes / 1e9:.1f} GB in {folder}, "
                f"but the disk has {free / 1e9:.1f} GB free: make room, or use fewer episodes"
            )
        # The file is unbuffered, so that a read fetches only what it needs. It stays open as long
        # as this object exists, so no `with` block can enclose it.
        self._file = tempfile.TemporaryFile(  # noqa: SIM115
            dir=folder, prefix=".encoded-", buffering=0
        )
        weakref.finalize(self, self._file.close)
        self._type = record_type
        self._offsets = [0]

    def append(self, records: np.ndarray) -> None:
        """Add the records of the next episode."""
        self._file.seek(self._offsets[-1])
        content = np.ascontiguousarray(records).view(np.uint8).data
        while content:  # `tofile` would hide the reason of a disk's error
            content = content[self._file.write(content) :]
        self._offsets.append(self._offsets[-1] + records.nbytes)

    def read(self, episode: int, start: int, count: int) -> np.ndarray:
        """Read `count` records of an episode, beginning with record `start`."""
        self._file.seek(self._offsets[episode] + start * self._type.itemsize)
        records = np.fromfile(self._file, self._type, count)
        assert len(records) == count, "the file holds every record that was appended"
        return records


Records = RecordsInMemory | RecordsInFile
Rows = Int[Tensor, "batch"]


class EncodedEpisodes:
    """Whole episodes that V has encoded, from which batches are cut.

    Args:
        records: the records of every episode.
        record_type: the type of one record; see the function `record_type`.
        lengths: number of agent steps of each episode.
    """

    def __init__(
        self, records: Records, record_type: np.dtype, lengths: Int[Tensor, "episode"]
    ) -> None:
        self._records = records
        self._type = record_type
        self.lengths = lengths
        self._longest = int(lengths.max())

    @classmethod
    def gather(
        cls,
        episodes: Iterable[np.ndarray],
        lengths: Sequence[int],
        folder: Path | None = None,
    ) -> "EncodedEpisodes":
        """Store the records of `episodes`, one episode after another.

        Args:
            lengths: number of agent steps of each episode.
            folder: folder of a temporary file for the records; if `folder` is None, the records
                stay in memory.
        """
        rest = iter(episodes)
        first = next(rest)
        count = sum(lengths) + len(lengths)
        store = RecordsInMemory() if folder is None else RecordsInFile(folder, first.dtype, count)
        for records, length in zip(chain([first], rest), lengths, strict=True):
            assert len(records) == length + 1, "an episode has one record more than agent steps"
            store.append(records)
        return cls(store, first.dtype, torch.tensor(lengths))

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def num_actions(self) -> int:
        """The length A of an encoded action."""
        return int(self._type["action"].shape[0])

    @property
    def num_bytes(self) -> int:
        """Size of all records in bytes."""
        return (int(self.lengths.sum()) + len(self)) * self._type.itemsize

    def windows(self, rows: Rows, starts: Rows, length: int) -> SequenceBatch:
        """For each i, cut `length` agent steps from episode `rows[i]`, beginning at `starts[i]`.

        A sequence is padded with zeros after the end of its episode.
        """
        counts = (self.lengths[rows] - starts).clamp(max=length)
        records = np.zeros((len(rows), length + 1), self._type)
        places = zip(rows.tolist(), starts.tolist(), (counts + 1).tolist(), strict=True)
        for into, (row, start, count) in zip(records, places, strict=True):
            into[:count] = self._records.read(row, start, count)
        # Each field becomes a separate tensor. Codes become int64, because embeddings need it.
        posterior = records["posterior"]
        wide = posterior.dtype if posterior.dtype.kind == "f" else np.dtype(np.int64)
        steps = records[:, :-1]
        return SequenceBatch(
            torch.from_numpy(posterior.astype(wide)),
            torch.from_numpy(steps["action"].copy()),
            torch.from_numpy(steps["reward"].copy()),
            torch.from_numpy(steps["terminated"].copy()),
            torch.arange(length) < counts[:, None],
        )

    def parts(self, max_steps: int) -> Iterator[SequenceBatch]:
        """Yield all episodes in order, as batches of about `max_steps` agent steps."""
        for rows in part_slices(len(self), self._longest, max_steps):
            yield self[rows]

    def __getitem__(self, rows: slice) -> SequenceBatch:
        """Return the chosen whole episodes, padded to the length of the longest stored episode."""
        chosen = torch.arange(*rows.indices(len(self)))
        return self.windows(chosen, torch.zeros_like(chosen), self._longest)

    def whole(self) -> SequenceBatch:
        """Return all episodes in one padded batch, which must fit into memory."""
        return self[slice(None)]

    def single_steps(self) -> Sequences:
        """Return each agent step as a separate episode of length 1."""
        return _SingleSteps(self)


class _SingleSteps(EncodedEpisodes):
    """A view of episodes in which each agent step is a separate episode of length 1."""

    def __init__(self, episodes: EncodedEpisodes) -> None:
        self._episodes = episodes
        self._ends = episodes.lengths.cumsum(0)
        # All lengths are 1, so only one number is stored.
        lengths = torch.ones(1, dtype=torch.int64).expand(int(self._ends[-1]))
        super().__init__(episodes._records, episodes._type, lengths)

    def windows(self, rows: Rows, starts: Rows, length: int) -> SequenceBatch:
        """Return the chosen agent steps; all `starts` must be 0, and `length` must be 1."""
        assert length == 1 and not starts.any(), "each episode has one agent step"
        episode = torch.searchsorted(self._ends, rows, right=True)
        first = self._ends[episode] - self._episodes.lengths[episode]
        return self._episodes.windows(episode, rows - first, 1)


def record_type(posterior_type: np.dtype, width: int, num_actions: int) -> np.dtype:
    """Return the NumPy type of the record of one agent step, with no gaps between the fields."""
    return np.dtype(
        [
            ("action", np.float32, (num_actions,)),
            ("reward", np.float32),
            ("posterior", posterior_type, (width,)),
            ("terminated", np.bool_),
        ]
    )
