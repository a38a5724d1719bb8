"""No answer depends on who else is asked, on the order or on the size of the batches.

A probe is added by a line in ``OF_EXAMPLES`` or ``OF_SETS`` below.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import memviz as mv
from memviz.data.subsets import Subsets
from memviz.engine.activations import UnitActivations, activation_statistics, top_examples
from memviz.probes.encoders import (
    ProbeAccuracy,
    class_mem,
    class_mem_from_activations,
    class_selectivity,
    layer_mem,
    layer_mem_from_features,
    random_network,
    ssl_mem,
    unit_mem,
    unit_mem_from_activations,
)
from memviz.probes.encoders.layers import PathFeatures, views
from memviz.probes.encoders.localizers import LOCALIZERS
from memviz.probes.information import entropy

N = 12
LAYERS = ("0", "3")
BATCHES = (1, 3, 64)


def net(seed: int) -> nn.Sequential:
    """In double precision: what differs is then not the rounding of another batch."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU(),
            nn.Flatten(), nn.Linear(20, 3),
        ).double().eval()  # fmt: skip


def noise(x: Tensor, generator: torch.Generator) -> Tensor:
    drawn = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return x + 0.1 * drawn + 0.1 * torch.rand(()) + 0.1 * np.random.rand()  # noqa: NPY002


def pictures() -> Tensor:
    images = torch.rand(N, 1, 6, 6, dtype=torch.float64,
                        generator=torch.Generator().manual_seed(0))  # fmt: skip
    images[7] = images[2]  # twins: whatever they tie in is decided by the seed
    return images


F_NET, G_NET, IMAGES = net(0), net(1), pictures()
LABELS = torch.arange(N) % 3
STUDY = mv.Study(F_NET, IMAGES, LABELS, {"memorized": range(4), "clean": range(4, N)})


@contextmanager
def batches_of(size: int) -> Iterator[None]:
    """All that memviz cuts into chunks, in chunks of this many examples."""
    with pytest.MonkeyPatch.context() as patch:
        for place in ("engine.activations._stream", "probes.encoders.layers._path"):
            patch.setattr(f"memviz.{place}.chunk_size", lambda *_, **__: size)
        patch.setattr("memviz.probes.encoders.layers._ssl_mem._BATCH", size)
        yield


# One value, or an array of values, per example that is asked: (examples) -> rows.


def _activations(asked: Tensor, augment: Any = None) -> np.ndarray:
    stream = UnitActivations(STUDY, None, augment, 3, asked)
    rows = torch.empty(len(asked), len(stream.units), dtype=stream.dtype)
    for positions, values in stream.chunks():
        rows[positions] = values
    return rows.numpy()


def _ssl_mem(asked: Tensor, **how: Any) -> np.ndarray:
    sets = Subsets([], asked.tolist(), [], [])
    return ssl_mem(F_NET, G_NET, IMAGES, noise, sets, augmentations=3, progress=False, **how).values


def _path_features(asked: Tensor) -> np.ndarray:
    rows = PathFeatures(F_NET, IMAGES)(IMAGES[asked])
    return torch.cat(list(rows.values()), 1).numpy()


OF_EXAMPLES: dict[str, Callable[[Tensor], np.ndarray]] = {
    "activations": _activations,
    "augmented activations": lambda asked: _activations(asked, noise),
    "features on the data path": _path_features,
    "views": lambda asked: views(IMAGES, noise, 2, asked).flatten(1).numpy(),
    "SSLMem": _ssl_mem,
    "SSLMem, raw": lambda asked: _ssl_mem(asked, unit_norm=False),
    "SSLMem against clean images": lambda asked: _ssl_mem(asked, compare="clean"),
}


@pytest.mark.parametrize("probe", OF_EXAMPLES)
@settings(max_examples=12, deadline=None)
@given(
    asked=st.lists(st.integers(0, N - 1), min_size=1, unique=True), size=st.sampled_from(BATCHES)
)
def test_an_example_has_the_same_value_in_any_company(
    probe: str, asked: list[int], size: int
) -> None:
    measure = OF_EXAMPLES[probe]
    whole = measure(torch.arange(N))
    with batches_of(size):
        some = measure(torch.tensor(asked))
    np.testing.assert_allclose(some, whole[asked], rtol=1e-9, atol=1e-12)


# Values of units, layers or a model over a set of examples: (examples, layers) -> table.
# A unit is named by its text; what is over all layers is named otherwise.

Table = dict[str, Any]


def _by_unit(units: Sequence[mv.Unit], *columns: Any) -> Table:
    rows = zip(*(np.asarray(column) for column in columns), strict=True)
    return {str(unit): np.array(row, float) for unit, row in zip(units, rows, strict=True)}


def _of_scores(scores: Any) -> Table:
    columns = [scores.values]
    for part in ("owners", "held_out"):
        if getattr(scores, part, None) is not None:
            columns.append(getattr(scores, part))
    if scores.null is not None:
        columns += list(scores.null.values)
    return _by_unit(scores.units, *columns)


def _statistics(asked: Tensor, layers: Sequence[str]) -> Table:
    found = activation_statistics(STUDY, layers, noise, 2, asked, median=True, progress=False)
    return _by_unit(found.units, found.maximum, found.minimum, found.mean, found.others,
                    found.median, found.example)  # fmt: skip


def _top_examples(_asked: Tensor, layers: Sequence[str]) -> Table:
    found = top_examples(STUDY, 5, layers, progress=False)
    return _by_unit(found.units, *found.examples.T, *found.values.T, found.lowest)


