"""Model and data on one device, said before torch says it of an operation within the model."""

from __future__ import annotations

from torch import Tensor, nn

from memviz.checks import coded


def check_one_device(model: nn.Module, **data: Tensor) -> None:
    """Refuse data that is not where the model is.

    Raises
    ------
    ValueError
        If a tensor is on another device than the model's first parameter.

    Examples
    --------
    >>> import torch
    >>> check_one_device(nn.Linear(2, 1), inputs=torch.zeros(3, 2))
    >>> check_one_device(nn.Linear(2, 1), inputs=torch.zeros(3, 2, device="meta"))
    Traceback (most recent call last):
    ValueError: the model is on cpu and inputs on meta; give inputs.to('cpu') (memviz E05).
    """
    where = next((parameter.device for parameter in model.parameters()), None)
    for name, tensor in data.items():
        if where is not None and tensor.device != where:
            raise ValueError(
                coded(
                    "E05",
                    f"the model is on {where} and {name} on {tensor.device}; give "
                    f"{name}.to('{where}').",
                )
            )
