"""Rollouts and Gymnasium environments of dreams, in which M replaces the real environment."""