def _unit_mem(asked: Tensor, layers: Sequence[str], **how: Any) -> Table:
    return _of_scores(unit_mem(STUDY, layers, noise, 2, asked, progress=False, **how))


def _held_out(asked: Tensor, layers: Sequence[str]) -> Table:
    half = N // 2
    low, high = asked[asked < half], asked[asked >= half]
    how = {"held_out": high, "random_networks": 0}
    return _of_scores(unit_mem(STUDY, layers, None, 1, low, progress=False, **how))


def _plain(asked: Tensor, _layers: Sequence[str]) -> Table:
    activations = IMAGES[asked].flatten(2).transpose(1, 2)[:, None]  # [images, 1, 36, 1]
    one = unit_mem_from_activations(activations)
    other = class_mem_from_activations(activations, LABELS[asked], others="median")
    return {"ratios": torch.stack([one.ratio, other.ratio]).numpy()}


def _entropy(asked: Tensor, layers: Sequence[str]) -> Table:
    # Edges that layers share depend on which layers are asked, as they should.
    return _of_scores(entropy(STUDY, layers, asked, bins=4, edges="layer", null_draws=2,
                              progress=False))  # fmt: skip


def _subsets(asked: Tensor) -> Subsets:
    """The same four sets for any order of what is asked, each in that order."""
    parts = [[i for i in asked.tolist() if i % 4 == k] for k in range(4)]
    return Subsets(*parts)


def _layer_mem(asked: Tensor, layers: Sequence[str], **how: Any) -> Table:
    found = layer_mem(F_NET, G_NET, IMAGES, noise, _subsets(asked), layers=layers, augmentations=3,
                      progress=False, **how)  # fmt: skip
    return {
        point: np.array([found.values[name][0, k] for name in sorted(found.values)])
        for k, point in enumerate(found.names)
    }


def _from_features(asked: Tensor, layers: Sequence[str]) -> Table:
    drawn = views(IMAGES, noise, 3, torch.arange(N)).flatten(0, 1)
    readers = (PathFeatures(encoder, IMAGES, layers) for encoder in (F_NET, G_NET))
    f, g = ({k: rows.unflatten(0, (N, 3)) for k, rows in read(drawn).items()} for read in readers)
    found = layer_mem_from_features(f, g, _subsets(asked))
    return {point: found.values["S_C"][0, k] for k, point in enumerate(found.names)}


def _probe(how: Any) -> Callable[[Tensor, Sequence[str]], Table]:
    def accuracy(asked: Tensor, _layers: Sequence[str]) -> Table:
        data = IMAGES[asked], LABELS[asked]
        return {"accuracy": ProbeAccuracy(*data, *data, how, k=2)(F_NET)}

    return accuracy


def _random_network(asked: Tensor, _layers: Sequence[str]) -> Table:
    return {k: v.numpy() for k, v in random_network(STUDY, asked).state_dict().items()}


OF_SETS: dict[str, Callable[[Tensor, Sequence[str]], Table]] = {
    "activation statistics": _statistics,
    "top examples": _top_examples,
    "UnitMem": _unit_mem,
    "UnitMem, median": lambda asked, layers: _unit_mem(asked, layers, others="median", memory=200),
    "UnitMem, held out": _held_out,
    "ClassMem": lambda asked, layers: _of_scores(
        class_mem(STUDY, layers, asked, shuffles=3, progress=False)
    ),
    "class selectivity, median": lambda asked, layers: _of_scores(
        class_selectivity(STUDY, layers, asked, others="median", shuffles=2, progress=False)
    ),
    "UnitMem and ClassMem of plain activations": _plain,
    "entropy and its null": _entropy,
    "LayerMem": _layer_mem,
    "LayerMem against clean images": lambda asked, layers: _layer_mem(
        asked, layers, compare="clean"
    ),
    "LayerMem of features": _from_features,
    "nearest neighbours": _probe("knn"),
    "a linear probe": _probe("linear"),
    "a random network": _random_network,
}


@pytest.mark.parametrize("probe", OF_SETS)
@settings(max_examples=5, deadline=None)
@given(
    order=st.permutations(range(N)),
    layers=st.sampled_from([LAYERS, LAYERS[::-1], LAYERS[:1], LAYERS[1:]]),
    size=st.sampled_from(BATCHES),
)
def test_a_unit_has_the_same_value_in_any_order_and_company(
    probe: str, order: list[int], layers: Sequence[str], size: int
) -> None:
    measure = OF_SETS[probe]
    whole = measure(torch.arange(N), LAYERS)
    with batches_of(size):
        some = measure(torch.tensor(order), layers)
    assert some
    for name, values in some.items():
        np.testing.assert_allclose(values, whole[name], rtol=1e-7, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("name", LOCALIZERS)
def test_a_localizer_does_not_see_which_group_stands_first_in_the_study(name: str) -> None:
    """The same examples at other places: values are the same; owners that tie may be others."""
    back = list(range(N))[::-1]
    turned = mv.Study(F_NET, IMAGES[back], LABELS[back],
                      {"memorized": range(8, N), "clean": range(8)})  # fmt: skip
    one, other = (LOCALIZERS[name](study) for study in (STUDY, turned))
    fractions = [np.where(s.values < 0, s.values + 1, s.values) for s in (one, other)]
    np.testing.assert_allclose(*fractions, rtol=1e-9, equal_nan=True)
