"""A mixture over frames of codes at random, and its definition written out number by number."""

import itertools
import math

import torch

from tests.tiny_models import outcome, outspoken_head
from worldmodels.memory.code_head import CodeHead, CodePrediction, groups_of
from worldmodels.memory.code_table import CodeTable


def random_head(num_codes, sizes, *, mixtures=2, seed=0):
    torch.manual_seed(seed)
    table = CodeTable(num_codes, sizes, torch.randn(math.prod(sizes), 3))
    return outspoken_head(CodeHead(5, num_codes, mixtures, 6, table))


def states(*batch):
    return torch.randn(*batch, 5, generator=torch.Generator().manual_seed(0))


def predict(head, now, hidden=None):
    """What a head says from the present codes (batch, N); of states at random."""
    hidden = states(*now.shape[:-1]) if hidden is None else hidden
    log_pi, base = head.log_pi(hidden).log_softmax(-1), head.base(hidden, now)
    return CodePrediction(head, log_pi, base, now, outcome(*now.shape[:-1]))


def random_prediction(now, sizes, *, mixtures=2, seed=0):
    with torch.no_grad():
        return predict(random_head(now.shape[-1], sizes, mixtures=mixtures, seed=seed), now)


def repeated(prediction, count):
    """`count` times the first row."""
    parts = (p[:1].expand(count, -1) for p in (prediction.log_pi, prediction.base, prediction.now))
    return CodePrediction(prediction.head, *parts, outcome(count))


def all_frames(num_codes, num_values):
    return torch.tensor(list(itertools.product(range(num_values), repeat=num_codes)))


def number_of(frames, num_values):
    """The place of each frame in `all_frames`."""
    powers = num_values ** torch.arange(frames.shape[-1] - 1, -1, -1)
    return (frames * powers).sum(-1)


def digits_of(code, sizes):
    digits = []
    for size in sizes:
        digits.append(code % size)
        code //= size
    return digits


class ByHand:
    """One row of a prediction, one number at a time.

    Source: the docstrings of `CodeHead`, `CodePrediction` and `CodeTable`. Weights that belong to
    a code come in the order codes are drawn in.
    """

    def __init__(self, prediction, row=0, temperature=1.0):
        self.head = prediction.head
        self.sizes = self.head.table.digit_sizes
        self.temperature = temperature
        self.now = prediction.now[row].tolist()
        self.base = prediction.base[row]
        self.pi = self._softmax(prediction.log_pi[row])
        groups = groups_of(len(self.now)).tolist()
        self.groups = [groups[code] for code in self.head.order.tolist()]

    def probability(self, frame):
        """Of a whole next frame."""
        return sum(
            pi * math.prod(self.within(component, frame))
            for component, pi in enumerate(self.pi.tolist())
        )

    def within(self, component, frame):
        """Probabilities of each digit of a frame, in the order they are drawn in."""
        factors = []
        for place, code in enumerate(self.head.order.tolist()):
            digits = digits_of(frame[code], self.sizes)
            for digit, value in enumerate(digits):
                chances = self.chances(component, frame, place, digits[:digit])
                factors.append(chances[value].item())
        return factors

    def greedy(self):
        """The likeliest component, and group after group the likeliest digits."""
        component = int(self.pi.argmax())
        frame = [0] * len(self.now)
        for place, code in enumerate(self.head.order.tolist()):
            digits = []
            for _ in self.sizes:
                digits.append(int(self.chances(component, frame, place, digits).argmax()))
            for digit, size in reversed(list(zip(digits, self.sizes, strict=True))):
                frame[code] = frame[code] * size + digit
        return frame

    def chances(self, component, frame, place, digits_before):
        """Of the values of one digit, given the codes of earlier groups and digits before it."""
        head, table, size = self.head, self.head.table, self.head.table.size
        order = head.order.tolist()
        moved = (self.base + head.components[component]).relu()
        query = head.to_queries.weight[place * size : (place + 1) * size] @ moved
        for before, group in enumerate(self.groups):
            if group < self.groups[place]:
                numbers = table.embed(torch.tensor(frame[order[before]]))
                rows, columns = (slice(at * size, (at + 1) * size) for at in (before, place))
                query = query + numbers @ head.coupling[rows, columns]
        digit = len(digits_before)
        start = sum(self.sizes[:digit])
        values = slice(start, start + self.sizes[digit])
        logits = table.bias[place, values].clone()
        if len(self.sizes) > 1:
            logits += query[values]
        else:
            logits += table.embed(torch.arange(self.sizes[0])) @ query
        now = digits_of(self.now[order[place]], self.sizes)
        kept = now[:digit] == digits_before
        logits[now[digit]] += head.keep[place, digit, int(kept)]
        return self._softmax(logits)

    def _softmax(self, logits):
        return (logits / self.temperature).softmax(-1).double()
