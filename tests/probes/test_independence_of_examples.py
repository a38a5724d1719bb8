"""An example's answer depends on no other: not on who is asked, nor on order, nor on batches.

A probe is a function of a study and of examples that returns one row per example; to add one, write
it with ``@probe``. Nulls are left out: they compare an example with the others on purpose.
"""

import copy
from collections.abc import Callable
from functools import cache, partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import memviz as mv
from memviz.engine.gradients import gradient_norms, gradient_products
from memviz.probes.attribution import (
    INPUT_METHODS,
    LAYER_METHODS,
    UNIT_METHODS,
    layer_attributions,
)
from memviz.probes.early_learning import detected_as_wrong
from memviz.probes.examples import (
    SubsetTrainings,
    area_under_margin,
    cumulative_loss,
    el2n,
    forgetting_events,
    grand,
    learning_time,
    leave_one_out,
    loss_curvature,
    loss_sensitivity,
    prediction_depth,
    second_split_forgetting,
    subsampled_memorization,
    tracin,
    tracin_influence,
)
from memviz.probes.localization.critical import critical_units

N = 10
Probe = Callable[[mv.Study, Tensor], np.ndarray]
PROBES: dict[str, Probe] = {}
# What cuts examples into batches: a module's constant, or a function that returns the size.
BATCHES = (
    "memviz.probes.attribution._inputs._BATCH",
    "memviz.probes.attribution._units._BATCH",
    "memviz.probes.attribution._attribute.BATCH",
    "memviz.probes.attribution._layer_values.BATCH",
    "memviz.probes.examples._gradients._BATCH",
    "memviz.probes.examples._input_gradients._BATCH",
    "memviz.engine.gradients._products._BLOCK",
)
SIZES = ("memviz.engine.gradients._ghost_norms.chunk_size",)


def probe(function: Probe) -> Probe:
    PROBES[function.__name__.replace("_", " ").strip()] = function
    return function


@cache
def study() -> mv.Study:
    """A small net with a batch norm, in double precision: what differs is no rounding."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        x, labels = torch.randn(N, 1, 5, 5).double(), torch.arange(N) % 3
        model = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
            nn.Linear(36, 6), nn.ReLU(), nn.Linear(6, 3),
        ).double()  # fmt: skip
        model(x)
        states = {}
        optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
        for epoch in range(1, 31):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), labels).backward()
            optimizer.step()
            if epoch % 10 == 0:
                states[epoch] = copy.deepcopy(model.state_dict())
    groups = {"memorized": [0, 4, 8], "clean": [1, 2, 3, 5, 6], "test": [7, 9]}
    return mv.Study(model.eval(), x, labels, groups, checkpoints=states)


@cache
def table(kind: str) -> Tensor:
    """Twelve epochs, or subset trainings, of the study's examples."""
    generator = torch.Generator().manual_seed(3)
    drawn = torch.randn(12, N, generator=generator)
    return drawn if kind == "floats" else drawn > 0


for method in INPUT_METHODS:
    PROBES[f"inputs, {method}"] = lambda one, examples, how=method: mv.attribute_inputs(
        one, examples, how, n_steps=3
    ).numpy()
for method in LAYER_METHODS:
    PROBES[f"layer, {method}"] = lambda one, examples, how=method: layer_attributions(
        one, "0", examples, how, n_steps=3
    ).numpy()
for method in UNIT_METHODS:
    PROBES[f"unit, {method}"] = lambda one, examples, how=method: mv.attribute_unit(
        one, "0:2", examples, how, n_steps=3
    ).numpy()
for score in (el2n, grand, loss_sensitivity, partial(loss_curvature, draws=3)):
    name = getattr(score, "func", score).__name__.replace("_", " ")
    PROBES[name] = lambda one, examples, measure=score: (
        measure(one, examples, null_draws=0, progress=False).values
    )
for measure in (cumulative_loss, area_under_margin):
    PROBES[measure.__name__.replace("_", " ")] = lambda one, examples, of=measure: (
        of(table("floats")[:, examples], examples, null_draws=0).values
    )
for measure in (forgetting_events, learning_time, second_split_forgetting):
    PROBES[measure.__name__.replace("_", " ")] = lambda one, examples, of=measure: (
        of(table("flags")[:, examples], examples, null_draws=0).values
    )


@probe
def completeness(one: mv.Study, examples: Tensor) -> np.ndarray:
    found = mv.attribute_inputs(one, examples, n_steps=3).completeness
    assert found is not None
    return np.stack([found.errors, found.changes], 1)


