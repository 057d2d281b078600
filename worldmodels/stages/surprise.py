"""Measure how soon dreamed frames become unlike any real frame.

The surprise of a frame is the negative log-likelihood of the frame's codes under the prior. Each
dream begins at a state of a real held-out episode and uses the actions of this episode. The
surprise of each dreamed frame is compared with the surprise of the real frame at the same agent
step. The surprise of a frame depends on no other frame. Surprise therefore shows whether the codes
of a frame fit each other, but not whether the frame follows from earlier frames.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from agents.evaluation import sample_std
from worldmodels.data.sequences import SequenceBatch
from worldmodels.dream.load import load_world_model
from worldmodels.dream.model import DreamModel, check_temperature
from worldmodels.dream.rollout import replay
from worldmodels.errors import UserError, check_at_least
from worldmodels.memory import Memory
from worldmodels.memory.encoding import encode_episodes
from worldmodels.plotting import save_curves
from worldmodels.prior.baselines import shuffled_positions
from worldmodels.prior.surprise import Surprise, load_surprise
from worldmodels.progress import Report
from worldmodels.runs.provenance import file_digest
from worldmodels.runs.run import Run
from worldmodels.runs.run_lock import locks_run
from worldmodels.training.fit import step_generator
from worldmodels.training.seeding import generator_on

HEADLINES = (1, 10, 100)
MAX_EPISODES = 64
REFERENCE_FRAMES = 512


@dataclass(frozen=True)
class SurpriseConfig:
    """Settings of the measurement.

    Attributes:
        starts: number of real start states, sampled from the held-out episodes.
        horizon: number of agent steps of each dream.
        temperature: temperature of the dreams.
    """

    starts: int = 64
    horizon: int = 100
    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_at_least(1, self, "starts", "horizon")
        check_temperature(self.temperature)


@locks_run
def measure_surprise(
    run: Run, config: SurpriseConfig, *, report: Report, device: str = "cpu"
) -> dict[str, Any]:
    """Measure the surprise of dreamed and real frames at each agent step; write JSON and a plot.

    The result also holds the mean surprise of two references. The first reference consists of
    frames that are sampled from the prior. The second reference consists of frames without
    structure, in which the code at each position is sampled independently.

    Raises: UserError if V, M or the prior is missing, or if all held-out episodes are shorter than
        the dreams.
    """
    surprise = load_surprise(run, device)
    _, memory = load_world_model(run, device)
    run.store.require(run.folder)
    episodes = run.store.split(held_out=True)[:MAX_EPISODES]
    sequences = encode_episodes(surprise.vision, episodes, run.action_repeat, report)
    rows, steps = choose_starts(sequences, config)
    after = steps[:, None] + torch.arange(1, config.horizon + 1)
    real = sequences.posteriors[rows[:, None], after]
    dreamed = dream_codes(surprise, memory, sequences, rows, steps, config)
    curves = {
        name: surprise.of_codes(codes.flatten(0, 1)).view(codes.shape[:2])
        for name, codes in {"dreamed": dreamed, "real": real}.items()
    }
    result = {
        **curve_figures(curves),
        **_references(surprise, sequences, config),
        "starts": config.starts,
        "episodes": len(episodes),
        "temperature": config.temperature,
        "digests": {name: file_digest(run.weights(name)) for name in ("vision", "memory", "prior")},
    }
    run.write_json("evaluation/surprise.json", result)
    _draw(run, result)
    report.log(
        "surprise: nats per frame, dreamed against real: "
        + ", ".join(
            f"{figures['dreamed']:.1f} against {figures['real']:.1f} at agent step {agent_step}"
            for agent_step, figures in result["at"].items()
        )
    )
    return result


def choose_starts(
    sequences: SequenceBatch, config: SurpriseConfig
) -> tuple[Int[Tensor, "start"], Int[Tensor, "start"]]:
    """Sample the episode and the agent step at which each dream starts.

    A dream can start at every agent step after which the episode is long enough for the dream. All
    these agent steps are equally likely.
    """
    lengths = sequences.mask.sum(1)
    room = (lengths - config.horizon + 1).clamp(min=0)
    if not room.any():
        raise UserError(
            f"the longest held-out episode has {int(lengths.max())} agent steps, expected "
            f"at least {config.horizon}: shorten the dreams with --horizon"
        )
    generator = step_generator(config.seed, 0)
    picks = torch.randint(int(room.sum()), (config.starts,), generator=generator)
    ends = room.cumsum(0)
    rows = torch.searchsorted(ends, picks, right=True)
    return rows, picks - (ends - room)[rows]


@torch.no_grad()
def dream_codes(
    surprise: Surprise,
    memory: Memory,
    sequences: SequenceBatch,
    rows: Int[Tensor, "start"],
    steps: Int[Tensor, "start"],
    config: SurpriseConfig,
) -> Int[Tensor, "start agent_step code"]:
    """Return the codes that are dreamed after each start, with the actions of the real episode."""
    dream = DreamModel(surprise.vision, memory, config.temperature)
    latents = replay(dream, sequences, rows, steps, config.horizon, seed=config.seed)
    return latents[1:].transpose(0, 1)


def curve_figures(curves: dict[str, Float[Tensor, "start agent_step"]]) -> dict[str, Any]:
    """Return the means and the standard errors over starts at each agent step.

    The means at the agent steps `HEADLINES` and at the last agent step are repeated under the key
    `at`. The standard error of a single start is None.
    """
    columns: dict[str, list[Any]] = {}
    for name, nats in curves.items():
        columns[name] = nats.mean(0).tolist()
        spreads = [sample_std(each) for each in nats.T.tolist()]
        columns[f"{name}_error"] = [
            None if spread is None else spread / len(nats) ** 0.5 for spread in spreads
        ]
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    shown = sorted({*(d for d in HEADLINES if d <= len(rows)), len(rows)})
    return {
        "at": {str(d): {name: rows[d - 1][name] for name in curves} for d in shown},
        "history": [{"agent_step": d, **row} for d, row in enumerate(rows, start=1)],
    }


def _references(
    surprise: Surprise, sequences: SequenceBatch, config: SurpriseConfig
) -> dict[str, float]:
    generator = step_generator(config.seed, 2)
    drawn = surprise.prior.sample(REFERENCE_FRAMES, 1.0, generator_on(surprise.device, generator))
    codes = sequences.posteriors[:, :-1][sequences.mask]
    independent = shuffled_positions(codes, REFERENCE_FRAMES, generator)
    return {
        "prior_samples": float(surprise.of_codes(drawn).mean()),
        "independent_positions": float(surprise.of_codes(independent).mean()),
    }


def _draw(run: Run, result: dict[str, Any]) -> None:
    history = result["history"]
    curves, bands = {}, {}
    for name in ("dreamed", "real"):
        curves[name] = [(row["agent_step"], row[name]) for row in history]
        bands[f"{name}, 2 errors over starts"] = [
            (row["agent_step"], row[name] - margin, row[name] + margin)
            for row in history
            for margin in [1.96 * (row[f"{name}_error"] or 0.0)]
        ]
    for name in ("prior_samples", "independent_positions"):
        curves[name.replace("_", " ")] = [(1, result[name]), (len(history), result[name])]
    save_curves(
        run.folder / "evaluation" / "surprise.png",
        curves,
        x_label="agent steps since the dream began",
        y_label="nats per frame under the prior",
        bands=bands,
    )
