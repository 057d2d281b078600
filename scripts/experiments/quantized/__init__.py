"""What a quantized V brings: runs of every kind side by side, measured alike.

kinds.py         which runs there are, and what C sees in ablations
study.py         one run, and what is measured of it
ablation.py      how well C drives with parts of what it sees
measures.py      what is measured of a finished run
code_gallery.py  what a code stands for: frames that share one
rates.py         bits per frame, of codes and of latents
metrics.py       the figures that are compared, each with its name and its direction
verdicts.py      in which figures codes and latents differ significantly
page.py          docs/results.md
figures.py       its figures
"""
