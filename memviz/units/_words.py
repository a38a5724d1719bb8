"""Names of layers as people say them: ``"text block 1 · attention heads"``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from ._layer import Layer
from ._unit import Unit

_TOWERS = {
    "image": ("visual", "vision", "image", "img"),
    "text": ("text", "txt", "language"),
    "encoder": ("encoder",),
    "decoder": ("decoder",),
}
_KINDS = {  # of a layer, and of one of its units
    "heads": ("attention heads", "attention head"),
    "neurons": ("MLP neurons", "MLP neuron"),
    "experts": ("expert neurons", "expert neuron"),
}
_MLPS = {"mlp", "ffn", "ff", "feed_forward", "feedforward"}  # modules that are called so
_PAIRS = (  # the last names of an MLP's two layers
    ("fc1", "fc2"),
    ("c_fc", "c_proj"),
    ("up", "down"),
    ("up_proj", "down_proj"),
    ("wi", "wo"),
    ("lin1", "lin2"),
    ("linear1", "linear2"),
    ("fc_in", "fc_out"),
    ("dense_h_to_4h", "dense_4h_to_h"),
    ("intermediate.dense", "output.dense"),
)


class LayerWords(NamedTuple):
    """What a layer is called, and one of its units before its number.

    Examples
    --------
    >>> LayerWords("block 0 · MLP neurons", "block 0 · MLP neuron").of(7)
    'block 0 · MLP neuron 7'
    """

    layer: str
    unit: str

    def of(self, index: int) -> str:
        """One unit."""
        return f"{self.unit} {index}"


class _Place(NamedTuple):
    """Where in a stack of blocks a layer stands: the path of the stack, the block, the rest."""

    stack: str
    block: str
    rest: tuple[str, ...]


def unit_words(unit: Unit, words: Mapping[str, LayerWords]) -> str:
    """One unit as people say it.

    Examples
    --------
    >>> unit_words(Unit("fc", 3), layer_words([Layer("fc", "linear", 8, "linear")]))
    'fc unit 3'
    """
    return words[unit.layer].of(unit.index)


def layer_words(layers: Sequence[Layer]) -> dict[str, LayerWords]:
    """What a view calls each layer; all are different.

    Numbered modules that all hold attention heads are the blocks of a transformer, whoever wrote
    it: blocks keep the model's own number, and what a layer is there follows from its kind, and
    from names that MLPs usually have. Any other layer is called by its path in the model.

    Parameters
    ----------
    layers : sequence of Layer
        All of the model, or of one view.

    Returns
    -------
    dict of str to LayerWords
        By the layer's own name, in order.

    Examples
    --------
    >>> heads, up, down = "transformer.h.0.attn", "transformer.h.0.mlp.up", "transformer.h.0.mlp.b"
    >>> kinds = {heads: "heads", up: "linear", down: "linear", "lm_head": "linear"}
    >>> words = layer_words([Layer(name, kind, 8, kind) for name, kind in kinds.items()])
    >>> [found.layer for found in words.values()]
    ['block 0 · attention heads', 'block 0 · MLP neurons', 'block 0 · MLP output', 'lm_head']
    >>> words[heads].of(3)
    'block 0 · attention head 3'
    """
    return dict(_words_of(tuple(layers)))


@lru_cache(maxsize=16)  # asked again at each reading of a single unit
def _words_of(layers: tuple[Layer, ...]) -> dict[str, LayerWords]:
    stacks = _stacks(layers)
    places = {layer.name: _place(layer.name, stacks) for layer in layers}
    titles = _titles([place.stack for place in places.values() if place])
    within: dict[tuple[str, str], list[tuple[Layer, tuple[str, ...]]]] = {}
    for layer in layers:
        if place := places[layer.name]:
            within.setdefault(place[:2], []).append((layer, place.rest))
    blocks = {key: _Block.of(beside) for key, beside in within.items()}
    said = {}
    for layer in layers:
        place = places[layer.name]
        if place is None or not (place.rest or layer.kind in _KINDS):
            said[layer.name] = (layer.name, f"{layer.name} unit")
            continue
        start = f"{titles[place.stack]}block {place.block} · "
        what, one = _role(layer, place.rest, blocks[place[:2]])
        said[layer.name] = (start + what, start + one)
    return _apart(said)


def _numbers(path: Sequence[str]) -> Iterator[int]:
    return (at for at, part in enumerate(path) if part.isdecimal())


def _stacks(layers: Sequence[Layer]) -> set[str]:
    """Paths whose numbered children are blocks."""
    heads = {layer.name for layer in layers if layer.kind == "heads"}
    numbered: dict[str, dict[str, bool]] = {}
    for layer in layers:
        path = layer.name.split(".")
        for at in _numbers(path):
            children = numbered.setdefault(".".join(path[:at]), {})
            children[path[at]] = children.get(path[at], False) or layer.name in heads
    found, full = set(), {stack for stack, children in numbered.items() if all(children.values())}
    for name in heads:
        path = name.split(".")
        stacks = [".".join(path[:at]) for at in _numbers(path)]
        # Blocks inside numbered stages are the inner ones. Parts of a block may be numbered
        # too, but not all have heads. Where blocks without heads lie between, the outermost count.
        found.update([stack for stack in stacks if stack in full][-1:] or stacks[:1])
    return found


def _place(name: str, stacks: set[str]) -> _Place | None:
    path = name.split(".")
    for at in _numbers(path):
        if ".".join(path[:at]) in stacks:
            return _Place(".".join(path[:at]), path[at], tuple(path[at + 1 :]))
    return None


def _titles(stacks: Sequence[str]) -> dict[str, str]:
    """What stands before "block": the tower, or else where the paths of several stacks differ."""
    known = list(dict.fromkeys(stacks))
    towers = {stack: _tower(stack) for stack in known}
    if len(known) == 1 and towers[known[0]] in ("encoder", "decoder"):
        towers = {known[0]: ""}  # of one stack, it goes without saying
    nameless = [stack for stack in known if not towers[stack]]
    if len(nameless) == 1 and "image" in towers.values() and "text" not in towers.values():
        towers[nameless[0]] = "text"  # beside the tower of images
    count = Counter(towers.values())
    titles = {}
    for stack in known:
        tower = towers[stack]
        where = tower if count[tower] == 1 else " ".join(filter(None, (tower, stack)))
        titles[stack] = f"{where} " if where else ""
    return titles


def _tower(stack: str) -> str:
    words = set(re.split(r"[._]", stack.lower()))
    return next((tower for tower, known in _TOWERS.items() if words.intersection(known)), "")


class _Block(NamedTuple):
    """What tells the roles of a block's layers: paths of its heads, its MLP, its gated MLPs."""

    heads: Sequence[tuple[str, ...]]
    mlp: Sequence[tuple[str, ...]]  # the neurons, then the output; empty if none is known
    gated: Sequence[tuple[str, ...]]

    @classmethod
    def of(cls, layers: Sequence[tuple[Layer, tuple[str, ...]]]) -> _Block:
        """That of these layers, each with its path in the block."""
        heads = [path for layer, path in layers if layer.kind == "heads"]
        gated = [path for layer, path in layers if layer.kind in ("neurons", "experts")]
        plain = [
            path
            for layer, path in layers
            if layer.is_plain and path and not any(_shared(path, own) for own in heads)
        ]
        linear = {path for layer, path in layers if layer.kind == "linear"}
        found = _mlps(plain) if heads and not gated else []
        mlp = found[0] if len(found) == 1 and linear.issuperset(found[0]) else ()
        return cls(heads, mlp, gated)


