"""What a quantized V brings: runs of every kind side by side, measured alike.

    kinds.py      which runs there are
    measures.py   what is measured of a finished run
    ablation.py   how well C drives with parts of what it sees
    seeds.py      intervals over seeds
    peers.py      what others published
    page.py       docs/results.md
    figures.py    its figures
"""
