"""A circuit against the network that it is of, bit by bit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from memviz.models.logic_gates import SETTINGS, TRUTH, DenseGates, GroupSum, Thresholds, Wiring
from tests.support.gates import dense_net, inputs, tree_net, with_settings

Net = Callable[[], nn.Sequential]
NETS = [dense_net, tree_net]
FIXED = {
    dense_net: {"2.gates": {3: "zero", 4: "input b"}, "4.gates": {7: "negation", 20: "input a"}},
    tree_net: {
        "1.trees.0": {1: "constant 1"},
        "3.trees.0": {5: "negation"},
        "5.gates": {2: "zero"},
    },
}


def rows(circuit: Wiring, settings: dict[str, dict[int, str]]) -> dict[int, str]:
    starts = {layer.name: layer.start for layer in circuit.layers}
    return {starts[name] + k: to for name, gates in settings.items() for k, to in gates.items()}


@pytest.mark.parametrize("net", NETS)
def test_votes_are_those_of_the_network(net: Net) -> None:
    model, x = net(), inputs()
    circuit = Wiring(model, (1, 4, 4))
    words = circuit.words(x)
    assert (circuit.votes(words, len(x)) == model(x) * 2).all()
    for settings in ({}, *({n: {k: s}} for n, g in FIXED[net].items() for k, s in g.items())):
        found = circuit.votes(words, len(x), circuit.numbers(rows(circuit, settings)))
        assert (found == with_settings(model, settings)(x) * 2).all()
    found = circuit.votes(words, len(x), circuit.numbers(rows(circuit, FIXED[net])))
    assert (found == with_settings(model, FIXED[net])(x) * 2).all()


@pytest.mark.parametrize("net", NETS)
def test_every_bit_follows_from_what_its_gate_reads(net: Net) -> None:
    circuit, x = Wiring(net(), (1, 4, 4)), inputs()
    words = circuit.words(x)
    numbers = circuit.numbers(rows(circuit, FIXED[net]))
    for example in (0, 63, 64, 89):
        bits = circuit.all_bits(words, example, numbers)
        first = circuit.words(x[example : example + 1]).reshape(-1) & np.uint64(1)
        for layer, number, out in zip(circuit.layers, numbers, bits, strict=True):
            read = first.astype(int) if layer.before < 0 else bits[layer.before].reshape(-1)
            a, b = (np.where(reads >= 0, read[reads], 0).max(-1) for reads in layer.reads)
            assert (TRUTH.numpy()[number[:, None], 2 * a + b] == out).all()
            both = circuit.inputs_of(layer.start + 1, words, len(x), numbers)
            assert (both[0][example] == a[1]).all() and (both[1][example] == b[1]).all()


@pytest.mark.parametrize("net", NETS)
def test_dead_gates_change_no_vote_and_the_marks_of_live_ones_are_needed(net: Net) -> None:
    circuit, x = Wiring(net(), (1, 4, 4)), inputs()
    words = circuit.words(x)
    before = circuit.votes(words, len(x))
    changed = np.zeros(circuit.gates, bool)
    for row in range(circuit.gates):
        for setting in SETTINGS:
            found = circuit.votes(words, len(x), circuit.numbers({row: setting}))
            changed[row] |= bool((found != before).any())
    assert not changed[~circuit.live].any()
    assert 0 < (~circuit.live).sum() and changed.sum() > circuit.live.sum() / 3


def test_input_bits_know_their_pixel_and_threshold() -> None:
    x = inputs()[:1]
    levels = Thresholds([0.3, 0.6])
    for first in ([nn.Flatten(), levels], [levels, nn.Flatten()]):
        circuit = Wiring(
            nn.Sequential(*first, DenseGates(32, 20), GroupSum(4, 1.0)).eval(), (1, 4, 4)
        )
        bits = circuit.words(x).reshape(-1) & np.uint64(1)
        above = x.flatten().numpy()[circuit.features] > circuit.above.astype(np.float32)
        assert (bits == above).all()


def test_wrong_models_and_gates_are_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"training mode.*call model\.eval"):
        Wiring(dense_net().train(), (1, 4, 4))
    with pytest.raises(TypeError, match="of type Linear; give a network of logic gates"):
        Wiring(nn.Linear(3, 2), (3,))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="type Linear does not work on bits"):
        Wiring(nn.Sequential(nn.Linear(3, 2)).eval(), (3,))
    with pytest.raises(ValueError, match="does not end with gates and GroupSum"):
        Wiring(nn.Sequential(DenseGates(4, 4)).eval(), (4,))
    circuit = Wiring(dense_net(), (1, 4, 4))
    with pytest.raises(IndexError, match="there is no gate 74; there are 74"):
        circuit.numbers({74: "zero"})
    with pytest.raises(ValueError, match="can't be set to 'off'; choose from zero, constant 1"):
        circuit.numbers({0: "off"})
    bare = Wiring(nn.Sequential(DenseGates(4, 4), GroupSum(2, 1.0)).eval(), (4,))
    with pytest.raises(ValueError, match="inputs must be bits"):
        bare.words(torch.full((2, 4), 0.5))
