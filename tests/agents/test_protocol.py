import json

import pytest

from agents.protocol import EvaluationProtocol, Purpose


def test_a_protocol_names_its_episodes_and_survives_json() -> None:
    protocol = EvaluationProtocol("Tiny-v0", "validation", 3, start=2, perturbation="bars")
    assert protocol.seeds == [1_000_002, 1_000_003, 1_000_004]
    assert EvaluationProtocol.from_dict(json.loads(json.dumps(protocol.to_dict()))) == protocol


def test_purposes_share_no_seed() -> None:
    purposes: tuple[Purpose, ...] = ("monitoring", "selection", "validation", "test")
    drawn = [EvaluationProtocol("Tiny-v0", purpose, 100_000).seeds for purpose in purposes]
    assert len({seed for part in drawn for seed in part}) == 400_000


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("selection", 0), "expected at least 1 episode to evaluate, got 0"),
        (("selection", 100_001), "the selection split holds 100,000 seeds"),
        (("training", 1), "expected a purpose among monitoring, selection, validation, test"),
    ],
)
def test_impossible_protocols_are_refused(
    unchecked: None, settings: tuple[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        EvaluationProtocol("Tiny-v0", *settings)  # type: ignore[arg-type]  # on purpose
