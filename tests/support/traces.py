"""Whether a model is as it was: weights, buffers, hooks, modes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class Fragile(nn.Module):
    """A small net that raises on one call, and may draw random numbers or count its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.relu, self.head = nn.ReLU(inplace=True), nn.Linear(6, 3)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("seen", torch.zeros(()))
        self.error: BaseException | None = None
        self.wait = 0
        self.random = False

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.seen.add_(1)
        x = self.relu(self.norm(self.conv(x)))
        if self.error is not None:
            self.wait -= 1
            if self.wait < 0:
                raise self.error
        x = x.mean((2, 3))
        if self.random:
            x = x + 0.0 * torch.randn_like(x)
        return self.head(x)


def state(model: nn.Module) -> dict[str, Any]:
    """Everything of a model and of the process that could keep a trace."""
    found: dict[str, Any] = {}
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        gradient = None if tensor.grad is None else tensor.grad.numpy().tobytes()
        found[name] = (id(tensor), tensor.detach().numpy().tobytes(), tensor.requires_grad)
        found[f"{name}.grad"] = gradient
    for name, module in model.named_modules():
        hooks = [key for key in vars(module) if "hooks" in key]
        found[f"{name}.hooks"] = {key: len(getattr(module, key)) for key in hooks}
        found[f"{name}.rest"] = (
            sorted(vars(module)),
            module.training,
            getattr(module, "inplace", None),
            type(module),
        )
    found["torch"] = torch.get_rng_state().numpy().tobytes()
    found["numpy"] = repr(np.random.get_state())  # noqa: NPY002
    found["python"] = random.getstate()
    found["gradients"] = torch.is_grad_enabled()
    found["modes"] = torch.overrides._len_torch_function_stack()
    return found


@contextmanager
def no_trace(model: nn.Module) -> Iterator[None]:
    before = state(model)
    yield
    after = state(model)
    assert [key for key in before if before[key] != after.get(key)] == []
    assert set(after) == set(before)
    assert not any(sum(h.values()) for key, h in after.items() if key.endswith(".hooks"))
    assert after["modes"] == 0
