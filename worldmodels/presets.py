"""Settings of whole runs: the presets demo, cpu, study, paper and gpu."""

from dataclasses import dataclass, replace
from typing import Any, TypeVar

from worldmodels.controller.fitness import CMAESConfig
from worldmodels.errors import UserError
from worldmodels.memory.training import MemoryModelConfig, MemoryStageConfig
from worldmodels.stages.collect import CollectConfig
from worldmodels.stages.train_controller import PATHWISE, PPO, ControllerStageConfig
from worldmodels.stages.train_vision import VisionStageConfig
from worldmodels.training.fit import FitConfig
from worldmodels.vision import CategoricalVAEConfig, VAEConfig, VQVAEConfig

Config = TypeVar("Config")

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
        later_env_steps: number of env steps of each later round, counted in the same way.
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


# The paper's own settings (arXiv 1803.10122, A.1-A.4). The paper has no codes, so the settings of
# codes are those of arXiv 1711.00937. Ten epochs over the frames of 10,000 rollouts, in batches of
# 100 frames, are a million batches.
_PAPER_VISION_FIT = FitConfig(1_000_000, 100, learning_rate=1e-4, validate_every=5_000)
_PAPER_MEMORY_FIT = FitConfig(4_000, 100, max_gradient_norm=1.0, validate_every=100)
_PAPER_VAE = VisionStageConfig(
    model=VAEConfig(),
    fit=_PAPER_VISION_FIT,
    later=replace(_PAPER_VISION_FIT, num_steps=100_000),
    frame_stride=1,
)
_PAPER_SEARCH = ControllerStageConfig(action_map="paper", sample_latent=True)
PAPER = Preset(
    name="paper",
    rounds=1,
    collect=CollectConfig(env_steps=10_000_000, policy="random", action_repeat=1),
    later_env_steps=1_000_000,
    vae=_PAPER_VAE,
    vqvae=replace(_PAPER_VAE, model=VQVAEConfig()),
    memory=MemoryStageConfig(
        fit=_PAPER_MEMORY_FIT, later=replace(_PAPER_MEMORY_FIT, num_steps=1_000)
    ),
    dream_search=replace(_PAPER_SEARCH, dream=True, temperature=1.15),
    real_search=_PAPER_SEARCH,
    search_in_dream=False,
    evaluation_episodes=100,
)

_VISION_FIT = FitConfig(1_200, 64, learning_rate=1e-3, final_learning_rate=1e-4)
_LEAN_VAE = VisionStageConfig(
    model=VAEConfig(
        network="lean",
        decoder_channels=64,
        normalize=True,
        kl_weight=0.1,
        free_nats=0.25,
        by_variance=True,
        background_weight=0.3,
    ),
    fit=_VISION_FIT,
    later=replace(_VISION_FIT, num_steps=400),
)
_FSQ = VQVAEConfig(quantizer="fsq", decoder_channels=64, by_variance=True, background_weight=0.3)
# Batches of few, whole episodes: windows of 64 agent steps lost 1.6 nats and half the reward R2.
_MEMORY_FIT = FitConfig(
    1_200,
    8,
    learning_rate=3e-3,
    final_learning_rate=3e-4,
    max_gradient_norm=1.0,
    validate_every=100,
    patience=4,
)

DEMO = Preset(
    name="demo",
    rounds=4,
    collect=CollectConfig(env_steps=106_000),
    later_env_steps=50_000,
    vae=_LEAN_VAE,
    vqvae=replace(_LEAN_VAE, model=_FSQ),
    memory=MemoryStageConfig(
        fit=_MEMORY_FIT,
        later=replace(_MEMORY_FIT, num_steps=800, learning_rate=2e-3),
        model=MemoryModelConfig(
            num_hidden=128, num_mixtures=1, predict_change=True, reward_weight=2.0
        ),
        min_batch_steps=1_600,
        sequence_length=250,
    ),
    dream_search=ControllerStageConfig(
        search="gradient",
        dream=True,
        hidden=64,
        eval_episodes=0,
        pathwise=PATHWISE.with_steps(600),
        cmaes=CMAESConfig(150, 120, covariance="diagonal", episodes=32, horizon=40),
    ),
    real_search=ControllerStageConfig(
        cmaes=CMAESConfig(30, 30, population=32, covariance="diagonal", episodes=2)
    ),
    search_in_dream=True,
    evaluation_episodes=20,
)

