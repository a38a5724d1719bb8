"""The house rules: private files stay private, imports never loop, faces are whole, folders small.

``lint-imports`` holds the rest: layers import downwards, papers do not import each other.
"""

import ast
import inspect
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOST_FILES = 12  # of one language in a folder


def name_of(path: Path) -> str:
    """The dotted name of a file; that of a face, ``__init__.py``, is its folder's."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in sorted((ROOT / "memviz").rglob("*.py"))}
FACES = [name for name, path in FILES.items() if path.name == "__init__.py"]
# Folders whose files are public, each of them.
OPEN = [name for name in FILES if name.startswith(("memviz.data.", "memviz.models."))]


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Full dotted name of all that a file imports, wherever it does, and whether relatively."""
    folder = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, False) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = folder[: len(folder) - node.level + 1] if node.level else ()
            module = [node.module] if node.module else []
            yield from (
                (".".join([*start, *module, alias.name]), node.level > 0) for alias in node.names
            )


def files_in(name: str) -> list[str]:
    """Files of memviz on the way to a dotted name, outermost first."""
    parts = name.split(".")
    prefixes = (".".join(parts[:length]) for length in range(1, len(parts) + 1))
    return [prefix for prefix in prefixes if prefix in FILES]


def test_private_files_are_imported_inside_their_own_folder_only() -> None:
    offences = []
    for path in [*FILES.values(), *sorted((ROOT / "benchmarks").rglob("*.py"))]:
        folder = name_of(path.with_name("__init__.py"))
        for name, relative in imports(path):
            for file in files_in(name):
                home, _, last = file.rpartition(".")
                inside = f"{folder}.".startswith(f"{home}.")
                if last.startswith("_") and last != "__main__" and not (relative and inside):
                    offences.append(f"{path.relative_to(ROOT)} imports {file}")
    assert not offences, (
        f"{'; '.join(offences)}. Inside the folder and its subfolders write `from ._file import x`;"
        " everywhere else import x from the folder's face, its __init__.py."
    )


def test_no_two_files_import_each_other() -> None:
    graph = {
        name: {files_in(wanted)[-1] for wanted, _ in imports(path) if files_in(wanted)} - {name}
        for name, path in FILES.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        loop = " <- ".join(error.args[1])
        pytest.fail(
            f"these files import each other in a loop (each is imported by the next): {loop}. Move "
            "what both ends need into a file below both, or let one end read a Protocol."
        )


def public_names(path: Path) -> Iterator[str]:
    """What a face re-exports as ``x as x``, and the public functions and classes of a file."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (alias.name for alias in node.names if alias.asname == alias.name)
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            yield from [statement.name] * (not statement.name.startswith("_"))


def is_documented(thing: object) -> bool:
    """Whether it has a docstring of its own; constants and aliases of types cannot have one."""
    if not (inspect.isclass(thing) or inspect.isroutine(thing) or inspect.ismodule(thing)):
        return True
    made = f"{getattr(thing, '__name__', '')}("  # what dataclass writes where nothing is written
    return bool(thing.__doc__) and not str(thing.__doc__).startswith(made)


@pytest.mark.parametrize("face", [*FACES, *OPEN])
def test_public_names_are_there_and_documented(face: str) -> None:
    module = import_module(face)
    names = list(public_names(FILES[face]))
    absent = [name for name in names if not hasattr(module, name)]
    silent = [name for name in names if name not in absent]
    silent = [name for name in silent if not is_documented(getattr(module, name))]
    assert module.__doc__, f"{face} has no docstring: say in a sentence what is in it."
    assert not absent, f"{face} names {', '.join(absent)}, which cannot be imported from it."
    assert not silent, f"{face} offers {', '.join(silent)} without a docstring: write one."


@pytest.mark.parametrize("suffix", [".py", ".js"])
def test_no_folder_has_too_many_files(suffix: str) -> None:
    files = [path for path in (ROOT / "memviz").rglob("*") if path.suffix == suffix]
    sizes = Counter(str(path.parent.relative_to(ROOT)) for path in files)
    full = [f"{folder} has {size}" for folder, size in sizes.items() if size > MOST_FILES]
    assert not full, (
        f"{'; '.join(full)} {suffix} files, more than {MOST_FILES}: give the ones that belong "
        "together a subfolder with a face."
    )


def test_no_test_imports_another_test() -> None:
    offences = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for name, _ in imports(path)
        if any(part.startswith("test_") for part in name.split("."))
    ]
    assert not offences, f"{'; '.join(offences)}. Move what both need to tests/support/."
