"""Damage to files, like the damage that faulty disks, cables and killed programs cause."""

from pathlib import Path

import numpy as np


def damage(path: Path, random: np.random.Generator) -> str:
    """Change the bytes of a file, and return the kind of damage."""
    content = path.read_bytes()
    first = _place(content, random)
    last = first + int(random.integers(1, 1025))
    before, part, rest = content[:first], content[first:last], content[last:]
    flipped = part[0] ^ 1 << int(random.integers(8))
    spoilt = bytearray(content)
    for _ in range(int(random.integers(1, 9))):
        spoilt[_place(content, random)] = int(random.integers(256))
    damages = {
        "a flipped bit": before + bytes([flipped]) + part[1:] + rest,
        "changed bytes": bytes(spoilt),
        "a lost end": before,
        "a lost part": before + rest,
        "a zeroed part": before + bytes(len(part)) + rest,
        "a repeated part": before + part + part + rest,
        "inserted bytes": before + random.bytes(int(random.integers(1, 65))) + part + rest,
        "an emptied file": b"",
    }
    name = str(random.choice([name for name, after in damages.items() if after != content]))
    path.write_bytes(damages[name])
    return name


def _place(content: bytes, random: np.random.Generator) -> int:
    """Draw a position in a file.

    Half of the draws are near the start or the end of the file, where headers and directories are.
    """
    near = min(len(content), 512)
    draw = random.random()
    if draw < 0.25:
        return int(random.integers(near))
    if draw < 0.5:
        return len(content) - 1 - int(random.integers(near))
    return int(random.integers(len(content)))
