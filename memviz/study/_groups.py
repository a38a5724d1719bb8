"""Groups of a study: bool masks that do not overlap, of masks or indices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from memviz.checks import NoneChosenError, as_indices, coded, quoted


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
        mask = _as_mask(name, members, n)
        for other, other_mask in masks.items():
            if (other_mask & mask).any():
                example = int((other_mask & mask).nonzero()[0])
                raise ValueError(
                    coded(
                        "E26",
                        f"example {example} is in group {quoted(other)} and in group "
                        f"{quoted(name)}; an example may belong to one group only.",
                    )
                )
        masks[name] = mask
    return masks


def _as_mask(name: Any, members: Any, n: int) -> Tensor:
    what = f"group {quoted(name)}"
    if not isinstance(name, str):
        raise TypeError(f"a group is named {quoted(name)}; name groups with text, such as 'test'.")
    mask = torch.zeros(n, dtype=torch.bool)
    try:
        mask[as_indices(what, members, n, each_once=True)] = True
    except NoneChosenError:
        raise ValueError(
            coded("E27", f"{what} is empty; leave it out or give it examples.")
        ) from None
    return mask
