from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from worldmodels.errors import UserError
from worldmodels.map_elites.autoencoders import (
    REMEDIES,
    AutoencoderConfig,
    SolutionAutoencoder,
    SolutionVAE,
    SolutionVQVAE,
    make_autoencoder,
)

SMALL = AutoencoderConfig(num_latents=4, num_codes=3, code_size=2, codebook_size=8)


def solutions(count: int = 64, parameters: int = 12) -> Tensor:
    """Make solutions whose parameters depend on only two numbers per solution."""
    causes = torch.rand(count, 2, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mixing = torch.randn(2, parameters, generator=torch.Generator().manual_seed(1))
    return torch.tanh(causes @ mixing)


def config_of(kind: str) -> AutoencoderConfig:
    return replace(SMALL, kind=kind)


@pytest.mark.parametrize("kind", ["vae", "vqvae"])
def test_shapes_and_reconstruction(kind: str) -> None:
    torch.manual_seed(0)
    model, x = make_autoencoder(12, config_of(kind)), solutions()
    model.loss(x)  # the codebook begins at the first batch
    model.eval()
    code = model.encode(x)
    assert code.shape == (64, model.config.num_numbers)
    assert torch.equal(model.reconstruct(x), model.decode(code))
    assert model.decode(100 * torch.randn(5, model.config.num_numbers)).abs().max() <= 1


@pytest.mark.parametrize("kind", ["vae", "vqvae"])
def test_it_learns_what_solutions_share(kind: str) -> None:
    torch.manual_seed(0)
    model, x = make_autoencoder(12, config_of(kind)), solutions(256)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        model.loss(x).backward()
        optimizer.step()
    model.eval()
    fresh = solutions(512)[256:]
    error = (model.reconstruct(fresh) - fresh).square().sum(-1).mean()
    by_the_mean = (x.mean(0) - fresh).square().sum(-1).mean()
    assert error < 0.25 * by_the_mean


def test_the_vaes_loss_is_error_plus_kl() -> None:
    torch.manual_seed(0)
    model = SolutionVAE(12, replace(SMALL, kl_weight=0.7))
    x = solutions(8)
    mean, logvar = model.encoder(x).chunk(2, dim=-1)
    torch.manual_seed(3)
    code = mean + torch.randn_like(mean) * (logvar / 2).exp()
    error = (model.decode(code) - x).square().sum(-1).mean()
    kl = kl_divergence(Normal(mean, (logvar / 2).exp()), Normal(0.0, 1.0)).sum(-1).mean()
    torch.manual_seed(3)
    assert model.loss(x).item() == pytest.approx((error + 0.7 * kl).item(), rel=1e-5)
    assert torch.equal(model.encode(x), mean)


def test_codes_name_rows_of_the_codebook() -> None:
    torch.manual_seed(0)
    model, x = SolutionVQVAE(12, config_of("vqvae")), solutions()
    model.loss(x)
    model.eval()
    before = model.code_vectors.clone()
    codes, vectors = model.codes(x), model.encode(x).unflatten(-1, (3, 2))
    assert torch.equal(vectors, model.code_vectors[codes])
    raw = model.encoder(x).unflatten(-1, (3, 2))
    nearest = torch.cdist(raw.flatten(0, 1), model.code_vectors).argmin(-1)
    assert torch.equal(codes.flatten(), nearest)
    assert torch.equal(model.code_vectors, before)


def test_looking_moves_no_codebook_and_training_does() -> None:
    torch.manual_seed(0)
    model, x = SolutionVQVAE(12, config_of("vqvae")), solutions()
    model.loss(x)
    model.train()
    before = model.code_vectors.clone()
    model.reconstruct(x)
    assert torch.equal(model.code_vectors, before)
    model.loss(x / 2)
    assert not torch.equal(model.code_vectors, before)


def error_of(model: SolutionAutoencoder, x: Tensor) -> float:
    return (model.reconstruct(x) - x).square().sum(-1).mean().item()


@pytest.mark.parametrize("remedy", REMEDIES)
def test_every_remedy_trains(remedy: str) -> None:
    torch.manual_seed(0)
    model, x = SolutionVQVAE(12, replace(config_of("vqvae"), remedies=(remedy,))), solutions()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    model.loss(x)  # the codebook begins at the first batch
    before = error_of(model, x)
    for _ in range(100):
        optimizer.zero_grad()
        model.loss(x).backward()
        optimizer.step()
    assert error_of(model, x) < 0.6 * before
    if remedy == "cosine":
        assert model.code_vectors.norm(dim=-1) == pytest.approx(torch.ones(8).numpy(), abs=1e-4)


def test_what_is_refused() -> None:
    with pytest.raises(UserError, match='kind must be one of vae, vqvae, got "pca"'):
        AutoencoderConfig(kind="pca")
    with pytest.raises(UserError, match=r"remedies must be among .* got \['prayer'\]"):
        AutoencoderConfig(remedies=("prayer",))
    with pytest.raises(UserError, match="codebook_size must be at least 2, got 1"):
        AutoencoderConfig(codebook_size=1)
