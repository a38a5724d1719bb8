"""Papers' tests that train, rewind or embed, with their models on a second device."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import memviz as mv
from memviz.models.memorizers import METHODS, construct_memorizer
from memviz.models.vae import MLPVAE
from memviz.models.vae import noise as samples
from memviz.probes import capacity, deja_vu, deja_vu_ssl, density, early_learning, localization
from memviz.training import train
from memviz.training.contrastive import train_contrastive
from memviz.training.density import VAERecipe, log_likelihoods
from memviz.training.example_tied_dropout import example_ids, insert_example_tied_dropout
from memviz.training.self_supervised import train_masked, train_simclr
from tests.support.figures import differing
from tests.support.second_device import DEVICE

QUIET: dict[str, Any] = {"progress": False}
QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 8, **QUIET}
PLACES = torch.device("cpu"), DEVICE
GROUPS = {"memorized": range(6), "clean": range(6, 24)}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def net() -> nn.Sequential:
    """A batch norm mixes the examples of a batch, and a dropout draws."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()]
        return nn.Sequential(*layers, nn.Linear(64, 3))


@pytest.fixture(scope="module", params=["checkpoints of the CPU", "checkpoints of the device"])
def trained(request: Any) -> tuple[mv.Study, mv.Study]:
    images, labels = drawn(24, 1, 6, 6), torch.arange(24) % 3
    here = net()
    run = train(here, images, labels, **QUICK, checkpoint_epochs=range(3))
    there = copy.deepcopy(here).to(DEVICE)
    place = "cpu" if request.param == "checkpoints of the CPU" else DEVICE
    kept = {
        epoch: {name: value.to(place) for name, value in state.items()}
        for epoch, state in run.checkpoints.items()
    }
    return (
        mv.Study(here.eval(), images, labels, GROUPS, checkpoints=run.checkpoints),
        mv.Study(there.eval(), images, labels, GROUPS, checkpoints=kept),
    )


def rewound(study: mv.Study) -> Any:
    rewinder = localization.Rewinder(study)
    at = {"0": 0}
    return [rewinder.accuracies(at, buffers=True), rewinder.accuracies_at(1), rewinder.state(at)]


LOCALIZATION: dict[str, Any] = {
    "rewinding": lambda s: localization.layer_rewinding(s, **QUIET),
    "rewinder": rewound,
    "retraining": lambda s: localization.layer_retraining(
        s,
        settings=localization.RetrainingSettings(epochs=2, batch_size=8),
        **QUIET,
    ),
    "gradient accounting": lambda s: localization.gradient_accounting(s, batch_size=8, **QUIET),
    "accounting of steps": lambda s: localization.gradient_accounting(
        s, optimizer=partial(torch.optim.SGD, lr=0.1, foreach=False), batch_size=8, **QUIET
    ),
}


@pytest.mark.parametrize("call", LOCALIZATION)
def test_a_layer_s_past(trained: tuple[mv.Study, mv.Study], call: str) -> None:
    here, there = trained
    before = copy.deepcopy(there.model.state_dict())
    assert there.device == DEVICE
    assert differing(LOCALIZATION[call](here), LOCALIZATION[call](there)) == []
    assert differing(before, there.model.state_dict()) == []


class Towers(nn.Module):
    """Two small towers, called as open_clip's models are."""

    def __init__(self) -> None:
        super().__init__()
        self.image, self.text = nn.Parameter(drawn(8, 6)), nn.Parameter(drawn(40, 6, seed=1))
        self.logit_scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, ...]:
        pictures = nn.functional.normalize(images @ self.image, dim=1)
        texts = nn.functional.normalize(self.text[tokens].mean(1), dim=1)
        return pictures, texts, self.logit_scale.exp()


def words(n: int) -> Tensor:
    found = torch.randint(1, 38, (n, 5), generator=torch.Generator().manual_seed(2))
    found[:, 0], found[:, -1] = 38, 39
    return found


