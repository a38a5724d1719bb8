"""A module without units is told why, in one sentence, and the sentence is true."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import memviz as mv
from tests.support.modules import study_of


class Whole(nn.Module):
    """A head, and one module before it that is odd in some way."""

    def __init__(self, odd: nn.Module) -> None:
        super().__init__()
        self.odd, self.head = odd, nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.odd(x))


class Positions(nn.Module):
    """As the position biases of Swin v2: a small net reads a table, not the examples."""

    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.randn(6))
        self.net = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.net(self.table)


class Scripted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = torch.jit.script(nn.Sequential(nn.Linear(6, 6), nn.ReLU()))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        return x * 2


CASES: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "a buffer": (Positions, "odd.net", "is fed by parameters, buffers or plain numbers alone"),
    "a script": (Scripted, "odd.net.0", "is compiled by TorchScript, which memviz can't look into"),
    "unused": (Unused, "odd.net", "is never reached as a layer in the forward pass"),
    "a norm": (lambda: nn.LayerNorm(6), "odd", "has no units of its own; name a conv, linear,"),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
@pytest.mark.parametrize("case", CASES)
def test_the_reason(case: str) -> None:
    kind, name, words = CASES[case]
    torch.manual_seed(0)
    study = study_of(Whole(kind()).eval(), torch.randn(4, 6))
    for use in (
        lambda: mv.sweep(study, f"{name}:0", progress=False),
        lambda: mv.Replay(study).outputs(f"{name}:0"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            use()
        assert str(caught.value).startswith(f"layer {name!r} (")
        assert_one_sentence(caught.value)


def assert_one_sentence(error: BaseException) -> None:
    assert str(error).endswith(".")
    assert re.findall(r"\.\s|\n", str(error)) == []


class Elementwise(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :3] * 2


@pytest.mark.parametrize("run", [mv.sweep, mv.estimate], ids=["sweep", "estimate"])
def test_a_model_without_layers(run: Callable[..., object]) -> None:
    study = study_of(Elementwise().eval(), torch.randn(4, 6))
    with pytest.raises(ValueError, match="Elementwise has no layer with units at all") as caught:
        run(study)
    assert_one_sentence(caught.value)
    assert mv.layers(study) == []
