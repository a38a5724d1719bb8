"""One page for each public room of memviz, written from the names that its face re-exports."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

# In the order of the sidebar. A name is documented once, in the first room with the fewest dots.
ROOMS = {
    "memviz": "What you call as mv.…",
    "study": "A model with its examples",
    "tasks": "What counts as right",
    "units": "Names of units",
    "scores": "What was measured",
    "session": "What you are looking at",
    "probes": "One folder per paper",
    "engine": "The one way to ablate",
    "training": "Training loop, recorder, checkpoints",
    "models": "Networks",
    "data": "What networks learn from",
    "demos": "Ready studies",
    "widgets": "What you click",
    "reports": "One page to send",
    "plots": "Figures of tables",
}
# Rooms of rooms: each of their folders or public files has a page of its own.
OF_ROOMS = {"probes", "engine", "training", "models", "data", "demos"}


def faces(package: Path) -> list[str]:
    """Dotted names of the rooms that have a page."""
    names = []
    for room in ROOMS:
        name = "memviz" if room == "memviz" else f"memviz.{room}"
        if room not in OF_ROOMS or public_names(package / room / "__init__.py"):
            names.append(name)
        if room in OF_ROOMS:
            inside = sorted(path for path in (package / room).iterdir() if is_public(path))
            names += [f"{name}.{path.stem}" for path in inside]
    return names


def is_public(path: Path) -> bool:
    """Whether a path is a folder with a face or a public file."""
    if path.name.startswith(("_", ".")):
        return False
    return path.suffix == ".py" or (path / "__init__.py").exists()


def public_names(file: Path) -> list[str]:
    """What a face re-exports as ``x as x``, and the functions and classes a file defines."""
    tree = ast.parse(file.read_text())
    imported = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    ]
    defined = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return sorted({name for name in [*imported, *defined] if not name.startswith("_")})


def file_of(name: str, package: Path) -> Path:
    """The file of a module, or the face of a folder."""
    path = package.joinpath(*name.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def homes(package: Path) -> dict[str, dict[str, object]]:
    """For each room the names that are documented there, and what they name."""
    rooms: dict[str, dict[str, object]] = {name: {} for name in faces(package)}
    seen: set[int] = set()
    for room in sorted(rooms, key=lambda name: name.count(".")):
        module = import_module(room)
        for name in public_names(file_of(room, package)):
            thing = getattr(module, name)
            if is_documented(thing) and id(thing) not in seen:
                seen.add(id(thing))
                rooms[room][name] = thing
    return rooms


def is_documented(thing: object) -> bool:
    """Whether it is a function or class with a docstring of its own, and not a constant or type."""
    kind = inspect.isclass(thing) or inspect.isfunction(thing)
    return kind and bool(thing.__doc__) and not str(thing.__doc__).startswith(f"{thing.__name__}(")


def page(room: str, things: dict[str, object]) -> Iterator[str]:
    """The lines of a room's page."""
    title = f"``{room}``"
    yield from [title, "=" * len(title), "", f".. automodule:: {room}", "   :no-members:", ""]
    if not things:
        return
    yield from [f".. currentmodule:: {room}", "", ".. autosummary::", ""]
    yield from (f"   {name}" for name in things)
    yield ""
    for name, thing in things.items():
        if inspect.isclass(thing):
            yield from [f".. autoclass:: {name}", "   :members:", ""]
        else:
            yield from [f".. autofunction:: {name}", ""]


def write(folder: Path, package: Path) -> None:
    """Write all pages and their index."""
    folder.mkdir(parents=True, exist_ok=True)
    rooms = homes(package)
    for room, things in rooms.items():
        write_if_new(folder / f"{room}.rst", "\n".join(page(room, things)))
    lines = [
        "# API",
        "",
        "From the docstrings. Each name stands in the room you import it from.",
        "",
    ]
    for name, caption in ROOMS.items():
        dotted = "memviz" if name == "memviz" else f"memviz.{name}"
        pages = [room for room in rooms if room == dotted or room.startswith(f"{dotted}.")]
        pages = [room for room in pages if name != "memviz" or room == "memviz"]
        lines += ["```{toctree}", ":maxdepth: 1", f":caption: {caption}", "", *pages, "```", ""]
    write_if_new(folder / "index.md", "\n".join(lines))
    for old in [path for path in folder.glob("*.rst") if path.stem not in rooms]:
        old.unlink()


def write_if_new(path: Path, text: str) -> None:
    """Leave a file that would not change alone, so that Sphinx need not read it again."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
