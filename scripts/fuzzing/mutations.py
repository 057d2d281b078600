"""Bytes changed as disks, cables and killed programs change them."""

from collections.abc import Callable

import numpy as np

Mutation = Callable[[bytes, np.random.Generator], bytes]


def damage(content: bytes, random: np.random.Generator) -> tuple[str, bytes]:
    """What was done, and the bytes after it; they differ from `content`."""
    while True:
        name = str(random.choice(list(DAMAGES)))
        after = DAMAGES[name](content, random)
        if after != content:
            return name, after


def _flip_bit(content: bytes, random: np.random.Generator) -> bytes:
    spoilt = bytearray(content)
    spoilt[_place(content, random)] ^= 1 << int(random.integers(8))
    return bytes(spoilt)


def _set_bytes(content: bytes, random: np.random.Generator) -> bytes:
    spoilt = bytearray(content)
    for _ in range(int(random.integers(1, 9))):
        spoilt[_place(content, random)] = int(random.integers(256))
    return bytes(spoilt)


def _cut_off(content: bytes, random: np.random.Generator) -> bytes:
    return content[: _place(content, random)]


def _cut_out(content: bytes, random: np.random.Generator) -> bytes:
    first, last = _range(content, random)
    return content[:first] + content[last:]


def _zero(content: bytes, random: np.random.Generator) -> bytes:
    first, last = _range(content, random)
    return content[:first] + bytes(last - first) + content[last:]


def _repeat(content: bytes, random: np.random.Generator) -> bytes:
    first, last = _range(content, random)
    return content[:last] + content[first:last] + content[last:]


def _insert(content: bytes, random: np.random.Generator) -> bytes:
    place = _place(content, random)
    return content[:place] + random.bytes(int(random.integers(1, 65))) + content[place:]


def _empty(content: bytes, random: np.random.Generator) -> bytes:
    return b""


DAMAGES: dict[str, Mutation] = {
    "a flipped bit": _flip_bit,
    "changed bytes": _set_bytes,
    "a lost end": _cut_off,
    "a lost part": _cut_out,
    "a zeroed part": _zero,
    "a repeated part": _repeat,
    "inserted bytes": _insert,
    "an emptied file": _empty,
}


def _place(content: bytes, random: np.random.Generator) -> int:
    """Anywhere, half of the time near an end, where headers and directories are."""
    near = min(len(content), 512)
    draw = random.random()
    if draw < 0.25:
        return int(random.integers(near))
    if draw < 0.5:
        return len(content) - 1 - int(random.integers(near))
    return int(random.integers(len(content)))


def _range(content: bytes, random: np.random.Generator) -> tuple[int, int]:
    first = _place(content, random)
    return first, min(len(content), first + int(random.integers(1, 1025)))
