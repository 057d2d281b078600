import json
from dataclasses import asdict

import pytest
import torch

from tests.fixtures.tiny_models import vae, vqvae
from worldmodels.memory.training import MemoryModelConfig, MemoryStageConfig, new_memory
from worldmodels.training.fit import FitConfig

FIT = FitConfig(3, 2)
MODEL = MemoryModelConfig(
    num_hidden=6,
    num_mixtures=2,
    predict_change=True,
    head_width=8,
    autoregressive=False,
    end_weight=3.0,
)
CONFIG = MemoryStageConfig(fit=FIT, later=FIT, model=MODEL, sequence_length=20, burn_in=4)


def test_a_config_is_read_back_from_a_manifest() -> None:
    assert MemoryStageConfig.from_dict(json.loads(json.dumps(asdict(CONFIG)))) == CONFIG


def test_a_manifest_of_an_earlier_version_has_the_models_settings_beside_the_stages() -> None:
    summary = asdict(CONFIG)
    earlier = {**summary, **summary.pop("model")}
    del earlier["model"], earlier["end_weight"]  # which could not be chosen then
    read = MemoryStageConfig.from_dict(earlier)
    assert asdict(read) == {**asdict(CONFIG), "model": {**asdict(MODEL), "end_weight": 1.0}}


@pytest.mark.parametrize("kind", ["vae", "fsq"])
def test_each_kind_of_m_takes_its_part_of_the_settings(kind: str) -> None:
    vision = vae() if kind == "vae" else vqvae("fsq")
    config = asdict(new_memory(CONFIG, vision, 3).config)
    assert (config["num_hidden"], config["num_mixtures"], config["end_weight"]) == (6, 2, 3.0)
    own = {"predict_change": True, "num_latents": 3, "num_actions": 3}
    if kind == "fsq":
        own = {"head_width": 8, "autoregressive": False, "num_codes": 16, "vector_size": 2}
    assert own.items() <= config.items()
    assert ("head_width" in config) == (kind == "fsq") == ("predict_change" not in config)


def test_an_m_has_the_vectors_of_vs_codes() -> None:
    vision = vqvae("fsq")
    memory = new_memory(CONFIG, vision, 3)
    assert torch.equal(memory.state_dict()["code_vectors"], vision.code_vectors)