def contrastive(device: torch.device) -> Any:
    model = Towers().to(device)
    images, tokens = drawn(20, 8).to(device), words(20).to(device)
    held = drawn(6, 8, seed=3).to(device), words(6).to(device)
    more = {"caption_masking": 0.3, "held_out": held, "checkpoint_epochs": (1,), **QUICK}
    run = train_contrastive(model, images, tokens, **more)
    return run, model.state_dict()


def noisy(rows: Tensor, generator: torch.Generator) -> Tensor:
    return rows + 0.3 * torch.randn(rows.shape, generator=generator).to(rows.device)


def self_supervised(device: torch.device, how: str) -> Any:
    encoder = net()[:4].to(device)
    images = drawn(16, 1, 6, 6).to(device)
    if how == "simclr":
        run = train_simclr(encoder, images, noisy, **QUICK)
    else:
        run = train_masked(encoder, images, patch=2, **QUICK)
    return run.loss, encoder.state_dict(), run.head.state_dict()


def tied(device: torch.device) -> Any:
    model = net()
    ids = torch.arange(24)
    model = insert_example_tied_dropout(model, ["2"], seed=0).to(device)
    with example_ids(model, ids):
        outputs = model(drawn(24, 1, 6, 6).to(device))
    return outputs


TRAININGS: dict[str, Any] = {
    "contrastive": contrastive,
    "simclr": partial(self_supervised, how="simclr"),
    "masked": partial(self_supervised, how="masked"),
    "example-tied dropout": tied,
}


@pytest.mark.parametrize("training", TRAININGS)
def test_trainings(training: str) -> None:
    one, other = (TRAININGS[training](device) for device in PLACES)
    assert differing(one, other) == []


def encoders(device: torch.device) -> list[nn.Module]:
    both = net(), net()
    with torch.no_grad():
        both[1][4].weight.mul_(drawn(3, 64))
    return [model.eval().to(device) for model in both]


def ssl(device: torch.device, data: Any = None) -> Any:
    place = device if data is None else data
    crops, public, held = (drawn(n, 1, 6, 6, seed=n).to(place) for n in (10, 20, 8))
    labels = [(torch.arange(n) % 4).to(place) for n in (10, 20, 8)]
    models = [lambda x, m=m: m(x.to(device)) for m in encoders(device)]
    given = crops, labels[0], public, labels[1]
    return deja_vu_ssl.ssl_test(*models, *given, held_out=(held, labels[2]), k=5, **QUIET)


def two_models(device: torch.device, data: Any = None) -> Any:
    place = device if data is None else data
    sides = [
        deja_vu.Embedded(*(drawn(n, 6, seed=n + 50 * side).to(device) for n in (12, 20, 12)), name)
        for side, name in enumerate(("target", "reference"))
    ]
    objects, public, held = ((drawn(n, 7, seed=n) > 0.4).to(place) for n in (12, 20, 11))
    held = torch.cat([held, held[:1]])
    found = deja_vu.two_model_test(
        *sides, objects, public, held_out_objects=held, k=4, ids=torch.arange(12).to(place), **QUIET
    )
    again = deja_vu.retest(found, sides[1], **QUIET)
    return found, found.prg, found.ppg, found.aucg, again.prg


def embedded(device: torch.device) -> Any:
    encode = [lambda x, m=m: m(x.to(device)) for m in encoders(device)]
    images = drawn(14, 1, 6, 6)
    return deja_vu.embedded_by(encode[0], images[:6], encode[1], images, batch=4)


RETRIEVAL: dict[str, Any] = {
    "ssl test": ssl,
    "ssl test, data on the CPU": partial(ssl, data="cpu"),
    "two-model test": two_models,
    "two-model test, objects on the CPU": partial(two_models, data="cpu"),
    "embedded by": embedded,
}


@pytest.mark.parametrize("test", RETRIEVAL)
def test_retrieval(test: str) -> None:
    one, other = (RETRIEVAL[test](device) for device in PLACES)
    assert differing(one, other) == []


