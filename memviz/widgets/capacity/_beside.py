"""All methods on the same points: decision regions, errors, and what they say of unseen points."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from memviz.models.memorizers import Memorizer
from memviz.probes.capacity import covered, training_steps, width_search

from ._network import built, says
from ._points import Points
from ._settings import METHODS, Settings

SIDE = 96  # places across a picture of regions
DRAWN = ("yun", "zhang", "bubeck", "yu", "trained")  # side by side
TRAINED = "trained"
TRAINED_ON = (10, 30, 100)  # points, for the triangles
_NOTHING = 1e-9


@dataclass(frozen=True, eq=False)
class Beside:
    """One method on the points.

    Attributes
    ----------
    method, words : str
    units : int or None
    largest, float64, float32, train, test : float or None
        None where the method refused the points.
    covered : float or None
        Share of the unseen points in certified balls.
    radii : ``[n]`` or None
    regions : uint8 ``[SIDE, SIDE]`` or None
        Rows from the lowest: 0 says -, 1 says +, 2 says nothing; in two dimensions.
    refused : str
        Why there is no such network.
    """

    method: str
    words: str
    units: int | None = None
    largest: float | None = None
    float64: float | None = None
    float32: float | None = None
    train: float | None = None
    test: float | None = None
    covered: float | None = None
    radii: Tensor | None = None
    regions: np.ndarray | None = None
    refused: str = ""


def window(points: Points) -> tuple[float, float, float, float]:
    """Left, right, bottom and top of the regions: a square around the points."""
    low, high = points.inputs.amin(0), points.inputs.amax(0)
    middle = (low + high) / 2
    half = float((high - low).max()) * 0.62 + 1e-9
    x, y = float(middle[0]), float(middle[1])
    return x - half, x + half, y - half, y + half


def beside(points: Points, settings: Settings, method: str) -> Beside:
    """One method on these points, float64."""
    words = METHODS[method][2]
    try:
        made = built(points, method, settings)
    except ValueError as error:
        return Beside(method, words, refused=str(error))
    train, test, regions = _said(made.model, points)
    return Beside(
        method,
        words,
        made.units,
        made.largest_weight,
        made.error(),
        made.error(torch.float32),
        train,
        test,
        _covered(made, points),
        made.radii,
        regions,
    )


def _trained(points: Points, settings: Settings) -> Generator[None, None, Beside]:
    """A trained network on these points, an epoch a step."""
    labels = (points.signs > 0).long()
    model = yield from training_steps(points.inputs, labels, [16, 16], 2, seed=settings.seed)
    largest = max(float(p.detach().abs().max()) for p in model.parameters())
    train, test, regions = _said(model, points)
    words = "Trained, Adam"
    return Beside(TRAINED, words, 32, largest, train=train, test=test, regions=regions)


def _covered(made: Memorizer, points: Points) -> float | None:
    if made.radii is None or not len(points.unseen):
        return None
    return covered(made, points.unseen, points.true)


def _said(model: nn.Module, points: Points) -> tuple[float, float | None, np.ndarray | None]:
    """Accuracy on the points and on the unseen ones, and regions; 0 is neither sign, and wrong."""
    train = float((_signs(model, points.inputs) == points.signs).double().mean())
    test = None
    if len(points.unseen):
        test = float((_signs(model, points.unseen) == points.true).double().mean())
    if points.inputs.shape[1] != 2:
        return train, test, None
    left, right, low, top = window(points)
    across = torch.linspace(left, right, SIDE, dtype=torch.float64)
    up = torch.linspace(low, top, SIDE, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(up, across, indexing="ij"), -1).view(-1, 2).flip(1)
    signs = _signs(model, grid).view(SIDE, SIDE).numpy()
    return train, test, np.where(signs > 0, 1, np.where(signs < 0, 0, 2)).astype(np.uint8)


def _signs(model: nn.Module, rows: Tensor) -> Tensor:
    said = says(model, rows)
    return torch.where(said.abs() <= _NOTHING, 0.0, said.sign())


def all_beside(points: Points, settings: Settings) -> Iterator[Beside | None]:
    """Every method, those that are drawn first; None after each epoch of the training."""
    order: Sequence[str] = [*DRAWN, *(m for m in METHODS if m not in DRAWN)]
    for method in order:
        if method == TRAINED:
            yield (yield from _trained(points, settings))
        else:
            yield beside(points, settings, method)


_known: dict[tuple[int, int], tuple[int, bool]] = {}


def trained_units(n: int, features: int) -> Generator[None, None, tuple[int, bool]]:
    """Units with which Adam fits so many points of random labels, and whether it does.

    An epoch a step, and none for what is known.
    """
    if (n, features) not in _known:
        width, accuracy = yield from width_search(n, features, widest=128)
        _known[n, features] = 2 * width, accuracy == 1
    return _known[n, features]
