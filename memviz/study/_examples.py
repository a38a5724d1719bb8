"""Which examples and which groups of a study: chosen, checked, or taken by default."""

from __future__ import annotations

import torch
from torch import Tensor

from memviz.checks import IndicesLike, as_indices, coded, quoted

from ._study import Study, check_study


def check_examples(
    study: Study,
    examples: IndicesLike | None,
    what: str = "examples",
    *,
    each_once: bool = False,
) -> Tensor:
    """The examples as int64 indices into the study; None means all of them.

    Every function that takes examples reads them with this one.

    Parameters
    ----------
    study : Study
    examples : tensor, array, list, range or column of a table ``[m]``, or bool mask ``[n]``
    what : str
        The argument, for the sentence.
    each_once : bool
        Whether an example may be named once only.

    Raises
    ------
    TypeError
        If ``study`` is not a Study.
    ValueError
        If there are none, one is outside the study, or they are no indices: fractions, text, or a
        mask of ones and zeros.

    Examples
    --------
    >>> model = torch.nn.Linear(4, 3).eval()
    >>> study = Study(model, torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> check_examples(study, [0, 5]), check_examples(study, study.labels == 0)
    (tensor([0, 5]), tensor([0, 1, 2, 3, 4, 5]))
    """
    check_study(study)
    if examples is None:
        return torch.arange(len(study))
    given: object = examples
    if isinstance(given, str) and given in study.groups:
        raise ValueError(
            f"{what} is {quoted(given)}, the name of a group; give its examples: "
            f"study.group({quoted(given)})."
        )
    return as_indices(what, examples, len(study), each_once=each_once)


def has_classes(study: Study) -> bool:
    """Whether the labels are classes: one whole number per example.

    Examples
    --------
    >>> model = torch.nn.Linear(4, 3).eval()
    >>> study = Study(model, torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> has_classes(study)
    True
    """
    return study.labels.dim() == 1 and not study.labels.is_floating_point()


def check_classes(study: Study, what: str) -> None:
    """Refuse a study whose labels are not classes, one whole number per example.

    Parameters
    ----------
    study : Study
    what : str
        What needs classes, in the plural.

    Raises
    ------
    ValueError
        If the labels are numbers to predict, or several per example.

    Examples
    --------
    >>> from memviz.tasks import Regression
    >>> groups, task = {"test": range(6)}, Regression(0.5)
    >>> model = torch.nn.Linear(4, 1).eval()
    >>> study = Study(model, torch.randn(6, 4), torch.randn(6), groups, task=task)
    >>> check_classes(study, "attributions")
    Traceback (most recent call last):
    ValueError: attributions need one class per example, and the labels of Regression are not ...
    """
    if not has_classes(study):
        raise ValueError(
            f"{what} need one class per example, and the labels of {type(study.task).__name__} are "
            "not classes; give a study with task=mv.Classification() or task=mv.tasks.Binary()."
        )


def default_groups(study: Study, group: str | None, against: str | None) -> tuple[str, str]:
    """The study's first and second groups by default; ``""`` if there is no second.

    Examples
    --------
    >>> model = torch.nn.Linear(4, 3).eval()
    >>> study = Study(model, torch.randn(6, 4), torch.zeros(6), {"test": range(6)})
    >>> default_groups(study, None, None)
    ('test', '')
    """
    check_study(study)
    names = list(study.groups)
    group = names[0] if group is None else group
    return group, next((n for n in names if n != group), "") if against is None else against


_MOST = 120  # examples of a group


def sides(study: Study, most: int = _MOST) -> tuple[Tensor, Tensor]:
    """Examples of the memorized and of the clean group, int64; a fixed sample of large groups.

    Raises
    ------
    ValueError
        If the study has no second group to compare with.

    Examples
    --------
    >>> groups = {"memorized": range(2), "clean": range(2, 6)}
    >>> model = torch.nn.Linear(4, 3).eval()
    >>> study = Study(model, torch.randn(6, 4), torch.zeros(6), groups)
    >>> sides(study)
    (tensor([0, 1]), tensor([2, 3, 4, 5]))
    """
    names = default_groups(study, None, None)
    if not names[1]:
        raise ValueError(
            coded(
                "E25",
                f"this study has only the group {names[0]!r}; a localizer compares the first "
                "group, the memorized examples, with the second, the clean ones.",
            )
        )
    generator = torch.Generator().manual_seed(0)
    sampled = []
    for name in names:
        members = study.group(name)
        order = torch.randperm(len(members), generator=generator)
        sampled.append(members[order[:most].sort().values])
    return sampled[0], sampled[1]
