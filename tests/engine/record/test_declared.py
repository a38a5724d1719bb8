"""Units that modules declare: every engine against plain hooks on the module's output."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import memviz as mv
from memviz.units import DeclaredUnits

HOWS: dict[str, Callable[[Tensor], Tensor]] = {
    "zero": torch.zeros_like,
    "constant 0.5": lambda part: torch.full_like(part, 0.5),
    "scale -2": lambda part: -2 * part,
}


class StateSpace(nn.Module):
    """h[t] = a h[t-1] + B x[t], written into a tensor made before; returns ``[n, steps, 5]``."""

    def __init__(self) -> None:
        super().__init__()
        self.decay = nn.Parameter(torch.rand(5))
        self.enter = nn.Linear(4, 5, bias=False)
        self.declared_units = DeclaredUnits(5, axis=-1, kind="state space")

    def forward(self, x: Tensor) -> Tensor:
        entering, states = self.enter(x), torch.zeros(len(x), x.shape[1], 5, dtype=x.dtype)
        h = torch.zeros_like(entering[:, 0])
        for t in range(x.shape[1]):
            h = self.decay * h + entering[:, t].tanh()
            states[:, t] = h
        return states


class Graph(nn.Module):
    """A (x W), over the nodes of one graph; its units are the nodes or the features."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        adjacency = torch.rand(3, 3)
        self.register_buffer("adjacency", adjacency / adjacency.sum(1, keepdim=True))
        self.weight = nn.Parameter(torch.randn(4, 5))
        self.declared_units = DeclaredUnits((3, 5)[axis - 1], axis=axis, kind="graph")

    def forward(self, x: Tensor) -> Tensor:
        return (self.adjacency @ (x @ self.weight)).relu()


class Cell(nn.Module):
    declared_units = DeclaredUnits(5, kind="cell")

    def __init__(self) -> None:
        super().__init__()
        self.w, self.u = nn.Parameter(torch.randn(4, 5)), nn.Parameter(torch.randn(5, 5))

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return (x @ self.w + h @ self.u).tanh()


class Rnn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = Cell()

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 5)
        for step in x.unbind(1):
            h = self.cell(step, h)
        return h


class Grid(nn.Module):
    """Units along two neighbouring axes, ``[n, 3, 4]``, and a residual of the same module."""

    declared_units = DeclaredUnits(12, axis=(1, 2), kind="grid")

    def forward(self, x: Tensor) -> Tensor:
        return x.sin() + x


class Turned(nn.Module):
    """Examples on the last axis of what it returns: units on the first."""

    declared_units = DeclaredUnits(4, axis=0)

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1).exp().T


