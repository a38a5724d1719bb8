"""``python -m memviz doctor``: what is installed, what is missing, how to fix it."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from joblib import cpu_count  # type: ignore[import-untyped]
from packaging.requirements import Requirement

from memviz.cli.lab import PACKAGE, install_command, is_checkout, notebooks
from memviz.engine.record import memory_allowed

from .. import _torchvision

DISTRIBUTION = "memviz-torch"
# Bytes, a little more than the largest notebook takes where an engine keeps a GiB; then with
# MEMVIZ_MEMORY of at most FEW, which is what it keeps by itself in so small a container.
ENOUGH, ENOUGH_KEEPING_FEW = 5 * 2**29, 3 * 2**29
FEW = 128  # MiB
# Distribution that brings it: folder among JupyterLab's extensions.
EXTENSIONS = {
    "anywidget": "anywidget",
    "jupyterlab-widgets": "@jupyter-widgets/jupyterlab-manager",
}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@dataclass(frozen=True)
class Check:
    """One line of the report; the status is "optional" if something useful is missing."""

    name: str
    value: str
    status: Literal["ok", "optional", "missing"] = "ok"
    cure: str = ""


def doctor(*, as_json: bool) -> int:
    """Print every check; the exit status is 1 if something that memviz needs is missing."""
    checks = [*_python(), *_packages(), *_torch(), *_front_end(), *_files(), *_machine()]
    missing = [check.name for check in checks if check.status == "missing"]
    if as_json:
        print(json.dumps({"ok": not missing, "checks": [asdict(check) for check in checks]}))
        return int(bool(missing))
    for check in checks:
        print(f"{check.status:9} {check.name:26} {check.value}".rstrip())
        if check.cure:
            print(f"{'':26} to fix it: {check.cure}")
    print()
    if missing:
        print(f"No. Missing: {', '.join(missing)}.")
        return 1
    better = [check.name for check in checks if check.status == "optional" and check.cure]
    if better:
        print(f"Without these it works, but see the lines above: {', '.join(better)}.")
    print("Yes: everything that memviz needs is installed.")
    return 0


def find_chromium() -> Path | None:
    """The browser for the browser tests: ``$MEMVIZ_CHROMIUM``, else the first on the PATH."""
    named = os.environ.get("MEMVIZ_CHROMIUM")
    found = next(filter(None, map(shutil.which, [named] if named else BROWSERS)), None)
    return Path(found) if found else None


def _python() -> Iterator[Check]:
    good = sys.version_info >= (3, 11)
    yield Check(
        "python",
        f"{platform.python_version()}, {platform.system()} {platform.machine()}, {sys.executable}",
        "ok" if good else "missing",
        "" if good else "install Python 3.11 or newer",
    )


def _packages() -> Iterator[Check]:
    try:
        wanted = [Requirement(text) for text in metadata.requires(DISTRIBUTION) or []]
        yield Check("memviz", f"{metadata.version(DISTRIBUTION)} in {PACKAGE}")
    except metadata.PackageNotFoundError:
        yield Check(
            "memviz", f"not installed, runs from {PACKAGE}", "missing", install_command("lab")
        )
        return
    for requirement in wanted:
        if requirement.marker is None:
            yield _package(requirement, "missing", install_command("lab"))
        elif requirement.marker.evaluate({"extra": "lab"}):
            yield _package(requirement, "optional", install_command("lab"))


def _package(
    requirement: Requirement, otherwise: Literal["optional", "missing"], cure: str
) -> Check:
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return Check(requirement.name, "not installed", otherwise, cure)
    if requirement.specifier.contains(version, prereleases=True):
        return Check(requirement.name, version)
    return Check(
        requirement.name, f"{version}, but memviz needs {requirement.specifier}", otherwise, cure
    )


def _torch() -> Iterator[Check]:
    import torch

    if torch.cuda.is_available():
        device = ", ".join(map(torch.cuda.get_device_name, range(torch.cuda.device_count())))
    else:
        device = "Apple GPU (mps)" if torch.backends.mps.is_available() else "CPU"
    threads, here = torch.get_num_threads(), int(cpu_count())
    cure = f"set OMP_NUM_THREADS={here} before Python starts: threads that share a core only wait"
    yield Check(
        "torch device",
        f"{device}; {threads} threads on {here} core{'s' if here > 1 else ''}",
        "optional" if threads > here else "ok",
        cure if threads > here else "",
    )
    try:
        import torchvision
    except Exception as error:  # whatever went wrong belongs in the report
        yield Check("import torchvision", str(error), "missing", install_command("lab"))
        return
    how = f"{torchvision.__version__} imports"
    if _torchvision.mended():
        how += "; its compiled operators (nms, roi_align) are off: CUDA build, CPU-only torch"
    yield Check("import torchvision", how)


def _front_end() -> Iterator[Check]:
    # Without JupyterLab its own line above says what to do.
    if importlib.util.find_spec("jupyterlab") is not None:
        from jupyter_core.paths import jupyter_path

        for package, name in EXTENSIONS.items():
            places = [Path(folder) / name for folder in jupyter_path("labextensions")]
            found = next((place for place in places if place.is_dir()), None)
            if found:
                yield Check(f"{package} in Lab", str(found))
            else:
                cure = f"python -m pip install --force-reinstall --no-deps {package}"
                yield Check(f"{package} in Lab", "no JupyterLab extension", "optional", cure)
    browser = find_chromium()
    if browser is None:
        cure = "apt-get install chromium, or set MEMVIZ_CHROMIUM (for the browser tests only)"
        yield Check("Chromium", "not found", "optional", cure)
    else:
        yield Check("Chromium", str(browser))


def _files() -> Iterator[Check]:
    from memviz.cli.prepare import found_ready
    from memviz.demos import cache_folder, damaged_weights

    folder = PACKAGE / "demos" / "weights"
    count, damaged = len(list(folder.glob("*.safetensors"))), damaged_weights(folder)
    if count and not damaged:
        yield Check("demo weights", f"{count} files")
    else:
        value = f"damaged: {', '.join(damaged)}" if damaged else "none"
        yield Check("demo weights", value, "missing", _restore_weights())
    found = len(list(notebooks().glob("*.ipynb")))
    yield Check("notebooks", f"{found} in {notebooks()}", "ok" if found else "optional")
    kept = found_ready(cache_folder())
    if kept is None:
        cure = "python -m memviz prepare, before a course; else notebooks 03 and 06 train"
        yield Check("trained for notebooks", f"not yet, in {cache_folder()}", "optional", cure)
    else:
        yield Check("trained for notebooks", f"{kept} files in {cache_folder()}")


def _restore_weights() -> str:
    if is_checkout():  # an editable installation brings no files back
        return "git checkout -- memviz/demos/weights"
    return f"{install_command('lab')} --force-reinstall --no-deps"


def _machine() -> Iterator[Check]:
    size, here = memory_allowed(), int(cpu_count())
    words = "unknown" if size is None else f"{size / 2**30:.1f} GiB for this process"
    kept = os.environ.get("MEMVIZ_MEMORY")
    few = kept is None or (kept.isdecimal() and int(kept) <= FEW)
    enough = ENOUGH_KEEPING_FEW if few else ENOUGH
    small = size is not None and size < enough
    other = "" if few else f" or {ENOUGH_KEEPING_FEW / 2**30:g} GiB and MEMVIZ_MEMORY={FEW}"
    yield Check(
        "memory",
        f"{words}; {here} core{'s' if here > 1 else ''}",
        "optional" if small else "ok",
        f"give each kernel {enough / 2**30:g} GiB{other} (JupyterHub: mem_limit), "
        "or it may be ended"
        if small
        else "",
    )
