"""A finished run with V and M small enough for a test, made without training."""

import numpy as np
import torch

import worldmodels
from envs.tasks import DEFAULT_ENV_ID
from tests.counting_env import BOX_ID, DISCRETE_ID
from tests.tiny_models import mdnrnn, rollout, vae, vqvae
from worldmodels.checkpoint import save_checkpoint, with_prefix
from worldmodels.memory import CodeRNN, CodeRNNConfig, MemoryEnsemble, memory_metadata
from worldmodels.run import Run, RunSettings
from worldmodels.vision import vision_metadata

LENGTHS = (4, 7, 4, 5, 6)  # env steps, two a decision; the first episode is held out
NUM_MOMENTS, NUM_EPISODES = 4 + 2 + 3 + 3, 4


def tiny_run(folder, kind="vae", *, end_logit=-30.0, members=1):
    """A run of CarRacing with a VAE, or of a Discrete(3, start=1) env with FSQ codes.

    Rewards depend on the state; the chance that a dream ends with a decision does not.
    """
    run = Run(folder, RunSettings(DEFAULT_ENV_ID if kind == "vae" else DISCRETE_ID, "tiny", 0))
    run.create()
    for index, length in enumerate(LENGTHS):
        discrete = np.eye(3, dtype=np.float32)[np.arange(length) // 2 % 3]
        changes = {} if kind == "vae" else {"actions": discrete}
        run.store.add(index, rollout(length, seed=index, env_id=run.settings.env_id, **changes))
    vision = vae() if kind == "vae" else vqvae("fsq")
    write_vision(run, vision)
    memories = [_memory(vision, seed, end_logit) for seed in range(members)]
    write_memory(run, memories[0] if members == 1 else MemoryEnsemble(memories))
    return run


def box_run(folder, seed=0):
    """A run of a Box env that pays what was done, with a VAE; no dream of it ends."""
    run = Run(folder, RunSettings(BOX_ID, "tiny", 0))
    run.create()
    for index, length in enumerate((4, 7, 4, 5)):
        actions = np.random.default_rng(index).uniform(0, 1, (length, 2)).astype(np.float32)
        env_id = BOX_ID.rpartition(":")[2]  # as an env calls itself
        run.store.add(index, rollout(length, seed=index, env_id=env_id, actions=actions))
    write_vision(run, vae(seed))
    memory = mdnrnn(seed, num_actions=2)
    with torch.no_grad():  # so narrow that dreams stay where V has been
        memory.mixture.bias.view(3, -1)[2] -= 3.0
        memory.outcome.linear.bias[-1] = -30.0
    write_memory(run, memory)
    return run


def write_vision(run, vision, round_=1):
    """V as its stage leaves it."""
    work = run.begin("vision", {}, 0, round_)
    tensors = with_prefix("vision", vision.state_dict())
    facts = {"vision": vision_metadata(vision)}
    save_checkpoint(work.partial / "vision.safetensors", tensors, facts)
    work.commit({}, 0.0)


def write_memory(run, memory, round_=1):
    """M as its stage leaves it."""
    work = run.begin("memory", {}, 0, round_)
    tensors = with_prefix("memory", memory.state_dict())
    facts = {"memory": memory_metadata(memory), "vision_digest": work.work["inputs"]["vision"]}
    save_checkpoint(work.partial / "memory.safetensors", tensors, facts)
    work.commit({}, 0.0)


def _memory(vision, seed, end_logit):
    if vision.discrete:
        torch.manual_seed(seed)
        config = CodeRNNConfig(
            num_codes=vision.config.num_codes,
            digit_sizes=vision.config.digit_sizes,
            vector_size=vision.config.vector_size,
            num_actions=3,
            num_hidden=5,
            num_mixtures=2,
            head_width=8,
        )
        memory = CodeRNN(config, vision.code_vectors)
    else:
        memory = mdnrnn(seed)
        with torch.no_grad():  # so narrow that dreams stay where V has been
            memory.mixture.bias.view(3, -1)[2] -= 3.0
    with torch.no_grad():
        head = memory.outcome.linear
        head.weight[:-1].normal_()
        head.bias[-1] = end_logit
    return memory


def actions_of(env, steps, seed=0):
    env.action_space.seed(seed)
    return [env.action_space.sample() for _ in range(steps)]


def real_features(run):
    """[z, h] at every decision of the training episodes, by hand: {(episode, decision): row}."""
    vision, memory = worldmodels.load_world_model(run)
    rows = {}
    with torch.no_grad():
        for episode in run.store.split(held_out=False):
            rollout, state = episode.load(), memory.initial(1)
            for start in range(0, rollout.num_steps, 2):
                latent = vision.mode(vision.encode(torch.from_numpy(rollout.frames[[start]])))
                row = torch.cat([vision.features(latent), state.h], -1)[0]
                rows[episode.index, start // 2] = row.numpy()
                action = torch.from_numpy(rollout.actions[start : start + 2].mean(0)[None])
                state = memory.advance(state, latent, action)
    return rows


def place(rows, observation):
    """Which real moment an observation is; None where it is none."""
    near = [key for key, row in rows.items() if np.allclose(row, observation, atol=1e-5)]
    return near[0] if near else None
