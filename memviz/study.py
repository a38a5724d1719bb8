"""A Study: a model, its examples, and what is known about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

Inputs = Tensor | Mapping[str, Tensor]


class Task(Protocol):
    """Tells right from wrong: what a probe needs to know about a model's outputs."""

    def outputs(self, raw: Any) -> Tensor:
        """The tensor that is judged, one row an example, taken from what the model returned."""

    def predictions(self, outputs: Tensor) -> Tensor:
        """Predicted label of each example, int64 ``[n]``."""

    def margin(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """How far each example is on the right side, ``[n]``; right if above 0."""

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Loss of each example, ``[n]``."""


class Classification:
    """Logits over classes: margin in logits, loss in nats.

    The margin is the logit of the given label minus the largest other logit.

    Examples
    --------
    >>> Classification().margin(torch.tensor([[3.0, 1.0, 2.0]]), torch.tensor([0]))
    tensor([1.])
    """

    def outputs(self, raw: Any) -> Tensor:
        """Logits ``[n, classes]`` from a tensor, a tuple, a dict or an object with ``.logits``."""
        found = raw
        if isinstance(raw, Mapping):
            found = raw.get("logits")
        elif not isinstance(raw, Tensor):
            found = getattr(raw, "logits", raw[0] if isinstance(raw, tuple | list) and raw else raw)
        is_table = isinstance(found, Tensor) and found.dim() == 2 and found.shape[1] > 1
        if not isinstance(found, Tensor) or not is_table or not found.is_floating_point():
            shape = (
                f"{found.dtype} of shape {tuple(found.shape)}"
                if isinstance(found, Tensor)
                else type(raw).__name__
            )
            raise ValueError(
                f"the model returned {shape}, not logits [examples, classes]; wrap it in a module "
                "whose forward returns the logits."
            )
        return found

    def predictions(self, outputs: Tensor) -> Tensor:
        """Class of the largest logit."""
        return outputs.argmax(1)

    def margin(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Logit of the label minus the largest other logit."""
        classes = outputs.shape[1]
        if len(labels) and not (0 <= labels.min() and labels.max() < classes):
            outside = next(int(label) for label in labels if not 0 <= label < classes)
            raise ValueError(
                f"the model gives {classes} classes, 0 to {classes - 1}, and the labels hold "
                f"{outside}; give labels that it has classes for."
            )
        given = outputs.gather(1, labels[:, None])
        others = outputs.scatter(1, labels[:, None], -torch.inf)
        return given[:, 0] - others.amax(1)

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy, in nats."""
        return nn.functional.cross_entropy(outputs, labels, reduction="none")


@dataclass(eq=False)
class Study:
    """A model, its examples, and what is known about them. It holds no results.

    Parameters
    ----------
    model : nn.Module
        In eval mode, wherever it lies; memviz never moves it and leaves no trace on it.
    inputs : Tensor ``[n, ...]`` or dict of Tensors
        What the model is called with; a dict becomes keyword arguments.
    labels : int64 ``[n]``
        The label each example was given, right or wrong.
    groups : mapping of name to bool mask ``[n]`` or to indices
        Usually ``memorized``, ``clean`` and ``test``, in this order; groups may not overlap.
    true_labels : int64 ``[n]``, optional
        What each example truly shows, where that is known.
    class_names : sequence of str, optional
    name, summary : str
        Shown as the title and beside it.
    images : uint8 ``[n, h, w]`` or ``[n, h, w, 3]``, optional
        What the gallery shows; taken from image-shaped inputs where it is not given.
    checkpoints : mapping of epoch to state dict, optional
        The training as it went.
    reference_model : nn.Module, optional
        The same model, trained without the memorized examples.
    task : Task
        Tells right from wrong; classification unless given.
    origin : str
        The line of code that made the study, for "copy code".

    Raises
    ------
    ValueError
        On train mode, NaN weights, lengths that differ, an empty or overlapping group.

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
                    "they must be of one length."
                )
        if self.true_labels is not None:
            self.true_labels = _as_labels("true_labels", self.true_labels)
            if len(self.true_labels) != len(self.labels):
                raise ValueError(
                    f"true_labels holds {len(self.true_labels)} labels for "
                    f"{len(self.labels)} examples; they must be of one length."
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
        """Where the model's first parameter lies."""
        return next((p.device for p in self.model.parameters()), torch.device("cpu"))

    def batch(self, examples: Tensor) -> Inputs:
        """Inputs of these examples (int64 ``[b]``) on the model's device."""
        if isinstance(self.inputs, Mapping):
            return {key: value[examples].to(self.device) for key, value in self.inputs.items()}
        return self.inputs[examples].to(self.device)

    def call(self, inputs: Inputs) -> Callable[[], Any]:
        """A call of the model on a batch, not yet made."""
        if isinstance(inputs, Mapping):
            return lambda: self.model(**inputs)
        return lambda: self.model(inputs)

    def group(self, name: str) -> Tensor:
        """Examples of a group, int64; an unknown name gets the names there are."""
        if name not in self.groups:
            known = ", ".join(self.groups)
            raise ValueError(f"there is no group {name!r}; this study has {known}.")
        return self.groups[name].nonzero()[:, 0]

    def class_name(self, label: int) -> str:
        """Name of a class, or its number."""
        names = self.class_names
        return str(names[label]) if names is not None and label < len(names) else str(label)


def check_study(study: object) -> None:
    """Refuse what is no study, with the way from it to one."""
    if isinstance(study, Study):
        return
    given = type(study).__name__
    if isinstance(getattr(study, "study", None), Study):
        hint = "take its .study"
    else:
        what = "it" if isinstance(study, nn.Module) else "the model"
        hint = f"build one of {what} with its data: mv.Study(model, inputs, labels, groups)"
    raise TypeError(f"a Study is needed, and {given} was given; {hint}.")


def check_ready(model: nn.Module) -> None:
    """Refuse a model in train mode or with weights that are not numbers."""
    for name, module in model.named_modules():
        if module.training:
            raise ValueError(
                f"the model is in train mode (module {name or 'model'!r}); "
                "call model.eval() first: "
                "batch statistics and dropout would mix the examples."
            )
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and not parameter.isfinite().all():
            raise ValueError(
                f"parameter {name!r} holds NaN or infinite weights; load the weights again."
            )


def _as_labels(what: str, labels: Any) -> Tensor:
    found = torch.as_tensor(labels)
    if found.dim() != 1:
        raise ValueError(f"{what} has shape {tuple(found.shape)}; give one label an example, [n].")
    return found.long().cpu()


def _tensors(inputs: Inputs) -> list[tuple[str, Tensor]]:
    return list(inputs.items()) if isinstance(inputs, Mapping) else [("inputs", inputs)]


def _as_groups(groups: Mapping[str, Any], n: int) -> dict[str, Tensor]:
    if not groups:
        raise ValueError('groups is empty; name at least one, for example {"test": mask}.')
    found: dict[str, Tensor] = {}
    for name, members in groups.items():
        given = torch.as_tensor(list(members) if isinstance(members, range) else members).cpu()
        if given.dtype == torch.bool and given.shape != (n,):
            raise ValueError(
                f"group {name!r} is a mask of shape {tuple(given.shape)} for {n} examples; "
                f"give a mask [{n}] or indices."
            )
        if given.dtype != torch.bool and len(given) and not (0 <= given.min() and given.max() < n):
            raise ValueError(
                f"group {name!r} names examples outside 0 to {n - 1}; give a mask [{n}] or indices."
            )
        mask = torch.zeros(n, dtype=torch.bool)
        mask[given.long() if given.dtype != torch.bool else given] = True
        if not mask.any():
            raise ValueError(f"group {name!r} is empty; leave it out or give it examples.")
        for other, theirs in found.items():
            if (theirs & mask).any():
                example = int((theirs & mask).nonzero()[0])
                raise ValueError(
                    f"example {example} is in group {other!r} and in group {name!r}; "
                    "an example belongs to one group."
                )
        found[name] = mask
    return found
