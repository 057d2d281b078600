"""What others published, over 100 episodes each."""

from __future__ import annotations

# arXiv 2003.08165, table 2: CarRacing as it was trained on, and perturbed without training again.
PERTURBED = {
    "World Models (Ha & Schmidhuber)": {"score": 901, "color": 655, "bars": 166, "blob": 446},
    "AttentionAgent (Tang, Nguyen & Ha)": {"score": 914, "color": 866, "bars": 900, "blob": 898},
}
# arXiv 1803.10122, table 1 and its appendix: scores by what C sees.
SCORES_BY_INPUTS = {"z": "632 ± 251", "zh": "906 ± 21"}