# An agent that was trained by gradients in the dream misses a few tiles. Its lap is then
# incomplete, and the agent drives on without reward until the time limit. The search in the real
# game takes this loss into account; see docs/experiments/attempts.md.
FINETUNE = ControllerStageConfig(
    eval_episodes=100,
    selection_episodes=100,
    cmaes=CMAESConfig(
        generations=105,
        later_generations=105,
        population=32,
        sigma0=0.06,  # with 0.02 the game's noise exceeds the differences between candidates
        episodes=2,
        validate_every=15,
        averaged_generations=15,
        last_layer=True,
        select_best=True,
    ),
)

CPU = override(
    DEMO,
    name="cpu",
    rounds=24,
    vision_rounds=12,
    later_env_steps=72_000,
    vae__later__num_steps=300,
    vqvae__later__num_steps=300,
    memory__later__num_steps=500,
    dream_search__pathwise=PATHWISE,
    finetune=FINETUNE,
)

# A third of the rounds of CPU, to compare many runs: `python -m scripts.experiments quantized`.
STUDY = override(
    CPU,
    name="study",
    rounds=8,
    vision_rounds=5,
    finetune__eval_episodes=50,
    finetune__selection_episodes=50,
    finetune__cmaes__generations=16,
    finetune__cmaes__later_generations=16,
    finetune__cmaes__validate_every=8,
)

GPU = override(
    CPU,
    name="gpu",
    collect__env_steps=420_000,
    later_env_steps=220_000,
    memory__fit__num_steps=2_000,
    memory__fit__batch_size=64,
    memory__later__batch_size=64,
)

_FEW_STEPS = FitConfig(24, 16, learning_rate=1e-3, validate_every=12)
_FEW_FRAMES = FitConfig(120, 16, learning_rate=1e-3, final_learning_rate=1e-4)
_FEW_EPISODES = {"eval_episodes": 2, "selection_episodes": 2}
# A preset for tests. A run takes seconds, and every stage learns something, but nothing well.
TINY = override(
    DEMO,
    name="tiny",
    rounds=1,
    collect=CollectConfig(env_steps=6_800, max_episode_steps=240),
    later_env_steps=8_200,
    vae__fit=_FEW_FRAMES,
    vae__later=replace(_FEW_FRAMES, num_steps=20),
    vqvae__fit=_FEW_FRAMES,
    vqvae__later=replace(_FEW_FRAMES, num_steps=20),
    # The data are a thousand agent steps; 256 units memorize them before they learn any reward.
    memory__model__head_width=64,
    memory__fit=replace(_MEMORY_FIT, num_steps=200, validate_every=40),
    memory__later=replace(_MEMORY_FIT, num_steps=40, validate_every=40),
    dream_search=override(
        DEMO.dream_search,
        **_FEW_EPISODES,
        cmaes=CMAESConfig(4, 2, population=8, covariance="diagonal", episodes=4, horizon=40),
        pathwise=replace(PATHWISE, fit=_FEW_STEPS, later=_FEW_STEPS),
        ppo=replace(PPO, fit=_FEW_STEPS, later=_FEW_STEPS),
    ),
    real_search=override(
        DEMO.real_search,
        **_FEW_EPISODES,
        cmaes=CMAESConfig(2, 2, population=4, covariance="diagonal", episodes=2, horizon=30),
    ),
    finetune=override(
        FINETUNE,
        **_FEW_EPISODES,
        cmaes=replace(
            FINETUNE.cmaes, later_generations=2, population=4, horizon=30, validate_every=1
        ),
    ),
    evaluation_episodes=2,
)

_PRESETS = {preset.name: preset for preset in (DEMO, CPU, STUDY, PAPER, GPU, TINY)}


def preset_named(name: str) -> Preset:
    """Return the preset of this name; raise UserError if no preset has this name."""
    if name not in _PRESETS:
        raise UserError(f'expected a preset among {", ".join(_PRESETS)}, got "{name}"')
    return _PRESETS[name]
