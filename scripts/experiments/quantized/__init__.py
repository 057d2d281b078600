"""Compare continuous and quantized V over whole runs, with the same measures.

kinds.py         the runs, and the inputs of C in ablations
study.py         one run and its measures
ablation.py      scores of C with a part of its inputs
measures.py      measures of a finished run
code_gallery.py  pictures of frames that share a code
rates.py         bits per frame, of codes and of latents
metrics.py       the figures that are compared, with their labels and directions
verdicts.py      in which figures codes and latents differ significantly
page.py          docs/results.md
figures.py       figures of docs/results.md
"""
