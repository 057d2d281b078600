"""What numbers per code goes into M as, and how M's output becomes log-odds of its values."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from worldmodels.memory.codes import to_digits

FREE_SIZE = 8
Queries = Float[Tensor, "*batch code number"]


class CodeTable(nn.Module):
    """Codes <-> E numbers each, and queries of E numbers -> logits of the values of a code.

    Lattice codes (several digits) are small categoricals: their E numbers are the digits' one-hot
    vectors, and a query is the logits themselves.

    Codebook codes (one digit of K values) would need K of each. Their E numbers are the vector v
    that V gives the value, its squares, and `FREE_SIZE` learned ones; the logits of a query are
    its inner products with those. With v and its squares a query can name any diagonal Gaussian
    over code vectors, so that M's cost hardly grows with K and values that look alike are alike.

    Attributes:
        size: E.
        digits: of each value, (K, digits).
        bias: of the logits of each code's values, (N, all digits' values).
    """

    vectors: Tensor
    digits: Tensor
    one_hot: Tensor

    def __init__(
        self,
        num_codes: int,
        digit_sizes: tuple[int, ...],
        code_vectors: Float[Tensor, "value vector"],
    ) -> None:
        super().__init__()
        self.digit_sizes = digit_sizes
        self.bias = nn.Parameter(torch.zeros(num_codes, sum(digit_sizes)))
        self.lattice = len(digit_sizes) > 1
        digits = to_digits(torch.arange(math.prod(digit_sizes)), digit_sizes)
        self.register_buffer("digits", digits, persistent=False)
        if self.lattice:
            self.size = sum(digit_sizes)
            pairs = zip(digits.unbind(-1), digit_sizes, strict=True)
            one_hot = torch.cat([F.one_hot(digit, size) for digit, size in pairs], -1)
            self.register_buffer("one_hot", one_hot.to(self.bias.dtype), persistent=False)
        else:
            self.free = nn.Parameter(0.1 * torch.randn(len(code_vectors), FREE_SIZE))
            self.size = 2 * code_vectors.shape[1] + FREE_SIZE
        std, mean = torch.std_mean(code_vectors, 0, correction=0)
        vectors = (code_vectors - mean) / std.clamp(min=1e-6)
        self.register_buffer("vectors", torch.cat([vectors, vectors.square() - 1.0], -1))

    def seen(self, codes: Int[Tensor, "*batch code"]) -> Float[Tensor, "*batch feature"]:
        """The vectors that codes stand for, and their squares, side by side."""
        return F.embedding(codes, self.vectors).flatten(-2)

    def embed(self, codes: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch number"]:
        """The E numbers of each code."""
        # F.embedding: 0.07 ms where indexing takes 0.3.
        return F.embedding(codes, self._rows())

    def expected(
        self, probabilities: Float[Tensor, "*batch value"], learned: bool = True
    ) -> Float[Tensor, "*batch number"]:
        """The mean of the E numbers.

        Args:
            probabilities: of each digit's values, digit after digit.
            learned: False leaves out what this table alone has learned of a codebook's values.
        """
        if self.lattice:
            return probabilities
        return probabilities @ (self._rows() if learned else self.vectors)

    def logits(
        self, queries: Queries, chosen: slice = slice(None)
    ) -> tuple[Float[Tensor, "*batch code _"], ...]:
        """Log-odds, up to a constant, of the values of each digit.

        Args:
            chosen: which of the frame's codes the queries are for.
        """
        if not self.lattice:
            return ((queries @ self._rows().T).add_(self.bias[chosen]),)
        logits = queries + self.bias[chosen]
        result: tuple[Tensor, ...] = logits.split(list(self.digit_sizes), dim=-1)
        return result

    def _rows(self) -> Float[Tensor, "value number"]:
        return self.one_hot if self.lattice else torch.cat([self.vectors, self.free], -1)
