"""Run `wm` as `python -m worldmodels`."""

from worldmodels.cli import main

main()
