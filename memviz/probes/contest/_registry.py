"""The localizers that every paper brings, found in ``probes/<paper>/localizers.py``.

A localizer takes a :class:`~memviz.study.Study` and returns :class:`~memviz.scores.Scores` over its
units, highest for the units that hold the first group (the memorized examples) rather than the
second (the clean ones). All of them look at the same examples, at most 120 of each group.

Such a file holds ``LOCALIZERS``, functions by name, and may hold ``BLIND``, the names of those that
are not told the groups, ``LOOKS_AT``, which sorts a name under effects, gradients or activations,
and ``FITS``, a function that says whether its localizers can read a study at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from types import ModuleType

from memviz import registry
from memviz.checks import checked
from memviz.scores import Scores
from memviz.study import Study

Localizer = Callable[[Study], Scores]
_ORDER = ("effects", "gradients", "activations")  # all others come after


class _Localizers(Mapping[str, Localizer]):
    """Localizers by name, looked up each time: a package may be added while Python runs."""

    def __getitem__(self, name: str) -> Localizer:
        return _by_name()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_by_name())

    def __len__(self) -> int:
        return len(_by_name())

    def __repr__(self) -> str:
        return f"<{len(self)} localizers: {', '.join(self)}>"


class _Blind(Set[str]):
    """Names of localizers that are not told the groups, looked up each time."""

    def __contains__(self, name: object) -> bool:
        return name in _blind()

    def __iter__(self) -> Iterator[str]:
        return iter(_blind())

    def __len__(self) -> int:
        return len(_blind())

    def __repr__(self) -> str:
        return repr(set(_blind()))

    @classmethod
    def _from_iterable(cls, names: Iterable[str]) -> frozenset[str]:  # type: ignore[override]
        return frozenset(names)


def _modules() -> Iterable[ModuleType]:
    return registry.load("probes", "localizers").values()


def _by_name() -> dict[str, Localizer]:
    """By what they look at, then in the order of the papers; the first to take a name keeps it."""
    by_name: dict[str, Localizer] = {}
    looks_at: dict[str, str] = {}
    for module in _modules():
        for name, localizer in getattr(module, "LOCALIZERS", {}).items():
            by_name.setdefault(name, localizer)
        for name, what in getattr(module, "LOOKS_AT", {}).items():
            looks_at.setdefault(name, what)

    def place(name: str) -> int:
        what = looks_at.get(name)
        return _ORDER.index(what) if what in _ORDER else len(_ORDER)

    return {name: by_name[name] for name in sorted(by_name, key=place)}


@checked
def fits(name: str, study: Study) -> bool:
    """Whether a localizer is made for such a study: not if it reads passages and these are images.

    Examples
    --------
    >>> import torch
    >>> study = Study(torch.nn.Linear(2, 2).eval(), torch.eye(2), [0, 1], {"test": range(2)})
    >>> fits("slimming", study), fits("exact ablation", study)
    (False, True)
    """
    judges = [
        judge
        for module in _modules()
        if name in getattr(module, "LOCALIZERS", {})
        and (judge := getattr(module, "FITS", None)) is not None
    ]
    return all(judge(study) for judge in judges[:1])


def _blind() -> frozenset[str]:
    return frozenset(name for module in _modules() for name in getattr(module, "BLIND", ()))


LOCALIZERS: Mapping[str, Localizer] = _Localizers()
BLIND: Set[str] = _Blind()
