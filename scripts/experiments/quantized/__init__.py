"""What a quantized V brings: runs of every kind side by side, measured alike.

kinds.py      which runs there are, and what C sees in ablations
measures.py   what is measured of a finished run
ablation.py   how well C drives with parts of what it sees
code_sheet.py what a code stands for: frames that share one
rates.py      bits per frame, of codes and of latents
estimates.py  means and differences over seeds, with intervals
metrics.py    the figures that are compared, each with its name and its direction
verdicts.py   which figures tell codes and latents apart
peers.py      what others published
page.py       docs/results.md
figures.py    its figures
compare.py    a cell a call: run, measure, draw; over the stages, as `pipeline.py` is
"""
