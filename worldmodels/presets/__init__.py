"""Presets, which hold the settings of whole runs.

preset.py  the settings of a whole run
named.py   the presets demo, cpu, study, paper, gpu and tiny
"""

from worldmodels.presets.named import CPU, DEMO, GPU, PAPER, PRESETS, STUDY, TINY, preset_named
from worldmodels.presets.preset import Preset, override

__all__ = [
    "CPU",
    "DEMO",
    "GPU",
    "PAPER",
    "PRESETS",
    "STUDY",
    "TINY",
    "Preset",
    "override",
    "preset_named",
]
