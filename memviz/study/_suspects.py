"""Groups from scores, where nobody has planted anything: who is suspected, and what that is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from memviz.checks import described, quoted
from memviz.scores import Scores

Rest = Literal["rest", "lowest"]
_TEST = "test"
_UNSAID = (
    "These are suspects, not findings: the cut is chosen, not found; a high score may also be of "
    "a rare, hard or wrongly labelled example that was never learned; and where the score is of "
    "this same model, the groups differ by choice alone. Confirm them by eye, or with models "
    "trained without them."
)


@dataclass(frozen=True)
class Suspicion:
    """Groups taken from scores, and where they came from.

    Attributes
    ----------
    groups : dict of str to int64 ``[members]``
    words : str
        What was cut where, in one line.
    unsaid : str
        What the choice can't say.
    """

    groups: dict[str, Tensor]
    words: str
    unsaid: str = _UNSAID

    def is_of(self, groups: Mapping[str, Tensor]) -> bool:
        """Whether these bool masks are the groups that it made.

        Examples
        --------
        >>> suspicion = Suspicion({"memorized": torch.tensor([1])}, "the highest")
        >>> suspicion.is_of({"memorized": torch.tensor([False, True])})
        True
        """
        own = {name: members.tolist() for name, members in self.groups.items()}
        return own == {name: mask.nonzero()[:, 0].tolist() for name, mask in groups.items()}


def suspicion_of(given: Any, groups: Mapping[str, Tensor]) -> Suspicion | None:
    """What is known of where the groups came from; None if they have been replaced.

    Examples
    --------
    >>> suspicion_of("the highest", {})
    Traceback (most recent call last):
    TypeError: suspicion is 'the highest'; leave it out: Study.suspects sets it.
    """
    if given is not None and not isinstance(given, Suspicion):
        raise TypeError(f"suspicion is {described(given)}; leave it out: Study.suspects sets it.")
    return given if given is not None and given.is_of(groups) else None


def suspicion(
    scores: Scores,
    given: Mapping[str, Tensor],
    n: int,
    k: int | None,
    share: float | None,
    clean: Rest,
) -> Suspicion:
    """The examples with the highest scores as the group ``memorized``.

    Parameters
    ----------
    scores : Scores
        Over examples.
    given : mapping of name to bool mask ``[n]``
        The study's groups; ``test`` is kept, and none of it is suspected.
    n : int
        Examples of the study.
    k, share : int or float
        How many, or which share of those that have a score; one of the two.
    clean : {"rest", "lowest"}
        All others that have a score, or as many with the lowest.

    Raises
    ------
    ValueError
        If the scores are over units or of another study, or leave no example to compare with.

    Examples
    --------
    >>> scores = Scores("loss", "nats", [0.1, 2.0, 0.3], examples=[0, 1, 2])
    >>> suspicion(scores, {}, 3, 1, None, "rest").groups
    {'memorized': tensor([1]), 'clean': tensor([0, 2])}
    """
    if scores.examples is None:
        raise ValueError(f"{quoted(scores.name)} is over units; give scores over examples.")
    if clean not in get_args(Rest):
        raise ValueError(f"clean is {quoted(clean)}; choose from {', '.join(get_args(Rest))}.")
    if (k is None) == (share is None):
        raise ValueError("give either k, how many examples to suspect, or share, a part of all.")
    ids = np.asarray(scores.examples)
    if len(ids) and (len(np.unique(ids)) < len(ids) or ids.max() >= n):
        raise ValueError(
            f"{quoted(scores.name)} names an example twice or one outside the study, which has "
            f"{n:,}; score each example once."
        )
    test = given.get(_TEST, torch.zeros(n, dtype=torch.bool))
    rows = np.array([row for row in scores.order() if not test[ids[row]]], np.int64)
    if k is None:
        assert share is not None
        k = max(1, round(share * len(rows)))
    most = len(rows) - 1 if clean == "rest" else len(rows) // 2
    if not 1 <= k <= most:
        raise ValueError(
            f"{k:,} examples would be suspected, and {len(rows):,} outside the group 'test' have a "
            f"score; suspect from 1 to {max(most, 0):,}, so that others are left to compare with."
        )
    others = rows[k:] if clean == "rest" else rows[-k:]
    groups = {"memorized": _sorted(ids[rows[:k]]), "clean": _sorted(ids[others])}
    if bool(test.any()):
        groups[_TEST] = test.nonzero()[:, 0]
    return Suspicion(groups, _words(scores, rows, k, clean))


def after_review(
    groups: Mapping[str, Tensor],
    confirmed: Tensor,
    rejected: Tensor,
    before: Suspicion | None,
) -> Suspicion:
    """The groups once some examples were confirmed and others rejected by eye.

    Confirmed examples move to the first group and rejected ones to the second, if there is one;
    those of ``test`` stay where they are.

    Examples
    --------
    >>> groups = {"memorized": torch.tensor([True, True, False]), "clean": torch.tensor([0, 0, 1])}
    >>> after_review(groups, torch.tensor([2]), torch.tensor([0]), None).groups
    {'memorized': tensor([1, 2]), 'clean': tensor([0])}
    """
    masks = {name: mask.bool().clone() for name, mask in groups.items()}
    names = list(masks)
    fixed = masks.get(_TEST, torch.zeros_like(masks[names[0]]))
    others = [name for name in names if name != _TEST]
    if not others:
        raise ValueError("the study has no group but test; there is nothing to confirm or reject.")
    for chosen, target in ((confirmed, others[0]), (rejected, (others[1:2] or [""])[0])):
        moved = torch.zeros_like(fixed)
        moved[chosen] = True
        moved &= ~fixed
        for name in others:
            masks[name] &= ~moved
        if target:
            masks[target] |= moved
    words = f"{len(confirmed):,} confirmed and {len(rejected):,} rejected by eye"
    words = words if before is None else f"{before.words}; {words}"
    kept = {name: mask.nonzero()[:, 0] for name, mask in masks.items() if bool(mask.any())}
    return Suspicion(kept, words)


def _words(scores: Scores, rows: np.ndarray, k: int, clean: Rest) -> str:
    last = scores.values[rows[k - 1]]
    left_out = int((scores.values[rows[k:]] == last).sum())
    tied = f", {left_out:,} more at that same score" if left_out else ""
    rest = "the others" if clean == "rest" else f"the {k:,} lowest"
    return (
        f"memorized: the {k:,} of {len(rows):,} with the highest {scores.name} (down to "
        f"{last:.3g}{tied}); clean: {rest}"
    )


def _sorted(examples: np.ndarray) -> Tensor:
    return torch.from_numpy(np.sort(examples))
