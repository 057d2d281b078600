"""The settings of a whole run."""

from dataclasses import dataclass, replace
from typing import Any, TypeVar

from envs.config import EnvConfig
from envs.tasks import task_for
from worldmodels.errors import UserError
from worldmodels.memory.training import MemoryStageConfig
from worldmodels.stages.collect import CollectConfig
from worldmodels.stages.train_controller import ControllerStageConfig
from worldmodels.stages.train_vision import VisionStageConfig
from worldmodels.vision import CategoricalVAEConfig

Config = TypeVar("Config")

# The action repeat for which presets give their numbers of env steps: that of CarRacing.
REFERENCE_REPEAT = 4
ERROR_WEIGHTS = ("by_variance", "background_weight", "rare_weight")


@dataclass(frozen=True)
class Preset:
    """Settings of every stage.

    Attributes:
        rounds: number of rounds. Each round collects episodes, trains V and M, and searches C.
        vision_rounds: number of rounds after which V is not trained any more, so that V's latents
            keep their meaning. If `vision_rounds` is None, V is trained in every round.
        collect: settings with which the first round collects episodes. `collect.env_steps` is the
            number of env steps of the first round, including the evaluations that select the best
            agent.
        later_env_steps: number of env steps of each later round, including the evaluations that
            select the best agent.
        vae, vqvae: settings of the training of a continuous V and of a quantized V.
        dream_search, real_search: settings of the search of C in the dream and in the real game.
        search_in_dream: whether each round searches C in the dream, or else in the real game.
        finetune: settings of a further search of C after the last round. The search begins with the
            best agent of the run. None stands for no further search.
        evaluation_episodes: number of validation episodes that evaluate the agent at the end of a
            run.
    """

    name: str
    rounds: int
    collect: CollectConfig
    later_env_steps: int
    vae: VisionStageConfig
    vqvae: VisionStageConfig
    memory: MemoryStageConfig
    dream_search: ControllerStageConfig
    real_search: ControllerStageConfig
    search_in_dream: bool
    evaluation_episodes: int
    vision_rounds: int | None = None
    finetune: ControllerStageConfig | None = None

    @property
    def controller(self) -> ControllerStageConfig:
        """The settings of the search of C: `dream_search` or, without a dream, `real_search`."""
        return self.dream_search if self.search_in_dream else self.real_search

    def searching(self, *, dream: bool) -> "Preset":
        """Return this preset with a search of C only in the dream, or only in the real game."""
        return replace(self, search_in_dream=dream, finetune=None)

    def env_steps(self, round_: int) -> int:
        """Return the largest number of env steps that a run takes until the end of a round.

        Env steps of evaluations that only report a score, and of searches in the real game, do not
        count.
        """
        first = self.collect.env_steps
        assert first is not None, "presets count env steps"
        return first + (round_ - 1) * self.later_env_steps

    def for_env(self, env: EnvConfig) -> "Preset":
        """Return this preset for an env, with the same numbers of agent steps as in CarRacing.

        Numbers of env steps are multiplied by the env's action repeat and divided by 4. A preset
        with an action repeat of its own is unchanged.
        """
        if self.collect.action_repeat is not None or self.collect.env_steps is None:
            return self
        scale = task_for(env).action_repeat / REFERENCE_REPEAT
        collect = replace(self.collect, env_steps=round(scale * self.collect.env_steps))
        later = round(scale * self.later_env_steps)
        return replace(self, collect=collect, later_env_steps=later)

    def with_env_steps(self, total: int | None, rounds: int) -> "Preset":
        """Return this preset, scaled to `total` env steps in `rounds` rounds, without `finetune`.

        If `total` is None, the preset is unchanged.

        Raises: UserError if `total` is below 1, or if the preset searches C in the real game.
        """
        if total is None:
            return self
        if total < 1:
            raise UserError(f"expected at least 1 env step, got --env-steps {total}")
        if not self.search_in_dream:
            raise UserError(
                "--env-steps is for runs that search C in the dream, and this run searches C in "
                "the real game: leave out --env-steps, or add --dream"
            )
        scale = total / self.env_steps(rounds)
        first, later = (int(scale * steps) for steps in (self.env_steps(1), self.later_env_steps))
        collect = replace(self.collect, env_steps=max(1, first))
        return replace(self, collect=collect, later_env_steps=later, finetune=None)

    def vision(self, quantized: bool, estimator: str | None = None) -> VisionStageConfig:
        """Return the training settings of a V of the requested kind.

        Args:
            estimator: for a V with categorical latents, the estimator of the encoder's gradient.
                None stands for a V with the quantizer of the preset. In a run whose V has
                categorical latents, `Run.estimator` is the estimator of this V.

        Raises: UserError if an estimator is given for a continuous V.
        """
        if estimator is None:
            return self.vqvae if quantized else self.vae
        if not quantized:
            raise UserError(f"--estimator {estimator} is only for a V with codes: add --quantized")
        weights = {name: getattr(self.vqvae.model, name) for name in ERROR_WEIGHTS}
        model = CategoricalVAEConfig(estimator=estimator, **weights)
        return replace(self.vqvae, model=model)


def override(config: Config, **settings: Any) -> Config:
    """Return `config` with the given settings; a setting that is given as None is not changed.

    In the name of a nested setting, two underscores separate the levels: `memory__fit__num_steps`.
    """
    for name, value in settings.items():
        outer, _, inner = name.partition("__")
        if inner:
            value = override(getattr(config, outer), **{inner: value})
        if value is not None:
            config = replace(config, **{outer: value})  # type: ignore[type-var]
    return config
