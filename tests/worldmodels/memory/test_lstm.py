from typing import Any

import pytest
import torch

from worldmodels.memory.lstm import LSTM


@pytest.fixture
def pair() -> tuple[LSTM, torch.nn.LSTM]:
    """Make our LSTM, and torch's LSTM with the same weights and with a second bias of zero."""
    torch.manual_seed(0)
    ours, theirs = LSTM(3, 4), torch.nn.LSTM(3, 4, batch_first=True)
    copied: Any = theirs
    with torch.no_grad():
        ours.bias.normal_()
        copied.weight_ih_l0.copy_(ours.weight_input)
        copied.weight_hh_l0.copy_(ours.weight_hidden)
        copied.bias_ih_l0.copy_(ours.bias)
        copied.bias_hh_l0.zero_()
    return ours, theirs


def test_it_is_torchs_lstm_with_one_bias(pair: tuple[LSTM, torch.nn.LSTM]) -> None:
    ours, theirs = pair
    inputs = torch.randn(2, 6, 3)
    outputs, state = ours.sequence(inputs, ours.initial(2))
    expected, (h, c) = theirs(inputs)
    torch.testing.assert_close(outputs, expected)
    torch.testing.assert_close(state.h, h[0])
    torch.testing.assert_close(state.c, c[0])


def test_stepping_is_the_sequence_from_any_state(pair: tuple[LSTM, torch.nn.LSTM]) -> None:
    ours, _ = pair
    inputs = torch.randn(2, 6, 3)
    _, middle = ours.sequence(inputs[:, :2], ours.initial(2))
    outputs, end = ours.sequence(inputs[:, 2:], middle)
    state = ours.initial(2)
    for step in range(6):
        state = ours.step(inputs[:, step], state)
        if step >= 2:
            torch.testing.assert_close(state.h, outputs[:, step - 2])
    torch.testing.assert_close(state.c, end.c)


def test_it_counts_one_bias_a_gate_and_begins_by_remembering() -> None:
    lstm = LSTM(35, 256)
    assert sum(p.numel() for p in lstm.parameters()) == 4 * 256 * (35 + 256 + 1)
    # With a strong cell and no input, the forget gate at sigmoid(1) keeps most of it.
    quiet = LSTM(1, 3)
    for weight in (quiet.weight_input, quiet.weight_hidden):
        torch.nn.init.zeros_(weight)
    state = quiet.initial(1)._replace(c=torch.full((1, 3), 2.0))
    kept = quiet.step(torch.zeros(1, 1), state).c
    torch.testing.assert_close(kept, 2.0 * torch.sigmoid(torch.ones(1, 3)))


def test_rows_pick_from_the_batch() -> None:
    lstm = LSTM(1, 2)
    state = lstm.step(torch.arange(3.0)[:, None], lstm.initial(3))
    picked = state.rows(torch.tensor([2, 2, 0]))
    assert torch.equal(picked.h, state.h[[2, 2, 0]]) and torch.equal(picked.c, state.c[[2, 2, 0]])
