"""Examples as noisy copies, so that a search does not find adversarial directions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from memviz.engine.record import Edit, Replay, run_edited
from memviz.statistics import generator_of
from memviz.study import Study
from memviz.tasks.task import Inputs


@dataclass(frozen=True, eq=False)
class NoisyBatch:
    """Examples, each as several slightly noisy copies, judged by their mean output.

    Attributes
    ----------
    examples : int64 ``[b]``
        The study's indices.
    copies : tuple of Tensor or dict of Tensors ``[b, ...]``
    """

    examples: Tensor
    copies: tuple[Inputs, ...]

    @classmethod
    def of(
        cls, study: Study, examples: Tensor, copies: int, noise: float, generator: torch.Generator
    ) -> NoisyBatch:
        """Copies with Gaussian noise, whose norm over the batch is ``noise`` times the batch's.

        Raises
        ------
        ValueError
            If no input is floating-point.
        """
        inputs = study.batch(examples)
        if copies == 0:
            return cls(examples, (inputs,))
        values = inputs.values() if isinstance(inputs, Mapping) else [inputs]
        if not any(value.is_floating_point() for value in values):
            raise ValueError(
                "the inputs are not floating-point, so noise cannot be added; use copies=0."
            )

        def noisy(value: Tensor) -> Tensor:
            if not value.is_floating_point():
                return value
            drawn: Tensor = torch.randn(value.shape, generator=generator).to(value)
            drawn *= noise * value.norm() / drawn.norm()
            return value + drawn

        return cls(examples, tuple(_each(inputs, noisy) for _ in range(copies)))

    @classmethod
    def each_alone(
        cls, study: Study, examples: Tensor, copies: int, noise: float, seed: int
    ) -> NoisyBatch:
        """Copies whose noise is drawn for, and relative to the norm of, each example alone."""
        alone = [
            cls.of(study, example[None], copies, noise, generator_of(seed, int(example), 1))
            for example in examples
        ]
        together = zip(*(batch.copies for batch in alone), strict=True)
        return cls(examples, tuple(_joined(parts) for parts in together))

    def few(self, positions: Tensor) -> NoisyBatch:
        """The examples at these positions."""
        copies = tuple(_each(copy, lambda value: value[positions]) for copy in self.copies)
        return NoisyBatch(self.examples[positions], copies)

    def outputs(self, replay: Replay, edits: Sequence[Edit]) -> Tensor:
        """Mean output of each example's copies under these edits, ``[b, ...]``."""
        study = replay.own_study
        passes = (run_edited(replay.trace, edits, study.call(copy)) for copy in self.copies)
        mean: Tensor = torch.stack([study.task.outputs(raw) for raw in passes]).mean(0)
        return mean

    def labels(self, study: Study) -> Tensor:
        """Given labels, int64 ``[b]``, on the model's device."""
        return study.labels[self.examples].to(study.device)


def _each(inputs: Inputs, change: Callable[[Tensor], Tensor]) -> Inputs:
    if isinstance(inputs, Mapping):
        return {key: change(value) for key, value in inputs.items()}
    return change(inputs)


def _joined(parts: Sequence[Inputs]) -> Inputs:
    """Inputs of several examples as one batch."""
    first = parts[0]
    if isinstance(first, Mapping):
        return {key: torch.cat([part[key] for part in parts]) for key in first}  # type: ignore[index]
    return torch.cat([part for part in parts if isinstance(part, Tensor)])
