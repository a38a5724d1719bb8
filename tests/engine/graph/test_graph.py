"""The graph engine: each of its shortcuts against the replay, which is a plain hook to the bit."""

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

import memviz as mv
from memviz.engine.graph import Graph, Graphs, Kernels, narrowed, run
from memviz.engine.graph import _kernels as kernels
from memviz.engine.graph import _rules as rules
from memviz.engine.graph import _winograd as winograd
from memviz.engine.record import DivergedError, intervention
from memviz.engine.sets import Toggle
from memviz.engine.sweep import OneAtATime
from memviz.engine.sweep import _one_at_a_time as one_at_a_time

quick = settings(deadline=None, derandomize=True, database=None, max_examples=20)


def seeded(make: Callable[[], Any]) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return make()


def study_of(model: nn.Module, inputs: Tensor) -> mv.Study:
    n = len(inputs)
    return mv.Study(model.eval(), inputs, torch.zeros(n), {"memorized": [0], "clean": range(1, n)})


def graph_of(replay: mv.Replay, **given: Any) -> Graph:
    tape = replay.tape(0)
    assert tape is not None
    return Graph(tape, len(replay.chunk(0)), Kernels(), **given)


def close(got: Tensor, wanted: Tensor, tolerance: float = 1e-5) -> None:
    assert got.shape == wanted.shape
    assert float((got - wanted).abs().max()) <= tolerance * float(wanted.abs().max())


