"""Streamed activation statistics equal those of every activation, kept by plain hooks."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import memviz as mv
from benchmarks import activations as benchmark
from benchmarks import models
from memviz.engine.activations import ActivationStatistics, UnitActivations, activation_statistics
from memviz.engine.activations import _stream as activation_stream
from tests.support.hooks import hooked
from tests.support.traces import Fragile, no_trace

COPIES = 3


def shades(inputs: Tensor, _generator: torch.Generator) -> Tensor:
    """Copies that need no draws: each a little brighter."""
    steps = torch.arange(len(inputs)).view(-1, *[1] * (inputs.dim() - 1))
    return inputs + 0.2 * steps


def jitter(inputs: Tensor, generator: torch.Generator) -> Tensor:
    return inputs + 0.3 * torch.randn(inputs.shape, generator=generator)


def keeper(axis: int, seen: list[Tensor]) -> Callable[[Tensor], Tensor]:
    def look(value: Tensor) -> Tensor:
        seen.append(value.movedim(axis, -1).flatten(0, -2).mean(0))
        return value

    return look


def by_hooks(net: Any, name: str) -> Tensor:
    """Every example's mean over copies and positions, ``[n, units]``, one copy at a time."""
    rows = []
    for example in net.inputs:
        copies = shades(example.expand(COPIES, *example.shape), torch.Generator())
        seen: list[Tensor] = []
        for copy in copies[:, None]:
            for place in net.places(name):
                with torch.no_grad(), hooked(net.model, [(place, keeper(place.axis, seen))]):
                    net.model(copy.clone())
        rows.append(torch.stack(seen).mean(0))
    return torch.stack(rows)


def agree(found: ActivationStatistics, values: np.ndarray) -> None:
    """The statistics of units against NumPy's of all their values ``[n, units]``."""
    others = np.sort(values, 0)[:-1]
    slack = 1e-5 * float(np.abs(values).max())
    assert found.maximum.numpy() == pytest.approx(values.max(0), abs=slack)
    assert found.minimum.numpy() == pytest.approx(values.min(0), abs=slack)
    assert found.mean.numpy() == pytest.approx(values.mean(0), abs=slack)
    assert found.others.numpy() == pytest.approx(others.mean(0), abs=slack)
    if found.median is not None:
        assert found.median.numpy() == pytest.approx(np.median(others, 0), abs=slack)
    place = np.array([found.examples.tolist().index(e) for e in found.example.tolist()])
    assert np.take_along_axis(values, place[None], 0)[0] == pytest.approx(values.max(0), abs=slack)


NETS = ["digits", "in_place", "views", "timm_vit", "like_gpt", "resnet18"]


