"""Attention heads: where they lie side by side, before the output projection."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from memviz.units import Layer

from .._values import Key, swap
from ._flow import COPIES, MOVES, NONLINEARITIES, NORMALIZATIONS, Flow, plain, shared_parent
from ._site import Located, Site
from ._weights import arguments, sites_of_input

_ATTENTION = inspect.signature(F.multi_head_attention_forward)
_PRODUCTS = frozenset(["matmul", "bmm", "einsum", "baddbmm"])
_BETWEEN = frozenset({name.rstrip("_") for name in NONLINEARITIES} | NORMALIZATIONS | {"mul"})
# What a module or its configuration calls its number of heads.
_NUMBERS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "nhead", "heads")
_WORDS = "heads, before the output projection"
# Calls between a softmax and the product with the values.
_FAR = 12


def head_layers(flow: Flow) -> dict[str, Located]:
    """Attentions by the name of their module.

    The heads are read off the data: softmax, product with the values, and the moves that bring the
    heads side by side. Where the moves do not leave each head's features together, there are none.
    """
    located: dict[str, Located] = {}
    weights: dict[str, int] = {}
    mixed: set[int] = set()
    twice: set[str] = set()
    for index in range(len(flow.calls)):
        found = _fused(flow, index) or _written_out(flow, index, mixed)
        if found is None:
            continue
        name, weight, attention = found
        if weights.setdefault(name, weight) != weight:
            twice.add(name)  # two attentions in one module have one name
        located[name] = located[name].and_again(attention) if name in located else attention
    return {name: attention for name, attention in located.items() if name not in twice}


def _attention(heads: int, sites: tuple[Site, ...], projection: int) -> Located:
    return Located(Layer("", "heads", heads, _WORDS), sites, sites, read_by=(projection,))


def _fused(flow: Flow, index: int) -> tuple[str, int, Located] | None:
    """Torch's own attention function, which projects inside."""
    call = flow.calls[index]
    if call.function is not F.multi_head_attention_forward:
        return None
    given = _ATTENTION.bind(*call.args, **call.kwargs).arguments
    heads, weight = int(given["num_heads"]), given["out_proj_weight"]
    site = Site(index, "inside", -1, weight.shape[1] // heads)
    return flow.owner(index), id(weight), _attention(heads, (site,), index)


def _written_out(flow: Flow, index: int, mixed: set[int]) -> tuple[str, int, Located] | None:
    """The attention whose heads a call projects; ``mixed`` holds the attentions met so far."""
    read = _projected(flow, index)
    if read is None:
        return None
    key, weight, axis = read
    for chain in _chains(flow, key):
        mix = chain[0]
        if mix in mixed or (owner := _owner(flow, mix, index)) is None:
            continue
        declared = _declared(flow.modules[owner])
        if not _is_plain(flow, chain) and not _inside(flow.owner(index), owner):
            continue
        heads = _count(flow, chain, axis, declared)
        if heads is None:
            continue
        mixed.add(mix)
        shape = flow.calls[chain[-1]].output.shape
        sites = sites_of_input(flow, key, axis - len(shape), shape[axis] // heads)
        return owner, id(weight), _attention(heads, sites, index)
    return None


def _projected(flow: Flow, index: int) -> tuple[Key, Tensor, int] | None:
    """What a linear layer or a convolution of size 1 reads, its weight, and the feature axis."""
    call = flow.calls[index]
    given = arguments(call)
    value, weight = given.get("input"), given.get("weight")
    if not isinstance(value, Tensor) or not isinstance(weight, Tensor):
        return None
    behind = max(weight.dim() - 2, 0)
    keys = {id(t): k for t, k in zip(call.inputs, call.input_keys, strict=True)}
    fixed = keys[id(weight)] in flow.constants and keys[id(value)] not in flow.constants
    if not fixed or any(size != 1 for size in weight.shape[2:]) or value.dim() <= behind:
        return None
    if plain(call.name) in ("matmul", "bmm") and weight.dim() != 2:
        return None
    return keys[id(value)], weight, value.dim() - 1 - behind


def _chains(flow: Flow, key: Key, far: int = 12) -> Iterator[list[int]]:
    """Ways back to a call that mixes: the calls from there to the maker of this tensor."""
    made = flow.source(key) if far else None
    if made is None or not isinstance(made[1].output, Tensor):
        return
    index, call = made
    name = plain(call.name)
    if name in MOVES or name in COPIES:
        sources = [0]
    elif name in _BETWEEN:
        same = [k for k, t in enumerate(call.inputs) if t.shape == call.output.shape]
        sources = [k for k in same if call.input_keys[k] not in flow.constants]
    else:
        yield [index]
        return
    for k in sources:
        for chain in _chains(flow, call.input_keys[k], far - 1):
            yield [*chain, index]


def _is_plain(flow: Flow, chain: list[int]) -> bool:
    return all(plain(flow.calls[index].name) not in _BETWEEN for index in chain[1:])


def _inside(name: str, module: str) -> bool:
    return not module or name == module or name.startswith(f"{module}.")


def _owner(flow: Flow, mix: int, projection: int) -> str | None:
    """The attention's module: the innermost around the mixing that states its number of heads.

    Without a statement, it is the innermost that holds both the mixing and the projection.
    """
    name = flow.owner(mix)
    outermost = shared_parent(name, flow.owner(projection))
    around = name
    while around != outermost:
        if _declared(flow.modules[around]):
            return around
        around = around.rpartition(".")[0]
    return outermost or (name if not _declared(flow.modules[outermost]) else outermost)


def _declared(module: nn.Module) -> int | None:
    """The number of heads that a module or its configuration states."""
    return stated_heads(module) or stated_heads(getattr(module, "config", None))


def stated_heads(holder: object) -> int | None:
    """The number of heads among an object's attributes."""
    for name in _NUMBERS:
        number = getattr(holder, name, None)
        if isinstance(number, int) and not isinstance(number, bool) and number > 0:
            return number
    return None


def _count(flow: Flow, chain: list[int], axis: int, declared: int | None) -> int | None:
    """The number of heads side by side at the end of a chain; None if they are not."""
    mix = flow.calls[chain[0]]
    name = plain(mix.name)
    attends = name == "scaled_dot_product_attention"
    by_softmax = [] if attends or name not in _PRODUCTS else _softmaxed(flow, chain[0])
    by_statement = not attends and not by_softmax
    if by_statement and (declared is None or arguments(mix) or name == "softmax"):
        return None
    plain_chain = _is_plain(flow, chain)
    for start in range(len(chain)):
        value = flow.calls[chain[start]].output
        if value.shape[-2:] != mix.output.shape[-2:]:
            break
        order = (-2, -1) if by_softmax == [1] else (-1, -2)
        heads = _side_by_side(flow, chain[start:], axis, order)
        if heads is not None:
            if by_statement and heads == flow.calls[chain[-1]].output.shape[axis]:
                return None  # scores that a linear map mixes across heads
            return heads if heads == declared or (plain_chain and not by_statement) else None
    return None


def _softmaxed(flow: Flow, index: int) -> list[int]:
    """Which of a product's operands come from a softmax."""
    keys = flow.calls[index].input_keys
    return [k for k, key in enumerate(keys[-2:]) if _comes_from_softmax(flow, key, _FAR)]


def _comes_from_softmax(flow: Flow, key: Key, far: int) -> bool:
    made = flow.source(key)
    if made is None or far == 0 or key in flow.constants:
        return False
    call = made[1]
    if call.name == "softmax":
        return True
    if arguments(call) or call.name == "scaled_dot_product_attention":
        # Talking heads mix the scores of heads by a linear map; any other one makes no scores.
        moved = call.input_keys[0]
        while (made := flow.source(moved)) is not None and plain(made[1].name) in MOVES | COPIES:
            moved = made[1].input_keys[0]
        return made is not None and made[1].name == "softmax"
    return any(_comes_from_softmax(flow, before, far - 1) for before in call.input_keys[:2])


def _side_by_side(flow: Flow, chain: list[int], axis: int, order: tuple[int, int]) -> int | None:
    """The number of heads, if the moves of a chain leave each head's features side by side.

    The first call's output is ``[..., positions, features of a head]``, or the other way round as
    ``order`` says. Each of its axes is numbered and moved: at the end it must number positions, or
    features in the same way at every position.
    """
    shape = flow.calls[chain[0]].output.shape
    numbered = [_moved(flow, chain, shape, k).movedim(axis, -1) for k in range(len(shape))]
    flat = [numbers.reshape(-1, numbers.shape[-1]) for numbers in numbered]
    features = []
    for k, numbers in enumerate(flat):
        if (numbers == numbers[:, :1]).all():
            continue
        if not (numbers == numbers[:1]).all():
            return None
        features.append(k)
    total = flat[0].shape[1]
    sizes = 1
    for k in features:
        sizes *= shape[k]
    if sizes != total:
        return None
    own = next((k % len(shape) for k in order if k % len(shape) in features), None)
    width = 1 if own is None else shape[own]
    place = torch.arange(total, dtype=torch.int32)
    if own is not None and not torch.equal(flat[own][0], place % width):
        return None
    by_head = [flat[k][0].view(-1, width) for k in features if k != own]
    together = all(bool((numbers == numbers[:, :1]).all()) for numbers in by_head)
    return total // width if together else None


def _moved(flow: Flow, chain: list[int], shape: torch.Size, axis: int) -> Tensor:
    """The number along an axis, moved as the calls after a chain's first one move values."""
    sizes = [1] * len(shape)
    sizes[axis] = -1
    numbers = torch.arange(shape[axis], dtype=torch.int32).view(sizes).expand(shape)
    for before, index in pairwise(chain):
        call = flow.calls[index]
        name = plain(call.name)
        if name not in MOVES:
            continue
        new: dict[int, Any] = {id(flow.calls[before].output): numbers}
        args, kwargs = swap(call.args, new), swap(call.kwargs, new)
        # A view may rely on how the values lay in memory.
        function = Tensor.reshape if name == "view" else call.function
        numbers = function(*args, **kwargs)
    return numbers
