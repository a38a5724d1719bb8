"""Gates as units: what replaces them, which are dead, and the draws that leave these out."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import memviz as mv
from memviz.engine import random_units
from memviz.engine.record import intervention
from memviz.engine.sets import Toggle
from memviz.models.logic_gates import (
    INTERVENTIONS,
    TRUTH,
    DenseGates,
    GroupSum,
    Thresholds,
    TreeConv,
    live_gates,
    logic_dense_net,
)

NEW: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "zero": lambda _a, _b, value: torch.zeros_like(value),
    "constant 1": lambda _a, _b, value: torch.ones_like(value),
    "input a": lambda a, _b, _value: a,
    "input b": lambda _a, b, _value: b,
    "negation": lambda _a, _b, value: 1 - value,
}


def dense(seed: int = 0) -> nn.Sequential:
    return logic_dense_net(8, [10, 12, 8], 2, init="gaussian", tau=1.0, seed=seed).eval()


def trees(seed: int = 0) -> nn.Sequential:
    return nn.Sequential(
        Thresholds([0.5]),
        TreeConv(2, 3, window=2, depth=2, padding=1, init="gaussian", seed=seed),
        nn.MaxPool2d(2),
        TreeConv(3, 4, window=2, depth=1, init="gaussian", seed=seed + 1),
        nn.Flatten(),
        DenseGates(4, 8, init="gaussian", seed=seed + 2),
        GroupSum(2, 1.0),
    ).eval()


def _study(model: nn.Sequential) -> mv.Study:
    first = model[0]
    if isinstance(first, Thresholds):
        inputs = torch.rand(70, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    else:
        inputs = torch.tensor(list(itertools.product([0.0, 1.0], repeat=8)))
    n = len(inputs)
    return mv.Study(model, inputs, torch.arange(n) % 2, {"test": range(n)})


@contextmanager
def _hook(gates: nn.Module, units: Sequence[int], how: str) -> Iterator[None]:
    """The independent way: a plain hook on the gates."""

    def hook(_module: nn.Module, args: Any, output: Tensor) -> Tensor:
        parts = (*args[:2], output.clone())
        a, b, value = (part.flatten(1, 2) if part.dim() == 4 else part for part in parts)
        value[:, units] = NEW[how](a[:, units], b[:, units], value[:, units])
        return value.view(output.shape)

    handle = gates.register_forward_hook(hook)
    yield
    handle.remove()


def hooked(model: nn.Module, inputs: Tensor, layer: str, unit: int, how: str) -> Tensor:
    with _hook(model.get_submodule(layer), [unit], how), torch.no_grad():
        answer: Tensor = model(inputs)
    return answer


def _effects(study: mv.Study, layer: str, unit: int) -> Tensor:
    with torch.no_grad():
        before = study.model(study.inputs)
    return torch.stack(
        [hooked(study.model, study.inputs, layer, unit, how) - before for how in NEW]
    )


@pytest.mark.parametrize("net", [dense, trees])
@pytest.mark.parametrize("how", INTERVENTIONS)
def test_interventions_are_those_of_a_plain_hook(
    net: Callable[[], nn.Sequential], how: str
) -> None:
    study = _study(net())
    replay = mv.Replay(study)
    layers = mv.layers(study)
    assert all(layer.interventions == INTERVENTIONS for layer in layers)
    for layer in layers:
        for unit in range(0, layer.units, 3):
            plain = hooked(study.model, study.inputs, layer.name, unit, how)
            assert torch.equal(replay.outputs({layer.name: [unit]}, how), plain)
            with torch.no_grad(), mv.ablate(study.model, {layer.name: [unit]}, how) as model:
                assert torch.equal(model(study.inputs), plain)


@pytest.mark.parametrize("net", [dense, trees])
@pytest.mark.parametrize("how", INTERVENTIONS)
def test_gates_of_several_layers_together_are_as_with_a_hook_on_each(
    net: Callable[[], nn.Sequential], how: str
) -> None:
    study = _study(net())
    toggle = Toggle(mv.Replay(study))
    layers = mv.layers(study)
    for count in range(1, len(layers) + 1):
        chosen = {layer.name: list(range(0, layer.units, 2))[:count] for layer in layers[:count]}
        with ExitStack() as hooks, torch.no_grad():
            for name, units in chosen.items():
                hooks.enter_context(_hook(study.model.get_submodule(name), units, how))
            plain = study.model(study.inputs)
        assert torch.equal(toggle.outputs(chosen, intervention(how)), plain)
        with torch.no_grad(), mv.ablate(study.model, chosen, how) as model:
            assert torch.equal(model(study.inputs), plain)


@pytest.mark.parametrize("how", ["mean", "constant 0.5", "scale 0.5", "filter", "input c"])
def test_what_is_no_circuit_is_refused_with_what_is_allowed(how: str) -> None:
    study = _study(dense())
    with pytest.raises(ValueError, match="'2.gates'.*allows 'zero', 'constant 1', 'input a', "):
        mv.readout(study, "2.gates:0", how)


def test_a_soft_network_is_refused() -> None:
    model = dense()
    model[2].train()
    for call in (mv.sweep, mv.Replay, mv.estimate):
        with pytest.raises(ValueError, match=r"train mode \(module '2'\)"):
            call(_study(model))
    with pytest.raises(ValueError, match=r"'2.gates' are in training mode.*model.eval\(\)"):
        live_gates(model)
    with pytest.raises(ValueError, match="has no gates"):
        live_gates(nn.Linear(2, 2))


def _uses(number: int, same: bool) -> list[bool]:
    """Whether a gate depends on a and on b, by trying all inputs."""
    value = {(a, b): int(TRUTH[number, 2 * a + b]) for a in (0, 1) for b in (0, 1)}
    if same:
        return [value[0, 0] != value[1, 1]] * 2
    return [
        any(value[0, b] != value[1, b] for b in (0, 1)),
        any(value[a, 0] != value[a, 1] for a in (0, 1)),
    ]


@pytest.mark.parametrize("seed", range(4))
def test_live_gates_of_a_dense_network_are_those_that_a_search_finds(seed: int) -> None:
    model = dense(seed)
    model[3].wires[1, :3] = model[3].wires[0, :3]  # both wires of these are one input
    wanted = {f"{k}.gates": set() for k in (2, 3, 4)}
    left = [(4, gate) for gate in range(8)]
    while left:
        layer, gate = left.pop()
        if layer < 2 or gate in wanted[f"{layer}.gates"]:
            continue
        wanted[f"{layer}.gates"].add(gate)
        wires = model[layer].wires[:, gate].tolist()
        number = int(model[layer].gates.chosen()[gate])
        uses = _uses(number, wires[0] == wires[1])
        left += [(layer - 1, wire) for wire, used in zip(wires, uses, strict=True) if used]
    live = live_gates(model)
    assert {name: set(known.nonzero()[:, 0].tolist()) for name, known in live.items()} == wanted
    assert sum(int((~known).sum()) for known in live.values()) > 0


@pytest.mark.parametrize("net", [dense, trees])
def test_dead_gates_have_no_effect_and_every_effect_is_of_a_live_one(
    net: Callable[[], nn.Sequential],
) -> None:
    dead = 0
    for seed in range(3):
        study = _study(net(seed))
        for name, live in live_gates(study.model).items():
            for unit, known in enumerate(live.tolist()):
                assert known or not _effects(study, name, unit).any()
                dead += not known
    assert dead > 0


def test_random_draws_leave_dead_gates_out() -> None:
    study = _study(dense())
    layers = mv.layers(study)
    live = live_gates(study.model)
    for layer in layers:
        assert layer.dead == set((~live[layer.name]).nonzero()[:, 0].tolist())
        count = layer.units - len(layer.dead)
        drawn = random_units(layers, mv.UnitSet({layer.name: range(count)}), seed=1)
        assert set(drawn.layers[layer.name]).isdisjoint(layer.dead)
    alive = {name: known.nonzero()[:, 0].tolist() for name, known in live.items()}
    # No live unit is left to draw, so there is no null.
    assert not mv.readout(study, alive, random_draws=2).random
    assert mv.readout(study, {"2.gates": alive["2.gates"][:2]}, random_draws=2).random


def test_gates_before_an_unknown_layer_or_outside_of_a_sequence_all_count_as_live() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = dense()

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x)

    assert all(bool(live.all()) for live in live_gates(Plain().eval()).values())
    model = dense()
    model.insert(4, nn.Identity())
    live = live_gates(model.eval())
    assert bool(live["3.gates"].all())
    assert not bool(live["2.gates"].all())
