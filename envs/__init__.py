"""Gymnasium environments with small pictures as observations, and settings of environments.

Importing this package registers `worldmodels/CarRacing-v3`. Read the modules `config`,
`registration`, `actions`, `plain_actions`, `checks`, `pictures`, `views`, `frames`, `tasks` and
`make` first. Then read `car_racing` and `renderer`, which contain the fast CarRacing. Finally, read
`vector`, `vector_share` and `processes`, which step many environments at once.
"""

import os

import gymnasium as gym

# pygame prints a greeting on stdout whenever it is imported, once in every worker process.
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")

gym.register(
    id="worldmodels/CarRacing-v3",
    entry_point="envs.car_racing:FastCarRacing",
    max_episode_steps=1000,
    reward_threshold=900,
)
