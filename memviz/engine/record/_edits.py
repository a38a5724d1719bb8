"""Edits: how ablating some units changes one recorded value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ._interventions import Intervention, Zero
from ._replay import Edit
from ._trace import Trace
from .places import Located, Site


def edit(site: Site, units: Sequence[int], how: Intervention, reference: Tensor | None) -> Edit:
    """The change that ablates some units at a site."""
    features = tuple(unit * site.width + k for unit in units for k in range(site.width))

    def change(value: Tensor) -> Tensor:
        axis = site.axis % value.dim()
        chosen = torch.tensor(features, device=value.device)
        if isinstance(how, Zero):
            return value.index_fill(axis, chosen, 0)
        return value.index_copy(axis, chosen, part(value.index_select(axis, chosen), chosen, None))

    def passed_on(value: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        axis, chosen = site.axis % value.dim(), torch.tensor(features, device=value.device)
        entered = given[str(getattr(how, "argument", ""))].index_select(axis, chosen)
        return value.index_copy(axis, chosen, how.replace(value, entered).to(value.dtype))

    def part(value: Tensor, chosen: Tensor, rows: Tensor | None) -> Tensor:
        replacement = None
        if reference is not None:
            known = reference.to(value.device)
            by_row = rows if len(known) > 1 else None
            if chosen.dim() == 2 and by_row is None:
                known = known.expand(len(value), *known.shape[1:])
            replacement = take(known, site.axis % value.dim(), chosen, by_row)
        return how.replace(value, replacement).to(value.dtype)

    key = (tuple(units), how)
    if how.needs == "input":
        return Edit(replace(site, at="inside"), passed_on, key, features)
    return Edit(site, change, key, features, part)


def filter_reference(located: Located, site: Site, trace: Trace) -> Tensor | None:
    """The bias that filter ablation leaves, along the site's axis; None without a bias.

    It is the bias of the recorded call: a model may pass another than its module's.

    Raises
    ------
    ValueError
        If what is left of the layer's units can't be told.
    """
    if located.unfiltered:
        raise ValueError(located.unfiltered)
    biases = dict(zip(located.filter_sites, located.biases, strict=False))
    bias = biases.get(site)
    rank = 0 if bias is None else trace.calls[site.call].output.dim()
    return None if bias is None else along(bias.detach(), site, rank)


def check_donors(located: Located) -> None:
    """Refuse activations of other examples where they lie at other positions.

    Raises
    ------
    ValueError
        If the layer's positions can't be told apart by example.
    """
    if not located.by_example:
        raise ValueError(
            "'resample' takes a unit's activation from another example at the same position, and "
            f"in layer {located.layer.name!r} other examples lie at other positions; choose "
            "another intervention, such as 'mean'."
        )


def along(values: Tensor, site: Site, rank: int) -> Tensor:
    """One value per feature, shaped ``[1, features, 1, ...]`` along the site's axis."""
    shape = [1] * rank
    shape[site.axis] = -1
    return values.view(shape)


def take(value: Tensor, axis: int, features: Tensor, rows: Tensor | None = None) -> Tensor:
    """Some features of a recorded value, in some rows; ``features`` ``[rows, K]`` differ by row.

    Examples
    --------
    >>> value = torch.arange(6).view(2, 3)
    >>> take(value, 1, torch.tensor([2]), torch.tensor([1, 0]))
    tensor([[5],
            [2]])
    >>> take(value, 1, torch.tensor([[2], [0]]))
    tensor([[2],
            [3]])
    """
    if features.dim() == 1:
        if len(features) == 1 and value.device.type == "cpu":
            # A view: gathering is slow with channels last.
            chosen = value.narrow(axis, int(features), 1)
        else:
            chosen = value.index_select(axis, features)
        return chosen if rows is None else chosen.index_select(0, rows)
    # One gather: taking the rows first would copy every feature of every row.
    front = value.movedim(axis, 1)
    where = torch.arange(len(features), device=value.device) if rows is None else rows
    return front[where[:, None], features].movedim(1, axis)
