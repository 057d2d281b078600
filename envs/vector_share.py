"""One worker's part of a vector environment, and the arrays that all workers share."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from numpy.typing import NDArray

from envs.processes import SPAWN

# The results of a step, in order; the last result, infos, is not an array.
_RESULTS = ("observations", "rewards", "terminated", "truncated")
# An environment's number within its worker, and its info.
IndexedInfo = tuple[int, dict[str, Any]]


class SharedMemoryError(RuntimeError):
    """The memory that processes can share is full or not writable."""


class SharedArrays:
    """Arrays for the actions and the results of one step, in memory that processes share.

    The memory has no name: on POSIX systems, it is a file that is already unlinked. The system
    therefore frees the memory when the last process that uses the memory ends, even if all
    processes are killed. A process receives the shared arrays as an argument when the process
    starts.
    """

    def __init__(
        self, action_space: spaces.Space[Any], observation_space: spaces.Space[Any], num_envs: int
    ) -> None:
        """Allocate arrays of zeros for two batched spaces. Samples of both spaces must be arrays.

        Raises:
            SharedMemoryError: there is not enough shared memory.
        """
        results = {"rewards": np.float64, "terminated": np.bool_, "truncated": np.bool_}
        self._layout = np.dtype(
            [
                ("actions", action_space.dtype, action_space.shape),
                ("observations", observation_space.dtype, observation_space.shape),
                *((name, dtype, (num_envs,)) for name, dtype in results.items()),
            ],
            align=True,
        )
        try:
            self._memory: Any = SPAWN.RawArray(ctypes.c_byte, self._layout.itemsize)
        except OSError as error:
            raise SharedMemoryError(
                f"no shared memory (/dev/shm) for {self._layout.itemsize:,} bytes, "
                f"{error.strerror}: free space in /dev/shm, or step the environments in this "
                "process (--workers 1)"
            ) from error

    def views(self, rows: slice = slice(None)) -> dict[str, NDArray[Any]]:
        """Return a dict that maps the name of each array to a view of the array's `rows`."""
        record = np.frombuffer(self._memory, self._layout)
        return {name: record[name][0, rows] for name in self._layout.names or ()}


class WorkerVectorEnv(SyncVectorEnv):
    """A `SyncVectorEnv` of one worker's environments that writes results to shared arrays.

    `rows` are the worker's rows of the shared arrays.
    """

    def __init__(
        self,
        env_fns: Sequence[Callable[[], gym.Env[Any, Any]]],
        autoreset_mode: AutoresetMode,
        single_spaces: tuple[spaces.Space[Any], spaces.Space[Any]],
        shared: SharedArrays,
        rows: slice,
    ) -> None:
        """Make the environments.

        Raises:
            RuntimeError: the environments' (action, observation) spaces are not `single_spaces`.
        """
        super().__init__(env_fns, copy=False, autoreset_mode=autoreset_mode)
        ours = (self.single_action_space, self.single_observation_space)
        if ours != single_spaces:
            self.close()
            raise RuntimeError(f"expected environments with the spaces {single_spaces}, got {ours}")
        self._shared = shared.views(rows)

    def reset_shared(
        self, seed: Sequence[int | None], options: dict[str, Any] | None
    ) -> list[IndexedInfo] | None:
        """Reset environments, write observations to shared memory, and return unmerged infos."""
        self._shared["observations"][...], infos = self.reset(seed=list(seed), options=options)
        return infos.get("unmerged")

    def __call__(self) -> list[IndexedInfo] | None:
        """Step with the shared actions, and write all resulting arrays to shared memory."""
        # A copy: an environment may keep its action, and the next one would overwrite it.
        *results, infos = self.step(self._shared["actions"].copy())
        for name, result in zip(_RESULTS, results, strict=True):
            self._shared[name][...] = result
        return infos.get("unmerged")

    def _add_info(
        self, vector_infos: dict[str, Any], env_info: dict[str, Any], env_num: int
    ) -> dict[str, Any]:
        """Collect the infos in a list. Gymnasium's method would merge the infos into a dict.

        A worker cannot merge infos, because the type of a merged array depends on the first value
        of the whole batch. The first value may belong to another worker.
        """
        if env_info:
            vector_infos.setdefault("unmerged", []).append((env_num, env_info))
        return vector_infos
