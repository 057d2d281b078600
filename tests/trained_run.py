"""A run of CarRacing whose stages were all trained, for a few steps each."""

from tests.command import wm_json


def train_tiny_run(folder):
    """Episodes, V, M and C, as the commands leave them."""
    run = ("--run", folder)
    wm_json("collect", *run, "--preset", "tiny", "--episodes", 11, "--max-steps", 40)
    wm_json("train-vision", *run, "--steps", 3)
    wm_json("train-memory", *run, "--steps", 3)
    wm_json("train-controller", *run, "--dream", "--steps", 2)
