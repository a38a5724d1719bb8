"""Memorizers of the same examples beside each other: what they say of examples never seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memviz.checks import Seed, checked, quoted
from memviz.models.memorizers import METHODS, Memorizer, construct_memorizer

from ._trained import trained

if TYPE_CHECKING:
    import pandas as pd

_BATCH = 64
_OF_CLASSES = ("yun", "yun4", "zhang", "bubeck", "trained")


@checked
def compare_memorizers(
    inputs: Tensor,
    labels: Tensor,
    test_inputs: Tensor,
    test_labels: Tensor,
    *,
    methods: Sequence[str] = _OF_CLASSES,
    noise: float = 0.0,
    seed: Seed = 0,
) -> pd.DataFrame:
    """Training and test accuracy of networks that all fit the training examples.

    Parameters
    ----------
    inputs, test_inputs : float ``[n, ...]``
    labels, test_labels : int64 ``[n]``
        Classes from 0; for "yu" two of them.
    methods : sequence of str
        Of :func:`~memviz.models.memorizers.construct_memorizer`, and "trained": two hidden layers
        of 80 units, by Adam. "yun" has one output, a code for each class.
    noise : float
        Standard deviation of what is added to the training inputs of "bubeck", which needs points
        in general position; its training accuracy is that of the noisy ones.
    seed : int

    Returns
    -------
    pandas.DataFrame
        By method: ``units``, ``parameters``, ``largest_weight``, ``train``, ``test``, and
        ``undecided``, the share of test examples at which the certified network is 0, which count
        as wrong.

    Raises
    ------
    ValueError
        If there is no such method, or the examples don't fit it.

    Examples
    --------
    >>> draw = torch.Generator().manual_seed(0)
    >>> x = torch.randn(60, 4, generator=draw)
    >>> y = (x[:, 0] > 0).long()
    >>> table = compare_memorizers(x[:40], y[:40], x[40:], y[40:], methods=["zhang", "yu"])
    >>> table.train.tolist()
    [1.0, 1.0]
    """
    import pandas as pd

    unknown = [name for name in methods if name not in (*METHODS, "trained")]
    if unknown:
        raise ValueError(
            f"there is no method {quoted(unknown[0])}; use {', '.join((*METHODS, 'trained'))}."
        )
    classes = int(labels.max()) + 1
    rows = {}
    for name in methods:
        x = inputs.flatten(1).double()
        if name == "bubeck" and noise:
            draw = torch.Generator().manual_seed(seed)
            x = x + noise * torch.randn(x.shape, generator=draw, dtype=torch.float64)
        if name == "trained":
            model = trained(x, labels, [80, 80], classes, seed=seed)
            rows[name] = _row(model, [80, 80], _argmax(model), x, labels, test_inputs, test_labels)
            continue
        memorizer, predict = _built(name, x, labels, classes, seed)
        row = _row(memorizer.model, memorizer.units, predict, x, labels, test_inputs, test_labels)
        rows[name] = row
    return pd.DataFrame(rows).T.rename_axis("method").astype({"units": int, "parameters": int})


Predict = Callable[[Tensor], Tensor]


def _built(
    name: str, x: Tensor, labels: Tensor, classes: int, seed: int
) -> tuple[Memorizer, Predict]:
    if name == "yun4":
        memorizer = construct_memorizer(x, labels, method="yun4", seed=seed)
        return memorizer, _argmax(memorizer.model)
    if name == "yun":
        codes = torch.linspace(-1, 1, max(2, classes), dtype=torch.float64)
        memorizer = construct_memorizer(x, codes[labels], activation="hardtanh", seed=seed)
        return (
            memorizer,
            lambda rows: (
                (memorizer.model(rows) - codes).abs().argmin(1)  # the nearest class's code
            ),
        )
    if name == "yu":
        if classes != 2:
            raise ValueError(f'method "yu" is of two classes, and there are {classes}.')
        memorizer = construct_memorizer(x, labels * 2 - 1, method="yu")
        # 0, far from all data, is neither class.
        return memorizer, lambda rows: _side(memorizer.model(rows)[:, 0])
    one_hot = F.one_hot(labels, classes).double()
    memorizer = construct_memorizer(x, one_hot, method=name, seed=seed)  # type: ignore[arg-type]
    return memorizer, _argmax(memorizer.model)


def _side(values: Tensor) -> Tensor:
    return torch.where(values > 0, 1, torch.where(values < 0, 0, -1))


def _argmax(model: nn.Module) -> Predict:
    return lambda rows: model(rows).argmax(1)


def _row(
    model: nn.Module,
    units: int | list[int],
    predict: Predict,
    x: Tensor,
    labels: Tensor,
    test_inputs: Tensor,
    test_labels: Tensor,
) -> dict[str, float]:
    def said(rows: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([predict(part) for part in rows.split(_BATCH)])

    test = said(test_inputs.flatten(1).double())
    return {
        "units": units if isinstance(units, int) else sum(units),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "largest_weight": max(float(p.detach().abs().max()) for p in model.parameters()),
        "train": float((said(x) == labels).double().mean()),
        "test": float((test == test_labels).double().mean()),
        "undecided": float((test < 0).double().mean()),
    }


@checked
def precision(
    points: Sequence[int], features: int = 20, *, method: str = "yun", seed: Seed = 0
) -> pd.DataFrame:
    """How exact a construction is in float64 and in float32, on Gaussian points of random signs.

    Returns
    -------
    pandas.DataFrame
        By number of points: ``largest_weight``, ``float64`` and ``float32``, the largest errors,
        and ``signs``, the share of points whose sign is right in float32.

    Examples
    --------
    >>> table = precision([16, 100], 5)
    >>> bool((table.float64 < 1e-8).all()), bool((table.float32 > table.float64).all())
    (True, True)
    """
    import pandas as pd

    rows = {}
    for number in points:
        draw = torch.Generator().manual_seed(seed)
        x = torch.randn(number, features, generator=draw, dtype=torch.float64)
        signs = (torch.rand(number, generator=draw) < 0.5).double() * 2 - 1
        memorizer = construct_memorizer(x, signs, method=method)  # type: ignore[arg-type]
        largest = memorizer.largest_weight
        exact, coarse = memorizer.error(), memorizer.error(torch.float32)
        with torch.no_grad():
            said = memorizer.model.float()(x.float())[:, 0]
        rows[number] = {
            "largest_weight": largest,
            "float64": exact,
            "float32": coarse,
            "signs": float((said.sign() == signs).double().mean()),
        }
    return pd.DataFrame(rows).T.rename_axis("points")
