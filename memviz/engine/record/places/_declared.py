"""Units that modules declare: what the module returns, seen as it passes through a call."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from memviz.checks import quoted
from memviz.units import DeclaredUnits, Declarer, Layer, Live, Unit, declarers, units_of

from .._interventions import Intervention
from .._values import Key
from ._flow import Flow
from ._site import Located, Site


def declared_layers(flow: Flow, others: Iterable[Located]) -> dict[str, Located]:
    """The layers whose modules declare their units, by name.

    Raises
    ------
    ValueError
        If a declaration names the units of another layer, or gives no bool ``[count]`` for those
        that are live.
    """
    located: dict[str, Located] = {}
    known = {one.name: one for one in declarers(flow.model)}
    lives: dict[Live, Mapping[str, Tensor]] = {}
    taken = {
        flow.calls[site.call].output_keys[0]: (place, site)
        for place in others
        for site in place.unit_sites
        if site.at == "output" and flow.calls[site.call].output_keys
    }
    for index, call in enumerate(flow.calls):
        if call.function is not units_of:
            continue
        _, name, axis, *_ = call.args
        declarer = known[name]
        place, site = taken.get(flow.unmoved(call.input_keys[0]), (None, None))
        if place is not None and site is not None:
            _check_apart(declarer, place.layer, same=site.axis % call.output.dim() == axis)
        live = declarer.units.live
        if live is not None and live not in lives:
            lives[live] = live(flow.model)
        known_live = None if live is None else lives[live]
        layer = declarer.layer(known_live, is_output=_last(flow, index) in flow.outputs)
        sites = (Site(index, "output", axis),)
        use = Located(layer, sites, sites, _unfiltered(declarer), declared=declarer.units)
        located[name] = located[name].and_again(use) if name in located else use
        taken[_last(flow, index)] = use, sites[0]
    return located


def check_allowed(place: Located, indices: Iterable[int], how: Intervention) -> None:
    """Refuse an intervention that a layer's declaration does not allow for these units.

    Raises
    ------
    ValueError
        With what is allowed.
    """
    refused = refusal(place.layer.name, place.layer.kind, place.declared, indices, how)
    if refused:
        raise ValueError(refused)


def refusal(
    name: str, kind: str, units: DeclaredUnits | None, indices: Iterable[int], how: Intervention
) -> str:
    """Why an intervention is not allowed for some units of a layer; empty if it is.

    Examples
    --------
    >>> from memviz.engine.record import intervention
    >>> refusal("fc", "linear", None, [0], intervention("negation"))
    "layer 'fc' (linear) does not allow 'negation', which units take only if their module's ..."
    >>> cells = DeclaredUnits(2, interventions={"zero": None, "constant 1": [0]})
    >>> refusal("a", "cells", cells, [0, 1], intervention("constant 1"))
    "unit a:1 (cells) does not allow 'constant 1'; it allows 'zero'."
    """
    allowed = None if units is None else units.allowed
    if allowed is None:
        if not how.declared_only:
            return ""
        return (
            f"layer {quoted(name)} ({kind}) does not allow {quoted(str(how))}, which units take "
            "only if their module's declaration names it; use another, such as 'zero' or 'mean'."
        )
    # A name without its number stands for all of them.
    named = [key for key in (str(how), how.name) if key in allowed]
    if not named:
        listed = ", ".join(map(quoted, allowed)) or "none"
        return (
            f"layer {quoted(name)} ({kind}) does not allow {quoted(str(how))}; it allows {listed}."
        )
    takes = [allowed[key] for key in named]
    for index in indices:
        if not any(ids is None or index in ids for ids in takes):
            left = [key for key, ids in allowed.items() if ids is None or index in ids]
            listed = ", ".join(map(quoted, left)) or "none"
            return (
                f"unit {Unit(name, index)} ({kind}) does not allow {quoted(str(how))}; it allows "
                f"{listed}."
            )
    return ""


def _last(flow: Flow, index: int) -> Key:
    """The tensor that a module with declared units returns, in its own shape."""
    key = flow.calls[index].output_keys[0]
    readers = flow.readers.get(key, [])
    if len(readers) == 1 and flow.calls[readers[0]].name == "unflatten":
        return flow.calls[readers[0]].output_keys[0]
    return key


def _check_apart(declarer: Declarer, other: Layer, *, same: bool) -> None:
    if same and other.units == declarer.units.count and other.name != declarer.name:
        raise ValueError(
            f"layer {quoted(declarer.name)} ({type(declarer.module).__name__}) declares the units "
            f"that {quoted(other.name)} inside it has, since it returns what that layer made; take "
            "the declaration away, or declare units of another value."
        )


def _unfiltered(declarer: Declarer) -> str:
    return (
        f"layer {quoted(declarer.name)} declares its units, so what filter ablation would leave of "
        "one can't be told; choose another intervention, such as 'zero' or 'mean'."
    )
