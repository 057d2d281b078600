import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from worldmodels.memory.code_table import FREE_SIZE, CodeTable

VECTORS = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))


def table(sizes: tuple[int, ...], num_codes: int = 4, vectors: Tensor = VECTORS) -> CodeTable:
    torch.manual_seed(1)
    made = CodeTable(num_codes, sizes, vectors)
    torch.nn.init.normal_(made.bias)
    return made


def test_a_lattice_code_goes_in_as_its_digits_one_hot() -> None:
    lattice = table((2, 3))
    assert lattice.size == 5
    # Code 3 is digits (1, 1): the first digit is the fastest.
    assert lattice.embed(torch.tensor([0, 3])).tolist() == [[1, 0, 1, 0, 0], [0, 1, 0, 1, 0]]


def test_a_codebook_code_goes_in_as_its_vector_its_squares_and_learned_numbers() -> None:
    book = table((6,))
    assert book.size == 3 + 3 + FREE_SIZE
    embedded = book.embed(torch.tensor([[5, 2]]))
    v = (VECTORS - VECTORS.mean(0)) / VECTORS.std(0, correction=0)
    torch.testing.assert_close(embedded[0, :, :3], v[[5, 2]])
    torch.testing.assert_close(embedded[0, :, 3:6], v[[5, 2]].square() - 1)
    torch.testing.assert_close(embedded[0, :, 6:], book.free[[5, 2]])
    every = book.embed(torch.arange(6))[:, :6]
    torch.testing.assert_close(every.mean(0), torch.zeros(6), atol=1e-5, rtol=0)


def test_a_query_can_name_any_diagonal_gaussian_over_code_vectors() -> None:
    book = table((6,))
    torch.nn.init.zeros_(book.bias)
    std, mean = torch.std_mean(VECTORS, 0, correction=0)
    centre, sigma = torch.tensor([0.5, -1.0, 0.2]), torch.tensor([0.3, 1.0, 2.0])
    # In units of the codebook: -(v - m)^2 / 2 s^2 = v m / s^2 - v^2 / 2 s^2 + constant.
    m, s = (centre - mean) / std, sigma / std
    query = torch.cat([m / s.square(), -0.5 / s.square(), torch.zeros(FREE_SIZE)])
    (logits,) = book.logits(query.expand(4, -1))
    density = torch.distributions.Normal(centre, sigma).log_prob(VECTORS).sum(-1)
    torch.testing.assert_close(logits[0].log_softmax(-1), density.log_softmax(-1))


def test_logits_are_queries_plus_the_biases_of_the_codes_chosen() -> None:
    lattice, book = table((2, 3)), table((6,))
    queries = torch.randn(2, 4, 5)
    first, second = lattice.logits(queries)
    torch.testing.assert_close(torch.cat([first, second], -1), queries + lattice.bias)
    assert (first.shape[-1], second.shape[-1]) == (2, 3)
    part = lattice.logits(queries[:, 1:3], slice(1, 3))
    torch.testing.assert_close(part[1], second[:, 1:3])
    queries = torch.randn(2, 4, book.size)
    (logits,) = book.logits(queries)
    by_hand = queries[1, 2] @ book.embed(torch.tensor(4)) + book.bias[2, 4]
    torch.testing.assert_close(logits[1, 2, 4], by_hand)
    torch.testing.assert_close(book.logits(queries[:, 1:3], slice(1, 3))[0], logits[:, 1:3])


@pytest.mark.parametrize("sizes", [(2, 3), (6,)])
def test_expected_numbers_are_the_mean_over_values(sizes: tuple[int, ...]) -> None:
    made = table(sizes)
    probabilities = tuple(torch.rand(5, size).softmax(-1) for size in sizes)
    total = torch.zeros(5, made.size)
    for code in range(6):
        rest, chance = code, torch.ones(5)
        for size, part in zip(sizes, probabilities, strict=True):
            chance = chance * part[:, rest % size]
            rest //= size
        total += chance[:, None] * made.embed(torch.tensor(code))
    torch.testing.assert_close(made.expected(torch.cat(probabilities, -1)), total)
    sure = torch.cat([F.one_hot(torch.tensor([1]), size).float() for size in sizes], -1)
    one = torch.tensor([3 if len(sizes) > 1 else 1])
    torch.testing.assert_close(made.expected(sure), made.embed(one))


def test_a_number_that_all_vectors_share_does_no_harm() -> None:
    vectors = VECTORS.clone()
    vectors[:, 1] = 7.0
    assert table((6,), vectors=vectors).embed(torch.arange(6)).abs().max() < 20


def test_a_codebook_in_large_hardly_costs_weights() -> None:
    """A vector of a codebook adds `FREE_SIZE` learned numbers, and a bias for each of N codes."""
    small, large = (
        sum(p.numel() for p in CodeTable(16, (k,), torch.randn(k, 4)).parameters())
        for k in (64, 256)
    )
    assert large - small == (256 - 64) * (16 + FREE_SIZE)
    assert CodeTable(16, (64,), torch.randn(64, 4)).size == 8 + FREE_SIZE
