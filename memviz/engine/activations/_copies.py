"""Augmented copies of examples, drawn from a seed and the example alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from memviz.restored import random_kept, undisturbed
from memviz.study import Study
from memviz.tasks.task import Inputs

Augment = Callable[[Inputs, torch.Generator], Inputs]


def seed_generators(seed: int) -> None:
    """Seed the global generators: augmentations draw from them, too.

    Examples
    --------
    >>> with random_kept(anywhere=True):
    ...     drawn = [seed_generators(3) or (random.random(), np.random.rand()) for _ in range(2)]
    >>> drawn[0] == drawn[1]
    True
    """
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)


class Copies:
    """Augmented copies of a study's examples.

    Parameters
    ----------
    study : Study
    augment : callable or None
        ``(inputs, generator) -> inputs`` on the copies ``[copies, ...]`` of one example.
    copies : int
    seed : int

    Attributes
    ----------
    number : int
        Copies of each example; 1 without ``augment``.

    Raises
    ------
    ValueError
        If ``copies`` is below 1.

    Examples
    --------
    >>> study = Study(torch.nn.Linear(2, 2).eval(), torch.eye(2), torch.zeros(2), {"a": range(2)})
    >>> Copies(study, lambda x, _: x + 1, 3, seed=0).of(torch.tensor([1])).shape
    torch.Size([3, 2])
    """

    def __init__(self, study: Study, augment: Augment | None, copies: int, seed: int) -> None:
        if copies < 1:
            raise ValueError(f"copies is {copies}; give at least 1 copy per example.")
        self.number = copies if augment is not None else 1
        self._study, self._augment = study, augment
        generator = torch.Generator().manual_seed(seed)
        self._seeds = torch.randint(2**31, (len(study),), generator=generator)
        self._drawn_before: tuple[int, Mapping[str, Tensor]] | None = None

    def of(self, examples: Tensor, most: int | None = None) -> Inputs:
        """The copies of some examples, example by example, on the model's device.

        ``most`` keeps that many of each; all by default.

        Raises
        ------
        ValueError
            If ``augment`` does not return every copy, or others on a second call.
        """
        if self._augment is None:
            return self._study.batch(examples)
        calm, drawn_back = undisturbed(random=False), random_kept(anywhere=True)
        with calm, calm, drawn_back, drawn_back:
            parts = [
                {key: rows[:most] for key, rows in self._copied(example, self._augment).items()}
                for example in examples.tolist()
            ]
        device = self._study.device
        if "" not in parts[0]:
            return {key: torch.cat([part[key] for part in parts]).to(device) for key in parts[0]}
        return torch.cat([part[""] for part in parts]).to(device)

    def _copied(self, example: int, augment: Augment) -> Mapping[str, Tensor]:
        """The augmented copies of one example, by name; a single input's name is empty."""
        copies = _repeated(self._study.rows(torch.tensor([example])), self.number)
        seed = int(self._seeds[example])
        seed_generators(seed)
        augmented = augment(copies, torch.Generator().manual_seed(seed))
        named = augmented if isinstance(augmented, Mapping) else {"": augmented}
        for value in named.values():
            if not isinstance(value, Tensor) or len(value) != self.number:
                got = f"{len(value)} rows" if isinstance(value, Tensor) else type(value).__name__
                raise ValueError(
                    f"augment returned {got} for {self.number} copies; it must return every copy."
                )
        if self._drawn_before is None:
            self._drawn_before = example, {key: value.clone() for key, value in named.items()}
        elif self._drawn_before[0] == example:
            check_same_copies(self._drawn_before[1], named, example)
        return named


def check_same_copies(first: Mapping[str, Tensor], second: Mapping[str, Tensor], name: int) -> None:
    """Refuse an augmentation that draws from somewhere that memviz can't seed.

    Raises
    ------
    ValueError
        If the copies differ.

    Examples
    --------
    >>> check_same_copies({"": torch.ones(1)}, {"": torch.zeros(1)}, 4)
    Traceback (most recent call last):
    ValueError: augment made other copies of example 4 on a second call with the same seed; ...
    """
    if any(not torch.equal(first[key].nan_to_num(), second[key].nan_to_num()) for key in first):
        raise ValueError(
            f"augment made other copies of example {name} on a second call with the same seed; "
            "draw from the generator it is given, or from the global ones of torch, NumPy or "
            "Python, which are seeded for each example."
        )


def _repeated(inputs: Inputs, copies: int) -> Inputs:
    if isinstance(inputs, Mapping):
        return {
            key: value.expand(copies, *value.shape[1:]).clone() for key, value in inputs.items()
        }
    return inputs.expand(copies, *inputs.shape[1:]).clone()
