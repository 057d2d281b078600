"""Choose the training seeds of a run's episodes.

Every run has a first seed. Episode i is played on the i-th seed after the run's first seed. The
seeds wrap around, so the first training seed follows the last training seed.

With `wm collect --select-by-surprise`, several candidates are played for each episode. The first
candidate has the seed of the episode. The further candidates take the seeds before the run's first
seed, in descending order. Two episodes or candidates of a run therefore never share a seed. This is
true for any order in which the episodes are collected.
"""

from agents.seeds import SEED_RANGES
from worldmodels.errors import UserError

# Distance between the first seeds of two runs whose `--seed` differs by 1. Runs of different seeds
# have no track in common up to 20,000 episodes, or up to 6,666 episodes that were each chosen
# among three candidates.
SEEDS_PER_RUN = 20_000
NUM_SEEDS = len(SEED_RANGES["training"])


def episode_seeds(run_seed: int, index: int, num_candidates: int = 1) -> list[int]:
    """Return the training seeds of an episode's candidates.

    The seed of the first candidate does not depend on the number of candidates.
    """
    first, further = run_seed * SEEDS_PER_RUN, num_candidates - 1
    offsets = [index, *(-1 - further * index - number for number in range(further))]
    return [SEED_RANGES["training"][(first + offset) % NUM_SEEDS] for offset in offsets]


def check_seeds_suffice(num_episodes: int, num_chosen: int, num_candidates: int) -> None:
    """Raise UserError if a run would need more training seeds than exist.

    Args:
        num_episodes: number of episodes of the run.
        num_chosen: number of episodes that may be chosen among candidates. These are the first
            episodes of the run.
        num_candidates: number of candidates for each of these episodes.
    """
    needed = num_episodes + (num_candidates - 1) * num_chosen
    if needed > NUM_SEEDS:
        raise UserError(
            f"expected a run to need at most {NUM_SEEDS:,} training seeds, but {num_episodes:,} "
            f"episodes with {num_candidates} candidates for each of the first {num_chosen:,} "
            f"episodes need {needed:,} seeds: collect fewer episodes, or leave out "
            "--select-by-surprise"
        )
