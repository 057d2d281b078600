"""The named presets: demo, cpu, study, paper, gpu and tiny."""

from dataclasses import replace

from worldmodels.controller.fitness import CMAESConfig
from worldmodels.errors import UserError
from worldmodels.memory.training import MemoryModelConfig, MemoryStageConfig
from worldmodels.presets.preset import Preset, override
from worldmodels.stages.collect import CollectConfig
from worldmodels.stages.train_controller import PATHWISE, PPO, ControllerStageConfig
from worldmodels.stages.train_vision import VisionStageConfig
from worldmodels.training.fit import FitConfig
from worldmodels.vision import VAEConfig, VQVAEConfig

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
    # A longer exploration would leave the agent's own episodes a small part of the data of round 2.
    collect=CollectConfig(env_steps=50_000),
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

PRESETS = {preset.name: preset for preset in (DEMO, CPU, STUDY, PAPER, GPU, TINY)}


def preset_named(name: str) -> Preset:
    """Return the preset of this name; raise UserError if no preset has this name."""
    if name not in PRESETS:
        raise UserError(f'expected a preset among {", ".join(PRESETS)}, got "{name}"')
    return PRESETS[name]