class Vit(nn.Module):
    """timm's transformer, small."""

    def __init__(self, **given: Any) -> None:
        super().__init__()
        self.inner = timm.models.VisionTransformer(
            img_size=16, patch_size=4, embed_dim=24, depth=3, num_heads=2, num_classes=5, **given
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


@pytest.fixture(scope="module")
def vit() -> mv.Study:
    return seeded(lambda: study_of(Vit(), torch.randn(6, 3, 16, 16)))


class Convs(nn.Module):
    """Wide enough for Winograd's convolution; a depthwise one, a strided one and a dilated one."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 128, 3, padding=1)
        self.b, self.norm_b = nn.Conv2d(128, 128, 3, padding=1, bias=False), nn.BatchNorm2d(128)
        self.c = nn.Conv2d(128, 128, 3, padding=1)
        self.d = nn.Conv2d(128, 128, 3, padding=1, groups=128)
        self.e, self.norm_e = nn.Conv2d(128, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16)
        self.f = nn.Conv2d(16, 8, (3, 1), dilation=(2, 1), padding=(2, 0))
        self.g = nn.Conv2d(8, 8, 3, padding="same", groups=2)
        self.head = nn.Linear(8, 4)
        for norm in (self.norm_b, self.norm_e):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x).relu()
        y = F.relu(self.norm_b(self.b(x)), inplace=True)
        x = x + F.gelu(self.c(y))
        x = F.silu(self.d(x))
        x = F.leaky_relu(self.norm_e(self.e(x)))
        return self.head(F.relu(self.g(self.f(x))).mean((2, 3)))


@pytest.fixture(scope="module")
def convs() -> mv.Study:
    return seeded(lambda: study_of(Convs(), torch.randn(5, 3, 8, 8)))


@pytest.mark.parametrize("how", ["zero", "filter", "mean", "resample 1", "scale -2"])
@pytest.mark.parametrize("name", ["vit", "convs"])
def test_each_unit_alone_equals_replay(name: str, how: str, request: pytest.FixtureRequest) -> None:
    study = request.getfixturevalue(name)
    replay, kind = mv.Replay(study), intervention(how)
    fast = OneAtATime(replay, kind)
    units = [unit for layer in replay.layers for unit in (layer.all())][::7]
    outputs = fast.outputs(0, list(units))
    assert fast.engine == "graph" and not fast.refused
    for unit, got in zip(units, outputs, strict=True):
        close(got, replay.outputs(mv.UnitSet([unit]), kind))


def test_few_examples_are_run_for_many_units_at_once(convs: mv.Study) -> None:
    for n in (1, 3):
        replay = mv.Replay(convs, torch.arange(n))
        units = [unit for layer in replay.layers for unit in layer.all()][::5]
        outputs = OneAtATime(replay, mv.Zero()).outputs(0, units)
        for unit, got in zip(units, outputs, strict=True):
            close(got, replay.outputs(mv.UnitSet([unit])))


def test_examples_that_a_unit_is_silent_on_are_not_run() -> None:
    """Planted: unit 0 fires on examples 0 to 19, unit 1 on none, unit 2 on all."""
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))
    model[0].weight.data = torch.eye(3)
    model[0].bias.data = torch.zeros(3)
    inputs = torch.ones(40, 3)
    inputs[20:, 0] = -1
    inputs[:, 1] = -1
    replay = mv.Replay(study_of(model, inputs))
    rows: list[int] = []

    def counted(graph: Graph, edits: Any, rows_: Tensor | None = None, *rest: Any) -> Any:
        rows.append(graph.batch if rows_ is None else len(rows_))
        return run(graph, edits, rows_, *rest)

    fast = OneAtATime(replay, mv.Zero())
    fast.outputs(0, [mv.Unit("0", 2)])  # checks the layer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(one_at_a_time, "run", counted)
        outputs = fast.outputs(0, [mv.Unit("0", k) for k in range(3)])
    assert rows == [20, 40]
    for k in range(3):
        close(outputs[k], replay.outputs(f"0:{k}"))
    assert torch.equal(outputs[0, 20:], replay.clean[20:])
    assert torch.equal(outputs[1], replay.clean)


class Reading(nn.Module):
    """Its Python looks at a value."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.one(x).relu()
        return self.two(x) if x.sum() > 0 else -self.two(x)


def test_a_model_that_reads_its_values_is_run_by_replay() -> None:
    study = seeded(lambda: study_of(Reading(), torch.randn(5, 4)))
    fast = OneAtATime(mv.Replay(study), mv.Zero())
    try:
        outputs = fast.outputs(0, [mv.Unit("one", 0)])
    except (DivergedError, RuntimeError):
        pytest.fail("replay follows the model's own Python")
    close(outputs[0], mv.Replay(study).outputs("one:0"))
    assert fast.engine == "replay" and "reads values" in fast.refused["one"]
    assert mv.sweep(study, progress=False).engine == "replay"


def test_a_rule_that_is_wrong_is_found_out(
    convs: mv.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The layers whose pass meets it go by replay, and the others stay."""

    def wrong(flow: Any, node: Any) -> Any:
        return flow.dense(node.args[0]) * 1.01

    monkeypatch.setitem(rules.RULES, "leaky_relu", wrong)
    replay = mv.Replay(convs)
    fast = OneAtATime(replay, mv.Zero())
    units = [mv.Unit("a", 1), mv.Unit("e", 2), mv.Unit("f", 3)]
    outputs = fast.outputs(0, units)
    assert fast.engine == "graph + replay" and fast.refused.keys() == {"a"}
    assert "off by" in fast.refused["a"]
    for unit, got in zip(units, outputs, strict=True):
        close(got, replay.outputs(mv.UnitSet([unit])))

    def broken(flow: Any, node: Any) -> Any:
        raise RuntimeError("no such kernel")

    monkeypatch.setitem(rules.RULES, "silu", broken)
    fast = OneAtATime(replay, mv.Zero())
    close(fast.outputs(0, units[:1])[0], replay.outputs("a:1"))
    assert fast.refused["a"] == "the graph failed there: no such kernel"


def test_the_engine_is_chosen_by_name(convs: mv.Study) -> None:
    one = mv.sweep(convs, "e:0-3", engine="replay", progress=False)
    two = mv.sweep(convs, "e:0-3", engine="graph", progress=False)
    assert (one.engine, two.engine) == ("replay", "graph")
    assert torch.allclose(one.margin_change, two.margin_change, atol=1e-5)
    with pytest.raises(ValueError, match="engine is 'fx'; use 'auto', 'graph', 'replay' or 'hook'"):
        mv.sweep(convs, engine="fx", progress=False)  # type: ignore[arg-type]


@quick
@given(
    st.integers(1, 9),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 5),
    st.integers(1, 5),
)
def test_winograd_is_a_convolution(rows: int, high: int, wide: int, into: int, out: int) -> None:
    generator = torch.Generator().manual_seed(rows + 10 * high + 100 * wide)
    value = torch.randn(rows, into, 4 * high, 4 * wide, generator=generator)
    weight = torch.randn(out, into, 3, 3, generator=generator)
    got = winograd.convolve(value, winograd.transformed(weight))
    wanted = F.conv2d(value.double(), weight.double(), None, 1, 1)
    assert float((got - wanted).abs().max()) <= 3e-5 * float(wanted.abs().max())


def test_winograd_is_used_and_its_memory_is_bounded(convs: mv.Study) -> None:
    replay = mv.Replay(convs)
    (edit,) = replay.edits(0, mv.UnitSet.of("a:3"), mv.Zero())
    used = []
    for memory in (2**30, 0):
        tape = replay.tape(0)
        assert tape is not None
        weights = Kernels(memory)
        graph = Graph(tape, len(replay.chunk(0)), weights)
        close(run(graph, [edit]), replay.outputs("a:3"))
        used.append(len(weights._transformed))
    assert used == [1, 0]


def test_without_the_fused_linear_layer(vit: mv.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_has_fused_linear", lambda: False)
    replay = mv.Replay(vit)
    fast = OneAtATime(replay, mv.Zero())
    unit = mv.Unit("inner.blocks.0.mlp.fc1", 5)
    close(fast.outputs(0, [unit])[0], replay.outputs(mv.UnitSet([unit])))
    assert fast.engine == "graph"


def positions(graph: Graph) -> list[int]:
    """How many tokens each linear layer is computed for."""
    return [node.out.shape[1] for node in graph.nodes if node.name == "linear"][:-1]


def test_behind_the_last_attention_only_the_class_token_is_computed(vit: mv.Study) -> None:
    replay = mv.Replay(vit)
    assert positions(graph_of(replay, narrow=False)) == [17] * 12
    # Queries, keys and values of the last block are of all tokens; what follows is of one.
    assert positions(graph_of(replay)) == [17] * 9 + [1, 1, 1]


@pytest.mark.parametrize("pool", ["avg", "map", "token"])
def test_other_ways_to_pool(pool: str) -> None:
    study = seeded(
        lambda: study_of(
            Vit(global_pool=pool, class_token=pool == "token"), torch.randn(3, 3, 16, 16)
        )
    )
    replay = mv.Replay(study)
    graph = graph_of(replay)
    if pool == "avg":
        assert set(positions(graph)) == {16}
    for layer in replay.layers:
        units = mv.UnitSet({layer.name: [0, 1]})
        edits = replay.edits(0, units, mv.Zero())
        close(run(graph, edits), replay.outputs(units))


def test_what_nobody_reads_is_dropped() -> None:
    class Wasteful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(3, 4), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.one(x)
            torch.exp(x)
            return self.two(x)

    replay = mv.Replay(study_of(Wasteful(), torch.randn(3, 3)))
    graph = graph_of(replay, narrow=False)
    names = [node.name for node in narrowed(graph.nodes, graph.returned)]
    assert names == ["linear", "linear"] and len(graph.nodes) == 3


class Stream(nn.Module):
    """A residual stream that meets a norm and two linear layers, one of them with an activation."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(6, 5), nn.Linear(5, 6)
        self.norm = nn.LayerNorm(6, elementwise_affine=bias)
        self.one, self.two = nn.Linear(6, 4, bias=bias), nn.Linear(6, 4)
        if bias:
            nn.init.normal_(self.norm.weight)
            nn.init.normal_(self.norm.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.down(self.up(x).relu())
        y = self.norm(x)
        return (self.one(y) * F.gelu(self.two(y)) + x[..., :4]).sum(1)


@pytest.mark.parametrize("scale", [0.0, 30.0, -3.0])
@pytest.mark.parametrize("bias", [True, False])
def test_one_unit_of_a_residual_stream_through_the_norm(bias: bool, scale: float) -> None:
    study = seeded(lambda: study_of(Stream(bias), torch.randn(20, 7, 6)))
    replay, how = mv.Replay(study), mv.Scale(scale)
    graph = graph_of(replay)
    for unit in range(5):
        edits = replay.edits(0, mv.UnitSet([mv.Unit("up", unit)]), how)
        close(run(graph, edits), replay.outputs(f"up:{unit}", how))


@pytest.mark.parametrize("name", ["vit", "convs"])
def test_a_hundred_toggles_of_any_units(name: str, request: pytest.FixtureRequest) -> None:
    """Each answer equals a fresh pass; none builds on the rounding of the one before."""
    study = request.getfixturevalue(name)
    replay = mv.Replay(study)
    toggle, fresh = Toggle(replay), mv.Replay(study, memory=0)
    generator = torch.Generator().manual_seed(1)
    layers = [layer for layer in replay.layers if not layer.is_output]
    units = mv.UnitSet()
    for count in range(100):
        layer = layers[int(torch.randint(len(layers), (1,), generator=generator))]
        unit = int(torch.randint(layer.units, (1,), generator=generator))
        units = units ^ mv.UnitSet([mv.Unit(layer.name, unit)])
        outputs = toggle.outputs(units, mv.Zero())
        if count % 10 == 9:
            close(outputs, fresh.outputs(units))


def test_a_toggle_is_stopped_between_chunks(convs: mv.Study) -> None:
    toggle = Toggle(mv.Replay(convs))
    with pytest.raises(mv.CancelledError):
        toggle.outputs("a:1", mv.Zero(), stop=lambda: True)
    assert torch.equal(toggle.outputs("", mv.Zero()), toggle.replay.clean)


@pytest.mark.parametrize("units", ["", "a:1"])
def test_a_toggle_is_read_chunk_by_chunk(units: str) -> None:
    study = seeded(lambda: study_of(Convs(), torch.randn(9, 3, 8, 8)))
    toggle = Toggle(mv.Replay(study, memory=150_000))
    assert toggle.replay.steps > 1
    parts = toggle.read(units, mv.Zero(), lambda outputs, rows: (outputs.clone(), rows))
    assert len(parts) == toggle.replay.steps
    assert torch.cat([rows for _, rows in parts]).tolist() == list(range(9))
    assert torch.equal(torch.cat([o for o, _ in parts]), toggle.outputs(units, mv.Zero()))


def test_changed_weights_are_seen_by_a_toggle() -> None:
    study = seeded(lambda: study_of(Convs(), torch.randn(5, 3, 8, 8)))
    toggle = Toggle(mv.Replay(study))
    before = toggle.outputs("a:1", mv.Zero())
    with torch.no_grad():
        study.model.head.weight.mul_(2)
        study.model.b.weight.mul_(0.5)
    after = toggle.outputs("a:1", mv.Zero())
    assert not torch.allclose(before, after)
    close(after, mv.Replay(study, memory=0).outputs("a:1"))


def test_the_graph_belongs_to_its_record(convs: mv.Study) -> None:
    replay = mv.Replay(convs)
    graphs = Graphs(replay, mv.Zero())
    units = mv.UnitSet.of("a:1")
    one = graphs.get(0, units)
    assert graphs.get(0, units) is one
    replay._record()
    assert graphs.get(0, units) is not one
