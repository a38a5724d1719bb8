"""What each folder adds to memviz, found by its place and imported only when needed.

A paper's localizers are in ``probes/<paper>/localizers.py``, a demo is ``demos/<name>``, a view is
``widgets/<view>``; there is no list to add them to. Another distribution takes part through an
entry point in the group ``memviz`` that names a package with the same folders::

    [project.entry-points.memviz]
    my_paper = "my_paper"    # my_paper/probes/..., my_paper/demos/..., my_paper/widgets/...
"""

from __future__ import annotations

import pkgutil
import sys
import warnings
from functools import lru_cache
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

GROUP = "memviz"


def packages() -> list[str]:
    """memviz, then the packages named by entry points, in alphabetical order."""
    return ["memviz", *_installed(tuple(sys.path))]


@lru_cache(maxsize=1)
def _installed(_path: tuple[str, ...]) -> list[str]:
    # Reading every distribution takes 50 ms, too long to repeat at each click.
    named = {point.value for point in metadata.entry_points(group=GROUP)}
    return sorted(named - {"memviz"})


def places(room: str, leaf: str = "") -> dict[str, str]:
    """The dotted name of every module in a folder such as ``demos``, by its short name.

    Nothing is imported but the packages themselves. A short name that is taken already stands
    with its package before it: ``my_paper.digits``.

    Parameters
    ----------
    room : str
        ``"probes"``, ``"demos"`` or ``"widgets"``.
    leaf : str
        Keep only the folders that hold a module of this name, and name that module instead.

    Examples
    --------
    >>> places("probes", "localizers")["attribution"]
    'memviz.probes.attribution.localizers'
    """
    known: dict[str, str] = {}
    for package in packages():
        for folder in folders(room, package):
            for module in pkgutil.iter_modules([str(folder)]):
                if module.name.startswith("_"):
                    continue
                if leaf and not (folder / module.name / f"{leaf}.py").is_file():
                    continue
                place = ".".join(filter(None, (package, room, module.name, leaf)))
                if place not in known.values():
                    taken = module.name in known
                    known[f"{package}.{module.name}" if taken else module.name] = place
    return known


def folders(room: str, package: str) -> list[Path]:
    """The folders of a package that a room such as ``demos`` is spread over; usually one or none.

    A package that cannot be imported has none, and is named in a warning.
    """
    try:
        spec = find_spec(f"{package}.{room}")
    except Exception as error:
        _leave_out(package, error)
        return []
    return [Path(path) for path in (spec.submodule_search_locations or ())] if spec else []


def load(room: str, leaf: str = "") -> dict[str, ModuleType]:
    """The modules of :func:`places`, imported.

    One of another package that cannot be imported is left out, with a warning.
    """
    modules: dict[str, ModuleType] = {}
    for name, place in places(room, leaf).items():
        try:
            modules[name] = import_module(place)
        except Exception as error:
            if place.startswith("memviz."):
                raise
            _leave_out(place, error)
    return modules


def _leave_out(place: str, error: Exception) -> None:
    reason = f"{type(error).__name__}: {error}"
    warnings.warn(f"{place} is left out: it could not be imported ({reason}).", stacklevel=3)
