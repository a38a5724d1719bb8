"""Training dynamics of each example: when it was learned or forgotten, and at what loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from memviz.checks import CountOrZero, IndicesLike, Seed, as_numbers, checked
from memviz.scores import Null, Scores

# Said in `source` where the paper is named for its idea and the formula is stated here.
FORMULA = "formula in the docstring"
_QUANTILES = 201
Reduce = Callable[[Tensor], Tensor]


@checked
def forgetting_events(
    correct: Tensor,
    examples: IndicesLike | None = None,
    *,
    null_draws: CountOrZero = 20,
    seed: Seed = 0,
) -> Scores:
    """How often an example was right and then wrong again.

    Toneva et al. (2019) evaluate an example when it is presented: for that, give
    ``presented_margins > 0`` of a recorded run; its ``correct`` is evaluated at the end of each
    epoch. An example that was never right counts as forgotten once per epoch, above every other
    example (in the paper: infinitely often).

    Parameters
    ----------
    correct : bool ``[epochs, n]``
    examples : int64 ``[n]``, optional
        The study's indices of the columns; 0 to n-1 by default.
    null_draws : int
        Draws of the null; 0 for none.
    seed : int

    Examples
    --------
    >>> sequence = torch.tensor([[0], [1], [1], [0], [1], [0], [0]]).bool()
    >>> forgetting_events(sequence).values
    array([2.])
    """
    source = f"after Toneva et al. 2019; {FORMULA}, as in its authors' README"
    about = _About("forgetting events", "times", source)
    return _scores(about, _bool(correct), _forgotten, examples, null_draws, seed)


@checked
def learning_time(
    correct: Tensor,
    examples: IndicesLike | None = None,
    *,
    null_draws: CountOrZero = 20,
    seed: Seed = 0,
) -> Scores:
    """First epoch from which an example stayed right to the end; epochs + 1 if it did not.

    The first epoch with a right answer says little (AUROC about .5 on CIFAR in Ravikumar et al.
    2025, table 2): most wrong labels are predicted once by chance.

    Parameters
    ----------
    correct : bool ``[epochs, n]``
    examples, null_draws, seed
        As for :func:`forgetting_events`.

    Examples
    --------
    >>> learning_time(torch.tensor([[1, 0, 1], [0, 1, 1], [1, 1, 0]]).bool()).values
    array([3., 2., 4.])
    """
    source = "first-split learning time, as in the code of Maini et al. 2023"
    about = _About("learning time", "epochs", source)
    return _scores(about, _bool(correct), _learned, examples, null_draws, seed)


@checked
def second_split_forgetting(
    correct: Tensor,
    examples: IndicesLike | None = None,
    *,
    null_draws: CountOrZero = 20,
    seed: Seed = 0,
) -> Scores:
    """For how many of the last epochs an example stayed forgotten while others were trained on.

    The paper reports the first epoch from which an example stays wrong, which is early for
    mislabelled ones; counted from the end, higher is more memorized, and 0 is never forgotten.

    Parameters
    ----------
    correct : bool ``[epochs, n]``
        After each epoch on a second split without these examples
        (``memviz.training.subsets.second_split``).
    examples, null_draws, seed
        As for :func:`forgetting_events`.

    Examples
    --------
    >>> second_split_forgetting(torch.tensor([[1, 1, 0], [0, 1, 1], [0, 1, 0]]).bool()).values
    array([2., 0., 1.])
    """
    source = f"after Maini et al. 2022, second-split forgetting time; {FORMULA}"
    about = _About("second-split forgetting", "epochs forgotten at the end", source)
    return _scores(about, ~_bool(correct), _last_run, examples, null_draws, seed)


@checked
def cumulative_loss(
    losses: Tensor,
    examples: IndicesLike | None = None,
    *,
    null_draws: CountOrZero = 20,
    seed: Seed = 0,
) -> Scores:
    """Sum of an example's losses over the epochs.

    Parameters
    ----------
    losses : float ``[epochs, n]``, in nats
    examples, null_draws, seed
        As for :func:`forgetting_events`.

    Raises
    ------
    ValueError
        If a loss is NaN or infinite.

    Examples
    --------
    >>> cumulative_loss(torch.tensor([[2.0, 1.0], [0.5, 1.0]]), null_draws=0).values
    array([2.5, 2. ])
    """
    source = "Ravikumar et al. 2025, cumulative sample loss"
    about = _About("cumulative sample loss", "nats, summed over the epochs", source)
    return _scores(about, _finite(losses, "losses"), _sum, examples, null_draws, seed)


@checked
def area_under_margin(
    margins: Tensor,
    examples: IndicesLike | None = None,
    *,
    null_draws: CountOrZero = 20,
    seed: Seed = 0,
) -> Scores:
    """Minus the mean, over the epochs, of the given label's logit minus the largest other logit.

    The paper's area under the margin (AUM) is low for suspect labels; the sign is flipped, so that
    higher is more memorized.

    Parameters
    ----------
    margins : float ``[epochs, n]``, in logits
    examples, null_draws, seed
        As for :func:`forgetting_events`.

    Raises
    ------
    ValueError
        If a margin is NaN or infinite.

    Examples
    --------
    >>> area_under_margin(torch.tensor([[2.0, -1.0], [4.0, 0.0]]), null_draws=0).values
    array([-3. ,  0.5])
    """
    source = f"after Pleiss et al. 2020, AUM with its sign turned; {FORMULA}"
    about = _About("area under the margin", "logits, sign turned", source)
    return _scores(about, _finite(margins, "margins"), _minus_mean, examples, null_draws, seed)


@checked
def shuffled_null(
    table: Tensor, reduce: Reduce, draws: int, seed: Seed, rows: str = "epoch"
) -> Null:
    """The null of a measure: each row's values are permuted among the examples.

    No example is special then, so all share one distribution, represented by its 201 quantiles over
    all draws.

    Parameters
    ----------
    table : Tensor ``[rows, n]``
    reduce : callable
        ``[rows, n]`` to ``[n]``.
    draws, seed : int
    rows : str
        What a row of the table is, for the description.
    """
    rng = np.random.default_rng(seed)
    draws_of_null = []
    for _ in range(draws):
        permuted = torch.from_numpy(rng.permuted(table.numpy(), axis=1))
        draws_of_null.append(reduce(permuted).double().numpy())
    levels = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    quantiles = np.quantile(np.concatenate(draws_of_null), levels, method="inverted_cdf")
    shape = (_QUANTILES, table.shape[1])
    return Null(
        f"the values of each {rows} dealt to the examples at random",
        np.broadcast_to(quantiles[:, None], shape),
    )


class _About(NamedTuple):
    name: str
    measure: str
    source: str


def _scores(
    about: _About, table: Tensor, reduce: Reduce, examples: Any, draws: int, seed: int
) -> Scores:
    return Scores(
        about.name,
        about.measure,
        reduce(table).double().numpy(),
        examples=columns(table, examples),
        source=about.source,
        null=shuffled_null(table, reduce, draws, seed) if draws else None,
    )


def columns(table: Tensor, examples: Any) -> np.ndarray:
    """The study's indices of a table's columns."""
    if examples is None:
        return np.arange(table.shape[1])
    ids = as_numbers("examples", examples, "give one index per column").cpu()
    if ids.shape != (table.shape[1],) or ids.is_floating_point() or ids.dtype == torch.bool:
        raise ValueError(
            f"examples is {ids.dtype} of shape {list(ids.shape)} for {table.shape[1]} columns; "
            "give one index per column."
        )
    if len(ids.unique()) < len(ids) or (len(ids) and ids.min() < 0):
        raise ValueError(
            "examples names an example twice or below 0; give each column's own index."
        )
    return ids.long().numpy()


def _forgotten(correct: Tensor) -> Tensor:
    events = (correct[:-1] & ~correct[1:]).sum(0)
    return torch.where(correct.any(0), events, len(correct))


def _learned(correct: Tensor) -> Tensor:
    return len(correct) + 1 - _last_run(correct)


def _sum(table: Tensor) -> Tensor:
    return table.sum(0)


def _minus_mean(table: Tensor) -> Tensor:
    return -table.mean(0)


def _last_run(flags: Tensor) -> Tensor:
    """How many of the last rows are true without a break, ``[n]``."""
    return flags.flip(0).long().cumprod(0).sum(0)


def _bool(correct: Tensor) -> Tensor:
    table = torch.as_tensor(correct)
    if table.dim() != 2 or table.dtype != torch.bool or not len(table):
        raise ValueError(
            f"correct is {table.dtype} of shape {list(table.shape)}; give bool [epochs, n]."
        )
    return table.cpu()


def _finite(values: Tensor, what: str) -> Tensor:
    table = torch.as_tensor(values)
    if table.dim() != 2 or not table.is_floating_point() or not len(table):
        raise ValueError(
            f"{what} is {table.dtype} of shape {list(table.shape)}; give floats [epochs, n]."
        )
    if not table.isfinite().all():
        epoch, column = (int(k) for k in (~table.isfinite()).nonzero()[0])
        raise ValueError(
            f"{what} of row {epoch}, column {column} is {float(table[epoch, column])}; give only "
            "epochs before the training diverged, and examples present in all of them."
        )
    return table.detach().double().cpu()
