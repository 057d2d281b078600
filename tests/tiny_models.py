"""V, M, C and episodes small enough for a test, all drawn from one seed."""

import numpy as np
import torch

from agents.controller import ControllerConfig
from agents.rollout import Rollout
from envs.tasks import task_for
from envs.views import View
from worldmodels.agent import Agent, Body
from worldmodels.memory import MDNRNN, CodeRNN, CodeRNNConfig, MDNRNNConfig
from worldmodels.memory.outcome import Outcome
from worldmodels.vision import VAE, VQVAE, VAEConfig, VQVAEConfig
from worldmodels.vision.networks import to_unit

# Two outputs, three actions: each action has bounds of its own, and one output feeds two.
ACTION_MAP = task_for("CarRacing-v3").action_maps["pedal"]


def frames(count, seed=0, size=(64, 64)):
    """Blocks of noise: unlike each other, and not white."""
    blocks = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    rows, columns = -(-size[0] // 8), -(-size[1] // 8)
    return blocks.repeat(rows, 1).repeat(columns, 2)[:, : size[0], : size[1]]


def rollout(num_steps=6, seed=0, **changes):
    random = np.random.default_rng(seed)
    facts = {
        "frames": frames(num_steps + 1, seed),
        "actions": random.uniform(0, 1, (num_steps, 3)).astype(np.float32),
        "rewards": random.normal(size=num_steps).astype(np.float32),
        "terminated": False,
        "truncated": True,
        "env_id": "Tiny-v0",
        "seed": seed,
        "policy": "tiny",
        "action_repeat": 2,
    }
    return Rollout(**{**facts, **changes})


def vae(seed=0, **changes):
    torch.manual_seed(seed)
    settings = {"num_latents": 3, "network": "lean", "channels": 4}
    model = VAE(VAEConfig(**{**settings, **changes}))
    head = model.to_mean
    with torch.no_grad():
        _spread(head, model.encode(torch.from_numpy(frames(16)))[:, : model.config.num_latents])
    return model


def vqvae(quantizer, seed=0, **changes):
    torch.manual_seed(seed)
    settings = {"channels": 4, "codebook_size": 6, "code_size": 3, "levels": (4, 3)}
    model = VQVAE(VQVAEConfig(quantizer, **{**settings, **changes}))
    with torch.no_grad():
        grid = model.encoder[:2](to_unit(torch.from_numpy(frames(16))))
        _spread(model.encoder[1], grid.transpose(0, 1).flatten(1).T)
    return model


def _spread(layer, outputs):
    """Outputs of mean 0 and spread 1: a fresh encoder says nearly the same of every frame."""
    std, mean = torch.std_mean(outputs, 0)
    layer.weight.div_(std.view(-1, *[1] * (layer.weight.dim() - 1)))
    layer.bias.sub_(mean).div_(std)


def mdnrnn(seed=0, **changes):
    torch.manual_seed(seed)
    settings = {"num_latents": 3, "num_actions": 3, "num_hidden": 5, "num_mixtures": 2}
    return outspoken(MDNRNN(MDNRNNConfig(**{**settings, **changes})))


def codernn(seed=0, code_vectors=None, **changes):
    torch.manual_seed(seed)
    settings = {
        "num_codes": 2,
        "digit_sizes": (2, 3),
        "vector_size": 2,
        "num_actions": 3,
        "num_hidden": 5,
        "num_mixtures": 2,
        "head_width": 7,
    }
    config = CodeRNNConfig(**{**settings, **changes})
    if code_vectors is None:
        code_vectors = torch.randn(int(np.prod(config.digit_sizes)), config.vector_size)
    return outspoken(CodeRNN(config, code_vectors))


def outspoken(memory):
    """The same M with the parts at random that begin at zero or small, and so would be hidden."""
    torch.nn.init.normal_(memory.outcome.linear.weight)
    if isinstance(memory, CodeRNN):
        outspoken_head(memory.head)
    return memory


def outspoken_head(head):
    """The same for the mixture over codes."""
    for part in (head.table.bias, head.keep, head.coupling):
        torch.nn.init.normal_(part)
    with torch.no_grad():
        head.log_pi.weight.mul_(10.0)
        head.to_queries.weight.mul_(10.0)
    return head


def outcome(*batch):
    """Of a prediction where only latents matter."""
    return Outcome(torch.zeros(*batch, 3), torch.tensor([-1.0, 0.0, 1.0]), torch.zeros(batch))


def world(kind):
    """V and M: "vae", or one of codes."""
    if kind == "vae":
        return vae(), mdnrnn()
    vision = vqvae(kind).eval()
    sizes, vector = vision.config.digit_sizes, vision.config.vector_size
    return vision, codernn(
        code_vectors=vision.code_vectors, num_codes=16, digit_sizes=sizes, vector_size=vector
    )


def agent(kind="vae", *, num_candidates=1, seed=0, hidden=0, action_map=ACTION_MAP, **body):
    """An agent whose actions depend on the frame and on the past, not all at their bounds."""
    if kind == "vae":
        vision = vae(seed)
        memory = mdnrnn(seed, num_actions=action_map.size)
    else:
        vision = vqvae(kind, seed)
        vision.train()
        vision.loss(torch.from_numpy(frames(8, seed)))  # "vq" takes its codebook from data
        memory = codernn(
            seed,
            vision.code_vectors,
            num_codes=16,
            digit_sizes=vision.config.digit_sizes,
            vector_size=vision.config.vector_size,
            num_actions=action_map.size,
        )
    settings = {"env_id": "Tiny-v0", "view": View((0, 84)), "action_repeat": 2, **body}
    whole = Body(action_map=action_map, **settings)
    inputs = vision.num_features + (memory.config.num_hidden if whole.inputs == "zh" else 0)
    controller = ControllerConfig(inputs, action_map.num_outputs, hidden)
    parameters = torch.randn(num_candidates, controller.num_parameters) * 2 / inputs**0.5
    return Agent(vision, memory, controller, parameters, whole)
