"""The trainings of a density study as the explorer reads them: M, nulls, neighbours."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from memviz.models.vae import MLPVAE, binarized
from memviz.probes.density import CrossFit, DensityStudy, cross_fit, density_study
from memviz.training.density import VAERecipe
from memviz.widgets.density import DensityExplorer, DensityTable, density
from memviz.widgets.density._fits import FitsTable
from tests.support.widgets import ask, listening

TRAINED, ALL = 12, 16
RATES, EPOCHS = (1e-3, 1e-2), (1, 4)


@pytest.fixture(scope="module")
def study() -> DensityStudy:
    generator = torch.Generator().manual_seed(0)
    images = binarized((torch.rand(ALL, 1, 4, 4, generator=generator) < 0.4).float())
    fits, weights = {}, {}
    for rate in RATES:
        recipe = VAERecipe(
            partial(MLPVAE, 16, (8,), 2), epochs=EPOCHS, learning_rate=rate, samples=8
        )
        fits[rate] = cross_fit(
            images, recipe, examples=range(TRAINED), folds=3, repeats=2, progress=False
        )
        model = recipe.fit(images, torch.arange(TRAINED), seed=0)
        weights[rate] = {EPOCHS[-1]: model.state_dict()}
    return density_study(model, images, fits, samples=8, weights=weights)


def test_an_estimate_is_that_of_its_trainings(study: DensityStudy) -> None:
    table = FitsTable(study)
    assert isinstance(table, DensityTable)
    assert (table.rates, table.epochs, table.of_model) == (list(RATES), list(EPOCHS), (1e-2, 4))
    found, fits = table.estimate(1e-2, 4), study.fits[1e-2]
    log_p = fits.log_p[:, 1].double().numpy()
    for column in range(TRAINED):
        had = fits.inside[:, column].numpy()
        u = logsumexp(log_p[had, column]) - np.log(had.sum())
        v = logsumexp(log_p[~had, column]) - np.log((~had).sum())
        assert found.inside[column] == pytest.approx(u) and had.sum() == 4
        assert found.outside[column] == pytest.approx(v)
        assert found.memorization[column] == pytest.approx(u - v)
    assert found.log_p == pytest.approx(log_p[:, :TRAINED])
    assert found.held_out == pytest.approx(log_p[:, TRAINED:].mean())
    low, high = found.null
    assert (low <= high).all() and found.null_of_quantile[0] <= found.null_of_quantile[1]


def test_neighbours_are_the_nearest_of_others(study: DensityStudy) -> None:
    table = FitsTable(study)
    images = study.inputs["images"].flatten(1)
    generated = study.model.generate(ALL - TRAINED)
    ratios = table.ratios()
    assert ratios is not None and len(ratios) == TRAINED
    for example in (0, 5, 13):
        found = table.nearest(example)
        assert found is not None and found.of == ALL - TRAINED
        distance = torch.cdist(images[[example]].double(), images.double())[0]
        distance[example] = torch.inf
        others = distance[:TRAINED].sort(stable=True)
        assert example not in found.trained
        assert found.trained_distances == pytest.approx(others.values[:4].tolist(), abs=1e-5)
        away = torch.cdist(images[[example]].double(), generated.double())[0]
        assert found.generated_distances == pytest.approx(away.sort().values[:4].tolist(), abs=1e-5)
        assert found.generated[0].flatten().tolist() == generated[away.argmin()].tolist()
        assert found.held_out_distance == pytest.approx(float(distance[TRAINED:].min()), abs=1e-5)
        if example < TRAINED:
            ratio = found.held_out_distance / found.generated_distances[0]
            assert ratios[example] == pytest.approx(ratio, rel=1e-5)


def test_a_study_with_its_trainings_needs_no_table(study: DensityStudy) -> None:
    with density(study) as view:
        part = view.controller.part(DensityExplorer)
        best = study.fits[1e-2].memorization(4).values.argmax()
        assert view.session.opened == best
        assert f"Image {best} after 4 epochs: M " in repr(view)
        code = part.code()
        assert "mv.density(study)" in code and "study.fits[0.01].memorization(4)" in code


def test_units_and_sliders_on_a_real_study(study: DensityStudy) -> None:
    controller, ear = listening(study, DensityExplorer)
    controller.part(DensityExplorer).begin(FitsTable(study))
    controller.worker.run_until_idle()
    ask(controller, ear, "set", units="decoder.fc1:0-3")
    ask(controller, ear, "density_at", rate=0, epoch=1)
    assert ear.of("density_reconstruction")[-1]["own"] is False
    assert ear.of("error") == [] and len(ear.of("density_ratios")) == 1


def test_trainings_that_cannot_be_compared_are_refused(study: DensityStudy) -> None:
    first, second = (study.fits[rate] for rate in RATES)
    fewer = CrossFit(first.examples, first.inside, first.log_p[:, :1], (2,), first.folds)
    study_of = partial(density_study, study.model, study.inputs["images"], samples=8)
    with pytest.raises(ValueError, match="of different epochs"):
        density(study_of({1e-3: fewer, 1e-2: second}))
    others = CrossFit(first.examples + 1, first.inside, first.log_p, first.epochs, first.folds)
    with pytest.raises(ValueError, match="of different examples"):
        density(study_of({1e-3: others, 1e-2: second}))
