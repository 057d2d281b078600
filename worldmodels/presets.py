"""The settings of whole runs: demo, cpu, study, paper, gpu; plain replacements of defaults."""

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


@dataclass(frozen=True)
class Preset:
    """Settings of every stage.

    Attributes:
        rounds: of collecting, V, M and C.
        vision_rounds: V is trained in this many first rounds, after which its latents keep their
            meaning. None trains it in every round.
        later_episodes: episodes that each later round adds.
        vae, vqvae: V's stage, continuous and quantized.
        dream_search, real_search: C's stage, in the dream and in the real env.
        finetune: C's stage after the last round, which begins with the best agent of all rounds;
            None ends with the rounds.
        evaluation_episodes: validation episodes at the end of a run.
    """

    name: str
    rounds: int
    vision_rounds: int | None
    collect: CollectConfig
    later_episodes: int
    vae: VisionStageConfig
    vqvae: VisionStageConfig
    memory: MemoryStageConfig
    dream_search: ControllerStageConfig
    real_search: ControllerStageConfig
    search_in_dream: bool
    evaluation_episodes: int
    finetune: ControllerStageConfig | None = None

    @property
    def controller(self) -> ControllerStageConfig:
        """C's stage, where this preset searches it."""
        return self.dream_search if self.search_in_dream else self.real_search

    def searching(self, *, dream: bool) -> "Preset":
        """The same with C searched in the dream alone, or in the real game alone."""
        return replace(self, search_in_dream=dream, finetune=None)

    def vision(self, quantized: bool, estimator: str | None = None) -> VisionStageConfig:
        """V's stage of the kind asked for.

        Args:
            estimator: how an encoder with categorical latents gets its gradient; None takes the
                preset's own quantizer. A run that has such a V keeps to it: see `Run.estimator`.

        Raises: UserError for an estimator of a continuous V.
        """
        if estimator is None:
            return self.vqvae if quantized else self.vae
        if not quantized:
            raise UserError(f"--estimator {estimator} is for codes: add --quantized")
        weight = self.vqvae.model.background_weight
        model = CategoricalVAEConfig(estimator=estimator, background_weight=weight)
        return replace(self.vqvae, model=model)


# The paper's own settings (arXiv 1803.10122, A.1-A.4); codes where it has none as in
# arXiv 1711.00937. 10,000 rollouts of 100 frames per batch for 10 epochs are a million batches.
PAPER = Preset(
    name="paper",
    rounds=1,
    vision_rounds=None,
    collect=CollectConfig(episodes=10_000, policy="random", action_repeat=1),
    later_episodes=1_000,
    vae=VisionStageConfig(
        model=VAEConfig(),
        fit=FitConfig(1_000_000, 100, learning_rate=1e-4, validate_every=5_000),
        later=FitConfig(100_000, 100, learning_rate=1e-4, validate_every=5_000),
        frame_stride=1,
    ),
    vqvae=VisionStageConfig(
        model=VQVAEConfig(),
        fit=FitConfig(1_000_000, 100, learning_rate=1e-4, validate_every=5_000),
        later=FitConfig(100_000, 100, learning_rate=1e-4, validate_every=5_000),
        frame_stride=1,
    ),
    memory=MemoryStageConfig(
        fit=FitConfig(4_000, 100, learning_rate=1e-3, max_gradient_norm=1.0, validate_every=100),
        later=FitConfig(1_000, 100, learning_rate=1e-3, max_gradient_norm=1.0, validate_every=100),
    ),
    dream_search=ControllerStageConfig(
        action_map="paper", sample_latent=True, dream=True, temperature=1.15
    ),
    real_search=ControllerStageConfig(action_map="paper", sample_latent=True),
    search_in_dream=False,
    evaluation_episodes=100,
)

_LEAN_VAE = VAEConfig(
    network="lean", decoder_channels=64, kl_weight=0.1, free_nats=0.25, background_weight=0.3
)
_FSQ = VQVAEConfig(quantizer="fsq", decoder_channels=64, background_weight=0.3)
_VISION_FIT = FitConfig(1_200, 64, learning_rate=1e-3, final_learning_rate=1e-4)
_VISION_LATER = replace(_VISION_FIT, num_steps=400)
# Whole episodes, few at a time: windows of 64 agent steps left 1.6 nats and half the reward's R2.
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
    vision_rounds=None,
    collect=CollectConfig(episodes=96),
    later_episodes=40,
    vae=VisionStageConfig(model=_LEAN_VAE, fit=_VISION_FIT, later=_VISION_LATER),
    vqvae=VisionStageConfig(model=_FSQ, fit=_VISION_FIT, later=_VISION_LATER),
    memory=MemoryStageConfig(
        fit=_MEMORY_FIT,
        later=replace(_MEMORY_FIT, num_steps=800, learning_rate=2e-3),
        model=MemoryModelConfig(
            num_hidden=128, num_mixtures=1, predict_change=True, reward_weight=2.0
        ),
    ),
    dream_search=ControllerStageConfig(
        search="gradient",
        dream=True,
        hidden=64,
        far_from_reward_fraction=0.2,
        pathwise=PATHWISE.with_steps(600),
        ppo=PPO,
        cmaes=CMAESConfig(
            generations=150, later_generations=120, diagonal=True, episodes=32, horizon=40
        ),
    ),
    real_search=ControllerStageConfig(
        cmaes=CMAESConfig(
            generations=30, later_generations=30, population=32, diagonal=True, episodes=2
        )
    ),
    search_in_dream=True,
    evaluation_episodes=20,
)

