"""The experiments of the documentation. `python -m scripts.experiments NAME` runs experiment NAME.

experiment.py    the base class: a table of runs, a result file per run, and plots of all runs
__main__.py      the command
estimates.py     means and differences over seeds, with intervals
markdown.py      writes each page from a template in pages/
figures.py       plots of several runs
forked_run.py    a new run with the episodes and models of another run
driving.py       training and evaluation of V and M without an agent

quantized/       compares kinds of V in whole runs, and inputs of C: docs/results.md
search.py        compares searches for C with the same V and M: docs/search.md
vision.py        compares kinds of V on the same frames: docs/vision.md
memory.py        compares kinds of M on the same episodes: docs/memory.md
elites.py        runs MAP-Elites on the planar arm: docs/elites.md
elite_frames.py  trains V and M on frames of elites: docs/elites_frames.md
pictures.py      compares frames of the fast CarRacing with Gymnasium's: docs/car_racing.png
tutorials.py     does the longer runs whose results two tutorials show
"""
