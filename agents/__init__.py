"""What acts, and how it is searched. Knows arrays and environments, not V or M.

Reading order: `policy` (what acts), `rollout` (an episode), `collecting` (many of them, over
`workers`), `controller` and `cmaes` (C and its search), `evaluation` (a score); then
`elites` with `operators`, `bandit` and `cells` (MAP-Elites).
"""