@pytest.mark.parametrize("name", NETS)
def test_whole_nets(name: str, build: Callable[[str], Any]) -> None:
    net = build(name)
    stream = UnitActivations(net.study, None, shades, COPIES)
    layers = [layer.name for layer in stream.layers]
    assert layers and not any(layer.is_output for layer in stream.layers)
    chosen = [layers[0], layers[len(layers) // 2], layers[-1]]
    found = activation_statistics(net.study, chosen, shades, COPIES, median=True, progress=False)
    assert found.units == tuple(u for layer in found.layers for u in layer.all())
    values = torch.cat([by_hooks(net, layer.name) for layer in found.layers], 1)
    agree(found, values.numpy())


def test_a_layer_that_is_reached_twice_is_read_twice(build: Callable[[str], Any]) -> None:
    net = build("in_place")
    found = activation_statistics(net.study, ["shared"], shades, COPIES, progress=False)
    assert len(net.places("shared")) == 2
    agree(found, by_hooks(net, "shared").numpy())


class Given(nn.Module):
    """A net whose hidden units are its inputs: the activations are what was put in."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.units, self.head = nn.Linear(units, units, bias=False), nn.Linear(units, 2)
        nn.init.eye_(self.units.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.units(x))


def given_values(values: Tensor) -> mv.Study:
    model = Given(values.shape[1]).eval()
    return mv.Study(model, values, torch.zeros(len(values)), {"test": range(len(values))})


def test_closed_forms() -> None:
    """One point a and all others b; one that fires alone; a constant; a dead one."""
    values = torch.zeros(9, 4)
    values[:, 0], values[4, 0] = 0.5, 2.0
    values[7, 1] = 3.0
    values[:, 2] = 0.25
    found = activation_statistics(given_values(values), median=True, progress=False)
    assert found.maximum.tolist() == [2.0, 3.0, 0.25, 0.0]
    assert found.others.tolist() == [0.5, 0.0, 0.25, 0.0]
    assert found.median is not None and found.median.tolist() == [0.5, 0.0, 0.25, 0.0]
    assert found.minimum.tolist() == [0.5, 0.0, 0.25, 0.0]
    assert found.example[:2].tolist() == [4, 7]
    unit_mem = (found.maximum - found.others) / (found.maximum + found.others)
    assert unit_mem[:3].tolist() == pytest.approx([0.6, 1.0, 0.0])


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 9), units=st.integers(2, 5), seed=st.integers(0, 99), data=st.data())
def test_any_values(n: int, units: int, seed: int, data: st.DataObject) -> None:
    values = torch.randn(n, units, generator=torch.Generator().manual_seed(seed))
    examples = torch.tensor(data.draw(st.permutations(range(n))))[: data.draw(st.integers(1, n))]
    memory = data.draw(st.sampled_from([None, 1, 4 * n, 9 * n]))
    with torch.random.fork_rng():
        study = given_values(values)
    found = activation_statistics(
        study, examples=examples, median=True, memory=memory, progress=False
    )
    if len(examples) == 1:
        assert found.others.isnan().all() and found.median is not None
        assert found.median.isnan().all() and torch.equal(found.maximum, found.mean)
        assert torch.allclose(found.mean, values[examples[0]])
    else:
        agree(found, values[examples].numpy())


def test_the_mean_of_the_copies_is_taken_before_the_maximum() -> None:
    values = torch.tensor([[0.0, 0.0], [1.0, 1.0]])

    def flicker(inputs: Tensor, _generator: torch.Generator) -> Tensor:
        inputs[0, 0] += 4 * (inputs[0, 1] == 0)  # one copy of the first example is very bright
        return inputs

    found = activation_statistics(given_values(values), None, flicker, 5, progress=False)
    assert found.maximum[0] == pytest.approx(1.0) and found.example[0] == 1
    assert found.minimum[0] == pytest.approx(0.8)


def test_each_example_has_its_own_draws(digits: mv.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for any choice of examples, chunk size and model; others for another seed."""
    examples = torch.tensor([5, 900, 33, 1200, 7])

    def run(examples: Tensor, seed: int = 0) -> Tensor:
        stream = UnitActivations(digits, ["conv2", "fc"], jitter, 4, examples, seed=seed)
        return torch.cat([values for _, values in stream.chunks()])

    found = run(examples)
    assert torch.allclose(run(examples.flip(0)[:2]), found.flip(0)[:2], atol=1e-5)
    assert not torch.allclose(run(examples, seed=1), found, atol=1e-3)
    monkeypatch.setattr(activation_stream, "chunk_size", lambda *_, **__: 8)
    assert torch.allclose(run(examples), found, atol=1e-5)


def test_draws_are_the_same_for_every_model() -> None:
    """From the generator or from torch's own, which is as it was after."""
    drawn: list[Tensor] = []

    def note(inputs: Tensor, generator: torch.Generator) -> Tensor:
        drawn.append(torch.cat([torch.rand(2, generator=generator), torch.rand(2)]))
        return inputs

    state = torch.get_rng_state()
    for hidden in (4, 5):
        with torch.random.fork_rng():
            study = given_values(torch.randn(2, hidden))
        UnitActivations(study, ["units"], note, 2)
    assert torch.equal(torch.get_rng_state(), state)
    first, second, third, fourth = drawn
    assert torch.equal(first, third) and torch.equal(second, fourth)
    assert not torch.equal(first, second)


class Windows(nn.Module):
    """A linear layer on parts of a sequence, flattened into the batch one way or the other."""

    def __init__(self, interleaved: bool) -> None:
        super().__init__()
        self.interleaved, self.layer, self.head = interleaved, nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.interleaved:
            x = x.transpose(0, 1)
        y = torch.relu(self.layer(x.reshape(-1, 3))).view(*x.shape[:2], 4)
        return self.head(y.mean(0 if self.interleaved else 1))


@pytest.mark.parametrize("interleaved", [False, True])
def test_positions_within_the_batch(interleaved: bool) -> None:
    torch.manual_seed(0)
    model, inputs = Windows(interleaved).eval(), torch.randn(7, 5, 3)
    study = mv.Study(model, inputs, torch.zeros(7), {"test": range(7)})
    with torch.no_grad():
        values = torch.relu(model.layer(inputs)).mean(1)
    agree(activation_statistics(study, progress=False), values.numpy())


def test_memory_that_runs_out() -> None:
    study = given_values(torch.randn(12, 3, generator=torch.Generator().manual_seed(0)))
    forward = study.model.forward

    def limited(x: Tensor) -> Tensor:
        if len(x) > 20:
            raise torch.OutOfMemoryError
        return forward(x)

    study.model.forward = limited
    with pytest.warns(UserWarning, match="going on with 6"):
        found = activation_statistics(study, None, shades, 3, median=True, progress=False)
    agree(found, study.inputs.numpy() + 0.2)


class Largest(TorchDispatchMode):
    """The size of the largest tensor that was made."""

    size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if isinstance(found, Tensor):
            self.size = max(self.size, found.numel())
        return found


def test_what_is_kept_does_not_grow_with_the_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activation_stream, "chunk_size", lambda *_, **__: 20)
    sizes = []
    for n in (80, 240):
        study = given_values(torch.randn(n, 6))
        with Largest() as largest:
            activation_statistics(study, None, jitter, 10, progress=False)
        sizes.append(largest.size)
    assert sizes[1] <= 240  # a seed an example, and no more
    with Largest() as largest:
        activation_statistics(study, None, jitter, 10, median=True, memory=2000, progress=False)
    assert largest.size <= 2 * 240


class Mixing(nn.Module):
    """Subtracts the batch's mean from the hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.mixed, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.head(self.mixed(x - x.mean(0)))


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"layers": ["units", "nope"]}, KeyError, "there is no layer 'nope'"),
        ({"layers": []}, ValueError, "there is no layer to read"),
        ({"copies": 0}, ValueError, "copies is 0; give at least 1 copy per example"),
        ({"augment": lambda x, _g: x[:1]}, ValueError, "augment returned 1 rows for 10 copies"),
        ({"augment": lambda x, _g: None}, ValueError, "augment returned NoneType"),
        ({"examples": torch.tensor([6])}, ValueError, "examples names 6"),
    ],
)
def test_bad_input(change: dict[str, Any], kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        activation_statistics(given_values(torch.randn(6, 3)), progress=False, **change)


def test_layers_that_cannot_be_read(build: Callable[[str], Any]) -> None:
    with pytest.raises(ValueError, match="the units of layer 'one' are attention heads"):
        activation_statistics(build("like_gpt").study, ["one"])
    model = Mixing().eval()
    study = mv.Study(model, torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    activation_statistics(study, ["first"], progress=False)
    with pytest.raises(ValueError, match="in layer 'mixed' depend on the other examples"):
        activation_statistics(study, progress=False)


def test_no_trace_is_left() -> None:
    torch.manual_seed(1)
    model = Fragile().eval()
    study = mv.Study(model, torch.randn(9, 1, 5, 5), torch.arange(9) % 3, {"test": range(9)})

    def draws(inputs: Tensor, _generator: torch.Generator) -> Tensor:
        return inputs + torch.randn(inputs.shape)

    with no_trace(model):
        activation_statistics(study, None, draws, progress=False)
        for wait in (0, 2, 4):
            model.error, model.wait = KeyboardInterrupt(), wait
            with pytest.raises(KeyboardInterrupt):
                activation_statistics(study, None, draws, progress=False)
        model.error = None


def test_the_benchmark_compares_like_with_like(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = torch.randn(9, 6, generator=torch.Generator().manual_seed(0))
    model = mv.models.MLP((6, 5, 3), seed=0).eval()
    labels = torch.zeros(9, dtype=torch.int64)
    one = models.Subject("mlp", model, inputs, labels, {"fc1": "relu1"}, -1, 9, 2)
    monkeypatch.setitem(models.SUBJECTS, "mlp", lambda: one)
    monkeypatch.setitem(benchmark.EXAMPLES, "mlp", 9)
    found = benchmark.measure(["mlp"], repeats=1)["mlp"]
    assert found["max_error"] < 1e-5 and found["equal_examples"]
    assert found["ratio_hooks"] == pytest.approx(found["hooks_ms"] / found["ours_ms"], rel=0.02)
