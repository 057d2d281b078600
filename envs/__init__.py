"""What is acted in: Gymnasium environments as small pictures, and what is known about each.

Importing this package registers `worldmodels/CarRacing-v3`. Reading order: `config`,
`registration`, `actions`, `plain_actions`, `checks`, `pictures`, `views`, `frames`, `tasks`,
`make`; then `car_racing` with its `renderer`; then, for many environments at once, `vector`,
`vector_share` and `processes`.
"""

import os

import gymnasium as gym

# pygame greets on stdout whenever it is imported, once in every worker process.
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")

gym.register(
    id="worldmodels/CarRacing-v3",
    entry_point="envs.car_racing:FastCarRacing",
    max_episode_steps=1000,
    reward_threshold=900,
)