class Back(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.T


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.grid = Grid()

    def forward(self, x: Tensor) -> Tensor:
        return self.grid(self.grid(x) * 0.5)


NETS: dict[str, tuple[str, int | tuple[int, ...], Callable[[], nn.Module]]] = {
    "state space": ("0", 2, lambda: nn.Sequential(StateSpace(), nn.Flatten(), nn.Linear(15, 2))),
    "nodes": ("0", 1, lambda: nn.Sequential(Graph(1), nn.Flatten(), nn.Linear(15, 2))),
    "features": ("0", 2, lambda: nn.Sequential(Graph(2), nn.Flatten(), nn.Linear(15, 2))),
    "cell": ("0.cell", 1, lambda: nn.Sequential(Rnn(), nn.Linear(5, 2))),
    "grid": ("1", (1, 2), lambda: nn.Sequential(nn.Tanh(), Grid(), nn.Flatten(), nn.Linear(12, 2))),
    "turned": ("0", 0, lambda: nn.Sequential(Turned(), Back(), nn.Linear(4, 2))),
    "twice": ("0.grid", (1, 2), lambda: nn.Sequential(Twice(), nn.Flatten(), nn.Linear(12, 2))),
    "inside": (
        "0.1",
        2,
        lambda: nn.Sequential(
            nn.Sequential(nn.Linear(4, 4), StateSpace()), Last(), nn.Linear(5, 2)
        ),
    ),
}


class Last(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, -1]


def _study(name: str, n: int = 6, dtype: torch.dtype = torch.float32) -> mv.Study:
    torch.manual_seed(0)
    model = NETS[name][2]().eval().to(dtype)
    inputs = torch.randn(n, 3, 4, dtype=dtype)
    return mv.Study(model, inputs, torch.arange(n) % 2, {"test": range(n)})


def _hooked(study: mv.Study, name: str, unit: int, change: Callable[[Tensor], Tensor]) -> Tensor:
    """The independent answer: a plain hook on the module, which knows nothing of the engine."""
    layer, axis, _ = NETS[name]

    def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
        output = output.clone()
        if isinstance(axis, tuple):
            row, column = divmod(unit, output.shape[2])
            output[:, row, column] = change(output[:, row, column])
        else:
            view = output.movedim(axis, 0)
            view[unit] = change(view[unit])
        return output

    handle = study.model.get_submodule(layer).register_forward_hook(hook)
    with torch.no_grad():
        answer = study.model(study.inputs)
    handle.remove()
    return answer


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("how", HOWS)
def test_every_engine_gives_what_a_plain_hook_gives(name: str, how: str) -> None:
    study, layer = _study(name), NETS[name][0]
    units = next(one.units for one in mv.layers(study) if one.name == layer)
    replay = mv.Replay(study)
    plain = torch.stack([_hooked(study, name, unit, HOWS[how]) for unit in range(units)])
    assert (plain != replay.clean).any()
    for unit in range(units):
        torch.testing.assert_close(replay.outputs({layer: [unit]}, how), plain[unit])
        with torch.no_grad(), mv.ablate(study.model, {layer: [unit]}, how) as model:
            torch.testing.assert_close(model(study.inputs), plain[unit])
    assert not any("forward" in vars(module) for module in study.model.modules())
    labels = study.labels.repeat(units)
    margins = study.task.margin(plain.flatten(0, 1), labels).view(units, -1)
    for engine in ("auto", "graph", "replay", "hook"):
        effects = mv.sweep(study, {layer: range(units)}, how=how, engine=engine, progress=False)
        assert effects.exact.all()
        torch.testing.assert_close(effects.margin_change + effects.margin, margins)


@pytest.mark.parametrize("name", NETS)
def test_mean_and_resample_take_the_values_that_hooks_see(name: str) -> None:
    study, (layer, axis, _) = _study(name), NETS[name]
    if name in ("cell", "twice"):  # a module called several times has a mean at each call
        return
    seen: list[Tensor] = []
    module = study.model.get_submodule(layer)
    handle = module.register_forward_hook(lambda _m, _i, output: seen.append(output.detach()))
    study.model(study.inputs)
    handle.remove()
    if isinstance(axis, tuple):
        mean = seen[0][:, 0, 1].mean()
    else:
        mean = seen[0].movedim(axis, 0)[1].mean()
    plain = _hooked(study, name, 1, lambda part: torch.full_like(part, float(mean)))
    torch.testing.assert_close(mv.Replay(study).outputs({layer: [1]}, "mean"), plain)
    resampled = mv.Replay(study).outputs({layer: [1]}, "resample")
    with torch.no_grad(), mv.ablate(study, {layer: [1]}, "resample") as model:
        torch.testing.assert_close(model(study.inputs), resampled)


@pytest.mark.parametrize("name", NETS)
def test_one_example_and_half_precision(name: str) -> None:
    layer = NETS[name][0]
    for study in (_study(name, n=1), _study(name, dtype=torch.bfloat16)):
        plain = _hooked(study, name, 1, torch.zeros_like)
        assert torch.equal(mv.Replay(study).outputs({layer: [1]}), plain)
        with torch.no_grad(), mv.ablate(study, {layer: [1]}) as model:
            assert torch.equal(model(study.inputs), plain)


def test_estimates_of_declared_units_are_exact_where_the_rest_is_linear() -> None:
    study = _study("features")
    exact = mv.sweep(study, progress=False)
    estimates = mv.estimate(study)
    assert estimates.engine == "estimate"
    torch.testing.assert_close(estimates.margin_change, exact.margin_change)


def test_layers_and_maps_show_them_and_examples_keep_their_answers_in_any_order() -> None:
    study = _study("inside")
    assert [(la.name, la.kind, la.units) for la in mv.layers(study)] == [
        ("0.0", "linear", 4),
        ("0.1.enter", "linear", 5),
        ("0.1", "state space", 5),
        ("2", "linear", 2),
    ]
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    effects = mv.sweep(study, "0.1:0-4", progress=False)
    turned = mv.sweep(study, "0.1:0-4", order, progress=False)
    torch.testing.assert_close(turned.margin_change, effects.margin_change[:, order])
    result = mv.readout(study, "0.1:2", random_draws=3)
    assert len(result.random["test"]) == 3


def test_a_whole_model_may_declare_its_output() -> None:
    torch.manual_seed(0)
    study = mv.Study(Cellular().eval(), torch.randn(6, 4), torch.arange(6) % 2, {"test": range(6)})
    (layer,) = [layer for layer in mv.layers(study) if layer.kind == "whole"]
    assert (layer.name, layer.units, layer.is_output) == ("", 3, True)
    plain = study.model(study.inputs).detach()
    plain[:, 1] = 0
    torch.testing.assert_close(mv.Replay(study).outputs({"": [1]}), plain)
    with torch.no_grad(), mv.ablate(study.model, {"": [1]}) as model:
        torch.testing.assert_close(model(study.inputs), plain)


class Cellular(nn.Module):
    declared_units = DeclaredUnits(3, kind="whole")

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x).exp()


