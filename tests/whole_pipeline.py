"""From collecting to a film of each kind, each stage of a few steps."""

from pathlib import Path

from tests.command import wm_json
from worldmodels.run import Run

TINY = ("--preset", "tiny", "--workers", 1)


def whole_pipeline(folder: Path, env: str, *arguments: object) -> Run:
    """The run, of 5 episodes; `arguments` are those of `wm collect`."""
    run = ("--run", folder)
    wm_json("collect", *run, *TINY, "--env", env, *arguments, "--episodes", 4)
    wm_json("train-vision", *run, "--steps", 3)
    wm_json("train-memory", *run, "--steps", 3)
    wm_json("train-controller", *run, "--dream", "--steps", 2, "--workers", 1)
    wm_json("collect", *run, *TINY, *arguments, "--episodes", 5, "--policy", "agent")
    wm_json("evaluate", *run, "--episodes", 1, "--workers", 1, "--no-baselines")
    for name, kind in (("real", "--side-by-side"), ("dream", "--dream")):
        wm_json("record", *run, kind, "--steps", 6, "--out", folder / f"{name}.mp4")
        assert (folder / f"{name}.mp4").stat().st_size > 0
    return Run(folder)
