"""Neurons that are no module's output: hidden features of gated MLPs and of fused experts."""

from __future__ import annotations

from torch import Tensor

from memviz.units import Layer

from .._values import Key
from ._flow import COPIES, ELEMENTWISE, NORMALIZATIONS, PIECES, Flow, plain, shared_parent
from ._flow import NONLINEARITIES as CURVES
from ._site import Located, Site
from ._weights import arguments, sites_of_input

_FAR = 16


def gated_layers(flow: Flow) -> dict[str, Located]:
    """Gated MLPs by the name of their module; a neuron is ``act(gate) * up``.

    Two linear maps of one input, or two parts of one, are multiplied, and the product is projected:
    ablating a neuron replaces it in what the projection reads.
    """
    located: dict[str, Located] = {}
    weights: dict[str, int] = {}
    twice: set[str] = set()
    for index, call in enumerate(flow.calls):
        given = arguments(call)
        value, weight = given.get("input"), given.get("weight")
        if not isinstance(value, Tensor) or not isinstance(weight, Tensor) or weight.dim() != 2:
            continue
        keys = {id(t): k for t, k in zip(call.inputs, call.input_keys, strict=True)}
        product = _product(flow, keys[id(value)])
        if product is None or keys[id(weight)] not in flow.constants:
            continue
        name = shared_parent(flow.owner(product), flow.owner(index))
        sites = sites_of_input(flow, keys[id(value)], -1)
        layer = Layer(name, "neurons", value.shape[-1], "act(gate) * up, before the projection")
        if weights.setdefault(name, id(weight)) != id(weight):
            twice.add(name)  # two MLPs in one module have one name
        use = Located(layer, sites, sites, read_by=(index,))
        located[name] = located[name].and_again(use) if name in located else use
    return {name: layer for name, layer in located.items() if name not in twice}


def expert_layers(flow: Flow) -> dict[str, Located]:
    """Experts whose weights are one tensor, ``"mlp.experts.0"`` and so on.

    An expert's units are its hidden features, at the positions that are routed to it.
    """
    located: dict[str, Located] = {}
    for index, call in enumerate(flow.calls):
        if not _is_grouped(flow, index):
            continue
        key = call.input_keys[0]
        sources = _sources(flow, key)
        # The hidden features come from such a product as well, and go into this one.
        if not sources or key in sources or None in sources:
            continue
        if not all(_from_grouped(flow, source) for source in sources if source is not None):
            continue
        owner = flow.owner(index)
        hidden, experts = call.inputs[0].shape[-1], call.inputs[1].shape[0]
        for expert in range(experts):
            name = f"{owner}.{expert}".lstrip(".")
            site = Site(index, "inside", -1, 1, expert)
            layer = Layer(name, "experts", hidden, "hidden features, before the projection")
            use = Located(layer, (site,), (site,), by_example=False)
            located[name] = located[name].and_again(use) if name in located else use
    return located


def _is_grouped(flow: Flow, index: int) -> bool:
    call = flow.calls[index]
    return "grouped_mm" in call.name and isinstance(call.output, Tensor)


def _from_grouped(flow: Flow, key: Key) -> bool:
    made = flow.source(key)
    while made is not None and plain(made[1].name) in PIECES:
        made = flow.source(made[1].input_keys[0])
    return made is not None and _is_grouped(flow, made[0])


def _product(flow: Flow, key: Key) -> int | None:
    """The call that multiplies gate and rest for this tensor."""
    made = flow.source(flow.unmoved(key))
    if made is not None and made[1].name in NORMALIZATIONS:
        made = flow.source(flow.unmoved(made[1].input_keys[0]))
    if made is None:
        return None
    index, call = made
    if call.name == "glu":
        return index if _sources(flow, call.input_keys[0]) == {call.input_keys[0]} else None
    if plain(call.name) != "mul" or len(call.inputs) != 2:
        return None
    if call.inputs[0].shape != call.inputs[1].shape:
        return None
    gate, up = (_sources(flow, key) for key in call.input_keys)
    apart = len(gate) == len(up) == 1 and None not in gate | up and gate != up
    curved = any(_is_curved(flow, key, _FAR) for key in call.input_keys)
    return index if apart and curved else None


def _sources(flow: Flow, key: Key, far: int = _FAR) -> set[Key | None]:
    """The linear maps, or parts of one, of which a tensor is made element by element."""
    if key in flow.constants:
        return set()
    made = flow.source(key)
    if made is None or far == 0:
        return {None}
    _, call = made
    name = plain(call.name)
    if _is_map(flow, key) or (name in PIECES and _is_map(flow, call.input_keys[0])):
        return {key}
    if name in COPIES or name in NORMALIZATIONS:
        return _sources(flow, call.input_keys[0], far - 1)
    if name in ("view", "reshape") and call.inputs[0].shape[-1] == call.output.shape[-1]:
        return _sources(flow, call.input_keys[0], far - 1)
    if name not in ELEMENTWISE:
        return {None}
    found: set[Key | None] = set()
    for before in call.input_keys:
        found |= _sources(flow, before, far - 1)
    return found


def _is_map(flow: Flow, key: Key) -> bool:
    made = flow.source(flow.unmoved(key))
    return made is not None and (bool(arguments(made[1])) or _is_grouped(flow, made[0]))


def _is_curved(flow: Flow, key: Key, far: int) -> bool:
    """Whether a non-linearity lies between a tensor and its linear map."""
    made = flow.source(key)
    if made is None or far == 0 or _is_map(flow, key) or plain(made[1].name) in PIECES:
        return False
    if made[1].name in CURVES:
        return True
    return any(_is_curved(flow, before, far - 1) for before in made[1].input_keys)