def of_vae(device: torch.device) -> Any:
    model = MLPVAE(16, (5,), latent=2, seed=0).eval().to(device)
    images, draws = (drawn(9, 16) > 0).float(), samples(range(9), 4, 2)
    return log_likelihoods(model, images.to(device), draws.to(device))


def folds(device: torch.device) -> Any:
    recipe = VAERecipe(
        partial(MLPVAE, 16, (5,), 2), epochs=(1,), samples=4, batch_size=4, device=str(device)
    )
    fits = density.cross_fit((drawn(9, 16) > 0).float(), recipe, folds=3, repeats=1, **QUIET)
    return fits.log_p.shape, fits.memorization(null_draws=2).values.shape


def nearest(device: torch.device) -> Any:
    images, among = drawn(5, 1, 4, 4).to(device), drawn(9, 1, 4, 4, seed=1).to(device)
    return density.neighbours(images, among, 2)


def likelihoods(device: torch.device) -> Any:
    normal = torch.distributions.Normal(torch.zeros((), device=device), 1.0)
    return density.log_likelihoods(normal, drawn(7).to(device))


def corrected(device: torch.device, run: Any = None) -> Any:
    predicted = torch.randint(3, (4, 9), generator=torch.Generator().manual_seed(0))
    labels, truth = torch.arange(9) % 3, torch.arange(9) // 3
    given = predicted.to(device if run is None else run), labels.to(device), truth.to(device)
    chosen = torch.arange(8).to(device)
    return early_learning.three_way(*given, chosen, null=predicted.roll(1, 0))


def memorized(device: torch.device, method: str) -> Any:
    points = drawn(12, 4).to(device)
    values = torch.arange(12) % 2 if method == "yun4" else torch.arange(12) % 2 * 2 - 1
    built = construct_memorizer(points, values.to(device), method=method)  # type: ignore[arg-type]
    return built, built.error(), built.model(points.cpu().double())


def certified(device: torch.device) -> Any:
    points, signs = drawn(12, 4).to(device), (torch.arange(12) % 2 * 2 - 1).to(device)
    built = construct_memorizer(points, signs, method="yu")
    others = drawn(6, 4, seed=5).to(device), signs[:6]
    return capacity.certificates(built, 2, **QUIET), capacity.covered(built, *others)


def compared(device: torch.device) -> Any:
    x, labels = drawn(30, 4).to(device), (torch.arange(30) % 2).to(device)
    sets = x[:20], labels[:20], x[20:], labels[20:]
    return capacity.compare_memorizers(*sets, methods=METHODS, noise=0.1)


def networks(device: torch.device) -> Any:
    x, labels = drawn(12, 4).to(device), (torch.arange(12) % 2).to(device)
    return capacity.trained_networks(x, labels, [2, 3], epochs=2, **QUIET)


OTHERS: dict[str, Any] = {
    "log-likelihoods of a vae": of_vae,
    "nearest images": nearest,
    "log-likelihoods": likelihoods,
    "three-way fractions": corrected,
    "three-way fractions, run on the CPU": partial(corrected, run="cpu"),
    **{f"memorizer {m}": partial(memorized, method=m) for m in METHODS},
    "certificates": certified,
    "compared memorizers": compared,
    "trained networks": networks,
}


@pytest.mark.parametrize("call", OTHERS)
def test_densities_early_learning_and_capacity(call: str) -> None:
    one, other = (OTHERS[call](device) for device in PLACES)
    assert differing(one, other) == []


def test_a_recipe_of_densities_reads_on_its_device() -> None:
    assert folds(PLACES[0]) == folds(PLACES[1])


@pytest.mark.parametrize("how", ["simclr", "masked"])
def test_images_elsewhere_are_refused_in_a_sentence(how: str) -> None:
    encoder, images = net()[:4].to(DEVICE), drawn(16, 1, 6, 6)
    with pytest.raises(ValueError, match=r"the model is on standin:0 and images on cpu"):
        if how == "simclr":
            train_simclr(encoder, images, noisy, **QUICK)
        else:
            train_masked(encoder, images, patch=2, **QUICK)