@probe
def tracin_self_influence(one: mv.Study, examples: Tensor) -> np.ndarray:
    rates = {10: 0.2, 20: 0.1, 30: 0.05}
    return tracin(one, rates, examples, null_draws=0, progress=False).values


@probe
def influence_on_examples(one: mv.Study, examples: Tensor) -> np.ndarray:
    return tracin_influence(one, 0.1, examples, torch.arange(4), progress=False).numpy()


@probe
def influence_of_examples(one: mv.Study, examples: Tensor) -> np.ndarray:
    return tracin_influence(one, 0.1, torch.arange(4), examples, progress=False).numpy().T


@probe
def norms_of_gradients(one: mv.Study, examples: Tensor) -> np.ndarray:
    return gradient_norms(one, examples, progress=False).values.numpy().T


@probe
def products_of_gradients(one: mv.Study, examples: Tensor) -> np.ndarray:
    return gradient_products(one, examples, torch.arange(3), progress=False).numpy()


@probe
def depth(one: mv.Study, examples: Tensor) -> np.ndarray:
    return prediction_depth(one, examples, k=3, null_draws=0, progress=False).values


@probe
def target_against_label(one: mv.Study, examples: Tensor) -> np.ndarray:
    targets = one.model(one.inputs).detach().softmax(1)
    return detected_as_wrong(targets, one.labels, examples).values


@probe
def memorization(one: mv.Study, examples: Tensor) -> np.ndarray:
    inside, correct = table("flags")[:, examples], table("floats").flip(0) > 0
    trainings = SubsetTrainings(examples, inside, correct)
    found = subsampled_memorization(trainings, null_draws=0)
    return np.stack([found.values, found.standard_error], 1)


@probe
def left_out(one: mv.Study, examples: Tensor) -> np.ndarray:
    def nearest(inputs: Tensor, labels: Tensor, chosen: Tensor, seed: int) -> Tensor:
        rows = inputs.flatten(1)
        return labels[chosen][torch.cdist(rows, rows[chosen]).argmin(1)]

    return leave_one_out(one, nearest, examples, pool=torch.arange(N), progress=False).values


def critical(one: mv.Study, examples: Tensor, **options: object) -> np.ndarray:
    """The number of units, their names as numbers, the random orders and what is retained."""
    found = critical_units(
        one, examples, "zero", reference=4, noise=0.05, random_draws=2, progress=False, **options
    )
    names = [f"{unit.layer}:{unit.index}" for unit in mv.layers(one)[0].all()]
    names += [f"{unit.layer}:{unit.index}" for unit in mv.layers(one)[1].all()]
    taken = np.full((len(examples), len(names)), -1.0)
    for row, units in enumerate(found.units):
        for place, unit in enumerate(units):
            taken[row, names.index(str(unit))] = place
    columns = [found.counts, *found.random, *found.retained.values()]
    return np.concatenate([np.stack(columns, 1), taken], 1)


PROBES["critical units"] = critical
PROBES["critical units, exact"] = partial(critical, method="exact", budget=2, cap=4)


@cache
def answers(name: str) -> np.ndarray:
    """Of all examples, in one batch."""
    rows = PROBES[name](study(), torch.arange(N))
    assert len(rows) == N
    return rows


@pytest.mark.parametrize("name", PROBES)
@given(chosen=st.permutations(range(N)), count=st.integers(1, N), size=st.integers(1, 4))
@settings(max_examples=3, deadline=None, derandomize=True)
def test_an_examples_answer_depends_on_no_other(
    name: str, chosen: list[int], count: int, size: int
) -> None:
    """For a permutation and for a selection, in batches of a few."""
    wanted = answers(name)
    with pytest.MonkeyPatch.context() as patch:
        for constant in BATCHES:
            patch.setattr(constant, size)
        for function in SIZES:
            patch.setattr(function, lambda *_, **__: size)
        for examples in (chosen, chosen[:count]):
            found = PROBES[name](study(), torch.tensor(examples))
            np.testing.assert_allclose(found, wanted[examples], rtol=1e-6, atol=1e-9)


def test_it_would_notice() -> None:
    """A probe that centres its values on those of its batch fails the test."""
    PROBES["centred"] = lambda one, examples: examples.numpy() - examples.float().mean().item()
    try:
        with pytest.raises(AssertionError):
            test_an_examples_answer_depends_on_no_other.hypothesis.inner_test(
                "centred", [3, 1, 2], 1, 2
            )
    finally:
        del PROBES["centred"]
