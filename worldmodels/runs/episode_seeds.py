"""Choose the training seeds for the episodes of a run and for their candidates.

Every run has a first seed, and the training seeds wrap around at their end. Episode i is played on
the i-th seed after the first one. The further candidates of `wm collect --select-by-surprise` take
the seeds before the first one, counted backwards. No two episodes or candidates of a run therefore
share a seed, in whatever order episodes with and without candidates were collected.
"""

from agents.seeds import SEED_RANGES
from worldmodels.errors import UserError

# Distance between the first seeds of two runs whose `--seed` differs by 1. Runs of different seeds
# have no track in common up to 20,000 episodes, or up to 6,666 episodes that were each chosen
# among three candidates.
SEEDS_PER_RUN = 20_000
NUM_SEEDS = len(SEED_RANGES["training"])


def episode_seeds(run_seed: int, index: int, num_candidates: int = 1) -> list[int]:
    """The training seeds of an episode's candidates; the first is the seed without a choice."""
    first, further = run_seed * SEEDS_PER_RUN, num_candidates - 1
    offsets = [index, *(-1 - further * index - number for number in range(further))]
    return [SEED_RANGES["training"][(first + offset) % NUM_SEEDS] for offset in offsets]


def check_seeds_suffice(num_episodes: int, num_chosen: int, num_candidates: int) -> None:
    """Raise UserError if a run would need more training seeds than there are.

    Args:
        num_episodes: number of episodes of the run.
        num_chosen: number of first episodes that may each be chosen among `num_candidates`.
    """
    needed = num_episodes + (num_candidates - 1) * num_chosen
    if needed > NUM_SEEDS:
        raise UserError(
            f"expected {NUM_SEEDS:,} training seeds to suffice, got {num_episodes:,} episodes with "
            f"{num_candidates} candidates for each of the first {num_chosen:,}, which take "
            f"{needed:,}: collect fewer episodes, or leave out --select-by-surprise"
        )
