"""Small nets of every kind that the engine must get right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import memviz as mv
from memviz.engine.sets import Toggle


@dataclass(frozen=True)
class Place:
    """Where a plain hook finds a layer's activation.

    ``out`` and ``into`` are a module's output and first input; ``linear_out`` and ``linear_into``
    those of ``F.linear`` with the weight of that name, where a model calls it itself; ``relu`` is
    the output of ``F.relu``. ``call`` counts the calls of one forward pass.
    """

    at: Literal["out", "into", "linear_out", "linear_into", "relu"]
    name: str
    axis: int
    call: int = 0


@dataclass
class Net:
    """A model, what to call it with, and the rule: the places of each layer."""

    model: nn.Module
    inputs: Tensor
    places: Callable[[str], list[Place]]
    study: mv.Study = field(init=False)

    def __post_init__(self) -> None:
        groups = {"memorized": [0], "clean": range(1, len(self.inputs))}
        self.study = mv.Study(self.model, self.inputs, torch.zeros(len(self.inputs)), groups)

    @cached_property
    def kept(self) -> mv.Replay:
        """The engine with a record."""
        return mv.Replay(self.study)

    @cached_property
    def toggle(self) -> Toggle:
        """The engine that answers clicks."""
        return Toggle(self.kept)

    @cached_property
    def is_graph(self) -> bool:
        """Whether the graph engine takes it: none that writes through views or into its buffers."""
        return type(self.model) not in (Views, Counted)

    @cached_property
    def whole(self) -> mv.Replay:
        """The engine without one."""
        return mv.Replay(self.study, memory=0)

    def layer(self, name: str) -> mv.Layer:
        return self.kept.located[name].layer


class InPlace(nn.Module):
    """In-place ReLU on a residual sum, one ReLU for all calls, one convolution called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.shared = nn.Conv2d(6, 6, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.first(x)))
        y = self.shared(self.relu(self.shared(x)))
        y += x
        return self.head(self.relu(y).mean((2, 3)))

    def places(self, name: str) -> list[Place]:
        if name == "first":
            return [Place("out", "relu", 1)]
        if name == "shared":
            return [Place("out", "relu", 1, call=1), Place("out", "shared", 1, call=1)]
        return [Place("out", name, 1)]


class Views(nn.Module):
    """F.relu, setitem, a change through a view, torch.cat, plain numbers made from a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(3, 4, 3, padding=1) for _ in range(3))
        self.hidden, self.head = nn.Linear(12, 7), nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        a, b, c = F.relu(self.a(x)), self.b(x), self.c(x)
        b[:, 0] = 0.5 * b[:, 1]
        part = c[:, 1:3]
        part.mul_(2.0).add_(a[:, 1:3])
        scale = torch.tensor(a.detach().amax((1, 2, 3)).tolist())
        pooled = torch.cat([a, b, c], 1).square().mean((2, 3)) * scale[:, None]
        return self.head(F.relu(self.hidden(pooled)))

    def places(self, name: str) -> list[Place]:
        if name in ("a", "hidden"):
            return [Place("relu", "", 1, call=["a", "hidden"].index(name))]
        return [Place("out", name, 1)]


class Counted(nn.Module):
    """Weight norm, a buffer that counts the calls (by name and in place), a dict for an output."""

    calls: Tensor
    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 6, 3, padding=1))
        self.act, self.head = nn.Tanh(), nn.Linear(6, 5)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        self.calls += 1
        self.seen.add_(len(x))
        return {"logits": self.head(self.act(self.conv(x)).square().mean((2, 3)))}

    def places(self, name: str) -> list[Place]:
        return [Place("out", "act" if name == "conv" else name, 1)]


class Conv1D(nn.Module):
    """Hugging Face's linear layer: its weight lies the other way round."""

    def __init__(self, features: int, nf: int) -> None:
        super().__init__()
        self.nf = nf
        self.weight = nn.Parameter(torch.randn(features, nf) / features**0.5)
        self.bias = nn.Parameter(torch.randn(nf))

    def forward(self, x: Tensor) -> Tensor:
        flat = torch.addmm(self.bias, x.reshape(-1, x.shape[-1]), self.weight)
        return flat.view(*x.shape[:-1], self.nf)


class Attention(nn.Module):
    """Attention written out, as in GPT-2."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = 3
        self.c_attn, self.c_proj = Conv1D(12, 36), Conv1D(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.c_attn(x).unflatten(-1, (3, self.num_heads, 4)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*parts)
        return self.c_proj(mixed.transpose(1, 2).flatten(2))


class LikeGpt(nn.Module):
    """Two attentions and a head, for sequences of 5."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = Attention(), Attention(), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.one(x)
        return self.head((x + self.two(x)).mean(1))

    def places(self, name: str) -> list[Place]:
        if name in ("one", "two"):
            return [Place("into", f"{name}.c_proj", -1)]
        return [Place("out", name, -1)]


class TextTower(nn.Module):
    """encode_text of a CLIP as a module of its own."""

    def __init__(self, clip: nn.Module) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, tokens: Tensor) -> Tensor:
        return self.clip.encode_text(tokens)
