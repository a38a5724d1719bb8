"""What trainings on folds say of every example, and the memorization score in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from memviz.checks import Count, CountOrZero, Seed, check_file, check_place, checked
from memviz.scores import Null, Scores
from memviz.tensor_files import read_hashed, write_hashed

from ._likelihoods import log_mean_exp

if TYPE_CHECKING:
    import pandas as pd

SOURCE = "van den Burg & Williams 2021, Algorithm 1 (arXiv:2106.03216)"
_KIND = "log-likelihoods of trainings on folds"


@dataclass(frozen=True, eq=False)
class CrossFit:
    """Log p(x) of every input by every training, and which examples each training had.

    Trainings are in order of repeats, the folds of a repeat together: in each repeat, an example is
    held out by exactly one training.

    Attributes
    ----------
    examples : int64 ``[n]``
        The inputs that were cut into folds, in ascending order.
    inside : bool ``[trainings, n]``
        Columns are those of ``examples``.
    log_p : floating-point ``[trainings, epochs, N]``
        In nats, of every input.
    epochs : tuple of int
        In ascending order; ``(0,)`` where ``fit`` gave none.
    folds : int
    """

    examples: Tensor
    inside: Tensor
    log_p: Tensor
    epochs: tuple[int, ...]
    folds: int

    def __len__(self) -> int:
        return len(self.inside)

    def __repr__(self) -> str:
        return (
            f"CrossFit({len(self)} trainings: {self.folds} folds of {len(self.examples):,} "
            f"examples, {self.repeats} times)"
        )

    @property
    def repeats(self) -> int:
        """How often the examples were cut into folds."""
        return len(self.inside) // self.folds

    @checked
    def of_example(self, example: int, epoch: int | None = None) -> tuple[Tensor, Tensor]:
        """Log p(x) of one input by the trainings with it and by those without it.

        Returns
        -------
        in_training, held_out : float64 ``[trainings with it]``, ``[trainings without it]``
            Nothing in the first for an input that was never trained on.

        Raises
        ------
        ValueError
            If there is no such input or epoch.
        """
        if not 0 <= example < self.log_p.shape[2]:
            raise ValueError(
                f"there is no example {example}; these trainings know {self.log_p.shape[2]:,}, 0 "
                f"to {self.log_p.shape[2] - 1}."
            )
        values = self._at(epoch)[:, example]
        place = (self.examples == example).nonzero()
        had = self.inside[:, int(place[0])] if len(place) else torch.zeros(len(self)).bool()
        return values[had], values[~had]

    @checked
    def in_training(self, epoch: int | None = None) -> Tensor:
        """U: log of the mean density that trainings with an example give it, float64 ``[n]``."""
        values, had = self._pool(epoch), self.inside
        return _averaged(values, had, "densities")

    @checked
    def held_out(self, epoch: int | None = None) -> Tensor:
        """V: log of the mean density that trainings without an input give it, float64 ``[N]``.

        Of every input; of those that were never trained on, over all trainings. They are the labels
        of a study with the task :class:`memviz.tasks.Density`.
        """
        values = self._at(epoch)
        had = torch.zeros(values.shape, dtype=torch.bool)
        had[:, self.examples] = self.inside
        return _averaged(values, ~had, "densities")

    @checked
    def held_out_log_p(self, epoch: int | None = None) -> float:
        """Mean log p(x) in nats of inputs that a training did not have, for the learning curve.

        Over the inputs that no training had, and all trainings; where there are none, over the
        examples of the fold that each training left out.
        """
        values = self._at(epoch)
        others = torch.ones(values.shape[1], dtype=torch.bool)
        others[self.examples] = False
        if others.any():
            return float(values[:, others].mean())
        return float(self._pool(epoch)[~self.inside].mean())

    @checked
    def memorization(
        self,
        epoch: int | None = None,
        *,
        matched: bool = False,
        average: str = "densities",
        null_draws: CountOrZero = 20,
        draws: Count = 100,
        seed: Seed = 0,
    ) -> Scores:
        """M in nats: log of the mean density with an example in training, minus that without it.

        ``M = U - V``, U over the ``repeats * (folds - 1)`` trainings that had the example and V
        over the ``repeats`` that had not. The mean of more values of a skewed distribution is
        larger in the log, so M is above 0 with no memorization at all: .07, .42, 2.65 or 7.3 nats
        for 90 against 10 values whose log-densities spread by 1, 2, 5 or 10 nats. The null shows
        it: in each repeat, a training drawn at random counts as the one without the example.

        Parameters
        ----------
        epoch : int, optional
            The last by default.
        matched : bool
            U over as many trainings as V, one of each repeat: the mean over random choices of
            them. Its null is centred at 0.
        average : {"densities", "logs"}
            ``"logs"`` averages log-densities, a geometric mean, which answers another question.
        null_draws : int
            0 for none.
        draws : int
            Of the random choices, if ``matched``.
        seed : int
            An example's draws depend on the seed and the example alone.

        Returns
        -------
        Scores
            Over ``examples``; inf where only trainings with the example give it any density, NaN
            where none does.

        Raises
        ------
        ValueError
            If there is no such epoch or average.
        """
        if average not in ("densities", "logs"):
            raise ValueError(f"average is {average!r}; choose from densities, logs.")
        values = self._pool(epoch).view(self.repeats, self.folds, -1)
        out = (~self.inside).view(values.shape).long().argmax(1)  # [repeats, n]
        chosen = _Chosen(self, null_draws, draws if matched else 0, seed)
        scores = _memorization(values, out, chosen.others, average)
        null = None
        if null_draws:
            rows = [
                _memorization(values, row, chosen.others, average).numpy() for row in chosen.null
            ]
            null = Null("in and out of training drawn at random in each repeat", np.stack(rows))
        kind = ", count-matched" if matched else ""
        return Scores(
            name=f"density memorization{kind}",
            measure="nats of log p(x) with the example in training less that without",
            values=scores.numpy(),
            examples=self.examples.numpy(),
            source=f"{SOURCE}, {self.repeats} × {self.folds} trainings",
            null=null,
        )

    def quantiles(self, q: Sequence[float] = (0.5, 0.95, 0.999), seed: int = 0) -> pd.DataFrame:
        """Quantiles of M over the examples against epochs, with those of the null.

        Returns
        -------
        pandas.DataFrame
            One row per epoch: ``q.95`` and so on, ``null q.95`` the same of M with in and out drawn
            at random (mean over draws), and ``held-out log p``.
        """
        import pandas as pd

        rows = []
        for epoch in self.epochs:
            scores = self.memorization(epoch, seed=seed)
            assert scores.null is not None
            row: dict[str, float] = {"epoch": epoch}
            for level in q:
                row[f"q{level:g}".replace("0.", ".")] = float(np.nanquantile(scores.values, level))
            for level in q:
                of_null = np.nanquantile(scores.null.values, level, axis=1).mean()
                row[f"null q{level:g}".replace("0.", ".")] = float(of_null)
            row["held-out log p"] = self.held_out_log_p(epoch)
            rows.append(row)
        return pd.DataFrame(rows).set_index("epoch")

    def save(self, path: str | Path) -> None:
        """Write all of it into one safetensors file."""
        check_place(path)
        tables = {
            "examples": self.examples,
            "inside": self.inside,
            "log_p": self.log_p,
            "epochs": torch.tensor(self.epochs),
        }
        write_hashed(Path(path), tables, {"kind": _KIND, "folds": str(self.folds)})

    @classmethod
    def load(cls, path: str | Path) -> CrossFit:
        """Read what ``save`` wrote.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is damaged, altered, or holds something else.
        """
        check_file(path)
        tables, facts = read_hashed(Path(path), _KIND)
        epochs = tuple(tables["epochs"].tolist())
        log_p, folds = tables["log_p"], int(facts["folds"])
        return cls(tables["examples"], tables["inside"], log_p, epochs, folds)

    def _at(self, epoch: int | None) -> Tensor:
        """Log p(x) of every input at an epoch, float64 ``[trainings, N]``."""
        if epoch is not None and epoch not in self.epochs:
            known = ", ".join(map(str, self.epochs))
            raise ValueError(f"there is no epoch {epoch}; choose from {known}.")
        place = -1 if epoch is None else self.epochs.index(epoch)
        return self.log_p[:, place].double()

    def _pool(self, epoch: int | None) -> Tensor:
        return self._at(epoch)[:, self.examples]


class _Chosen:
    """What is drawn for each example, by the seed and the example alone.

    ``null`` int64 ``[draws, repeats, n]``: the training that counts as the one without it.
    ``others`` int64 ``[draws, repeats, n]``: by how many places another training follows it.
    """

    def __init__(self, fits: CrossFit, null_draws: int, draws: int, seed: int) -> None:
        shape = len(fits.examples), null_draws, fits.repeats
        null = np.empty(shape, np.int64)
        others = np.empty((shape[0], draws, shape[2]), np.int64)
        for row, example in enumerate(fits.examples.tolist()):
            rngs = [np.random.default_rng([seed, example, kind]) for kind in range(2)]
            null[row] = rngs[0].integers(fits.folds, size=null.shape[1:])
            others[row] = rngs[1].integers(1, fits.folds, others.shape[1:])
        self.null = torch.from_numpy(null).permute(1, 2, 0)
        self.others = torch.from_numpy(others).permute(1, 2, 0)


def _memorization(values: Tensor, out: Tensor, others: Tensor, average: str) -> Tensor:
    """M of values ``[repeats, folds, n]`` with ``out [repeats, n]`` held out, float64 ``[n]``."""
    folds = values.shape[1]
    without = values.gather(1, out[:, None])[:, 0]
    if len(others):  # one training of each repeat that had the example
        chosen = [values.gather(1, ((out + step) % folds)[:, None])[:, 0] for step in others]
        tables = torch.stack([_mean(some, average) for some in chosen])
        return tables.mean(0) - _mean(without, average)
    had = torch.ones(values.shape, dtype=torch.bool).scatter_(1, out[:, None], False)
    flat, inside = values.flatten(0, 1), had.flatten(0, 1)
    return _averaged(flat, inside, average) - _mean(without, average)


def _mean(values: Tensor, average: str) -> Tensor:
    return log_mean_exp(values, 0) if average == "densities" else values.mean(0)


def _averaged(values: Tensor, chosen: Tensor, average: str) -> Tensor:
    """The mean over the chosen rows of each column, in the log; NaN where none is chosen."""
    count = chosen.sum(0)
    if average == "logs":
        return values.where(chosen, 0.0).sum(0) / count
    total = values.masked_fill(~chosen, -torch.inf).logsumexp(0)
    return (total - count.double().log()).masked_fill(count == 0, torch.nan)
