"""Units of LSTM, GRU and RNN, against layers run one by one under plain hooks."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import memviz as mv
from tests.support.modules import every_engine_gives, outputs, study_of

KINDS: dict[str, type[nn.RNNBase]] = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


class Reader(nn.Module):
    """Reads the output sequence, the last hidden state, or (of an LSTM) the last cell state."""

    def __init__(self, recurrent: nn.Module, reads: str, width: int) -> None:
        super().__init__()
        self.recurrent, self.reads, self.head = recurrent, reads, nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        if not getattr(self.recurrent, "batch_first", True):
            x = x.transpose(0, 1)
        output, state = self.recurrent(x)
        hidden, *cell = state if isinstance(state, tuple) else (state,)
        if self.reads == "output":
            pooled = output.square().mean(1 if self.recurrent.batch_first else 0)
        elif self.reads == "hidden":
            pooled = hidden.transpose(0, 1).flatten(1)
        else:
            pooled = cell[0].transpose(0, 1).flatten(1)
        return self.head(pooled)


class OneByOne(nn.Module):
    """The same layers as modules of their own; a hook on each is a hook on what it emits."""

    def __init__(self, whole: nn.RNNBase) -> None:
        super().__init__()
        self.batch_first = whole.batch_first
        self.stack = nn.ModuleList()
        for number in range(whole.num_layers):
            options: dict[str, Any] = {"batch_first": whole.batch_first, "bias": whole.bias}
            if isinstance(whole, nn.RNN):
                options["nonlinearity"] = whole.nonlinearity
            if whole.proj_size:
                options["proj_size"] = whole.proj_size
            first = getattr(whole, f"weight_ih_l{number}").shape[1]
            layer = type(whole)(
                first, whole.hidden_size, bidirectional=whole.bidirectional, **options
            )
            state = {
                key.replace(f"_l{number}", "_l0"): value
                for key, value in whole.state_dict().items()
                if f"_l{number}" in key
            }
            layer.load_state_dict(state)
            self.stack.append(layer)

    def forward(self, x: Tensor) -> Any:
        finals = []
        for layer in self.stack:
            x, state = layer(x)
            finals.append(state if isinstance(state, tuple) else (state,))
        states = tuple(torch.cat(parts) for parts in zip(*finals, strict=True))
        return x, states if len(states) > 1 else states[0]


def zeroing(unit: int, batch_first: bool, directions: int) -> Any:
    """A hook that silences a feature of the output, and of the last hidden state with it."""

    def hook(_module: nn.Module, _given: Any, result: Any) -> Any:
        output, state = result
        output = output.clone()
        output[..., unit] = 0
        hidden, *rest = state if isinstance(state, tuple) else (state,)
        hidden = hidden.clone()
        width = output.shape[-1] // directions
        hidden[unit // width, :, unit % width] = 0
        return output, (hidden, *rest) if rest else hidden

    return hook


def by_hooks(model: Reader, x: Tensor, number: int, unit: int) -> Tensor:
    whole = model.recurrent
    stacked = OneByOne(whole).eval()
    hook = zeroing(unit, whole.batch_first, 2 if whole.bidirectional else 1)
    handle = stacked.stack[number].register_forward_hook(hook)
    model.recurrent = stacked
    try:
        with torch.no_grad():
            return model(x)
    finally:
        handle.remove()
        model.recurrent = whole


CASES = [
    ("lstm", {"num_layers": 2, "bidirectional": True, "batch_first": True}, "output"),
    ("lstm", {"num_layers": 3}, "hidden"),
    ("lstm", {"num_layers": 2, "bidirectional": True}, "cell"),
    ("lstm", {"num_layers": 2, "proj_size": 3, "batch_first": True}, "hidden"),
    ("gru", {"num_layers": 2, "bidirectional": True, "batch_first": True}, "hidden"),
    ("gru", {"num_layers": 1, "bias": False, "batch_first": True}, "output"),
    ("rnn", {"num_layers": 2, "nonlinearity": "relu", "batch_first": True}, "output"),
    ("rnn", {"num_layers": 2, "bidirectional": True, "dropout": 0.3}, "hidden"),
]


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize(("kind", "options", "reads"), CASES)
def test_each_layer_and_direction(kind: str, options: dict[str, Any], reads: str) -> None:
    torch.manual_seed(0)
    recurrent = KINDS[kind](4, 5, **options)
    directions = 2 if recurrent.bidirectional else 1
    emitted = directions * (recurrent.proj_size or recurrent.hidden_size)
    whole = directions * recurrent.num_layers
    width = {
        "output": emitted,
        "hidden": whole * (recurrent.proj_size or recurrent.hidden_size),
        "cell": whole * recurrent.hidden_size,
    }[reads]
    model = Reader(recurrent, reads, width).eval()
    x = torch.randn(4, 6, 4)
    study = study_of(model, x)
    layers = [layer for layer in mv.layers(study) if layer.kind == "recurrent"]
    many = recurrent.num_layers
    names = ["recurrent"] if many == 1 else [f"recurrent.l{number}" for number in range(many)]
    assert [(layer.name, layer.units) for layer in layers] == [(name, emitted) for name in names]
    wanted = {
        f"{name}:{unit}": by_hooks(model, x, number, unit)
        for number, name in enumerate(names)
        for unit in sorted({0, emitted // 2, emitted - 1})
    }
    # The last layer's output is no part of its cell state, and ReLU may leave units dead.
    seen = 0.4 if reads == "cell" or "nonlinearity" in options else 0.9
    every_engine_gives(study, wanted, outputs(study), seen=seen)


class Packed(nn.Module):
    """Sequences of different lengths, as text comes."""

    def __init__(self, bidirectional: bool) -> None:
        super().__init__()
        self.recurrent = nn.LSTM(4, 5, 2, batch_first=True, bidirectional=bidirectional)
        self.head = nn.Linear(2 * (2 if bidirectional else 1) * 5, 3)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        _, (hidden, _) = self.recurrent(packed)
        return self.head(hidden.transpose(0, 1).flatten(1))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_packed_sequences(bidirectional: bool) -> None:
    """Each sequence as it is alone, unpacked, under hooks on layers one by one."""
    torch.manual_seed(0)
    model = Packed(bidirectional).eval()
    x, lengths = torch.randn(4, 6, 4), torch.tensor([3, 6, 1, 5])
    study = study_of(model, {"x": x, "lengths": lengths})
    emitted = 10 if bidirectional else 5
    reader = Reader(model.recurrent, "hidden", model.head.in_features)
    reader.head = model.head
    wanted = {}
    for number, unit in [(0, 0), (0, emitted - 1), (1, 1), (1, emitted - 2)]:
        rows = [
            by_hooks(reader, x[k : k + 1, :length], number, unit)
            for k, length in enumerate(lengths.tolist())
        ]
        wanted[f"recurrent.l{number}:{unit}"] = torch.cat(rows)
    every_engine_gives(study, wanted, outputs(study), seen=0.9)
    estimated = mv.estimate(study, "recurrent.l0:1")  # whose positions are whose can't be told
    assert not estimated.done.any()


class Cells(nn.Module):
    """A cell called step by step."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell, self.head = cell, nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for step in x.unbind(1):
            state = self.cell(step, state)
        return self.head(state[0] if isinstance(state, tuple) else state)


