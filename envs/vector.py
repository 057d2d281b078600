"""Environments that several processes step together; the number of processes changes no result.

Every process steps its part of the environments with Gymnasium's `SyncVectorEnv`, and writes the
results into arrays that all processes share. Only infos, and calls other than steps, are pickled.
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
    """`num_envs` environments that `num_workers` processes step together.

    The results, including infos, are the same as those of `gymnasium.vector.SyncVectorEnv` in each
    autoreset mode. In mode `NEXT_STEP`, an environment is reset by the step after the end of its
    episode. In mode `SAME_STEP`, an environment is reset by the step that ends its episode. In mode
    `DISABLED`, the caller resets ended environments with `reset(options={"reset_mask": ended})`.

    Unlike `SyncVectorEnv`, this class raises an error if the actions do not have the dtype of the
    action space, or if `step` is called before `reset`.

    Observations and actions have the shape (num_envs, ...) and the dtypes of the environments'
    spaces. Rewards are float64 (num_envs,). Terminated and truncated are bool (num_envs,).

    If an environment raises an exception, this process raises an exception of the same type, with
    the worker's traceback as a note. The vector environment is closed after an exception, after an
    interrupt, and when a worker process has died. Worker processes are spawned, so a script that
    uses this class needs `if __name__ == "__main__":`.

    Raises (every method):
        WorkerDiedError: a worker process ended without an answer.
        gymnasium.error.ClosedEnvironmentError: the vector environment is closed.
    """

    def __init__(
        self,
        env_fns: Sequence[Callable[[], gym.Env[Any, Any]]],
        num_workers: int,
        *,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        copy: bool = True,
    ) -> None:
        """Start the workers, and divide the environments evenly among the workers.

        Args:
            env_fns: functions, each of which makes one environment. The first function is also
                called in this process, to read the spaces.
            num_workers: number of processes, at most one per environment.
            autoreset_mode: when an environment is reset after the end of its episode.
            copy: whether to return copies of the observations. Without copies, observations are
                valid only until the next `step` or `reset`.

        Raises:
            ValueError: `env_fns` is empty, or `num_workers` is less than 1 or more than `num_envs`.
            gymnasium.error.CustomSpaceError: an action or an observation is not a single array.
            RuntimeError: the environments' spaces differ.
            SharedMemoryError: the system has too little memory that processes can share.
        """
        self._workers: list[WorkerProcess] = []
        self._end_workers = weakref.finalize(self, end_processes, self._workers)
        self.num_envs = len(env_fns)
        if not 1 <= num_workers <= self.num_envs:
            raise ValueError(
                "expected num_envs >= 1 and 1 <= num_workers <= num_envs, "
                f"got num_envs={self.num_envs} and num_workers={num_workers}"
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
        """Reset all environments, or those in a mask; return all observations and the infos.

        Args:
            seed: if `seed` is an int, environment i gets the seed `seed + i`. If `seed` is a list,
                environment i gets item i.
            options: options for the environments. The option "reset_mask" is the mask, bool
                (num_envs,), and is not passed to the environments.

        Raises:
            ValueError: the number of seeds is not `num_envs`, the shape of the mask is not
                (num_envs,), or no item of the mask is True.
            TypeError: the mask is not a bool array.
            gymnasium.error.ResetNeeded: the first reset has a mask that leaves environments out.
        """
        if seed is None or isinstance(seed, int):
            seed = [None if seed is None else seed + index for index in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise ValueError(f"expected {self.num_envs} seeds, one per env, got {len(seed)}")
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
        """Step all environments; return observations, rewards, terminated, truncated and infos.

        Raises:
            gymnasium.error.InvalidAction: the actions do not have the shape and the dtype of
                `action_space`.
            gymnasium.error.ResetNeeded: the environments have never been reset. In mode `DISABLED`,
                this error is also raised if an environment was not reset after its episode ended.
        """
        self._check_open()
        if not self._was_reset:
            raise gym.error.ResetNeeded("expected a reset before the first step: call reset()")
        if self.autoreset_mode == AutoresetMode.DISABLED and self._done.any():
            raise gym.error.ResetNeeded(
                "expected a reset of the environments whose episodes have ended, "
                f"{np.flatnonzero(self._done)}, before the next step: "
                'call reset(options={"reset_mask": terminated | truncated})'
            )
        received, ours = np.asarray(actions), self._arrays["actions"]
        if received.shape != ours.shape or received.dtype != ours.dtype:
            raise gym.error.InvalidAction(
                f"expected actions of type {ours.dtype} and shape {ours.shape}, "
                f"got type {received.dtype} and shape {received.shape}"
            )
        ours[...] = received
        infos = self._call(dict.fromkeys(range(len(self._worker_slices))))
        rewards, terminated, truncated = (
            self._arrays[name].copy() for name in ("rewards", "terminated", "truncated")
        )
        self._done = terminated | truncated
        return self._observations(), rewards, terminated, truncated, self._merged(infos)

    def render(self) -> tuple[Any, ...]:
        """Return the results of the environments' `render()`, which are usually pictures."""
        return self.call("render")

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Call method `name`, or read attribute `name`, of each environment; return the results."""
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
        """A copy of each environment's random generator in its present state."""
        return self.get_attr("np_random")

    def set_attr(self, name: str, values: list[Any] | tuple[Any, ...] | Any) -> None:
        """Set the attribute `name` of all environments.

        A list or a tuple contains one value per environment. Any other value is set in every
        environment.

        Raises:
            ValueError: the number of values is not `num_envs`.
        """
        each = values if isinstance(values, list | tuple) else [values] * self.num_envs
        if len(each) != self.num_envs:
            raise ValueError(f"expected {self.num_envs} values, one per env, got {len(each)}")
        self._call(
            {i: ("set_attr", (name, each[s]), {}) for i, s in enumerate(self._worker_slices)}
        )

    def close_extras(self, **kwargs: Any) -> None:
        """End the workers after their current calls; after 5 seconds, kill those that remain."""
        self._end_workers()

    def _describe(self, env_fn: Callable[[], gym.Env[Any, Any]]) -> None:
        """Read the spaces, the metadata and the render mode of one environment."""
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
                f"expected an open vector environment, got {self}, which is closed: "
                "make a new vector environment"
            )

    def _checked_mask(self, mask: Any) -> NDArray[np.bool_]:
        expected = f"expected a reset_mask of bool ({self.num_envs},)"
        if not isinstance(mask, np.ndarray):
            raise TypeError(f"{expected}, got {type(mask)}")
        if mask.shape != (self.num_envs,) or not mask.any():
            raise ValueError(f"{expected} that is True for at least one environment, got {mask}")
        if mask.dtype != np.bool_:
            raise TypeError(f"{expected}, got {mask.dtype}")
        if not (self._was_reset or mask.all()):
            raise gym.error.ResetNeeded(
                "expected a first reset of all environments, got a mask that leaves some out: "
                "call reset()"
            )
        return mask

    def _observations(self) -> NDArray[Any]:
        observations = self._arrays["observations"]
        return observations.copy() if self.copy else observations

    def _merged(self, answers: dict[int, list[IndexedInfo] | None]) -> dict[str, Any]:
        """Merge the infos of all environments into one dict, in the order of the environments."""
        infos: dict[str, Any] = {}
        for worker, pairs in answers.items():
            for index, info in pairs or ():
                infos = self._add_info(infos, info, self._worker_slices[worker].start + index)
        return infos

    def _call(self, calls: Mapping[int, Call | None]) -> dict[int, Any]:
        """Send calls to workers, and return the workers' results; the call None is a step.

        All workers execute their calls at the same time.
        """
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
