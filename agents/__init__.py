"""Policies, rollouts, evaluation, and the search for controllers.

This package works on arrays and environments, and uses neither V nor M. Read `policy` (policies),
`rollout` (one episode), `collecting` (many episodes, over `workers`), `controller` and `cmaes` (C
and its search), and `evaluation` (scores). Then read `elites` with `operators`, `bandit` and
`cells` (MAP-Elites).
"""
