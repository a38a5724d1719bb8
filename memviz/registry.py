"""What each folder brings, found by its place and imported when it is asked for.

A paper's localizers stand in ``probes/<paper>/localizers.py``, a ready study in ``demos/<name>``, a
view in ``widgets/<view>``. Nothing is entered in a list. Another distribution joins in by an entry
point of the group ``memviz`` that names a package with the same rooms::

    [project.entry-points.memviz]
    my_paper = "my_paper"    # my_paper/probes/..., my_paper/demos/..., my_paper/widgets/...
"""

from __future__ import annotations

import pkgutil
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

GROUP = "memviz"


def packages() -> list[str]:
    """memviz itself, then the packages that entry points name, in the order of their names."""
    named = {point.value for point in metadata.entry_points(group=GROUP)}
    return ["memviz", *sorted(named - {"memviz"})]


def places(room: str, leaf: str = "") -> dict[str, str]:
    """What a room holds, by name: the dotted name of each folder or file, nothing imported.

    Parameters
    ----------
    room : str
        ``"probes"``, ``"demos"`` or ``"widgets"``.
    leaf : str
        With it only folders that hold a module of this name, and that module's dotted name.

    Examples
    --------
    >>> places("probes", "localizers")["attribution"]
    'memviz.probes.attribution.localizers'
    """
    found: dict[str, str] = {}
    for package in packages():
        for path in folders(room, package):
            for module in pkgutil.iter_modules([str(path)]):
                name = f"{package}.{room}.{module.name}"
                if module.name.startswith("_") or module.name in found:
                    continue
                if leaf and not (path / module.name / f"{leaf}.py").is_file():
                    continue
                found[module.name] = f"{name}.{leaf}" if leaf else name
    return found


def folders(room: str, package: str) -> list[Path]:
    """Where a package keeps a room; nowhere if it has none."""
    spec = find_spec(f"{package}.{room}")
    return [Path(path) for path in (spec.submodule_search_locations or ())] if spec else []


def load(room: str, leaf: str = "") -> dict[str, ModuleType]:
    """The modules of :func:`places`, imported."""
    return {name: import_module(module) for name, module in places(room, leaf).items()}
