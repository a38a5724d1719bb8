"""Memorizers of the same examples beside each other: what they say of examples never seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memviz.checks import Count, Seed, checked, quoted
from memviz.models.memorizers import METHODS, Memorizer, construct_memorizer

from ._checks import checked_classes, checked_examples, checked_size
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
    null: bool = True,
) -> pd.DataFrame:
    """Training and test accuracy of networks that all fit the training examples.

    The null is the same network for labels dealt out anew: what fits those as well has learnt
    nothing that could be tested.

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
    null : bool
        Whether each network is made a second time, of the shuffled labels.

    Returns
    -------
    pandas.DataFrame
        By method: ``units``, ``parameters``, ``largest_weight``, ``train``, ``test``,
        ``undecided``, the share of test examples at which the certified network is 0, which count
        as wrong; ``random_train`` and ``random_test``, the accuracies of the null, the former on
        the labels that it was given.

    Raises
    ------
    ValueError
        If there is no such method, inputs and labels are no such numbers, or the examples don't
        fit a method.

    Examples
    --------
    >>> draw = torch.Generator().manual_seed(0)
    >>> x = torch.randn(60, 4, generator=draw)
    >>> y = (x[:, 0] > 0).long()
    >>> table = compare_memorizers(x[:40], y[:40], x[40:], y[40:], methods=["zhang", "yu"])
    >>> table.train.tolist(), table.random_train.tolist()
    ([1.0, 1.0], [1.0, 1.0])
    """
    import pandas as pd

    unknown = [name for name in methods if name not in (*METHODS, "trained")]
    if unknown:
        raise ValueError(
            f"there is no method {quoted(unknown[0])}; use {', '.join((*METHODS, 'trained'))}."
        )
    if not methods or len(set(methods)) < len(methods):
        raise ValueError(f"methods is {quoted(list(methods))}; give at least one, and each once.")
    if not 0 <= noise < torch.inf:
        raise ValueError(f"noise is {noise}; give a standard deviation, 0 or more.")
    own, y = checked_examples(inputs, labels)
    test = checked_examples(test_inputs, test_labels, "test_inputs", "test_labels")
    if test[0].shape[1] != own.shape[1]:
        raise ValueError(
            f"test_inputs has {test[0].shape[1]:,} features and inputs {own.shape[1]:,}; give "
            "examples of one kind."
        )
    classes = checked_classes(y)
    dealt = _dealt(own, y, seed) if null else None
    rows = {}
    for name in methods:
        x = own
        if name == "bubeck" and noise:
            draw = torch.Generator().manual_seed(seed)
            x = x + noise * torch.randn(x.shape, generator=draw, dtype=torch.float64)
        rows[name] = _row(*_built(name, x, y, classes, seed), x, y, *test)
        if dealt is not None:
            of_null = _row(*_built(name, x, dealt, classes, seed), x, dealt, *test)
            rows[name] |= {"random_train": of_null["train"], "random_test": of_null["test"]}
    return pd.DataFrame(rows).T.rename_axis("method").astype({"units": int, "parameters": int})


def _dealt(x: Tensor, labels: Tensor, seed: int) -> Tensor:
    """The labels dealt out anew; equal inputs keep one label, and the order is without effect."""
    distinct, which = torch.unique(x, dim=0, return_inverse=True)
    label = torch.zeros(len(distinct), dtype=torch.int64)
    label[which] = labels
    draw = torch.Generator().manual_seed(seed)
    return label[torch.randperm(len(distinct), generator=draw)][which]


Predict = Callable[[Tensor], Tensor]


def _built(
    name: str, x: Tensor, labels: Tensor, classes: int, seed: int
) -> tuple[nn.Module, int, Predict]:
    """The network, its hidden units, and how it says a class."""
    if name == "trained":
        model = trained(x, labels, [80, 80], classes, seed=seed)
        return model, 160, _argmax(model)
    memorizer, predict = _constructed(name, x, labels, classes, seed)
    return memorizer.model, memorizer.units, predict


def _constructed(
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
    units: int,
    predict: Predict,
    x: Tensor,
    labels: Tensor,
    test_inputs: Tensor,
    test_labels: Tensor,
) -> dict[str, float]:
    def said(rows: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.cat([predict(part) for part in rows.split(_BATCH)])

    test = said(test_inputs)
    return {
        "units": units,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "largest_weight": max(float(p.detach().abs().max()) for p in model.parameters()),
        "train": float((said(x) == labels).double().mean()),
        "test": float((test == test_labels).double().mean()),
        "undecided": float((test < 0).double().mean()),
    }


@checked
def precision(
    points: Sequence[Count], features: Count = 20, *, method: str = "yun", seed: Seed = 0
) -> pd.DataFrame:
    """How exact a construction is in float64 and in float32, on Gaussian points of random signs.

    Parameters
    ----------
    points : sequence of int
        Numbers of points.
    features : int
    method : str
        Of :func:`~memviz.models.memorizers.construct_memorizer`.
    seed : int

    Returns
    -------
    pandas.DataFrame
        By number of points: ``largest_weight``, ``float64`` and ``float32``, the largest errors,
        and ``signs``, the share of points whose sign is right in float32.

    Raises
    ------
    ValueError
        If there is no such method, or the points don't fit it or the memory.

    Examples
    --------
    >>> table = precision([16, 100], 5)
    >>> bool((table.float64 < 1e-8).all()), bool((table.float32 > table.float64).all())
    (True, True)
    """
    import pandas as pd

    if not len(points) or len(set(points)) < len(points):
        raise ValueError(f"points is {quoted(list(points))}; give at least one, and each once.")
    for number in points:
        checked_size(number, features)
    rows = {}
    for number in points:
        draw = torch.Generator().manual_seed(seed)
        x = torch.randn(number, features, generator=draw, dtype=torch.float64)
        up = torch.rand(number, generator=draw) < 0.5
        signs = up.double() * 2 - 1
        values = up.long() if method == "yun4" else signs
        memorizer = construct_memorizer(x, values, method=method, seed=seed)  # type: ignore[arg-type]
        largest = memorizer.largest_weight
        exact, coarse = memorizer.error(), memorizer.error(torch.float32)
        with torch.no_grad():
            outputs = memorizer.model.float()(x.float())
        said = outputs[:, 0] if outputs.shape[1] == 1 else outputs[:, 1] - outputs[:, 0]
        rows[number] = {
            "largest_weight": largest,
            "float64": exact,
            "float32": coarse,
            "signs": float((said.sign() == signs).double().mean()),
        }
    return pd.DataFrame(rows).T.rename_axis("points")
