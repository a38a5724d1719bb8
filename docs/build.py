"""Build the documentation site: ``python docs/build.py``, then open build/docs/html/index.html.

Pages are gathered in build/docs/source: those of this folder, the notebooks with their outputs, the
API, and pages of the views that work without a kernel. Then Sphinx builds them, warnings are
errors, and every link inside the site is followed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(DOCS)]
from parts import api, links  # noqa: E402


def main(words: list[str] | None = None) -> None:
    """Gather, build, follow the links."""
    asked = argparse.ArgumentParser(description="Build the documentation site.")
    asked.add_argument(
        "--executed", type=Path, help="a folder with the notebooks as they were executed"
    )
    asked.add_argument("--out", type=Path, default=ROOT / "build/docs", help="where to build")
    given = asked.parse_args(words)
    source, site = given.out.resolve() / "source", given.out.resolve() / "html"
    began = time.monotonic()
    gather(source)
    executed = (given.executed or execute(source.parent / "executed")).resolve()
    copy_new(executed, source / "notebooks", "*.ipynb")
    api.write(source / "api", ROOT / "memviz")
    views = [sys.executable, "-m", "parts.views", source / "extra/_live"]
    subprocess.run(views, check=True, env=environment())  # its studies leave memory with it
    print(f"gathered in {time.monotonic() - began:.0f} s", flush=True)
    sphinx = ["sphinx", "-W", "--keep-going", "-q", "-j", "auto", "-b", "html"]
    subprocess.run(
        [sys.executable, "-m", *sphinx, "-d", source.parent / "doctrees", source, site],
        check=True,
        env=environment(),
    )
    if dead := links.dead_links(site):
        sys.exit("links that lead nowhere:\n  " + "\n  ".join(dead))
    print(f"{site / 'index.html'}: built in {time.monotonic() - began:.0f} s")


def environment() -> dict[str, str]:
    """The environment of commands that must find this memviz, not an installed one."""
    paths = [str(ROOT), str(DOCS), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def gather(source: Path) -> None:
    """Bring the source in step with this folder; what is as it was keeps its time."""
    wanted = {path.relative_to(DOCS) for path in pages()}
    for path in wanted:
        # Notebooks move from beside this folder into it.
        content = (DOCS / path).read_bytes()
        moved = (
            content.replace(b"../notebooks/", b"notebooks/") if path.suffix == ".md" else content
        )
        write(source / path, moved)
    for path in [path for path in source.rglob("*") if path.is_file()]:
        within = path.relative_to(source)
        if within not in wanted and within.parts[0] not in (
            "api",
            "notebooks",
            "extra",
            "_figures",
        ):
            path.unlink()


def pages() -> Iterator[Path]:
    """Files of this folder that belong to the site."""
    for pattern in ("**/*.md", "conf.py", "parts/*.py", "images/*", "static/*"):
        yield from DOCS.glob(pattern)


def write(target: Path, content: bytes) -> None:
    """Write a file unless it has this content."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists() or target.read_bytes() != content:
        target.write_bytes(content)


def copy_new(folder: Path, target: Path, pattern: str) -> None:
    """Copy the files of a folder; of those copied before, what is not there any more goes."""
    wanted = sorted(folder.glob(pattern))
    for path in wanted:
        write(target / path.name, path.read_bytes())
    keep_only({path.name for path in wanted}, target, pattern)


def keep_only(names: Collection[str], folder: Path, pattern: str) -> None:
    """Remove the files of a folder that match a pattern and have none of these names."""
    for path in list(folder.glob(pattern)):
        if path.name not in names:
            path.unlink()


def execute(folder: Path) -> Path:
    """Execute a copy of every notebook that has changed since; the tracked ones stay clean."""
    folder.mkdir(parents=True, exist_ok=True)
    notebooks = sorted((ROOT / "notebooks").glob("*.ipynb"))
    keep_only({notebook.name for notebook in notebooks}, folder, "*.ipynb")
    for notebook in notebooks:
        done = folder / notebook.name
        if done.exists() and done.stat().st_mtime > notebook.stat().st_mtime:
            continue
        print(f"executing {notebook.name}", flush=True)
        running = folder / f".{notebook.name}"
        shutil.copyfile(notebook, running)
        jupyter = [
            "nbconvert",
            "--to",
            "notebook",
            "--execute",
            "--inplace",
            "--log-level",
            "ERROR",
        ]
        subprocess.run([sys.executable, "-m", *jupyter, running], check=True, env=environment())
        running.replace(done)
    return folder


if __name__ == "__main__":
    main()
