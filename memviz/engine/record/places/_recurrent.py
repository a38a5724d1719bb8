"""LSTM, GRU and RNN: the hidden features that each layer emits at each step."""

from __future__ import annotations

from memviz.units import Layer

from .._trace import Traced
from ._flow import Flow
from ._fused import Stack
from ._site import Located, Site

STACKS = frozenset(["lstm", "gru", "rnn_tanh", "rnn_relu"])
CELLS = frozenset(f"{kind}_cell" for kind in STACKS)


def recurrent_layers(flow: Flow) -> dict[str, Located]:
    """The layers of recurrent modules, ``"lstm"`` or, of several, ``"lstm.l0"``, ``"lstm.l1"``.

    Its units are the features of its output at every step, those of the reverse direction behind
    those of the forward one. Ablating one replaces the feature that the layer emits, in what the
    rest of the network reads: the output, the next layer's input, and the last hidden state
    ``h_n``. Inside the layer the recurrence runs on as before. A cell is called step by step by the
    model itself, so its feature is replaced in what the next step reads, too.
    """
    located: dict[str, Located] = {}
    for index, call in enumerate(flow.calls):
        name = flow.owner(index)
        if call.name in STACKS:
            uses = _stack(flow, index, name, call)
        elif call.name in CELLS:
            uses = {name: _cell(flow, index, name, call)}
        else:
            continue
        for layer, use in uses.items():
            known = located.get(layer)
            located[layer] = use if known is None else known.and_again(use)
    return located


def _stack(flow: Flow, index: int, name: str, call: Traced) -> dict[str, Located]:
    stack = Stack.of(call.args)
    if stack.random:
        return {}
    units = int(call.output[0].shape[-1])
    words = f"output of {call.name}"
    uses = {}
    for number in range(stack.layers):
        own = name if stack.layers == 1 else f"{name}.l{number}".lstrip(".")
        last = number == stack.layers - 1
        is_output = last and call.output_keys[0] in flow.outputs
        layer = Layer(own, "recurrent", units, words, is_output)
        site = Site(index, "inside", -1, 1, number)
        uses[own] = Located(layer, (site,), (site,), by_example=not stack.packed)
    return uses


def _cell(flow: Flow, index: int, name: str, call: Traced) -> Located:
    hidden = call.output if call.name != "lstm_cell" else call.output[0]
    is_output = call.output_keys[0] in flow.outputs
    layer = Layer(name, "recurrent", int(hidden.shape[-1]), f"output of {call.name}", is_output)
    site = Site(index, "inside", -1)
    return Located(layer, (site,), (site,))
