"""Experiments that feed the documentation, in one shape: `python -m scripts.experiments NAME`.

experiment.py    a table of runs, one result file per run, and figures drawn from all of them
__main__.py      the command
estimates.py     means and differences over seeds, with intervals
markdown.py      pages, each from its template in pages/
figures.py       figures of several runs
forked_run.py    a run of its own over the episodes and models of another
driving.py       what V and M learn from and are evaluated on, where no agent drives

quantized/       kinds of V over whole runs, and what C sees: docs/results.md
search.py        searches for C on one V and M: docs/search.md
vision.py        kinds of V on the same frames: docs/vision.md
memory.py        kinds of M on the same episodes: docs/memory.md
elites.py        MAP-Elites on the arm: docs/elites.md
elite_frames.py  V and M trained on frames of elites: docs/elites_frames.md
pictures.py      frames of the fast CarRacing and of Gymnasium's: docs/car_racing.png
"""