def _mlps(paths: Sequence[tuple[str, ...]]) -> list[tuple[tuple[str, ...], ...]]:
    """Two layers each, in order: those of known names, or the only ones of a module called MLP."""
    at = {path: place for place, path in enumerate(paths)}
    found, inside = dict[tuple[tuple[str, ...], ...], None](), dict[str, list[tuple[str, ...]]]()
    for path in paths:
        for first, second in _PAIRS:
            size = first.count(".") + 1
            other = (*path[:-size], *second.split("."))
            if ".".join(path[-size:]) == first and at.get(other, -1) > at[path]:
                found[path, other] = None
        for size in range(1, len(path)):
            if path[size - 1].lower() in _MLPS:
                inside.setdefault(".".join(path[:size]), []).append(path)
    found |= dict.fromkeys(tuple(both) for both in inside.values() if len(both) == 2)
    return list(found)


def _role(layer: Layer, rest: tuple[str, ...], block: _Block) -> tuple[str, str]:
    """What a layer is in its block, and what one of its units is."""
    if layer.kind in _KINDS:
        return _KINDS[layer.kind]
    shared = max((_shared(rest, path) for path in block.heads), default=0)
    if shared:
        return _with_unit("attention " + (".".join(rest[shared:]) or rest[-1]))
    if rest in block.mlp:
        return _KINDS["neurons"] if rest == block.mlp[0] else _with_unit("MLP output")
    if len(rest) > 1 and rest[:1] in block.gated:
        return _with_unit("MLP " + ".".join(rest[1:]))
    return _with_unit(".".join(rest))


def _shared(path: tuple[str, ...], heads: tuple[str, ...]) -> int:
    """How much of its path a layer shares with heads; 0 if they are numbered parts of a block."""
    same = 0
    for own, other in zip(path, heads, strict=False):
        if own != other:
            return 0 if own.isdecimal() and other.isdecimal() else same
        same += 1
    return same


def _with_unit(what: str) -> tuple[str, str]:
    return what, f"{what} unit"


def _apart(said: Mapping[str, tuple[str, str]]) -> dict[str, LayerWords]:
    """Equal words get as much of the end of the path as tells them apart."""
    alike: dict[str, list[str]] = {}
    for name, (layer, _) in said.items():
        alike.setdefault(layer, []).append(name)
    own = dict.fromkeys(said, "")
    for names in alike.values():
        ends = {name: name.split(".") for name in names} if len(names) > 1 else {}
        longest = max(map(len, ends.values()), default=0)
        for size in range(1, longest + 1):
            if not ends:
                break
            count = Counter(tuple(name.split(".")[-size:]) for name in names)
            for name in list(ends):
                if count[tuple(ends[name][-size:])] == 1 or size == longest:
                    own[name] = f" ({'.'.join(ends.pop(name)[-size:])})"
    return {
        name: LayerWords(layer + own[name], unit + own[name])
        for name, (layer, unit) in said.items()
    }
