"""Readings, random gates and traces, against the network run by itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from memviz.engine.circuits import CircuitStudy, Traced, has_random, random_settings, trace
from memviz.models.logic_gates import SETTINGS
from tests.support.gates import dense_net, gate_study, tree_net, with_settings

SET = {3: "zero", 25: "constant 1", 55: "negation"}  # of layers 1, 2 and 3
NAMED = {"2.gates": {3: "zero"}, "3.gates": {5: "constant 1"}, "4.gates": {5: "negation"}}


def test_a_reading_is_what_the_network_says() -> None:
    study = gate_study()
    found = CircuitStudy(study).read(SET)
    votes = (with_settings(dense_net(), NAMED)(study.inputs) * 2).long()
    assert (found.votes == votes).all() and (found.predictions == votes.argmax(1)).all()
    for k, label in enumerate(study.labels.tolist()):
        others = [v for c, v in enumerate(votes[k].tolist()) if c != label]
        assert int(found.margins[k]) == int(votes[k, label]) - max(others)
    test = found.groups["test"]
    right = (votes.argmax(1) == study.labels)[60:]
    assert (test.n, test.correct) == (30, int(right.sum()))
    assert test.margin == float(np.median(found.margins[60:].numpy()))


def test_readings_do_not_depend_on_the_order_or_number_of_examples() -> None:
    study = gate_study()
    order = torch.randperm(90, generator=torch.Generator().manual_seed(5))[:70]
    some = gate_study(groups={"some": range(90)})
    assert isinstance(some.inputs, torch.Tensor)
    some.inputs, some.labels = some.inputs[order], some.labels[order]
    some.groups = {"some": torch.ones(70, dtype=torch.bool)}
    some.true_labels = None
    assert (CircuitStudy(some).read(SET).votes == CircuitStudy(study).read(SET).votes[order]).all()


@pytest.mark.parametrize("net", [dense_net, tree_net])
def test_a_truth_table_counts_what_the_gate_reads(net: Callable[[], torch.nn.Sequential]) -> None:
    circuits = CircuitStudy(gate_study(net()))
    row, counts = 9, np.zeros(4)
    for example in range(10):
        traced = trace(circuits, example, {})
        layer = circuits.circuit.layers[circuits.circuit.place(row)[0]]
        bits = traced.inputs if layer.before < 0 else traced.layers[layer.before].reshape(-1)
        reads = layer.reads[:, row - layer.start]
        a, b = np.where(reads >= 0, bits[reads], 0).max(-1)
        counts += np.bincount(2 * a.astype(int) + b, minlength=4)
    table = circuits.truth_table(row, {})
    assert table.shares["memorized"] == pytest.approx(counts / counts.sum())
    assert set(table.lost) == set(SETTINGS)
    before, after = circuits.before.margins[10:60], circuits.read({row: "zero"}).margins[10:60]
    assert table.lost["zero"]["clean"] == pytest.approx(float((before - after).double().mean()))


def test_a_trace_explains_its_bits_down_to_the_input() -> None:
    circuits = CircuitStudy(gate_study(tree_net()))
    found = trace(circuits, 4, {})

    def check(node: Traced) -> None:
        if node.reads and node.row is not None and node.number is not None:
            a, b = (read.bit for read in node.reads)
            assert node.bit == node.number >> (3 - 2 * a - b) & 1
        for read in node.reads:
            check(read)

    for row in range(circuits.circuit.gates):
        check(found.gate(row, depth=4))
    deep = found.gate(circuits.circuit.gates - 1, depth=9)
    while deep.reads:
        deep = deep.reads[0]
    assert deep.row is None  # the input, or outside the image


def test_random_gates_are_live_of_the_same_layers_and_nested() -> None:
    circuit = CircuitStudy(gate_study()).circuit
    few = random_settings(circuit, {0: "zero", 21: "negation"}, seed=3)
    more = random_settings(circuit, {0: "zero", 1: "zero", 21: "negation", 60: "zero"}, seed=3)
    assert set(few) <= set(more) and len(more) == 4
    assert all(circuit.live[row] for row in more)
    assert [circuit.place(row)[0] for row in sorted(more)] == [0, 0, 1, 2]
    assert more[next(row for row in more if circuit.place(row)[0] == 1)] == "negation"
    best = random_settings(circuit, {0: "zero"}, seed=3, better=dict.fromkeys(range(74), "input a"))
    assert list(best.values()) == ["input a"]
    assert random_settings(circuit, {0: "zero"}, seed=3) != random_settings(circuit, {0: "zero"}, 4)
    live = dict.fromkeys(np.flatnonzero(circuit.live[:20]).tolist(), "zero")
    assert has_random(circuit, {0: "zero"}) and not has_random(circuit, live)


def test_studies_without_gates_or_with_other_labels_are_refused() -> None:
    with pytest.raises(TypeError, match="give a study of a network of logic gates"):
        study = gate_study()
        study.model = torch.nn.Linear(3, 2)
        CircuitStudy(study)
    with pytest.raises(ValueError, match="votes for 4 classes, 0 to 3, and the labels hold 7"):
        study = gate_study()
        study.labels = torch.full((90,), 7)
        CircuitStudy(study)
