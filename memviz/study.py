"""A Study: a model, its examples, and what is known about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from memviz import tensor_files
from memviz.tasks.classification import Classification
from memviz.tasks.task import Inputs, Task


@dataclass(eq=False)
class Study:
    """A model, its examples, and what is known about them. It holds no results.

    Parameters
    ----------
    model : nn.Module
        In eval mode, on any device; memviz never moves it and leaves it unchanged.
    inputs : Tensor ``[n, ...]`` or dict of Tensors
        What the model is called with; a dict becomes keyword arguments.
    labels : int64 ``[n]``
        The label each example was given, right or wrong.
    groups : mapping of name to bool mask ``[n]`` or to indices
        Usually ``memorized``, ``clean`` and ``test``, in this order; they must not overlap.
    true_labels : int64 ``[n]``, optional
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
        Tells right from wrong; classification by default.
    origin : str
        The line of code that made the study, for "copy code".

    Raises
    ------
    TypeError
        If ``model`` is not a module.
    ValueError
        On train mode, NaN weights, mismatched lengths, an empty or overlapping group.

    Examples
    --------
    >>> study = Study(nn.Linear(4, 3).eval(), torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> study
    Study('study': Linear, 6 examples: 6 test)
    """

    model: nn.Module
    inputs: Inputs
    labels: Tensor
    groups: dict[str, Tensor]
    true_labels: Tensor | None = None
    class_names: Sequence[str] | None = None
    name: str = "study"
    summary: str = ""
    images: np.ndarray | None = None
    checkpoints: Mapping[int, Mapping[str, Tensor]] = field(default_factory=dict)
    reference_model: nn.Module | None = None
    task: Task = field(default_factory=Classification)
    origin: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.model, nn.Module):
            raise TypeError(
                f"model is {type(self.model).__name__}; give a torch.nn.Module in eval mode."
            )
        self.labels = _as_labels("labels", self.labels)
        if not isinstance(self.inputs, Mapping):
            self.inputs = torch.as_tensor(self.inputs)
        for key, value in _tensors(self.inputs):
            if len(value) != len(self.labels):
                raise ValueError(
                    f"{key} holds {len(value)} examples and labels {len(self.labels)}; "
                    "they must have the same length."
                )
        if self.true_labels is not None:
            self.true_labels = _as_labels("true_labels", self.true_labels)
            if len(self.true_labels) != len(self.labels):
                raise ValueError(
                    f"true_labels holds {len(self.true_labels)} labels for "
                    f"{len(self.labels)} examples; they must have the same length."
                )
        self.groups = _as_groups(self.groups, len(self.labels))
        check_ready(self.model)

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        groups = ", ".join(f"{int(mask.sum()):,} {name}" for name, mask in self.groups.items())
        kind = type(self.model).__name__
        return f"Study({self.name!r}: {kind}, {len(self):,} examples: {groups})"

    @property
    def device(self) -> torch.device:
        """The device of the model's first parameter."""
        return next((p.device for p in self.model.parameters()), torch.device("cpu"))

    def batch(self, examples: Tensor) -> Inputs:
        """Inputs of these examples (int64 ``[b]``) on the model's device."""
        if isinstance(self.inputs, Mapping):
            return {key: value[examples].to(self.device) for key, value in self.inputs.items()}
        return self.inputs[examples].to(self.device)

    def call(self, inputs: Inputs) -> Callable[[], Any]:
        """A function that calls the model on a batch."""
        if isinstance(inputs, Mapping):
            return lambda: self.model(**inputs)
        return lambda: self.model(inputs)

    def group(self, name: str) -> Tensor:
        """Examples of a group, int64 ``[members]``.

        Raises
        ------
        ValueError
            If there is no such group; the message lists the groups.
        """
        if name not in self.groups:
            known = ", ".join(self.groups)
            raise ValueError(f"there is no group {name!r}; this study has {known}.")
        return self.groups[name].nonzero()[:, 0]

    def class_name(self, label: int) -> str:
        """Name of a class, or its number."""
        names = self.class_names
        return str(names[label]) if names is not None and label < len(names) else str(label)


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
    raise TypeError(f"expected a Study, got {given}; {hint}.")


def check_ready(model: nn.Module) -> None:
    """Refuse a model in train mode or with NaN or infinite weights.

    Raises
    ------
    ValueError
        Naming the module or the parameter.

    Examples
    --------
    >>> check_ready(nn.Linear(4, 3))
    Traceback (most recent call last):
    ValueError: the model is in train mode (module 'model'); call model.eval() first: ...
    """
    for name, module in model.named_modules():
        if module.training:
            raise ValueError(
                f"the model is in train mode (module {name or 'model'!r}); "
                "call model.eval() first: otherwise batch statistics mix the examples and "
                "dropout makes outputs random."
            )
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and not parameter.isfinite().all():
            raise ValueError(
                f"parameter {name!r} holds NaN or infinite weights; load the weights again."
            )


def _as_labels(what: str, labels: Any) -> Tensor:
    tensor = _as_numbers(what, labels)
    if tensor.dim() != 1:
        raise ValueError(
            f"{what} has shape {tuple(tensor.shape)}; give one label per example, [n]."
        )
    if (tensor != tensor.long()).any():
        value = float(tensor[tensor != tensor.long()][0])
        raise ValueError(f"{what} holds {value:g}, which is not a class; give whole numbers, [n].")
    return tensor.long().cpu()


def _as_numbers(what: str, values: Any) -> Tensor:
    """A tensor of a list, an array or a column of a table."""
    if isinstance(values, Tensor):
        return values
    try:
        return torch.as_tensor(np.array(values))  # a copy: a table may be read-only
    except (TypeError, ValueError) as error:
        first = next(iter(values), None) if hasattr(values, "__iter__") else values
        raise ValueError(
            f"{what} holds {type(first).__name__}, not numbers; give whole numbers, [n]."
        ) from error


def _tensors(inputs: Inputs) -> list[tuple[str, Tensor]]:
    return list(inputs.items()) if isinstance(inputs, Mapping) else [("inputs", inputs)]


def _as_groups(groups: Mapping[str, Any], n: int) -> dict[str, Tensor]:
    if not groups:
        raise ValueError('groups is empty; name at least one, for example {"test": mask}.')
    masks: dict[str, Tensor] = {}
    for name, members in groups.items():
        given = _as_numbers(f"group {name!r}", members).cpu()
        if given.dtype == torch.bool and given.shape != (n,):
            raise ValueError(
                f"group {name!r} is a mask of shape {tuple(given.shape)} for {n} examples; "
                f"give a mask [{n}] or indices."
            )
        if given.dtype != torch.bool and len(given) and not (0 <= given.min() and given.max() < n):
            raise ValueError(
                f"group {name!r} names examples outside 0 to {n - 1}; give a mask [{n}] or indices."
            )
        if given.dtype != torch.bool and len(given.unique()) < len(given):
            # A mask of ones and zeros, read as indices, would be examples 0 and 1 alone.
            raise ValueError(
                f"group {name!r} names an example twice; give each index once, or a bool mask, "
                f"[{n}]."
            )
        if (given != given.long()).any():
            raise ValueError(f"group {name!r} holds fractions; give indices or a bool mask [{n}].")
        mask = torch.zeros(n, dtype=torch.bool)
        mask[given.long() if given.dtype != torch.bool else given] = True
        if not mask.any():
            raise ValueError(f"group {name!r} is empty; leave it out or give it examples.")
        for other, other_mask in masks.items():
            if (other_mask & mask).any():
                example = int((other_mask & mask).nonzero()[0])
                raise ValueError(
                    f"example {example} is in group {other!r} and in group {name!r}; "
                    "an example may belong to one group only."
                )
        masks[name] = mask
    return masks


def check_examples(study: Study, examples: Tensor | Sequence[int] | None) -> Tensor:
    """The examples as int64 indices into the study; None means all of them.

    Raises
    ------
    ValueError
        If there are none, or one is outside the study.

    Examples
    --------
    >>> study = Study(nn.Linear(4, 3).eval(), torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> check_examples(study, [0, 5])
    tensor([0, 5])
    """
    if examples is None:
        return torch.arange(len(study))
    indices = torch.as_tensor(examples)
    if indices.dim() != 1 or indices.is_floating_point() or indices.dtype == torch.bool:
        raise ValueError(
            f"examples is {indices.dtype} of shape {tuple(indices.shape)}; give indices, int64 [n]."
        )
    if len(indices) == 0:
        raise ValueError("no examples to run; name at least one.")
    if not (0 <= indices.min() and indices.max() < len(study)):
        outside = next(int(i) for i in indices if not 0 <= i < len(study))
        raise ValueError(
            f"examples names {outside}; this study has {len(study):,} examples, "
            f"0 to {len(study) - 1}."
        )
    return indices.long().cpu()


def default_groups(study: Study, group: str | None, against: str | None) -> tuple[str, str]:
    """The study's first and second groups by default; ``""`` if there is no second.

    Examples
    --------
    >>> study = Study(nn.Linear(4, 3).eval(), torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> default_groups(study, None, None)
    ('test', '')
    """
    check_study(study)
    names = list(study.groups)
    group = names[0] if group is None else group
    return group, next((n for n in names if n != group), "") if against is None else against


def study_facts(study: Study) -> dict[str, str]:
    """What results depend on: hashes of the weights and of the data, and the task's name.

    The name is without its module: saved files must survive a move of the code.
    """
    inputs = study.inputs if isinstance(study.inputs, Mapping) else {"inputs": study.inputs}
    weights = [*study.model.named_parameters(), *study.model.named_buffers()]
    return {
        "weights": tensor_files.digest(weights),
        "data": tensor_files.digest([*inputs.items(), ("labels", study.labels)]),
        "task": type(study.task).__qualname__,
    }


_MOST = 120  # examples of a group


def sides(study: Study, most: int = _MOST) -> tuple[Tensor, Tensor]:
    """Examples of the memorized and of the clean group, int64; a fixed sample of large groups.

    Raises
    ------
    ValueError
        If the study has no second group to compare with.

    Examples
    --------
    >>> groups = {"memorized": range(2), "clean": range(2, 6)}
    >>> study = Study(nn.Linear(4, 3).eval(), torch.randn(6, 4), torch.zeros(6), groups)
    >>> sides(study)
    (tensor([0, 1]), tensor([2, 3, 4, 5]))
    """
    names = default_groups(study, None, None)
    if not names[1]:
        raise ValueError(
            f"this study has only the group {names[0]!r}; a localizer compares the first group, "
            "the memorized examples, with the second, the clean ones."
        )
    generator = torch.Generator().manual_seed(0)
    sampled = []
    for name in names:
        members = study.group(name)
        order = torch.randperm(len(members), generator=generator)
        sampled.append(members[order[:most].sort().values])
    return sampled[0], sampled[1]
