"""Networks of logic gates on a second device: trees, packed bits, their training, their session."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

import memviz as mv
from memviz.engine.circuits import CircuitStudy, random_settings
from memviz.engine.circuits import trace as traced
from memviz.models.logic_gates import Circuit, PackedNetwork, PackedSweep, live_gates
from memviz.session import GateSession
from memviz.training.gates import soft_and_hard, train_gates
from tests.support.figures import ROUNDING, differing
from tests.support.gates import GROUPS, dense_net, gate_study, tree_net
from tests.support.gates import inputs as pixels
from tests.support.second_device import DEVICE

Pair = tuple[mv.Study, mv.Study]
QUIET: dict[str, Any] = {"progress": False}
NETS = {"dense": dense_net, "trees": tree_net}


@pytest.fixture(scope="module")
def studies() -> dict[str, Pair]:
    found = {}
    for name, make in NETS.items():
        here = gate_study(make())
        model = copy.deepcopy(here.model).to(DEVICE)
        known = here.groups, here.true_labels
        found[name] = here, mv.Study(model, here.inputs, here.labels, known[0], known[1])
    return found


def some(study: mv.Study) -> list[str]:
    return [f"{layer.name}:{unit}" for layer in mv.layers(study)[:3] for unit in (0, 3)]


def gate_by_gate(study: mv.Study) -> Any:
    """What the gate map does: set gates, undo, read a truth table, trace an example."""
    session = GateSession(study)
    circuits, found = session.circuits, []
    row, other = (int(live) for live in circuits.circuit.live.nonzero()[0][:2])
    for to in ("constant 1", "negation"):
        session.fix(session.units_of({row: ""}), to)
        found.append(circuits.read(session.settings))
    session.undo()
    found.append(circuits.read(session.settings))
    found.append(circuits.truth_table(other, session.settings))
    found.append(traced(circuits, 2, session.settings).inputs)
    found.append(circuits.lost_alone(0, [0, 1], "zero"))
    drawn = random_settings(circuits.circuit, session.settings, seed=1)
    return [*found, circuits.read(drawn).votes]


OF_STUDIES: dict[str, Any] = {
    "sweep": lambda s: mv.sweep(s, some(s), **QUIET),
    "sweep by hooks": lambda s: mv.sweep(s, some(s), engine="hook", **QUIET),
    "negation": lambda s: mv.sweep(s, some(s), how="negation", **QUIET),
    "estimate": mv.estimate,
    "readout": lambda s: mv.readout(s, some(s)[:2], random_draws=1),
    "a session of gates": gate_by_gate,
    "circuits": lambda s: CircuitStudy(s).before,
    "soft and hard": lambda s: soft_and_hard(s.model, s.inputs.to(s.device)),
    "live gates": lambda s: live_gates(s.model),
}


@pytest.mark.parametrize("call", OF_STUDIES)
@pytest.mark.parametrize("net", NETS)
def test_figures_are_the_cpu_s(studies: dict[str, Pair], net: str, call: str) -> None:
    here, there = studies[net]
    before = copy.deepcopy(there.model.state_dict())
    assert there.device == DEVICE
    one, other = OF_STUDIES[call](here), OF_STUDIES[call](there)
    assert differing(one, other, ROUNDING) == []
    assert differing(before, there.model.state_dict()) == []


ON_PACKED: dict[str, Any] = {
    "votes": lambda m, x: PackedNetwork(m).votes(x),
    "predictions": lambda m, x: PackedNetwork(m).predictions(x),
    "circuit": lambda m, x: Circuit(m, x).bits(x),
    "votes of a sweep": lambda m, x: PackedSweep(m, x).votes,
    "ablated": lambda m, x: PackedSweep(m, x).ablated(
        next(iter(Circuit(m, x).places)), [0, 2], "zero"
    ),
}


@pytest.mark.parametrize("given", ["cpu", DEVICE])
@pytest.mark.parametrize("call", ON_PACKED)
@pytest.mark.parametrize("net", NETS)
def test_packed_bits_are_counted_from_any_device(net: str, call: str, given: Any) -> None:
    model, x = NETS[net](), pixels()
    there = ON_PACKED[call](copy.deepcopy(model).to(DEVICE), x.to(given))
    assert differing(ON_PACKED[call](model, x), there) == []
    assert there.device.type == "cpu"


def soft(net: str, device: Any) -> nn.Module:
    return NETS[net]().to(device).train()


@pytest.mark.parametrize("net", NETS)
def test_gates_train_to_the_cpu_s_weights(net: str) -> None:
    x, labels, found = pixels(), torch.arange(90) % 4, []
    for device in ("cpu", DEVICE):
        model = soft(net, device)
        data, of = x.to(device), labels.to(device)
        more = {"epochs": 2, "batch_size": 16, "examples": range(60), **QUIET}
        run = train_gates(model, data, of, GROUPS, true_labels=labels, **more)
        found.append((run.curves, model.state_dict()))
    assert differing(*found, ROUNDING) == []
