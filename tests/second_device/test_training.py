"""Training on a second device: the CPU's weights bit for bit, and its draws seeded and put back."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from memviz.models.vae import MLPVAE
from memviz.restored import random_kept
from memviz.training import train
from memviz.training.density import train_vae
from memviz.training.early_learning import ELR, train_two
from memviz.training.epochs import seeded_draws
from memviz.training.subsets import Recipe
from tests.support.figures import differing
from tests.support.second_device import DEVICE, NAME

QUIET: dict[str, Any] = {"epochs": 2, "batch_size": 5, "progress": False}
PLACES = torch.device("cpu"), DEVICE


def net(device: torch.device, *, drops: bool = False) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        layers = [nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Dropout(0.5 * drops)]
        return nn.Sequential(*layers, nn.Linear(8, 4)).to(device)


def data(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    drawn = torch.rand(12, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    return drawn.to(device), (torch.arange(12) % 4).to(device)


def plain(device: torch.device) -> Any:
    model = net(device)
    return train(model, *data(device), **QUIET), model.state_dict()


def early_learning(device: torch.device) -> Any:
    model, loss = net(device), ELR(12, 4)
    return train(model, *data(device), loss=loss, **QUIET), model.state_dict(), loss.state_dict()


def two(device: torch.device) -> Any:
    models = net(device), net(device)
    train_two(models, *data(device), (ELR(12, 4), ELR(12, 4)), **QUIET)
    return [model.state_dict() for model in models]


@pytest.mark.parametrize("training", [plain, early_learning, two])
def test_weights_are_the_cpu_s(training: Any) -> None:
    one, other = (training(device) for device in PLACES)
    assert differing(one, other) == []


def dropout(device: torch.device) -> Any:
    model = net(device, drops=True)
    train(model, *data(device), **QUIET)
    return model.state_dict()


def vae(device: torch.device) -> Any:
    model = MLPVAE(16, (5,), latent=2, seed=0).to(device)
    train_vae(model, (data(device)[0] > 0.5).float(), epochs=2, batch_size=5)
    return model.state_dict()


def test_a_recipe_trains_on_its_device() -> None:
    inputs, labels = data(PLACES[0])
    chosen = torch.arange(9)
    found = [
        Recipe(partial(net, PLACES[0]), epochs=3, batch_size=5, device=str(place))(
            inputs, labels, chosen, 1
        )
        for place in PLACES
    ]
    assert found[1].device == PLACES[0] and found[0].tolist() == found[1].tolist()


@pytest.mark.parametrize("training", [dropout, vae])
def test_what_the_device_draws_is_seeded_and_put_back(training: Any) -> None:
    torch.standin.manual_seed_all(1)  # type: ignore[attr-defined]
    state = torch.standin.get_rng_state()  # type: ignore[attr-defined]
    first = training(DEVICE)
    assert torch.equal(state, torch.standin.get_rng_state())  # type: ignore[attr-defined]
    torch.standin.manual_seed_all(2)  # type: ignore[attr-defined]
    assert differing(first, training(DEVICE)) == []


def test_seeded_draws_reach_the_device() -> None:
    drawn = []
    for _ in range(2):
        with seeded_draws(3, NAME):
            drawn.append(torch.rand(4, device=DEVICE))
    assert drawn[0].tolist() == drawn[1].tolist()


def test_a_draw_on_the_device_is_undone() -> None:
    before = torch.rand(2, device=DEVICE)
    state = torch.standin.get_rng_state()  # type: ignore[attr-defined]
    with random_kept():
        torch.rand_like(before)
    assert torch.equal(state, torch.standin.get_rng_state())  # type: ignore[attr-defined]


@pytest.mark.parametrize("training", [train, train_vae])
def test_data_elsewhere_is_refused_in_a_sentence(training: Any) -> None:
    images, labels = data(torch.device("cpu"))
    given = (labels,) if training is train else ()
    with pytest.raises(
        ValueError, match=r"the model is on standin:0 and .* on cpu; give .*\.to\('st"
    ):
        training(MLPVAE(16, (5,), latent=2).to(DEVICE), images, *given)
