"""How many episodes fit into a number of env steps, decided without the clock or the workers.

Episodes have different lengths, and several are played at once. The number of episodes is therefore
planned in waves: each wave has as many episodes as probably fit, given the lengths of the episodes
before. Only stored lengths decide, so an interrupted collection ends with the same episodes.
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
    """Return how many episodes to hold: `len(lengths)` if the plan is done, more if it is not.

    An agent that has learned may play episodes many times as long as those before. The first wave
    is therefore small, and each later wave has at most twice as many episodes as all waves before.

    Args:
        budget: number of env steps for all planned episodes.
        lengths: env steps of the planned episodes that exist already, in order.
        earlier: env steps of episodes before the planned ones; they only predict lengths.
        first_wave: largest number of episodes of the first wave.
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