# Gradients in the dream leave single tiles out, and a lap without them is driven on for nothing
# until time is up. In the real game that counts; see docs/experiments.md.
FINETUNE = ControllerStageConfig(
    eval_episodes=100,
    selection_episodes=100,
    cmaes=CMAESConfig(
        generations=105,
        later_generations=105,
        population=32,
        sigma0=0.06,  # with 0.02 the game's own noise is louder than what a candidate changes
        episodes=2,
        validate_every=15,
        averaged_generations=15,
        last_layer=True,
        select_best=True,
    ),
)

CPU = replace(
    DEMO,
    name="cpu",
    rounds=24,
    vision_rounds=12,
    later_episodes=60,
    vae=replace(DEMO.vae, later=replace(_VISION_LATER, num_steps=300)),
    vqvae=replace(DEMO.vqvae, later=replace(_VISION_LATER, num_steps=300)),
    memory=replace(DEMO.memory, later=replace(DEMO.memory.later, num_steps=500)),
    dream_search=replace(DEMO.dream_search, pathwise=PATHWISE, ppo=PPO),
    finetune=FINETUNE,
)

# A third of CPU, for many runs side by side: `python -m scripts.experiments quantized`.
STUDY = replace(
    CPU,
    name="study",
    rounds=8,
    vision_rounds=5,
    finetune=replace(
        FINETUNE,
        eval_episodes=50,
        selection_episodes=50,
        cmaes=replace(FINETUNE.cmaes, generations=16, later_generations=16, validate_every=8),
    ),
)

GPU = replace(
    CPU,
    name="gpu",
    collect=CollectConfig(episodes=400),
    later_episodes=200,
    memory=replace(
        CPU.memory,
        fit=replace(CPU.memory.fit, num_steps=2_000, batch_size=64),
        later=replace(CPU.memory.later, batch_size=64),
    ),
)

_FEW_STEPS = FitConfig(24, 16, learning_rate=1e-3, validate_every=12)
# Seconds, not minutes: it learns something at every stage and nothing well. For tests.
TINY = replace(
    DEMO,
    name="tiny",
    rounds=1,
    collect=CollectConfig(episodes=20, max_episode_steps=240),
    later_episodes=8,
    vae=replace(
        DEMO.vae,
        fit=replace(_VISION_FIT, num_steps=400),
        later=replace(_VISION_LATER, num_steps=50),
    ),
    vqvae=replace(
        DEMO.vqvae,
        fit=replace(_VISION_FIT, num_steps=400),
        later=replace(_VISION_LATER, num_steps=50),
    ),
    memory=replace(
        DEMO.memory,
        # A thousand agent steps: 256 units learn them by heart before any reward.
        model=replace(DEMO.memory.model, head_width=64),
        fit=replace(_MEMORY_FIT, num_steps=200, validate_every=40),
        later=replace(_MEMORY_FIT, num_steps=40, validate_every=40),
    ),
    dream_search=replace(
        DEMO.dream_search,
        eval_episodes=2,
        selection_episodes=2,
        cmaes=CMAESConfig(
            generations=4,
            later_generations=2,
            population=8,
            diagonal=True,
            episodes=4,
            horizon=40,
        ),
        pathwise=replace(PATHWISE, fit=_FEW_STEPS, later=_FEW_STEPS),
        ppo=replace(PPO, fit=_FEW_STEPS, later=_FEW_STEPS),
    ),
    real_search=replace(
        DEMO.real_search,
        eval_episodes=2,
        selection_episodes=2,
        cmaes=CMAESConfig(
            generations=2,
            later_generations=2,
            population=4,
            diagonal=True,
            episodes=2,
            horizon=30,
        ),
    ),
    evaluation_episodes=2,
    finetune=replace(
        FINETUNE,
        eval_episodes=2,
        selection_episodes=2,
        cmaes=replace(
            FINETUNE.cmaes, later_generations=2, population=4, horizon=30, validate_every=1
        ),
    ),
)

Config = TypeVar("Config")


def override(config: Config, **settings: Any) -> Config:
    """`config` with the given settings; those that are None keep theirs."""
    given = {name: value for name, value in settings.items() if value is not None}
    return replace(config, **given)  # type: ignore[type-var]


_PRESETS = {preset.name: preset for preset in (DEMO, CPU, STUDY, PAPER, GPU, TINY)}


def preset_named(name: str) -> Preset:
    """A preset by name; raises UserError for one that does not exist."""
    if name not in _PRESETS:
        raise UserError(f'expected a preset among {", ".join(_PRESETS)}, got "{name}"')
    return _PRESETS[name]
