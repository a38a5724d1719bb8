"""A Study: a model, its examples, and what is known about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.utils.data import Dataset

from memviz.checks import (
    Count,
    IndicesLike,
    NoneChosenError,
    Share,
    as_indices,
    checked,
    coded,
    quoted,
)
from memviz.scores import Scores
from memviz.tasks import Classification, Inputs, Task, as_numbers, check_labels

from ._from_dataset import FromDataset
from ._groups import as_groups
from ._inputs import advice_on_batches, as_inputs, check_length, explain, read_lazily
from ._reader import DatasetInputs
from ._ready import check_ready, check_task
from ._suspects import Rest, Suspicion, after_review, suspicion, suspicion_of

_NAMES = (
    "number them, for example with class_names, labels = numpy.unique(labels, return_inverse=True)"
)


class _ReadInBatches(Protocol):
    """A dataset of Hugging Face, and whatever else is read by many indices at once."""

    def __getitems__(self, keys: Any, /) -> Any: ...


@dataclass(eq=False)
class Study:
    """A model, its examples, and what is known about them. It holds no results.

    Parameters
    ----------
    model : nn.Module
        In eval mode, on any device; memviz never moves it and leaves it unchanged.
    inputs : Tensor ``[n, ...]``, dict of Tensors, or map-style dataset
        What the model is called with; a dict becomes keyword arguments. The first axis of each
        tensor is the examples. A dataset of torch, torchvision or Hugging Face is read by index
        when it is needed and never held; ``mv.study.FromDataset`` says how.
    labels : int64 ``[n]``
        The label each example was given, right or wrong: a class, unless the task judges something
        else (0 or 1 for each class, or numbers to predict). A list, an array or a column of a
        table will do; by default, those in the dataset.
    groups : mapping of name to bool mask ``[n]`` or to indices
        Usually ``memorized``, ``clean`` and ``test``, in this order; they must not overlap.
    true_labels : like ``labels``, optional
        What each example really shows, where that is known.
    class_names : sequence of str, optional
    name, summary : str
        The title, and a line of text beside it.
    images : uint8 ``[n, h, w]`` or ``[n, h, w, 3]``, optional
        What the gallery shows; by default image-shaped inputs.
    checkpoints : mapping of epoch to state dict, optional
        Weights saved during training.
    reference_model : nn.Module, optional
        The same model, trained without the memorized examples.
    task : Task
        Tells right from wrong. By default ``mv.Classification()``, for a model that returns logits
        ``[n, classes]``; ``mv.Classification(outputs=1)`` if it returns features and logits.
        :mod:`memviz.tasks` has ``Binary()`` for one logit, ``MultiLabel()`` for several classes
        per example, ``Regression(tolerance)`` for numbers.
    origin : str
        The line of code that made the study, for "copy code".
    suspicion : Suspicion, optional
        Where groups came from that were taken from scores; see :meth:`suspects`.

    Raises
    ------
    TypeError
        If ``model`` is not a module, ``task`` not a task, an input not a tensor, or a dataset has
        no length.
    ValueError
        On train mode, weights that are NaN or not there, labels that the task does not judge,
        mismatched lengths, an empty or overlapping group. On a dataset that is random, raises,
        gives several shapes, or has other labels than those given.

    Examples
    --------
    >>> study = Study(nn.Linear(4, 3).eval(), torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> study
    Study('study': Linear, 6 examples: 6 test)
    >>> from memviz.tasks import Regression
    >>> model, prices = nn.Linear(4, 1).eval(), torch.rand(6)
    >>> Study(model, torch.randn(6, 4), prices, {"test": range(6)}, task=Regression(0.1))
    Study('study': Linear, 6 examples: 6 test)
    """

    model: nn.Module
    inputs: Inputs | DatasetInputs
    labels: Tensor = None  # type: ignore[assignment]  # only until a dataset has given them
    groups: dict[str, Tensor] = field(default_factory=dict)
    true_labels: Tensor | None = None
    class_names: Sequence[str] | None = None
    name: str = "study"
    summary: str = ""
    images: np.ndarray | None = None
    checkpoints: Mapping[int, Mapping[str, Tensor]] = field(default_factory=dict)
    reference_model: nn.Module | None = None
    task: Task = field(default_factory=Classification)
    origin: str = ""
    suspicion: Suspicion | None = None

    if TYPE_CHECKING:
        # What may be given is wider than what the fields hold once it is read.
        def __init__(
            self,
            model: nn.Module,
            inputs: Inputs | FromDataset | Dataset[Any] | _ReadInBatches,
            labels: ArrayLike | Tensor | None = None,
            groups: Mapping[str, IndicesLike] = ...,
            true_labels: ArrayLike | Tensor | None = None,
            class_names: Sequence[str] | None = None,
            name: str = "study",
            summary: str = "",
            images: np.ndarray | None = None,
            checkpoints: Mapping[int, Mapping[str, Tensor]] = ...,
            reference_model: nn.Module | None = None,
            task: Task = ...,
            origin: str = "",
            suspicion: Suspicion | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        if not isinstance(self.model, nn.Module):
            raise TypeError(
                coded(
                    "E03",
                    f"model is {type(self.model).__name__}; give a torch.nn.Module in eval mode.",
                )
            )
        check_ready(self.model)
        check_task(self.task)
        lazy = read_lazily(self.inputs, self.model)
        given: Any = self.labels
        if lazy is not None and given is None:
            given = _labels_in(lazy)
        if given is None:
            raise ValueError(
                coded(
                    "E17",
                    f"no labels are given; give labels=..., what {self.task!r} judges the answer "
                    f"by, for each example; help({type(self.task).__name__}) says in what form.",
                )
            )
        self.labels = self._as_labels("labels", given)
        read = lazy if lazy is not None else self.inputs
        if isinstance(read, DatasetInputs):
            check_length("the dataset", read, len(self.labels))
        else:
            self.inputs = as_inputs(self.inputs, len(self.labels), self.model)
        if self.true_labels is not None:
            self.true_labels = self._as_labels("true_labels", self.true_labels)
            if self.true_labels.shape != self.labels.shape:
                raise ValueError(
                    coded(
                        "E16",
                        f"true_labels holds {len(self.true_labels)} labels for "
                        f"{len(self.labels)} examples; they must have the same length.",
                    )
                    if len(self.true_labels) != len(self.labels)
                    else f"true_labels has shape {tuple(self.true_labels.shape)} and labels "
                    f"{tuple(self.labels.shape)}; they must have the same shape."
                )
        self.groups = as_groups(self.groups, len(self.labels))
        self.suspicion = suspicion_of(self.suspicion, self.groups)
        if lazy is not None:
            self.inputs = lazy.told(self.labels, self.true_labels)

    def _as_labels(self, what: str, labels: Any) -> Tensor:
        read = advice_on_batches(labels)
        if read:
            raise TypeError(f"{what} is {type(labels).__name__}; {read}")
        numbers = as_numbers(what, labels, "give numbers, one per example, [n]", _NAMES)
        return check_labels(self.task, numbers, what)

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        groups = ", ".join(f"{int(mask.sum()):,} {name}" for name, mask in self.groups.items())
        kind = type(self.model).__name__
        line = f"Study({self.name!r}: {kind}, {len(self):,} examples: {groups})"
        if self.suspicion is None:
            return line
        return f"{line}\n  {self.suspicion.words}\n  {self.suspicion.unsaid}"

    @property
    def device(self) -> torch.device:
        """The device of the model's first parameter."""
        return next((p.device for p in self.model.parameters()), torch.device("cpu"))

    def batch(self, examples: Tensor) -> Inputs:
        """Inputs of these examples (int64 ``[b]``) on the model's device."""
        # A tuple would pick a single value, and int64 is looked up as it is: this is called often.
        if not isinstance(examples, Tensor) or examples.dtype != torch.int64:
            examples = as_indices("examples", examples, len(self))
        rows = self.rows(examples)
        if isinstance(rows, Mapping):
            return {key: value.to(self.device) for key, value in rows.items()}
        return rows.to(self.device)

    def rows(self, examples: Tensor) -> Inputs:
        """Inputs of these examples (int64 ``[b]``) where they are held, or read from a dataset."""
        try:
            if isinstance(self.inputs, Mapping):
                return {key: value[examples] for key, value in self.inputs.items()}
            return self.inputs[examples]
        except IndexError:
            as_indices("examples", examples, len(self))  # says which is outside
            raise

    def whole_inputs(self) -> Inputs:
        """The inputs of all examples at once, for what needs to hold them; a dataset is read."""
        if isinstance(self.inputs, DatasetInputs):
            return self.inputs[torch.arange(len(self))]
        return self.inputs

    def call(self, inputs: Inputs) -> Callable[[], Any]:
        """A function that calls the model on a batch."""

        def call() -> Any:
            try:
                if isinstance(inputs, Mapping):
                    return self.model(**inputs)
                return self.model(inputs)
            except (RuntimeError, TypeError, ValueError) as error:
                explain(error, self.model, inputs)
                raise

        return call

    def group(self, name: str) -> Tensor:
        """Examples of a group, int64 ``[members]``.

        Raises
        ------
        ValueError
            If there is no such group; the message lists the groups.
        """
        if not isinstance(name, str) or name not in self.groups:
            known = ", ".join(self.groups)
            raise ValueError(
                coded("E24", f"there is no group {quoted(name)}; this study has {known}.")
            )
        return self.groups[name].nonzero()[:, 0]

    @checked
    def suspects(
        self,
        scores: Scores,
        *,
        k: Count | None = None,
        share: Share | None = None,
        clean: Rest = "rest",
    ) -> Study:
        """The same study with groups taken from scores, where no truth is known.

        ``memorized`` are the examples with the highest scores and ``clean`` the others; ``test``
        stays as it is, and none of it is suspected. The new study keeps where its groups came
        from, and prints it with what such a choice can't say.

        Parameters
        ----------
        scores : Scores
            Over examples; those without a known score belong to no group.
        k, share : int or float
            How many to suspect, or which share of those that have a score; one of the two.
        clean : {"rest", "lowest"}
            All others that have a score, or as many with the lowest.

        Raises
        ------
        ValueError
            If the scores are over units or of another study, or no example would be left to
            compare with.

        Examples
        --------
        >>> study = Study(nn.Linear(4, 3).eval(), torch.randn(6, 4), [0] * 6, {"all": range(6)})
        >>> scores = Scores("loss", "nats", [0.1, 2.0, 0.2, 0.3, 0.1, 0.2], examples=range(6))
        >>> print(study.suspects(scores, k=1))
        Study('study': Linear, 6 examples: 1 memorized, 5 clean)
          memorized: the 1 of 6 with the highest loss (down to 2); clean: the others
          These are suspects, not findings: ...
        """
        found = suspicion(scores, self.groups, len(self), k, share, clean)
        summary = " · ".join([self.summary] * bool(self.summary) + [found.words, "suspects only"])
        origin = f"...  # {self.origin or 'your Study'}, then .suspects(...): {found.words}"
        return replace(self, groups=found.groups, suspicion=found, summary=summary, origin=origin)

    def reviewed(self, confirmed: IndicesLike = (), rejected: IndicesLike = ()) -> Study:
        """The same study once some examples were confirmed as memorized and others rejected.

        Confirmed examples move to the first group, rejected ones to the second; those of the
        group ``test`` stay where they are.

        Parameters
        ----------
        confirmed, rejected : int64 ``[m]`` or bool mask ``[n]``
            ``session.marks`` holds what was chosen in a view; ``session.reviewed()`` is this.

        Raises
        ------
        ValueError
            If an example is in both or not in the study, or no memorized one is left.

        Examples
        --------
        >>> groups = {"memorized": [0, 1], "clean": range(2, 6)}
        >>> study = Study(nn.Linear(4, 3).eval(), torch.randn(6, 4), [0] * 6, groups)
        >>> print(study.reviewed(confirmed=[5], rejected=[1]))
        Study('study': Linear, 6 examples: 2 memorized, 4 clean)
          1 confirmed and 1 rejected by eye
          These are suspects, not findings: ...
        """
        judged = [
            _some_or_none("confirmed", confirmed, len(self)),
            _some_or_none("rejected", rejected, len(self)),
        ]
        both = set(judged[0].tolist()) & set(judged[1].tolist())
        if both:
            raise ValueError(f"example {min(both)} is confirmed and rejected; choose one.")
        found = after_review(self.groups, judged[0], judged[1], self.suspicion)
        first = next(name for name in self.groups if name != "test")
        if first not in found.groups:
            raise ValueError(f"all of {quoted(first)} are rejected; nothing is left to look at.")
        return replace(self, groups=found.groups, suspicion=found)

    def class_name(self, label: int) -> str:
        """Name of a class, or its number."""
        names = self.class_names
        known = names is not None and 0 <= label < len(names)
        return str(names[label]) if names is not None and known else str(label)


def _some_or_none(what: str, given: IndicesLike, n: int) -> Tensor:
    try:
        return as_indices(what, given, n, each_once=True)
    except NoneChosenError:
        return torch.arange(0)


def _labels_in(lazy: DatasetInputs) -> Tensor:
    labels = lazy.own_labels()
    if labels is None:
        raise ValueError(
            coded(
                "E17",
                "the dataset's items hold no labels, and none are given; give labels=..., a number "
                "per example, or let the dataset return pairs (input, label).",
            )
        )
    return labels


def check_study(study: object) -> None:
    """Refuse anything but a study, and say how to get one.

    Raises
    ------
    TypeError
        If ``study`` is not a Study.

    Examples
    --------
    >>> check_study("digits")
    Traceback (most recent call last):
    TypeError: expected a Study, got str; build one from the model and its data: ...
    """
    if isinstance(study, Study):
        return
    given = type(study).__name__
    if isinstance(getattr(study, "study", None), Study):
        hint = "take its .study"
    else:
        which = "this" if isinstance(study, nn.Module) else "the"
        hint = f"build one from {which} model and its data: mv.Study(model, inputs, labels, groups)"
    raise TypeError(coded("E02", f"expected a Study, got {given}; {hint}."))
