"""Ablation equals an independent forward pass with plain hooks, on every kind of net."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import memviz as mv
from memviz.engine.graph import Graphs, run
from memviz.engine.record import Intervention, intervention
from memviz.engine.record import _passes as passes
from tests.support.hooks import Change, hooked

SMALL = [
    *("digits", "in_place", "views", "counted", "like_gpt"),
    *("clip_image", "clip_text", "timm_vit"),
]
LARGE = ["resnet18", "mobilenet_v3_small", "densenet121", "convnext_tiny", "swin_t", "vit_b_16"]
TOLERANCE = 1e-5  # of the largest output
KINDS = ["zero", "mean", "constant", "scale", "resample", "filter"]


def logits(raw: Any) -> Tensor:
    return raw["logits"] if isinstance(raw, dict) else raw


def captured(net: Any, place: Any) -> Tensor:
    """The clean activation at a place."""
    seen: list[Tensor] = []

    def look(value: Tensor) -> Tensor:
        seen.append(value.clone())
        return value

    with torch.no_grad(), hooked(net.model, [(place, look)]):
        net.model(net.inputs)
    assert len(seen) == 1, f"{place} was met {len(seen)} times"
    return seen[0]


def by_hand(net: Any, units: mv.UnitSet, how: Intervention) -> Tensor:
    """The outputs with units ablated, by nothing of memviz but the meaning of its words."""
    model, changes = net.model, []
    if isinstance(how, mv.Filter):
        model = copy.deepcopy(model)
    for name, indices in units.layers.items():
        layer = net.layer(name)
        if isinstance(how, mv.Filter) and layer.kind != "heads":
            _zero_rows(model.get_submodule(name), indices)
            continue
        for place in net.places(name):
            changes.append((place, _change(net, place, indices, layer, how)))
    with torch.no_grad(), hooked(model, changes):
        return logits(model(net.inputs))


def _zero_rows(layer: nn.Module, indices: Sequence[int]) -> None:
    with torch.no_grad():
        if hasattr(layer, "parametrizations"):
            layer.parametrizations.weight.original0[list(indices)] = 0  # the length of the row
        elif hasattr(layer, "nf"):
            layer.weight[:, list(indices)] = 0
        else:
            layer.weight[list(indices)] = 0


def _change(net: Any, place: Any, indices: Sequence[int], layer: Any, how: Any) -> Change:
    clean = captured(net, place) if isinstance(how, mv.Mean | mv.Resample) else None

    def change(value: Tensor) -> Tensor:
        value = value.clone()
        mine = value.movedim(place.axis, -1)  # a view: writing to it writes to value
        wide = mine.shape[-1] // layer.units if layer.kind == "heads" else 1
        for index in indices:
            part = slice(index * wide, (index + 1) * wide)
            if isinstance(how, mv.Constant):
                mine[..., part] = how.value
            elif isinstance(how, mv.Scale):
                mine[..., part] *= how.factor
            elif isinstance(how, mv.Mean):
                theirs = clean.movedim(place.axis, -1)[..., part]
                mine[..., part] = theirs.reshape(-1, wide).double().mean(0).float()
            elif isinstance(how, mv.Resample):
                mine[..., part] = donors(clean).movedim(place.axis, -1)[..., part]
            else:
                mine[..., part] = 0
        return value

    def donors(value: Tensor) -> Tensor:
        n = len(net.inputs)
        order = torch.randperm(n, generator=torch.Generator().manual_seed(how.seed))
        if place.at == "linear_into" and value.dim() == 2:  # attention: positions × examples
            return value.unflatten(0, (-1, n))[:, order].flatten(0, 1)
        return value.unflatten(0, (n, -1))[order].flatten(0, 1)  # windows stay with their example

    return change


@st.composite
def ablations(draw: st.DrawFn, net: Any) -> tuple[mv.UnitSet, Intervention]:
    layers = draw(st.lists(st.sampled_from(net.kept.layers), min_size=1, max_size=3, unique=True))
    units: dict[str, list[int]] = {}
    for layer in layers:
        index = st.integers(0, layer.units - 1)
        units[layer.name] = draw(st.lists(index, min_size=1, max_size=min(8, layer.units)))
    number = draw(st.floats(-2, 2, allow_subnormal=False, width=32))
    seed = draw(st.integers(0, 3))
    kind = draw(st.sampled_from(KINDS))
    given = {"constant": f"constant {number!r}", "scale": f"scale {number!r}"}
    how = mv.Resample(seed) if kind == "resample" else given.get(kind, kind)
    return mv.UnitSet(units), intervention(how)


def same(got: Tensor, wanted: Tensor) -> None:
    scale = wanted.abs().max().clamp(min=1e-3)
    error = float((got - wanted).abs().max() / scale)
    assert error <= TOLERANCE, f"the largest error is {error:.1e} of the largest output"
    assert torch.equal(got.argmax(1), wanted.argmax(1))


def check_all_ways(net: Any, units: mv.UnitSet, how: Intervention) -> None:
    wanted = by_hand(net, units, how)
    assert (net.kept.engine, net.whole.engine) == ("replay", "hook")
    same(net.kept.outputs(units, how), wanted)
    same(net.kept.outputs(units, how, keep=True), wanted)
    same(net.whole.outputs(units, how), wanted)
    same(net.toggle.outputs(units, how), wanted)
    graph = Graphs(net.kept, how).get(0, units)
    assert (graph is not None) == net.is_graph
    if graph is not None:
        same(logits(run(graph, net.kept.edits(0, units, how))), wanted)
    with torch.no_grad():
        with mv.ablate(net.study, units, how) as model:
            same(logits(model(net.inputs)), wanted)
        with mv.ablate(net.model, units, how, reference=net.inputs) as model:
            same(logits(model(net.inputs)), wanted)


relaxed = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("name", SMALL + LARGE)
def test_random_units_and_interventions(name: str, build: Callable[[str], Any]) -> None:
    net = build(name)

    @settings(
        relaxed, max_examples=25 if name in SMALL else 3 if name in ("vit_b_16", "swin_t") else 6
    )
    @given(ablations(net))
    def check(drawn: tuple[mv.UnitSet, Intervention]) -> None:
        check_all_ways(net, *drawn)

    check()


@pytest.mark.parametrize("name", SMALL + LARGE)
def test_every_layer_and_intervention(name: str, build: Callable[[str], Any]) -> None:
    """Half of each layer's units; and the change can be seen in the output.

    Small nets: each layer by each intervention. Large ones: some layers, interventions in turn.
    """
    net = build(name)
    most = 6 if name == "vit_b_16" else 12
    layers = net.kept.layers[:: -(-len(net.kept.layers) // most)]
    hows = [mv.Zero(), mv.Mean(), mv.Constant(0.5), mv.Scale(-1.0), mv.Resample(1), mv.Filter()]
    if name in SMALL:
        cases = [(layer, how) for layer in layers for how in hows]
    else:
        cases = [(layer, hows[number % len(hows)]) for number, layer in enumerate(layers)]
    seen = 0
    for layer, how in cases:
        units = mv.UnitSet({layer.name: range(0, layer.units, 2)})
        outputs = net.kept.outputs(units, how)
        same(outputs, by_hand(net, units, how))
        seen += float((outputs - net.kept.clean).abs().max()) > 10 * TOLERANCE
    assert seen >= 0.9 * len(cases)


@pytest.mark.parametrize("name", ["timm_vit", "like_gpt", "swin_t"])
def test_heads_and_their_projection_at_once(name: str, build: Callable[[str], Any]) -> None:
    """One call is the place of both layers."""
    net = build(name)
    attention = [layer.name for layer in net.kept.layers if layer.kind == "heads"][1]
    projection = f"{attention}.{'c_proj' if name == 'like_gpt' else 'proj'}"
    check_all_ways(net, mv.UnitSet({attention: [0, 2], projection: [1, 5]}), mv.Zero())


def test_the_layers_found_are_those_that_compute(build: Callable[[str], Any]) -> None:
    """Each conv and linear module of resnet18 is a layer; so is each attention of vit_b_16."""
    for name, kinds in (("resnet18", (nn.Conv2d, nn.Linear)), ("vit_b_16", nn.MultiheadAttention)):
        net = build(name)
        wanted = {n for n, module in net.model.named_modules() if isinstance(module, kinds)}
        assert wanted <= {layer.name for layer in net.kept.layers}


@pytest.mark.parametrize("how", ["zero", "mean", "resample 2", "filter"])
@pytest.mark.parametrize("name", ["digits", "in_place", "views", "clip_image", "swin_t"])
def test_chunks_change_nothing(
    name: str, how: str, build: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    net = build(name)
    layers = net.kept.layers[:: len(net.kept.layers) // 2]
    units = mv.UnitSet({layer.name: [0, layer.units - 1] for layer in layers})
    wanted = net.kept.outputs(units, how)
    for size in (1, 3):
        monkeypatch.setattr(passes, "chunk_size", lambda *_, size=size, **__: size)
        replay = mv.Replay(net.study)
        assert replay.steps == -(-len(net.inputs) // size)
        same(replay.outputs(units, how), wanted)


@pytest.mark.parametrize("name", ["digits", "in_place", "views", "counted", "timm_vit"])
def test_replay_and_hook_agree_to_the_bit(name: str, build: Callable[[str], Any]) -> None:
    kept, whole = build(name).kept, build(name).whole
    for layer in kept.layers:
        assert torch.equal(kept.outputs(layer.all()), whole.outputs(layer.all()))
    assert torch.equal(kept.clean, whole.clean)


def test_nothing_ablated_is_the_model_itself(build: Callable[[str], Any]) -> None:
    for name in SMALL:
        net = build(name)
        with torch.no_grad():
            same(net.kept.outputs(""), logits(copy.deepcopy(net.model)(net.inputs)))


@pytest.mark.parametrize("how", ["zero", "mean", "scale -1", "filter"])
def test_heads_of_torch_attention_by_the_columns_of_the_projection(
    how: str, build: Callable[[str], Any]
) -> None:
    """A third way for heads, fused kernel and all: change the output projection's weights."""
    net, name = build("clip_image"), "transformer.resblocks.1.attn"
    model = copy.deepcopy(net.model)
    projection = model.get_submodule(name).out_proj
    with torch.no_grad():
        part = slice(2 * 8, 3 * 8)  # head 2 of width 8
        if how == "mean":
            mean = captured(net, net.places(name)[0]).mean(0)[part]
            projection.bias += projection.weight[:, part] @ mean
        projection.weight[:, part] *= -1 if how == "scale -1" else 0
        same(net.kept.outputs(f"{name}:2", how), model(net.inputs))


def test_ablate_reaches_a_tower_that_another_method_calls(
    tiny_clip: nn.Module, build: Callable[[str], Any]
) -> None:
    net, units = build("clip_image"), "transformer.resblocks.0.mlp.c_fc:0-63 conv1:3"
    wanted = by_hand(net, mv.UnitSet.parse(units), mv.Zero())
    with torch.no_grad():
        before = tiny_clip.encode_image(net.inputs)
        with mv.ablate(tiny_clip.visual, units):
            same(tiny_clip.encode_image(net.inputs), wanted)
            other = tiny_clip.encode_image(net.inputs[:1])  # another batch size
            same(other, wanted[:1])
        assert torch.equal(tiny_clip.encode_image(net.inputs), before)


def test_ablate_passes_gradients(build: Callable[[str], Any]) -> None:
    net = build("in_place")
    inputs = net.inputs.clone().requires_grad_()
    with mv.ablate(net.model, "first:0-5") as model:
        (slope,) = torch.autograd.grad(model(inputs).sum(), inputs)
    assert not slope.any()  # every way from the input is cut
    with mv.ablate(net.model, "shared:0-5") as model:
        (slope,) = torch.autograd.grad(model(inputs).sum(), inputs)
    assert slope.any()  # the residual way is not
