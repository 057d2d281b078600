"""Environments in lockstep over several processes, with the same result for any number of them.

Every process runs Gymnasium's `SyncVectorEnv` of its part of the environments, and writes into
arrays that all processes share; only infos and rare calls are pickled.
"""

from __future__ import annotations

import contextlib
import itertools
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import CloudpickleWrapper, batch_space
from numpy.typing import NDArray

from envs.processes import Call, WorkerProcess, end_processes, start_processes
from envs.vector_share import IndexedInfo, SharedArrays, WorkerVectorEnv


class ProcessVectorEnv(VectorEnv[NDArray[Any], NDArray[Any], NDArray[Any]]):
    """`num_envs` environments, stepped together by `num_workers` processes.

    It returns the same as `gymnasium.vector.SyncVectorEnv`, including infos, in each of its
    autoreset modes: an ended environment is reset by the next step (`NEXT_STEP`), by the step that
    ended it (`SAME_STEP`), or by the client, with `reset(options={"reset_mask": ended})`
    (`DISABLED`).

    It is stricter: it refuses actions of another dtype than the space's, and a step before reset.

    Shapes: observations and actions (num_envs, ...) in the environments' own types, rewards
    float64 (num_envs,), terminated and truncated bool (num_envs,).

    An exception in an environment is raised here in its own type, with the worker's traceback as a
    note. The vector environment is closed after an exception, an interrupt or a worker's death.
    Processes are spawned, so that a script needs its `if __name__ == "__main__":`.

    Raises (every method):
        WorkerDiedError: a worker process ended without an answer.
        SharedMemoryError: there is no memory that processes can share.
        gymnasium.error.ClosedEnvironmentError: used after it was closed.
    """

    def __init__(
        self,
        env_fns: Sequence[Callable[[], gym.Env[Any, Any]]],
        num_workers: int,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        copy: bool = True,
    ) -> None:
        """Start the workers, whose numbers of environments differ by at most one.

        Args:
            env_fns: one factory per environment; the first is called in this process too, to get
                the spaces.
            num_workers: number of processes, at most one per environment.
            autoreset_mode: what resets an environment after its episode's end.
            copy: False returns the shared memory itself as observations, which are valid until the
                next `step` or `reset`.

        Raises:
            ValueError: no environments, or fewer than 1 or more than `num_envs` workers.
            gymnasium.error.CustomSpaceError: actions or observations are not single arrays.
            RuntimeError: the environments' spaces differ.
        """
        self._workers: list[WorkerProcess] = []
        self._end_workers = weakref.finalize(self, end_processes, self._workers)
        self.num_envs = len(env_fns)
        if not 1 <= num_workers <= self.num_envs:
            raise ValueError(
                "expected 1 environment or more, and 1 to as many workers, "
                f"got {self.num_envs} and {num_workers}"
            )
        self.copy = copy
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self._describe(env_fns[0])
        self._was_reset = False
        self._done = np.zeros(self.num_envs, dtype=np.bool_)
        bounds = [self.num_envs * worker // num_workers for worker in range(num_workers + 1)]
        self._worker_slices = [slice(*pair) for pair in itertools.pairwise(bounds)]
        shared = SharedArrays(self.action_space, self.observation_space, self.num_envs)
        self._arrays = shared.views()
        single_spaces = (self.single_action_space, self.single_observation_space)
        factories = [CloudpickleWrapper(env_fn) for env_fn in env_fns]  # pickles lambdas, too
        arguments = [
            (factories[rows], self.autoreset_mode, single_spaces, shared, rows)
            for rows in self._worker_slices
        ]
        with self._closed_by_exceptions():
            start_processes(self._workers, WorkerVectorEnv, arguments)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        """Reset all environments, or those in a mask, and return observations and infos.

        Args:
            seed: environment i gets `seed + i`, or item i of a list.
            options: passed to the environments, except for "reset_mask", the mask, bool
                (num_envs,).

        Raises:
            ValueError: not `num_envs` seeds; not `num_envs` items in the mask, or none True.
            TypeError: the mask is no bool array.
            gymnasium.error.ResetNeeded: the first reset leaves environments out.
        """
        if seed is None or isinstance(seed, int):
            seed = [None if seed is None else seed + index for index in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(f"expected {self.num_envs} seeds, got {len(seed)}")
        mask = np.ones(self.num_envs, dtype=np.bool_)
        if options is not None and "reset_mask" in options:
            mask = self._checked_mask(options["reset_mask"])
        calls: dict[int, Call | None] = {}
        for worker, rows in enumerate(self._worker_slices):
            share = options
            if options is not None and "reset_mask" in options:
                share = {**options, "reset_mask": mask[rows]}
            if mask[rows].any():
                calls[worker] = ("reset_shared", (seed[rows], share), {})
        infos = self._call(calls)
        self._was_reset = True
        self._done[mask] = False
        return self._observations(), self._merged(infos)

    def step(
        self, actions: Any
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any], dict[str, Any]]:
        """Step all environments, and return the five results of a step.

        Raises:
            gymnasium.error.InvalidAction: the actions' shape or dtype is not the space's.
            gymnasium.error.ResetNeeded: before the first reset; in mode `DISABLED`, before
                ended environments are reset.
        """
        self._check_open()
        if not self._was_reset:
            raise gym.error.ResetNeeded("expected a reset before the first step: call reset()")
        if self.autoreset_mode == AutoresetMode.DISABLED and self._done.any():
            raise gym.error.ResetNeeded(
                f"expected no ended episodes, got them in {np.flatnonzero(self._done)}: "
                'call reset(options={"reset_mask": terminated | truncated})'
            )
        received, ours = np.asarray(actions), self._arrays["actions"]
        if received.shape != ours.shape or received.dtype != ours.dtype:
            raise gym.error.InvalidAction(
                f"expected actions {ours.dtype} {ours.shape}, got {received.dtype} {received.shape}"
            )
        ours[...] = received
        infos = self._call(dict.fromkeys(range(len(self._worker_slices))))
        rewards, terminated, truncated = (
            self._arrays[name].copy() for name in ("rewards", "terminated", "truncated")
        )
        self._done = terminated | truncated
        return self._observations(), rewards, terminated, truncated, self._merged(infos)

    def render(self) -> tuple[Any, ...]:
        """Return one picture per environment, or whatever else its `render()` returns."""
        return self.call("render")

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Return what each environment's method `name` returns, or its attribute of that name."""
        each: Call = ("call", (name, *args), kwargs)
        answers = self._call(dict.fromkeys(range(len(self._worker_slices)), each))
        return tuple(result for results in answers.values() for result in results)

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """Return each environment's attribute `name`."""
        return self.call(name)

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """Each environment's seed."""
        return self.get_attr("np_random_seed")

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """Copies of each environment's generator as it is now."""
        return self.get_attr("np_random")

    def set_attr(self, name: str, values: list[Any] | tuple[Any, ...] | Any) -> None:
        """Set attribute `name` to one value for all, or to a list or tuple of one value each.

        Raises:
            ValueError: not `num_envs` values.
        """
        each = values if isinstance(values, list | tuple) else [values] * self.num_envs
        if len(each) != self.num_envs:
            raise ValueError(f"expected {self.num_envs} values, got {len(each)}")
        self._call(
            {i: ("set_attr", (name, each[s]), {}) for i, s in enumerate(self._worker_slices)}
        )

    def close_extras(self, **kwargs: Any) -> None:
        """End the workers, after their current calls or by force if these take seconds."""
        self._end_workers()

    def _describe(self, env_fn: Callable[[], gym.Env[Any, Any]]) -> None:
        """Take spaces, metadata and render mode from one environment."""
        with env_fn() as env:
            self.metadata = {**env.metadata, "autoreset_mode": self.autoreset_mode}
            self.render_mode = env.render_mode
            self.single_action_space = env.action_space
            self.single_observation_space = env.observation_space
        arrays = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
        for space in (self.single_action_space, self.single_observation_space):
            if not isinstance(space, arrays):
                raise gym.error.CustomSpaceError(
                    f"expected a Box, Discrete, MultiDiscrete or MultiBinary space, got {space}: "
                    "use gymnasium.vector.SyncVectorEnv"
                )
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)

    def _check_open(self) -> None:
        if self.closed:
            raise gym.error.ClosedEnvironmentError(
                f"expected an open vector environment, got {self} after close() or an error"
            )

    def _checked_mask(self, mask: Any) -> NDArray[np.bool_]:
        expected = f"expected a reset_mask of bool ({self.num_envs},)"
        if not isinstance(mask, np.ndarray):
            raise TypeError(f"{expected}, got {type(mask)}")
        if mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(f"{expected} with at least one True, got {mask}")
        if mask.dtype != np.bool_:
            raise TypeError(f"{expected}, got {mask.dtype}")
        if not (self._was_reset or mask.all()):
            raise gym.error.ResetNeeded("expected a first reset without a mask: call reset()")
        return mask

    def _observations(self) -> NDArray[Any]:
        observations = self._arrays["observations"]
        return observations.copy() if self.copy else observations

    def _merged(self, answers: dict[int, list[IndexedInfo] | None]) -> dict[str, Any]:
        """Merge infos into one dict as Gymnasium does, in the order of a single process."""
        infos: dict[str, Any] = {}
        for worker, pairs in answers.items():
            for index, info in pairs or ():
                infos = self._add_info(infos, info, self._worker_slices[worker].start + index)
        return infos

    def _call(self, calls: Mapping[int, Call | None]) -> dict[int, Any]:
        """Return each worker's result of its call; None is a step. All workers work at once."""
        self._check_open()
        with self._closed_by_exceptions():
            for index, each in calls.items():
                self._workers[index].send(each)
            return {index: self._workers[index].receive() for index in calls}

    @contextlib.contextmanager
    def _closed_by_exceptions(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            # A late answer would be taken for the answer to the next call. Moreover, a worker's
            # current call may take long, and Ctrl-C must not wait for it.
            end_processes(self._workers, immediately=True)
            self.close()
            raise
