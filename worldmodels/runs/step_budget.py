"""Plan how many episodes fit into a number of env steps.

Episodes have different lengths, and several episodes are played at once. The number of episodes is
therefore planned in waves. Each wave has as many episodes as probably fit, which depends on the
lengths of earlier episodes. The plan depends only on the lengths of stored episodes, and not on
time or on the number of workers. An interrupted collection therefore ends with the same episodes as
an uninterrupted collection.
"""

from collections.abc import Sequence

from agents.workers import CHUNK

# The lengths of this many newest episodes predict the lengths of the next ones.
RECENT = 2 * CHUNK
LARGEST_WAVE = 8 * CHUNK
GROWTH = 2


def episodes_wanted(
    budget: int, lengths: Sequence[int], earlier: Sequence[int] = (), first_wave: int = CHUNK
) -> int:
    """Return how many planned episodes must exist at the end of the next unfinished wave.

    The result is `len(lengths)` if no further episode fits.

    The episodes of a trained agent may be many times as long as earlier episodes. The first wave is
    therefore small, and each later wave has at most twice as many episodes as all earlier waves
    together.

    Args:
        budget: number of env steps for all planned episodes.
        lengths: number of env steps of each planned episode that exists already, in order.
        earlier: number of env steps of each episode before the planned episodes. These numbers are
            only used to predict lengths.
        first_wave: largest number of episodes in the first wave.
    """
    planned = 0
    while True:
        recent = (lengths[:planned] or earlier)[-RECENT:]
        wave = GROWTH * planned if planned else first_wave
        if recent:
            left = budget - sum(lengths[:planned])
            wave = min(wave, int(left * len(recent) / sum(recent)), LARGEST_WAVE)
        if wave > CHUNK:
            wave = wave // CHUNK * CHUNK  # a chunk that is played in part is played twice
        planned += max(wave, 0)
        if wave < 1 or planned > len(lengths):
            return max(planned, len(lengths))
