"""`python -m worldmodels` is `wm`."""

from worldmodels.cli import main

main()
