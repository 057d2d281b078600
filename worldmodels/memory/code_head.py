"""M's output over codes: a mixture whose components are distributions over all codes of a frame.

The probability of the next frame of codes is factored as follows:

    p(frame) = sum over components m of  pi_m  *  p(group 1 | m)  *  p(group 2 | m, group 1)  * ...

    groups of a grid, sampled in the order 1, 2, 3, 4:         within a code of digits d1 d2 d3:

        1 3 1 3 ...        p(group | m, before) =               p(d1)
        4 2 4 2 ...          product over the codes of the group    p(d2 | d1 persisted or not)
        1 3 1 3 ...          of the product over their digits       p(d3 | d1, d2 persisted or not)

    log-odds of a digit's values = queries(state, present codes, component m)
                                 + conditioning_logits(codes of the groups before)
                                 + persistence_bonus, only for the present value of the digit

A component is sampled before the codes, and a component can change the probabilities of every code.
Within a component, each code of the earlier groups adds its own term to the logits of a code. A
joint effect of several codes can be expressed only by the choice of the component.
"""

import math
from itertools import pairwise
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from worldmodels.memory.code_table import CodeTable, Queries
from worldmodels.memory.codes import Codes
from worldmodels.memory.lstm import Hidden


class CodeHead(nn.Module):
    """Maps M's state and the present codes to a mixture over the next codes.

    A hidden layer receives M's state and the present codes. Each component of the mixture adds its
    own vector to the hidden layer, and all components share the weights of the output layer. A
    dream first samples a component, and then computes the distribution of codes only for this
    component. More components therefore take hardly any more time.

    Args:
        width: number of units of the hidden layer.
        autoregressive: whether groups of codes are sampled one after another. If False, the whole
            frame is one group, and all codes are independent given the component.
    """

    order: Tensor
    inverse_order: Tensor
    causal_mask: Tensor

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
        # Bonus 0 is used if an earlier digit of the same code changed, else bonus 1 is used.
        self.persistence_bonus = nn.Parameter(torch.zeros(num_codes, len(table.digit_sizes), 2))
        with torch.device("cpu"):  # the meta device cannot compute values
            one_group = torch.zeros(num_codes, dtype=torch.int64)
            group = groups_of(num_codes) if autoregressive else one_group
            order = torch.argsort(group, stable=True)
            ends = torch.bincount(group).cumsum(0).tolist()
            self.groups = [slice(start, end) for start, end in pairwise([0, *ends])]
            group = group[order].repeat_interleave(table.size)
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("inverse_order", torch.argsort(order), persistent=False)
        self.register_buffer("causal_mask", group[:, None] < group[None, :], persistent=False)
        with torch.no_grad():
            self.log_pi.weight.mul_(0.1)
            self.to_queries.weight.mul_(0.1)

    def base(self, hidden: Hidden, now: Codes) -> Float[Tensor, "*batch width"]:
        """Compute the hidden layer before a component's vector is added."""
        return cast(Tensor, self.from_state(hidden) + self.from_codes(self.table.seen(now)))

    def queries(self, moved: Float[Tensor, "*batch width"]) -> Queries:
        """Compute what one component of the mixture predicts for each code of the next frame.

        The results are queries, which a `CodeTable` maps to logits. They are in the order in which
        codes are sampled.
        """
        return cast(Tensor, self.to_queries(moved.relu()).unflatten(-1, (self.num_codes, -1)))

    def conditioning_logits(
        self, embedded: Float[Tensor, "*batch sampled"], codes: slice
    ) -> Queries:
        """Compute the term that the embeddings of earlier codes add to the queries of `codes`."""
        size = self.table.size
        weights = self.coupling[: embedded.shape[-1], codes.start * size : codes.stop * size]
        return cast(Tensor, (embedded @ weights).unflatten(-1, (-1, size)))


def groups_of(num_codes: int) -> Int[Tensor, "code"]:
    """Assign each code of a frame to one of up to four groups; return each code's group index."""
    side = math.isqrt(num_codes)
    if side * side != num_codes:
        return torch.arange(num_codes) % min(4, num_codes)
    row, column = torch.arange(side)[:, None] % 2, torch.arange(side)[None, :] % 2
    group = 2 * (row ^ column) + row
    return cast(Tensor, torch.unique(group.flatten(), return_inverse=True)[1])
