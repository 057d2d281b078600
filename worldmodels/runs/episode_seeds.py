"""Which training seeds the episodes of a run are played on, candidates for one included.

Counted from the first seed of the run's stretch, around the circle of all training seeds: episode
i is played on seed i. The further candidates of `wm collect --select-by-surprise` lie before that
first seed, counted backwards, so that no two episodes or candidates of a run share a seed, in
whatever order episodes with and without candidates were collected.
"""

from agents.seeds import SEED_RANGES
from worldmodels.errors import UserError

# From the first seed of a run to that of the next. Runs of different seeds have no track in common
# up to 20,000 episodes, or up to 6,666 that were each chosen among three candidates.
SEEDS_PER_RUN = 20_000
NUM_SEEDS = len(SEED_RANGES["training"])


def episode_seeds(run_seed: int, index: int, num_candidates: int = 1) -> list[int]:
    """The training seeds of the candidates for an episode; the first is that of a single one."""
    first, further = run_seed * SEEDS_PER_RUN, num_candidates - 1
    offsets = [index, *(-1 - further * index - number for number in range(further))]
    return [SEED_RANGES["training"][(first + offset) % NUM_SEEDS] for offset in offsets]


def check_seeds_suffice(num_episodes: int, num_chosen: int, num_candidates: int) -> None:
    """Raise UserError where a run's seeds would come round to those it has used.

    Args:
        num_episodes: of the run.
        num_chosen: so many of them, the first, may have been chosen among `num_candidates`.
    """
    needed = num_episodes + (num_candidates - 1) * num_chosen
    if needed > NUM_SEEDS:
        raise UserError(
            f"expected {NUM_SEEDS:,} training seeds to suffice, got {num_episodes:,} episodes with "
            f"{num_candidates} candidates for each of the first {num_chosen:,}, which take "
            f"{needed:,}: collect fewer episodes, or leave out --select-by-surprise"
        )
