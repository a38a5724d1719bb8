"""Groups of a study: bool masks that do not overlap, of masks or indices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from memviz.tasks import as_numbers


def as_groups(groups: Any, n: int) -> dict[str, Tensor]:
    """Each group as a bool mask ``[n]``.

    Raises
    ------
    TypeError
        If ``groups`` is not a mapping.
    ValueError
        If there are no groups, one is empty, or two overlap; if one is neither a bool mask nor
        indices, each given once.

    Examples
    --------
    >>> as_groups({"clean": [0, 2], "test": [False, True, False]}, 3)
    {'clean': tensor([ True, False,  True]), 'test': tensor([False,  True, False])}
    """
    if groups is not None and not isinstance(groups, Mapping):
        raise TypeError(
            f"groups is {type(groups).__name__}; give names with their examples, for example "
            '{"test": mask}.'
        )
    if not groups:
        raise ValueError('groups is empty; name at least one, for example {"test": mask}.')
    masks: dict[str, Tensor] = {}
    for name, members in groups.items():
        given = as_numbers(f"group {name!r}", members, f"give indices or a bool mask, [{n}]").cpu()
        mask = _as_mask(name, given, n)
        for other, other_mask in masks.items():
            if (other_mask & mask).any():
                example = int((other_mask & mask).nonzero()[0])
                raise ValueError(
                    f"example {example} is in group {other!r} and in group {name!r}; "
                    "an example may belong to one group only."
                )
        masks[name] = mask
    return masks


def _as_mask(name: str, given: Tensor, n: int) -> Tensor:
    if given.dtype == torch.bool:
        if given.shape != (n,):
            raise ValueError(
                f"group {name!r} is a mask of shape {tuple(given.shape)} for {n} examples; "
                f"give a mask [{n}] or indices."
            )
        mask = given.clone()
    else:
        mask = torch.zeros(n, dtype=torch.bool)
        mask[_as_indices(name, given, n)] = True
    if not mask.any():
        raise ValueError(f"group {name!r} is empty; leave it out or give it examples.")
    return mask


def _as_indices(name: str, given: Tensor, n: int) -> Tensor:
    if given.dim() != 1:
        raise ValueError(
            f"group {name!r} has shape {tuple(given.shape)}; give indices, [members], or a bool "
            f"mask, [{n}]."
        )
    if len(given) and not (0 <= given.min() and given.max() < n):
        raise ValueError(
            f"group {name!r} names examples outside 0 to {n - 1}; give a mask [{n}] or indices."
        )
    if len(given.unique()) < len(given):
        # A mask of ones and zeros, read as indices, would be examples 0 and 1 alone.
        raise ValueError(
            f"group {name!r} names an example twice; give each index once, or a bool mask, [{n}]."
        )
    if (given != given.long()).any():
        raise ValueError(f"group {name!r} holds fractions; give indices or a bool mask [{n}].")
    return given.long()
