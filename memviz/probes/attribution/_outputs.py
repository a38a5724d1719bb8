"""A study's outputs as a module, of the values that attributions are computed for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from memviz.restored import undisturbed
from memviz.study import Study
from memviz.tasks.task import Inputs

from ._leaf import Leaf, leaf_of


class Outputs(nn.Module):
    """The study's outputs as a module, since Captum hooks into modules.

    It is called with the values to attribute to, and with the study's other inputs. Where these
    values are an embedding's output, they stand in for what the embedding looks up.
    """

    def __init__(self, study: Study, leaf: Leaf, model: nn.Module | None = None) -> None:
        super().__init__()
        self.model = study.model if model is None else model
        self.task, self.leaf = study.task, leaf

    def forward(self, values: Tensor, *others: Tensor) -> Tensor:
        """The outputs that the task reads from what the model returns."""
        with self.leaf.standing_in(self.model, values, others) as inputs:
            raw = self.model(**inputs) if isinstance(inputs, Mapping) else self.model(inputs)
        return self.task.outputs(raw)

    def given(self, inputs: Inputs) -> tuple[Tensor, ...]:
        """The values to attribute to, which require a gradient, and then the other inputs."""
        values, *others = self.leaf.split(self.model, inputs)
        # Captum would set it with a warning.
        return (values.detach().requires_grad_(), *others)


def outputs_of(
    study: Study, examples: Tensor, of: str | None = None, model: nn.Module | None = None
) -> Outputs:
    """The study's outputs, ready for Captum.

    Raises
    ------
    ValueError
        If the study has no input that attributions can be computed for.

    Examples
    --------
    >>> study = Study(nn.Linear(4, 3).eval(), torch.ones(2, 4), torch.zeros(2), {"test": range(2)})
    >>> outputs = outputs_of(study, torch.tensor([0]))
    >>> outputs.given(study.batch(torch.tensor([0])))[0].requires_grad
    True
    """
    return Outputs(study, leaf_of(study, examples, of), model)


def targets_of(outputs: Outputs, given: Sequence[Tensor], classes: Tensor) -> Tensor:
    """Target classes on the outputs' device, checked against the outputs.

    Raises
    ------
    ValueError
        If the outputs are not logits ``[n, classes]``, or a class has no logit.

    Examples
    --------
    >>> study = Study(nn.Linear(4, 3).eval(), torch.ones(2, 4), torch.zeros(2), {"test": range(2)})
    >>> targets_of(outputs_of(study, torch.tensor([0])), [torch.ones(1, 4)], torch.tensor([3]))
    Traceback (most recent call last):
    ValueError: target 3 is outside the model's 3 classes, 0 to 2.
    """
    with torch.no_grad():
        logits = outputs(*given)
    if logits.dim() != 2 or len(logits) != len(classes):
        raise ValueError(
            "attribution needs one logit per class, [examples, classes]; the outputs are "
            f"{list(logits.shape)} for {len(classes)} examples."
        )
    count = logits.shape[1]
    outside = [label for label in classes.tolist() if not 0 <= label < count]
    if outside:
        raise ValueError(
            f"target {outside[0]} is outside the model's {count} classes, 0 to {count - 1}."
        )
    return classes.to(logits.device)


def output_shape(outputs: Outputs, module: nn.Module, given: Sequence[Tensor]) -> torch.Size:
    """Shape of a module's output for the first of these values and other inputs.

    Raises
    ------
    ValueError
        If the module is not called exactly once: Captum reads a single call.

    Examples
    --------
    >>> study = Study(nn.Linear(4, 3).eval(), torch.ones(2, 4), torch.zeros(2), {"test": range(2)})
    >>> outputs = outputs_of(study, torch.tensor([0]))
    >>> output_shape(outputs, study.model, [torch.ones(2, 4)])
    torch.Size([1, 3])
    """
    shapes: list[torch.Size] = []
    handle = module.register_forward_hook(lambda _m, _i, output: shapes.append(output.shape))
    try:
        calm = undisturbed(random=False, counting=outputs.model)
        with calm, calm:
            outputs(*(tensor[:1] for tensor in given))
    finally:
        handle.remove()
    if len(shapes) != 1:
        raise ValueError(
            f"the model calls a layer's module {len(shapes)} times in a forward pass, and Captum "
            "reads it where it is called once; use the method 'conductance', sweep() or estimate()."
        )
    return shapes[0]
