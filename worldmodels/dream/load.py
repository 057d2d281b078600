"""Functions that load V and M of a run, and encode the episodes in which dreams begin."""

import itertools
from pathlib import Path

from worldmodels.data.episode import Episode
from worldmodels.data.sequences import SequenceBatch
from worldmodels.errors import UserError
from worldmodels.hardware import choose_device
from worldmodels.memory import Memory, restore_memory
from worldmodels.memory.encoding import Encodings, agent_steps_of, encode_episodes
from worldmodels.progress import Report
from worldmodels.runs.checkpoint import load_checkpoint
from worldmodels.runs.provenance import file_digest
from worldmodels.runs.run import Run
from worldmodels.runs.stage_folder import read_file
from worldmodels.vision import Vision, load_vision

MAX_EPISODES_FOR_STARTS = 256
# The limit applies to the number of episodes times the length of the longest episode, in agent
# steps. M's states of 256 units take 2 kB per agent step. Gathering the states takes 5 kB per agent
# step, which is 0.7 GB at the limit. The 256 episodes of a preset have 64,000 agent steps.
MAX_STEPS_FOR_STARTS = 131_072
COPIES_OF_STATES = 5  # arrays like h: the lists of h and c, one stacked, h and c without padding


def load_world_model(run: Run | str | Path, device: str = "cpu") -> tuple[Vision, Memory]:
    """Load V and M of a run.

    Args:
        run: the run, or the folder of the run.
        device: "auto", "cpu", "cuda" or "mps".

    Raises: UserError if V or M is missing or unreadable, or if M was trained on another V.
    """
    run = run if isinstance(run, Run) else Run(run)
    device = choose_device(device)
    vision = load_vision(run, device)
    vision_path, memory_path = run.weights("vision"), run.weights("memory")
    memory_file = load_checkpoint(memory_path, hint=f'run "wm train-memory --run {run}" first')
    if memory_file.metadata.get("vision_digest") != read_file(vision_path, file_digest):
        raise UserError(
            f"{memory_path} was trained on another V than {vision_path}, so M does not fit the "
            f'latents of the present V: run "wm train-memory --run {run}" again'
        )
    return vision, restore_memory(memory_file, memory_path, device)


def encode_recent(
    run: Run, vision: Vision, report: Report, most: int = MAX_EPISODES_FOR_STARTS
) -> SequenceBatch:
    """Encode the newest training episodes of a run; the result is one batch on the CPU.

    Dreams begin at states of the encoded episodes. If the episodes are long, fewer than `most`
    episodes are encoded (see `MAX_STEPS_FOR_STARTS`), but at least one episode is encoded.
    """
    run.store.require(run.folder)
    chosen = recent_episodes(run, most)
    return encode_episodes(vision, chosen, run.action_repeat, report, run.cached(Encodings))


def recent_episodes(run: Run, most: int = MAX_EPISODES_FOR_STARTS) -> list[Episode]:
    """Return the training episodes that `encode_recent` encodes, from the newest to the oldest."""
    episodes = run.store.split(held_out=False)
    newest = sorted(episodes, key=lambda episode: -episode.index)[:most]
    longest = itertools.accumulate(agent_steps_of(newest, run.action_repeat), max)
    padded = [count * steps for count, steps in enumerate(longest, start=1)]
    return newest[: max(1, sum(steps <= MAX_STEPS_FOR_STARTS for steps in padded))]


def start_bytes(run: Run, vision: Vision, memory: Memory) -> int:
    """Estimate how many bytes of memory are needed to compute the start states."""
    lengths = agent_steps_of(recent_episodes(run), run.action_repeat)
    padded = len(lengths) * max(lengths)
    states = COPIES_OF_STATES * memory.ensemble_size * memory.config.num_hidden
    return 4 * padded * (states + vision.posterior_size + vision.num_features)
