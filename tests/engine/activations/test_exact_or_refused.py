"""Activations never depend on the batch, the order or chance; what would is refused."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import memviz as mv
from memviz.engine.activations import (
    Strongest,
    UnitActivations,
    activation_statistics,
    tie_order,
    top_examples,
)

CALLS = itertools.count()


class Changed(nn.Module):
    """A net of three layers whose hidden activations something changes."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.second, self.head = (nn.Linear(4, 4) for _ in range(3))
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.change(torch.relu(self.first(x)))
        return self.head(torch.relu(self.second(hidden)))


def study_of(change: Callable[[Tensor], Tensor], inputs: Tensor | None = None) -> mv.Study:
    if inputs is None:
        inputs = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    groups = {"test": range(len(inputs))}
    return mv.Study(Changed(change).eval(), inputs, torch.zeros(len(inputs)), groups)


def numpy_state() -> str:
    return str(np.random.get_state())  # noqa: NPY002


def numpy_noise(x: Tensor) -> Tensor:
    return x + torch.from_numpy(np.random.rand(*x.shape)).float()  # noqa: NPY002


def python_noise(x: Tensor) -> Tensor:
    return x * random.random()


def fresh_generator(x: Tensor) -> Tensor:
    return x + torch.from_numpy(np.random.default_rng().random(x.shape)).float()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: F.dropout(x, 0.3), "draws random numbers from torch"),
        (lambda x: x + 0.01 * torch.randn_like(x), "draws random numbers from torch"),
        (numpy_noise, r"random \(it draws from NumPy's generator\)"),
        (python_noise, r"random \(it draws from Python's generator\)"),
        (fresh_generator, "two calls of the model on the same examples gave different"),
        (lambda x: x + next(CALLS), "without state that calls change"),
    ],
)
@pytest.mark.parametrize("read", [activation_statistics, top_examples])
def test_a_random_forward_pass_is_refused(
    change: Callable[[Tensor], Tensor], words: str, read: Callable[..., object]
) -> None:
    of_torch, of_numpy = torch.get_rng_state(), numpy_state()
    with pytest.raises(ValueError, match=words):
        read(study_of(change), progress=False)
    assert torch.equal(torch.get_rng_state(), of_torch)
    assert change is numpy_noise or numpy_state() == of_numpy


def test_randomness_behind_the_layers_that_are_read_is_refused_too() -> None:
    class Noisy(Changed):
        def forward(self, x: Tensor) -> Tensor:
            return F.dropout(super().forward(x), 0.5)

    study = study_of(lambda x: x)
    study.model = Noisy(lambda x: x).eval()
    with pytest.raises(ValueError, match="draws random numbers from torch"):
        top_examples(study)


def test_draws_that_change_nothing_are_allowed() -> None:
    def idle(x: Tensor) -> Tensor:
        torch.rand(3)
        return x

    found, plain = (
        activation_statistics(study_of(change), progress=False) for change in (idle, lambda x: x)
    )
    assert torch.equal(found.mean, plain.mean)


def by_place(x: Tensor) -> Tensor:
    """The same noise at each call, another for each row of the batch."""
    return x + torch.randn(x.shape, generator=torch.Generator().manual_seed(0))


def by_batch(x: Tensor) -> Tensor:
    return x - x.mean(0)


@pytest.mark.parametrize("change", [by_place, by_batch])
def test_what_depends_on_the_batch_is_refused(change: Callable[[Tensor], Tensor]) -> None:
    with pytest.raises(ValueError, match=r"in layer 'second' depend on the other examples"):
        activation_statistics(study_of(change), progress=False)
    # Twins first: whatever couples them leaves them equal.
    twins = torch.randn(9, 4)
    twins[1] = twins[0]
    for asked in (None, torch.arange(9).flip(0)):
        with pytest.raises(ValueError, match=r"in layer 'second' depend on the other examples"):
            activation_statistics(study_of(by_batch, twins), examples=asked, progress=False)


def test_copies_of_a_single_example_are_not_coupled() -> None:
    def noise(x: Tensor, generator: torch.Generator) -> Tensor:
        return x + torch.randn(x.shape, generator=generator)

    with pytest.raises(ValueError, match=r"in layer 'second' depend on the other examples"):
        activation_statistics(study_of(by_batch), None, noise, 4, torch.tensor([3]))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("asked", [None, torch.tensor([8, 6, 0])])
