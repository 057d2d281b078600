"""Experiments behind the documentation; `python -m scripts.experiments NAME` runs one.

experiment.py    the base class: a table of runs, a result file per run, and figures of all runs
__main__.py      the command
estimates.py     means and differences over seeds, with intervals
markdown.py      pages, each from its template in pages/
figures.py       figures of several runs
forked_run.py    a new run over the episodes and models of another run
driving.py       training and evaluation of V and M without an agent

quantized/       kinds of V over whole runs, and inputs of C: docs/results.md
search.py        searches for C on one V and M: docs/search.md
vision.py        kinds of V on the same frames: docs/vision.md
memory.py        kinds of M on the same episodes: docs/memory.md
elites.py        MAP-Elites on the arm: docs/elites.md
elite_frames.py  V and M trained on frames of elites: docs/elites_frames.md
pictures.py      frames of the fast CarRacing and of Gymnasium's: docs/car_racing.png
"""
