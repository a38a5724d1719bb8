"""``python -m memviz lab``: JupyterLab, opened at a notebook."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from memviz.tensor_files import NotWritten, atomic_write, make_folder

PACKAGE = Path(__file__).parents[1]


def lab(
    notebook: str,
    *,
    browser: bool,
    port: int | None,
    extra: Sequence[str],
    in_place: bool = False,
) -> int:
    """Start JupyterLab with a notebook open: a path, or the name of one that ships with memviz."""
    # Checked before the notebook is looked up, since that may copy a file.
    if importlib.util.find_spec("jupyterlab") is None:
        raise SystemExit(f"JupyterLab is not installed; install it with: {install_command('lab')}")
    opened = find_notebook(notebook, in_place=in_place)
    command = [sys.executable, "-m", "jupyterlab", str(opened)]
    if not browser:
        command.append("--no-browser")
    if port is not None:
        command.append(f"--ServerApp.port={port}")
    # Containers often run as root, where Jupyter refuses to start without this.
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    command += extra
    # Browser, kernel and server share the cores: idle threads that spin slow down every click.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if os.name == "nt":
        return subprocess.call(command)
    if not browser:
        tell_address(os.getpid(), opened)
    # Become JupyterLab: Ctrl+C and signals reach it, and no second Python keeps torch in memory.
    sys.stdout.flush()
    os.execv(sys.executable, command)


def tell_address(process: int, notebook: Path) -> None:
    """Print the address that opens a notebook as soon as the server of a process listens."""
    script = Path(__file__).with_name("address.py")
    subprocess.Popen([sys.executable, str(script), str(process), str(notebook)])


def find_notebook(notebook: str, *, in_place: bool = False) -> Path:
    """The file to open; of a shipped notebook, unless ``in_place``, a copy to change.

    The copy is in ``my_notebooks`` of the current folder, with copies of the others beside it:
    the notebooks link to each other.
    """
    own = Path(notebook).expanduser()
    if own.is_file():
        return own.resolve()
    folder = notebooks()
    shipped = folder / (notebook if notebook.endswith(".ipynb") else f"{notebook}.ipynb")
    if shipped.parent != folder or not shipped.is_file():
        names = ", ".join(sorted(path.stem for path in folder.glob("*.ipynb"))) or "none"
        raise SystemExit(
            f"There is no notebook {notebook!r}; give the path of one, or the name of one that "
            f"ships with memviz: {names}."
        )
    if in_place:
        return shipped
    copy = Path.cwd() / "my_notebooks" / shipped.name
    found = copy.exists()
    try:
        make_folder(copy.parent)
        for each in folder.glob("*.ipynb"):
            if not (mine := copy.parent / each.name).exists():
                # Whole or not at all: half a notebook would be taken for the user's own.
                with atomic_write(mine) as part:
                    part.write_bytes(each.read_bytes())
    except NotWritten as error:
        raise SystemExit(f"lab: {error}; start it in a folder that can be written.") from None
    if found:
        print(f"Opening {copy}, which was already there.")
    else:
        print(f"Copied {shipped.name} to {copy.parent}, so that you can change it.")
    return copy


def notebooks() -> Path:
    """Folder of the shipped notebooks: next to the package in a checkout, inside it in a wheel."""
    return PACKAGE.parent / "notebooks" if is_checkout() else PACKAGE / "notebooks"


def is_checkout() -> bool:
    """Whether memviz runs from its source folder rather than from an installed wheel."""
    return (PACKAGE.parent / "constraints.txt").is_file()


def install_command(extra: str) -> str:
    """The pip command that installs memviz with `extra` ("lab" or "test")."""
    if is_checkout():
        return f'python -m pip install -c constraints.txt -e ".[{extra}]"'
    return f'python -m pip install "memviz-torch[{extra}]"'