def test_activations_that_are_no_numbers_are_refused(bad: float, asked: Tensor | None) -> None:
    study = study_of(lambda x: x, torch.randn(9, 4))
    study.inputs[6, 2] = bad  # a study itself refuses such inputs
    study.model.first.weight.data[:2, 2] = torch.tensor([1.0, -1.0])
    for read in (
        lambda: activation_statistics(study, examples=asked, progress=False),
        lambda: [*UnitActivations(study, examples=asked).chunks()],
    ):
        with pytest.raises(ValueError, match=r"is NaN or infinite on example 6; leave that"):
            read()
    with pytest.raises(ValueError, match="is NaN or infinite on example 6"):
        top_examples(study, progress=False)
    rest = torch.tensor([0, 1, 2, 3, 4, 5, 7, 8])
    assert activation_statistics(study, examples=rest, progress=False).mean.isfinite().all()


def test_complex_activations_are_refused() -> None:
    class Waves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(4, 4, dtype=torch.complex64)
            self.head = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.first(x.to(torch.complex64)).abs())

    study = mv.Study(Waves().eval(), torch.randn(5, 4), torch.zeros(5), {"test": range(5)})
    with pytest.raises(ValueError, match="activations are complex numbers"):
        activation_statistics(study, ["first"], progress=False)


def test_an_example_counts_once() -> None:
    with pytest.raises(ValueError, match="examples names 4 more than once; give each example"):
        activation_statistics(study_of(lambda x: x), examples=torch.tensor([1, 4, 2, 4]))


def test_double_precision_stays() -> None:
    inputs = 1 + 1e-9 * torch.arange(36, dtype=torch.float64).reshape(9, 4)
    study = study_of(lambda x: x, inputs)
    study.model.double()
    found = activation_statistics(study, median=True, progress=False)
    with torch.no_grad():
        first = study.model.first(inputs).relu()
        values = torch.cat([first, study.model.second(first).relu()], 1)
    others = values.sort(0).values[:-1]
    for name, wanted in {
        "maximum": values.amax(0),
        "minimum": values.amin(0),
        "mean": values.mean(0),
        "others": others.mean(0),
        "median": torch.from_numpy(np.median(others.numpy(), 0)),
    }.items():
        torch.testing.assert_close(getattr(found, name), wanted, rtol=1e-14, atol=1e-15)
    top = top_examples(study, k=9, progress=False)
    torch.testing.assert_close(top.values, values.T.sort(1, descending=True).values,
                               rtol=1e-14, atol=1e-15)  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 9])
def test_ties_are_drawn_by_the_seed_and_not_by_the_order(size: int) -> None:
    inputs = torch.zeros(9, 4)
    inputs[[2, 5, 7]] = 1.0  # three examples tie in every unit
    study = study_of(lambda x: x, inputs)
    study.model.first.weight.data.fill_(1.0)
    owners = set()
    for seed in range(12):
        place = tie_order(9, seed)
        first = [2, 5, 7][int(place[[2, 5, 7]].argmin())]
        owners.add(first)
        for asked in (torch.arange(9), torch.arange(9).flip(0), torch.tensor([7, 1, 5, 2])):
            stream = UnitActivations(study, ["first"], examples=asked, seed=seed)
            stream.size = size
            strongest = Strongest(4, stream.tie_order)
            for positions, values in stream.chunks():
                strongest.add(values, asked[positions])
            assert strongest.examples.tolist() == [first] * 4
    assert owners == {2, 5, 7}


@pytest.mark.parametrize("source", ["torch", "numpy", "python"])
def test_augmentations_draw_from_the_seed_and_the_example_alone(source: str) -> None:
    def noise(x: Tensor, _generator: torch.Generator) -> Tensor:
        shift = {
            "torch": lambda: float(torch.rand(())),
            "numpy": lambda: float(np.random.rand()),  # noqa: NPY002
            "python": random.random,
        }[source]()
        return x + shift * torch.arange(len(x))[:, None]

    study = study_of(lambda x: x)
    states = random.getstate(), numpy_state(), torch.get_rng_state()

    def read(asked: list[int], seed: int = 0) -> Tensor:
        stream = UnitActivations(study, None, noise, 3, torch.tensor(asked), seed=seed)
        return torch.cat([values for _, values in stream.chunks()])

    whole = read([0, 1, 2, 3, 4])
    torch.testing.assert_close(read([3, 1]), whole[[3, 1]])
    assert not torch.allclose(read([0, 1, 2, 3, 4], seed=1), whole)
    assert states[:2] == (random.getstate(), numpy_state())
    assert torch.equal(torch.get_rng_state(), states[2])


def test_an_augmentation_that_cannot_be_seeded_is_refused() -> None:
    def noise(x: Tensor, _generator: torch.Generator) -> Tensor:
        return x + torch.from_numpy(np.random.default_rng().random(x.shape)).float()

    with pytest.raises(ValueError, match="augment made other copies of example 0 on a second"):
        activation_statistics(study_of(lambda x: x), None, noise, progress=False)