class Gate(nn.Module):
    declared_units = DeclaredUnits(
        4, interventions={"zero": None, "input b": [0, 1], "negation": None}
    )

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a * (1 - b)


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.head = Gate(), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gate(self.gate(x[:, 0], x[:, 1]), b=x[:, 2]))


def test_an_input_of_the_module_passes_in_the_units_place_in_every_call() -> None:
    torch.manual_seed(0)
    inputs = (torch.rand(6, 3, 4) > 0.5).float()
    study = mv.Study(Gated().eval(), inputs, torch.arange(6) % 2, {"test": range(6)})
    a, b, c = inputs.unbind(1)
    for how, new in {"input b": lambda a, b: b, "negation": lambda a, b: 1 - a * (1 - b)}.items():
        first = a * (1 - b)
        first[:, 1] = new(a, b)[:, 1]
        second = first * (1 - c)
        second[:, 1] = new(first, c)[:, 1]
        plain = study.model.head(second)
        replay = mv.Replay(study)
        torch.testing.assert_close(replay.outputs("gate:1", how), plain)
        with mv.ablate(study.model, "gate:1", how) as model:
            torch.testing.assert_close(model(inputs), plain)
        margins = study.task.margin(plain, study.labels)
        for engine in ("graph", "replay", "hook"):
            effects = mv.sweep(study, "gate:0,1", how=how, engine=engine, progress=False)
            torch.testing.assert_close((effects.margin + effects.margin_change)[1], margins)
    for how, text in {
        "constant 1": "allows 'zero', 'input b', 'negation'",
        "input b": "gate:2 .* it allows 'zero', 'negation'",
    }.items():
        with pytest.raises(ValueError, match=text):
            mv.sweep(study, "gate:2", how=how, progress=False)
        with (
            pytest.raises(ValueError, match=text),
            mv.ablate(study.model, "gate:2", how),
        ):
            pass
    with pytest.raises(ValueError, match="head.*declaration names it"):
        mv.readout(study, "head:0", "negation")


