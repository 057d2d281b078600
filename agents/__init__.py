"""Policies, rollouts, evaluation, and the search for controllers.

This package works on arrays and environments, and uses neither the vision model V nor the memory
model M. Read `policy` (policies) first, then `rollout` (one episode), `collecting` (many episodes),
`workers` (processes that play episodes), `controller` (C), `cmaes` (the search for C) and
`evaluation` (scores). The modules `elites`, `operators`, `bandit` and `cells` implement MAP-Elites.
"""
