"""The predicted distribution of the codes of the next frame: likelihood, mean and samples."""

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from worldmodels.memory.code_head import CodeHead
from worldmodels.memory.code_table import Queries
from worldmodels.memory.codes import (
    Codes,
    Logits,
    from_digits,
    inverse_cdf,
    log_sum_exp,
    sample_categorical,
    to_digits,
    uniforms,
)
from worldmodels.memory.outcome import Outcome


@dataclass(frozen=True)
class CodePrediction:
    """A mixture of distributions over the next frame's codes, and the outcome of the agent step.

    The module `code_head` contains the formula of the mixture.

    Attributes:
        head: the head that made the prediction. The head computes logits only when a method of this
            class needs them.
        log_pi: log-weights of the mixture's components.
        base: the head's hidden layer before a component's vector is added.
        now: the present codes.
    """

    head: CodeHead
    log_pi: Float[Tensor, "*batch mixture"]
    base: Float[Tensor, "*batch width"]
    now: Codes
    outcome: Outcome

    def log_prob(self, codes_next: Codes) -> Float[Tensor, "*batch"]:
        """Return the log-likelihood, in nats, of all codes of the next frame together."""
        head, sizes = self.head, self.head.table.digit_sizes
        codes = codes_next[..., head.order]
        embedded = head.table.embed(codes).flatten(-2)
        weights = head.coupling * head.causal_mask
        conditioning = (embedded @ weights).unflatten(-1, (head.num_codes, -1))
        queries = head.queries(self.base[..., None, :] + head.components)
        now, then = (to_digits(c, sizes) for c in (self.now[..., head.order], codes))
        persisted = torch.ones_like(codes, dtype=torch.bool)
        total: Tensor = self.log_pi.new_zeros(())
        for digit, logits in enumerate(head.table.logits(queries + conditioning[..., None, :, :])):
            if_changed, if_persisted = head.persistence_bonus[:, digit].unbind(-1)
            bonus = torch.where(persisted, if_persisted, if_changed)[..., None, :]
            now_digit = now[..., None, :, digit]
            logits = add_to_logit(logits, now_digit.expand(logits.shape[:-1]), bonus)
            target = then[..., None, :, digit, None].expand(*logits.shape[:-1], 1)
            log_p = logits.gather(-1, target)[..., 0] - log_sum_exp(logits)
            total = total + log_p.sum(-1)
            persisted = persisted & (then[..., digit] == now[..., digit])
        return (self.log_pi + total).logsumexp(-1)

    def mean(self) -> Float[Tensor, "*batch number"]:
        """Compute the means of the next codes, concatenated in the order in which they are sampled.

        For a lattice, the mean of a code consists of the probabilities of each digit's values. For
        a codebook, the mean of a code consists of the mean code vector and the mean of the squared
        code vectors. The result is approximate, because each code is conditioned on the mean
        embeddings of the earlier codes.
        """
        head = self.head
        now = to_digits(self.now[..., head.order], head.table.digit_sizes)[..., None, :, :]
        queries = head.queries(self.base[..., None, :] + head.components)
        embedded = queries.new_zeros(*queries.shape[:-2], 0)
        means: list[Tensor] = []
        for codes in head.groups:
            conditioned = queries[..., codes, :] + head.conditioning_logits(embedded, codes)
            chances: list[Tensor] = []
            persisted = conditioned.new_ones(conditioned.shape[:-1])  # a probability
            for digit, logits in enumerate(head.table.logits(conditioned, codes)):
                now_digit = now[..., codes, digit].expand(persisted.shape)
                changed, unchanged = head.persistence_bonus[codes, digit].unbind(-1)
                chance = if_persisted = add_to_logit(logits, now_digit, unchanged).softmax(-1)
                if digit:
                    if_changed = add_to_logit(logits, now_digit, changed).softmax(-1)
                    chance = if_changed + persisted[..., None] * (if_persisted - if_changed)
                chances.append(chance)
                persisted = persisted * if_persisted.gather(-1, now_digit[..., None])[..., 0]
            together = torch.cat(chances, -1)
            embedded = torch.cat([embedded, head.table.expected(together).flatten(-2)], -1)
            means.append(head.table.expected(together, learned=False).flatten(-2))
        return (self.log_pi.exp()[..., None] * torch.cat(means, -1)).sum(-2)

    def disagreement(self) -> None:
        """Return None, because a single model has no disagreement."""

    @torch.no_grad()
    def sample(
        self,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        num_candidates: int = 1,
    ) -> Codes:
        """Sample the next codes; the temperature divides all logits.

        First a component is sampled, and then codes are sampled from this component alone, group by
        group. The logits of all components would take several times as long to compute. At
        temperature 0 each sample is replaced by the likeliest component or value.

        The batch consists of `num_candidates` blocks of equal size, and row i of every block gets
        the same noise.
        """
        head, batch = self.head, self.log_pi.shape[:-1]
        component = sample_categorical(self.log_pi, temperature, generator, num_candidates)
        moved = self.base + F.embedding(component, head.components)
        queries = head.to_queries(moved.relu_()).flatten(0, -2)
        ordered = self.now.index_select(-1, head.order)
        # The digits are looked up, because the divisions of `to_digits` take 0.4 ms.
        now = head.table.digits.index_select(0, ordered.flatten()).view(*ordered.shape, -1)
        uniform = uniforms(now, generator, num_candidates).flatten(0, -3)
        now = now.flatten(0, -3)
        groups: list[Tensor] = []
        width = head.table.size
        for codes in head.groups:
            first, rest = codes.start * width, codes.stop * width
            of_group = queries[:, first:rest].unflatten(-1, (-1, width))
            places = codes, of_group, now[:, codes], uniform[:, codes]
            groups.append(self._sample_group(*places, temperature))
            if rest < queries.shape[-1]:
                embedded = head.table.embed(groups[-1]).flatten(-2)
                # Added in place for all later codes at once; nothing else uses these queries.
                queries[:, rest:].addmm_(embedded, head.coupling[first:rest, rest:])
        ordered = torch.cat(groups, -1)
        return cast(Tensor, ordered.index_select(-1, head.inverse_order).unflatten(0, batch))

    def _sample_group(
        self,
        codes: slice,
        queries: Queries,
        now: Int[Tensor, "*batch code digit"],
        uniform: Float[Tensor, "*batch code digit"],
        temperature: float,
    ) -> Codes:
        """Sample the codes of one group, digit by digit."""
        digits: list[Tensor] = []
        persisted: Tensor | None = None
        for digit, logits in enumerate(self.head.table.logits(queries, codes)):
            now_digit, bonuses = now[..., digit], self.head.persistence_bonus[codes, digit]
            bonus = bonuses[:, 1].expand(now_digit.shape)
            if persisted is not None:
                bonus = torch.where(persisted, bonus, bonuses[:, 0])
            # The bonus is added in place, because nothing else uses these logits.
            logits.scatter_add_(-1, now_digit[..., None], bonus[..., None])
            digits.append(inverse_cdf(uniform[..., digit], logits, temperature))
            if len(digits) < now.shape[-1]:
                persists = digits[-1] == now_digit
                persisted = persists if persisted is None else persisted & persists
        return from_digits(torch.stack(digits, -1), self.head.table.digit_sizes)


def add_to_logit(
    logits: Logits, value: Int[Tensor, "*batch"], bonus: Float[Tensor, "*#batch"]
) -> Logits:
    """Add a bonus to one logit of each row: the logit of `value`."""
    where = value[..., None]
    return logits.scatter_add(-1, where, bonus.expand(value.shape)[..., None])
