"""Whether a model can be studied: in eval mode, with weights that are there and finite."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from memviz.checks import coded

_METHODS = ("outputs", "predictions", "margin", "loss")  # of a task


def check_ready(model: nn.Module) -> None:
    """Refuse a model in train mode, or with weights that are not there, NaN or infinite.

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
                coded(
                    "E01",
                    f"the model is in train mode (module {name or 'model'!r}); "
                    "call model.eval() first: otherwise batch statistics mix the examples and "
                    "dropout makes outputs random.",
                )
            )
    for kind, tensors in (
        ("parameter", model.named_parameters()),
        ("buffer", model.named_buffers()),
    ):
        for name, tensor in tensors:
            _check_there(f"{kind} {name!r}", tensor)
    for name, parameter in model.named_parameters():
        # Torch cannot tell whether numbers of 8 bits are finite.
        values = parameter.float() if parameter.element_size() == 1 else parameter
        if parameter.is_floating_point() and not values.isfinite().all():
            raise ValueError(
                coded(
                    "E04",
                    f"parameter {name!r} holds NaN or infinite weights; load the weights again.",
                )
            )


def _check_there(what: str, tensor: Tensor) -> None:
    """Refuse weights that hold no values, or that torch cannot compute gradients with."""
    if is_lazy(tensor):
        raise ValueError(
            f"{what} is uninitialized, as in a lazy module; call the model once on a batch of "
            "inputs, then load its weights."
        )
    if tensor.is_meta:
        raise ValueError(
            f"{what} is on the meta device and holds no values; make the model on a real device "
            "and load its weights."
        )
    if tensor.is_inference():
        raise ValueError(
            f"{what} was made under torch.inference_mode() and allows no gradients; make or load "
            "the model outside it."
        )
    if tensor.layout != torch.strided:
        raise ValueError(
            f"{what} is sparse, and memviz reads dense weights only; store it dense, with "
            ".to_dense()."
        )


def check_task(task: object) -> None:
    """Refuse what does not have the methods of a task, such as the class in place of one."""
    lacks = [name for name in _METHODS if not callable(getattr(task, name, None))]
    if isinstance(task, type):
        raise TypeError(f"task is the class {task.__name__}; give an instance: {task.__name__}().")
    if lacks:
        raise TypeError(
            f"task is {type(task).__name__}, which has no method {lacks[0]}; give a task such as "
            "mv.Classification(), mv.tasks.Binary() or mv.tasks.Regression(tolerance)."
        )
