"""Compare continuous and quantized kinds of V in whole runs, by the same measures.

kinds.py         lists the runs, and the inputs of C in the ablations
study.py         does one run and measures it
ablation.py      trains and scores a C for several choices of inputs
measures.py      measures of a finished run
code_gallery.py  draws pictures of frames that share a code
rates.py         bits per frame, of codes and of latents
metrics.py       the metrics that are compared, with their labels and directions
page.py          finds significant differences between codes and latents; writes docs/results.md
figures.py       draws the plots of docs/results.md
"""