@pytest.mark.parametrize("kind", [nn.LSTMCell, nn.GRUCell, nn.RNNCell])
def test_cells_as_a_hook_on_the_cell(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model, x = Cells(kind(4, 5)).eval(), torch.randn(4, 6, 4)
    study = study_of(model, x)
    wanted = {}
    for unit in range(5):

        def hook(_module: nn.Module, _given: Any, result: Any, unit: int = unit) -> Any:
            hidden = (result[0] if isinstance(result, tuple) else result).clone()
            hidden[:, unit] = 0
            return (hidden, *result[1:]) if isinstance(result, tuple) else hidden

        handle = model.cell.register_forward_hook(hook)
        wanted[f"cell:{unit}"] = outputs(study)
        handle.remove()
    every_engine_gives(study, wanted, outputs(study), seen=0.9)


def test_the_mean_is_over_examples_and_steps() -> None:
    torch.manual_seed(0)
    recurrent = nn.GRU(4, 5, batch_first=True)
    model, x = Reader(recurrent, "output", 5).eval(), torch.randn(4, 6, 4)
    with torch.no_grad():
        sequence, _ = recurrent(x)
        sequence[..., 2] = sequence[..., 2].mean()
        wanted = model.head(sequence.square().mean(1))
    assert torch.allclose(mv.Replay(study_of(model, x)).outputs("recurrent:2", "mean"), wanted)


def test_an_estimate_is_the_slope() -> None:
    """Through the inner layer's sequence, by finite differences of a scaled unit."""
    torch.manual_seed(0)
    recurrent = nn.LSTM(4, 5, 2, batch_first=True)
    model, x = Reader(recurrent, "hidden", 10).double().eval(), torch.randn(4, 6, 4).double()
    study = study_of(model, x)
    estimated = mv.estimate(study, "recurrent.l0:3").margin_change[0]
    replay, step = mv.Replay(study), 1e-4
    margins = [
        study.task.margin(replay.outputs("recurrent.l0:3", f"scale {1 + side}"), study.labels)
        for side in (-step, step)
    ]
    slope = (margins[1] - margins[0]) / (2 * step)
    assert torch.allclose(estimated.double(), -slope.double(), atol=1e-3, rtol=1e-2)


def test_its_layers_are_named() -> None:
    torch.manual_seed(0)
    model = Reader(nn.LSTM(4, 5, 2, batch_first=True), "output", 5).eval()
    study = study_of(model, torch.randn(4, 6, 4))
    words = r"layer 'recurrent' \(LSTM\) has several layers of units; name one of them, .*l0.*l1"
    with pytest.raises(ValueError, match=words):
        mv.sweep(study, "recurrent:0", progress=False)
    with pytest.raises(ValueError, match="'recurrent.l0' lies inside one call of 'recurrent'"):
        with mv.ablate(model, "recurrent.l0:0"):
            raise AssertionError("the block must not begin")
