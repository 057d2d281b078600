"""Choose the training seeds for the episodes of a run and for their candidates.

Every run has a first seed. The seed after the last training seed is the first training seed.
Episode i is played on the i-th seed after the run's first seed. The additional candidates of `wm
collect --select-by-surprise` take the seeds before the run's first seed, in descending order. Two
episodes or candidates of a run therefore never share a seed, in whatever order they were collected.
"""

from agents.seeds import SEED_RANGES
from worldmodels.errors import UserError

# Distance between the first seeds of two runs whose `--seed` differs by 1. Runs of different seeds
# have no track in common up to 20,000 episodes, or up to 6,666 episodes that were each chosen
# among three candidates.
SEEDS_PER_RUN = 20_000
NUM_SEEDS = len(SEED_RANGES["training"])


def episode_seeds(run_seed: int, index: int, num_candidates: int = 1) -> list[int]:
    """The training seeds of an episode's candidates.

    The first seed is the same for any number of candidates.
    """
    first, further = run_seed * SEEDS_PER_RUN, num_candidates - 1
    offsets = [index, *(-1 - further * index - number for number in range(further))]
    return [SEED_RANGES["training"][(first + offset) % NUM_SEEDS] for offset in offsets]


def check_seeds_suffice(num_episodes: int, num_chosen: int, num_candidates: int) -> None:
    """Raise UserError if a run would need more training seeds than exist.

    Args:
        num_episodes: number of episodes of the run.
        num_chosen: each of the first `num_chosen` episodes may be chosen among `num_candidates`
            candidates.
    """
    needed = num_episodes + (num_candidates - 1) * num_chosen
    if needed > NUM_SEEDS:
        raise UserError(
            f"expected a run to need at most {NUM_SEEDS:,} training seeds, got {num_episodes:,} "
            f"episodes with {num_candidates} candidates for each of the first {num_chosen:,} "
            f"episodes, which need {needed:,} seeds: collect fewer episodes, or leave out "
            "--select-by-surprise"
        )
