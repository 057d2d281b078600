"""M's output over codes: a mixture over whole next frames, read off its state."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodels.memory.code_table import CodeTable
from worldmodels.memory.codes import (
    from_digits,
    inverse_cdf,
    log_sum_exp,
    sample_categorical,
    to_digits,
    uniforms,
)
from worldmodels.memory.outcome import Outcome


class CodeHead(nn.Module):
    """M's state and the present codes -> a mixture over the next codes.

    A hidden layer sees M's state and the present codes; each component of the mixture moves it
    by a vector of its own and is read off by the same weights, so that in a dream, where the
    component is drawn first, components cost nothing.

    The codes of a frame come in four groups, the squares of a checkerboard and then the rest;
    those of one group also hear which codes were drawn for the groups before it.

    Args:
        width: of the hidden layer.
        coupled: False makes the whole frame one group: codes are independent given the component.
    """

    order: Tensor
    place: Tensor
    earlier: Tensor

    def __init__(
        self,
        num_hidden: int,
        num_codes: int,
        num_mixtures: int,
        width: int,
        table: CodeTable,
        autoregressive: bool = True,
    ) -> None:
        super().__init__()
        self.table = table
        self.num_codes = num_codes
        size = num_codes * table.size
        self.log_pi = nn.Linear(num_hidden, num_mixtures)
        self.from_state = nn.Linear(num_hidden, width, bias=False)
        self.from_codes = nn.Linear(num_codes * table.vectors.shape[1], width, bias=False)
        self.components = nn.Parameter(torch.randn(num_mixtures, width))
        self.to_queries = nn.Linear(width, size, bias=False)
        self.coupling = nn.Parameter(torch.zeros(size, size))
        self.keep = nn.Parameter(torch.zeros(num_codes, len(table.digit_sizes), 2))
        with torch.device("cpu"):  # computed, which the meta device cannot
            group = (
                groups_of(num_codes)
                if autoregressive
                else torch.zeros(num_codes, dtype=torch.int64)
            )
            order = torch.argsort(group, stable=True)
            self.group_sizes = torch.bincount(group).tolist()
            group = group[order].repeat_interleave(table.size)
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("place", torch.argsort(order), persistent=False)
        self.register_buffer("earlier", group[:, None] < group[None, :], persistent=False)
        with torch.no_grad():
            self.log_pi.weight.mul_(0.1)
            self.to_queries.weight.mul_(0.1)

    def base(
        self, hidden: Float[Tensor, "*batch hidden"], now: Int[Tensor, "*batch code"]
    ) -> Float[Tensor, "*batch width"]:
        """The hidden layer before a component has moved it."""
        return self.from_state(hidden) + self.from_codes(self.table.seen(now))

    def queries(self, moved: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch code number"]:
        """What a component asks of each code, in the order codes are drawn in."""
        return self.to_queries(moved.relu()).unflatten(-1, (self.num_codes, -1))

    def heard(
        self, embedded: Float[Tensor, "*batch drawn"], codes: slice
    ) -> Float[Tensor, "*batch code number"]:
        """What the codes in these places hear of the ones before them.

        `embedded`: the numbers of those drawn so far, side by side.
        """
        size = self.table.size
        weights = self.coupling[: embedded.shape[-1], codes.start * size : codes.stop * size]
        return (embedded @ weights).unflatten(-1, (-1, size))


def groups_of(num_codes: int) -> Int[Tensor, "code"]:
    """Which of four groups each code of a frame is drawn in."""
    side = math.isqrt(num_codes)
    if side * side != num_codes:
        return torch.arange(num_codes) % min(4, num_codes)
    row, column = torch.arange(side)[:, None] % 2, torch.arange(side)[None, :] % 2
    group = 2 * (row ^ column) + row
    return torch.unique(group.flatten(), return_inverse=True)[1]


@dataclass(frozen=True)
class CodePrediction:
    """A mixture over whole next frames of codes, and the outcome.

    Which codes move together is said in two ways. The component, drawn first, is a whole future:
    it may move every code, in any way. Within a component a code hears the codes of the groups
    drawn before its own, each adding its own log-odds: pairs of codes can attract or exclude one
    another, but what three of them mean together, beyond the sum of what each means, only a
    component can say. Codes of one group are independent given all this, and so are a code's
    digits but for one thing: whether a digit keeps its value may depend on whether the digits
    before it, in the same code, kept theirs.

    Attributes:
        head: whose prediction it is; the log-odds are computed where they are asked for.
        log_pi: of the M components.
        base: the head's hidden layer before a component has moved it.
        now: the present codes.
    """

    head: CodeHead
    log_pi: Float[Tensor, "*batch mixture"]
    base: Float[Tensor, "*batch width"]
    now: Int[Tensor, "*batch code"]
    outcome: Outcome

    def log_prob(self, codes_next: Int[Tensor, "*batch code"]) -> Float[Tensor, "*batch"]:
        """Log-likelihood of the next codes, in nats, summed over the frame's codes."""
        head, sizes = self.head, self.head.table.digit_sizes
        codes = codes_next[..., head.order]
        embedded = head.table.embed(codes).flatten(-2)
        heard = (embedded @ (head.coupling * head.earlier)).unflatten(-1, (head.num_codes, -1))
        queries = head.queries(self.base[..., None, :] + head.components)
        now, then = (to_digits(c, sizes) for c in (self.now[..., head.order], codes))
        kept = torch.ones_like(codes, dtype=torch.bool)
        total: Tensor = self.log_pi.new_zeros(())
        for digit, logits in enumerate(head.table.logits(queries + heard[..., None, :, :])):
            left, stayed = head.keep[:, digit].unbind(-1)
            bonus = torch.where(kept, stayed, left)[..., None, :]
            now_digit = now[..., None, :, digit]
            logits = _favour(logits, now_digit.expand(logits.shape[:-1]), bonus)
            target = then[..., None, :, digit, None].expand(*logits.shape[:-1], 1)
            log_p = logits.gather(-1, target)[..., 0] - log_sum_exp(logits)
            total = total + log_p.sum(-1)
            kept = kept & (then[..., digit] == now[..., digit])
        return (self.log_pi + total).logsumexp(-1)

    def mean(self) -> Float[Tensor, "*batch number"]:
        """What the next codes are on average, side by side, in the order they are drawn in.

        Probabilities of each digit's values for lattices, vectors and their squares for codebooks.
        Approximate: a code hears the expected numbers of the codes before it.
        """
        head = self.head
        now = to_digits(self.now[..., head.order], head.table.digit_sizes)[..., None, :, :]
        queries = head.queries(self.base[..., None, :] + head.components)
        embedded = queries.new_zeros(*queries.shape[:-2], 0)
        means: list[Tensor] = []
        start = 0
        for size in head.group_sizes:
            codes = slice(start, start + size)
            asked = queries[..., codes, :] + head.heard(embedded, codes)
            chances: list[Tensor] = []
            kept = asked.new_ones(asked.shape[:-1])  # the chance that the digits before it are
            for digit, logits in enumerate(head.table.logits(asked, codes)):
                now_digit = now[..., codes, digit].expand(kept.shape)
                left, stayed = head.keep[codes, digit].unbind(-1)
                chance = if_kept = _favour(logits, now_digit, stayed).softmax(-1)
                if digit:
                    if_left = _favour(logits, now_digit, left).softmax(-1)
                    chance = if_left + kept[..., None] * (if_kept - if_left)
                chances.append(chance)
                kept = kept * if_kept.gather(-1, now_digit[..., None])[..., 0]
            embedded = torch.cat([embedded, head.table.expected(tuple(chances)).flatten(-2)], -1)
            means.append(head.table.expected_vectors(tuple(chances)).flatten(-2))
            start += size
        return (self.log_pi.exp()[..., None] * torch.cat(means, -1)).sum(-2)

    @torch.no_grad()
    def sample(
        self,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        num_candidates: int = 1,
    ) -> Int[Tensor, "*batch code"]:
        """Next codes; temperature tau divides all log-odds.

        At temperature 0: the likeliest component, and group after group its likeliest digits.
        `num_candidates`: the batch is so many equal blocks, and row i of each gets the same noise.

        The component is drawn first, then only its codes: drawing over the log-odds of all
        components costs several times as much.
        """
        head, batch = self.head, self.log_pi.shape[:-1]
        component = sample_categorical(self.log_pi, temperature, generator, num_candidates)
        moved = self.base + F.embedding(component, head.components)
        asked = head.to_queries(moved.relu_()).flatten(0, -2)
        ordered = self.now.index_select(-1, head.order)
        # Looked up: the divisions of `to_digits` take 0.4 ms.
        now = head.table.digits.index_select(0, ordered.flatten()).view(*ordered.shape, -1)
        uniform = uniforms(now, generator, num_candidates).flatten(0, -3)
        now = now.flatten(0, -3)
        drawn: list[Tensor] = []
        start, width = 0, head.table.size
        for size in head.group_sizes:
            codes, rest = slice(start, start + size), (start + size) * width
            queries = asked[:, start * width : rest].unflatten(-1, (size, width))
            drawn.append(self._draw(codes, queries, now[:, codes], uniform[:, codes], temperature))
            if rest < asked.shape[-1]:
                embedded = head.table.embed(drawn[-1]).flatten(-2)
                # In place, to all that follow at once: nobody else sees what is asked.
                asked[:, rest:].addmm_(embedded, head.coupling[start * width : rest, rest:])
            start += size
        return torch.cat(drawn, -1).index_select(-1, head.place).unflatten(0, batch)

    def _draw(
        self,
        codes: slice,
        asked: Float[Tensor, "*batch code number"],
        now: Int[Tensor, "*batch code digit"],
        uniform: Float[Tensor, "*batch code digit"],
        temperature: float,
    ) -> Int[Tensor, "*batch code"]:
        """The codes of one group, digit after digit."""
        digits: list[Tensor] = []
        kept: Tensor | None = None
        for digit, logits in enumerate(self.head.table.logits(asked, codes)):
            now_digit, keep = now[..., digit], self.head.keep[codes, digit]
            stayed = keep[:, 1].expand(now_digit.shape)
            bonus = stayed if kept is None else torch.where(kept, stayed, keep[:, 0])
            # In place: nobody else has seen these logits.
            logits.scatter_add_(-1, now_digit[..., None], bonus[..., None])
            digits.append(inverse_cdf(uniform[..., digit], logits, temperature))
            if len(digits) < now.shape[-1]:
                stays = digits[-1] == now_digit
                kept = stays if kept is None else kept & stays
        return from_digits(torch.stack(digits, -1), self.head.table.digit_sizes)


def _favour(
    logits: Float[Tensor, "*batch value"],
    value: Int[Tensor, "*batch"],
    bonus: Float[Tensor, "*#batch"],
) -> Float[Tensor, "*batch value"]:
    """Logits with a bonus added to one value each."""
    where = value[..., None]
    return logits.scatter_add(-1, where, bonus.expand(value.shape)[..., None])