class Declares(nn.Module):
    def __init__(self, units: DeclaredUnits, returns: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.fc, self.declared_units, self.returns = nn.Linear(4, 5), units, returns

    def forward(self, x: Tensor) -> Any:
        return self.returns(self.fc(x))


class First(nn.Module):
    def forward(self, x: Any) -> Tensor:
        return x if isinstance(x, Tensor) else x[0]


@pytest.mark.parametrize(
    ("units", "returns", "sentence"),
    [
        (DeclaredUnits(6), torch.exp, r"declares 6 units on axis 1 and returns 5 there.*\(2, 5\)"),
        (DeclaredUnits(5, axis=3), torch.exp, "declares 5 units on axis 3 and returns a tensor"),
        (DeclaredUnits(5), lambda h: (h.exp(), h), "returns a tuple, not a tensor"),
        (DeclaredUnits(5), torch.relu, "declares the units that '0.fc' inside it has"),
        (DeclaredUnits(5, live=lambda model: {}), torch.exp, r"let it give bool \[5\]"),
    ],
)
def test_a_wrong_declaration_gets_one_sentence(
    units: DeclaredUnits, returns: Callable[[Tensor], Any], sentence: str
) -> None:
    model = nn.Sequential(Declares(units, returns), First(), nn.Linear(5, 2)).eval()
    study = mv.Study(model, torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    with pytest.raises(ValueError, match=sentence) as caught:
        mv.layers(study)
    assert str(caught.value).count(". ") == 0
    assert not any("forward" in vars(module) for module in model.modules())


def test_what_is_never_called_is_no_layer_and_says_so() -> None:
    model = nn.Sequential(nn.Linear(4, 2))
    model[0].spare = Grid()
    study = mv.Study(model.eval(), torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    assert [layer.name for layer in mv.layers(study)] == ["0"]
    with pytest.raises(ValueError, match="declares units and is never reached"):
        mv.readout(study, "0.spare:1")
    with pytest.raises(ValueError, match="never reached"), mv.ablate(model, "0.spare:1") as model:
        model(study.inputs)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"count": 0}, ValueError),
        ({"count": 2.0}, TypeError),
        ({"count": 2, "axis": (1, 3)}, ValueError),
        ({"count": 2, "axis": (-1, 0)}, ValueError),
        ({"count": 2, "axis": ()}, ValueError),
        ({"count": 2, "interventions": "zero"}, TypeError),
    ],
)
def test_a_declaration_is_checked_when_it_is_made(
    given: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        DeclaredUnits(**given)


def test_a_sweep_inside_a_block_is_of_the_ablated_model() -> None:
    study = _study("state space")
    with mv.ablate(study.model, "0:1"):
        inside = mv.sweep(study, "0:2", progress=False)
    both = mv.Replay(study).outputs("0:1,2")
    torch.testing.assert_close(
        (inside.margin + inside.margin_change)[0], study.task.margin(both, study.labels)
    )
    assert not any("forward" in vars(module) for module in study.model.modules())


def test_a_model_is_as_it_was_after_an_interrupt_in_a_pass() -> None:
    study = _study("nodes")

    def interrupt(_module: nn.Module, _inputs: Any, _output: Any) -> None:
        raise KeyboardInterrupt

    model = study.model
    with pytest.raises(KeyboardInterrupt), mv.ablate(model, "0:1"):
        handle = model[1].register_forward_hook(interrupt)
        try:
            mv.sweep(study, "0:1", progress=False)
        finally:
            handle.remove()
    assert not any("forward" in vars(module) for module in model.modules())
    assert torch.equal(model(study.inputs), _study("nodes").model(study.inputs))


def test_gradients_flow_through_an_ablated_module() -> None:
    study = _study("state space")
    inputs = study.inputs.clone().requires_grad_()
    with mv.ablate(study.model, "0:0-3") as model:
        model(inputs).sum().backward()
    assert inputs.grad is not None
    weight = study.model[0].enter.weight.grad
    assert weight is not None
    assert not weight[:4].any()
    assert weight[4].any()
